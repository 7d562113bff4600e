"""Many predictions: few are drawn while the view moves, all of them are kept, and it is said."""

import sys

import numpy as np
import pandas as pd
import pytest

from napari_mtssl.gui import crowd as module
from napari_mtssl.gui.crowd import rank
from napari_mtssl.gui.layers import LABELS, PREDICTIONS
from napari_mtssl.gui.training import SWITCH_SECONDS

pytestmark = pytest.mark.gui


@pytest.fixture
def many(request, dock, predicted, monkeypatch):
    """A dock with 90 predictions, of which 20 may move."""
    slow = getattr(request, "param", -1.0)
    monkeypatch.setattr(module, "MOVING", 20)
    monkeypatch.setattr(module, "RESTING", 100)
    monkeypatch.setattr(module, "SLOW_MS", slow)  # below zero: every frame counts as slow
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"row": rng.uniform(0, 95, 90), "col": rng.uniform(0, 95, 90)})
    frame = frame.assign(**{"class": "red", "confidence": rng.random(90), "uncertainty": 0.5})
    predicted(dock, frame)
    return dock


def drawn(dock):
    return len(dock.layers.points[PREDICTIONS].data)


def test_few_are_drawn_while_the_view_moves_and_all_when_it_rests(many, wait):
    total = len(many.workspace.pending())
    wait(lambda: many.crowd._slow_from <= total)  # a frame was painted, and took too long
    wait(lambda: drawn(many) == many.crowd.total == total, 5)
    many.viewer.scene.camera.zoom *= 1.01
    assert drawn(many) == 20
    said = many.findChild(module.QObject, "drawn")
    assert f"20 of {total} drawn" in said.text()
    assert len(many.workspace.pending()) == total
    wait(lambda: drawn(many) == total, 5)
    assert said.text() == ""


def test_a_label_that_settles_nothing_has_no_predictions_drawn_anew(many, monkeypatch):
    from napari_mtssl.gui import layers

    filled = []
    usual = layers.put
    monkeypatch.setattr(layers, "put", lambda layer, *more: (filled.append(layer.name), usual(layer, *more)))
    many.workspace.set_class([1], "blue")  # of red: nothing is nearer to a prediction than before
    many.draw_now()
    assert filled == [LABELS]
    left = len(many.workspace.pending())
    many.workspace.settle(many.workspace.pending().head(1), "accepted")
    many.draw_now()
    assert PREDICTIONS in filled
    assert drawn(many) == len(many.workspace.pending()) == left - 1


@pytest.mark.parametrize("many", [1e9], indirect=True)
def test_where_frames_are_quick_everything_moves(many):
    for _ in range(3):
        many.viewer.scene.camera.zoom *= 1.01
        assert drawn(many) == many.crowd.total


def test_the_prediction_in_focus_is_always_drawn(many, wait):
    wait(lambda: many.crowd._slow_from <= many.crowd.total)
    many.tabs.setCurrentIndex(3)
    for _ in range(30):
        many.review_panel.step(1)
        layer = many.layers.points[PREDICTIONS]
        marked = [layer.data[i] for i in layer.selected_data]
        np.testing.assert_allclose(marked, [many.review_panel.current()])


def test_what_is_drawn_is_spread_over_the_view_and_stays_the_same(many, wait):
    wait(lambda: many.crowd._slow_from <= many.crowd.total)
    many.viewer.scene.camera.zoom *= 1.001
    first = many.layers.points[PREDICTIONS].data
    many.draw_now()
    assert drawn(many) == 20
    np.testing.assert_allclose(many.layers.points[PREDICTIONS].data, first)
    assert np.ptp(first, axis=0).min() > 50


def test_the_choice_of_places_does_not_hang_on_a_pixel_but_looks_random():
    rng = np.random.default_rng(1)
    places = rng.integers(1, 500, (2000, 2)) * 8.0
    numbers = rank(places)
    np.testing.assert_array_equal(numbers, rank(places + 2))
    half = places[np.argsort(numbers)[: len(places) // 2]]
    assert abs(half.mean(0) - places.mean(0)).max() < 100  # of 4,000 pixels


def test_threads_take_turns_faster_only_while_a_job_runs(quick_training, wait):
    before = sys.getswitchinterval()
    quick_training.train_panel.mode.setCurrentIndex(1)
    quick_training.train_panel.start_button.click()
    assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
    wait(lambda: not quick_training.runner.busy)
    assert sys.getswitchinterval() == before


def test_fewer_predictions_take_the_place_of_many_also_in_a_hidden_layer(dock, recwarn):
    layer = dock.layers.points[PREDICTIONS]
    rng = np.random.default_rng(0)
    for count in (90, 5, 60, 3, 0, 4):
        for name in ("red", "blue"):
            frame = pd.DataFrame({"row": rng.uniform(0, 95, count), "col": rng.uniform(0, 95, count)})
            dock.layers.fill(
                PREDICTIONS, frame.assign(**{"class": name, "confidence": 0.5, "uncertainty": 0.1})
            )
            assert len(layer.data) == count
            colours = layer.border_color
            assert len(colours) == count
            if count:
                assert (colours[:, 0 if name == "red" else 2] == colours[:, :3].max(1)).all()
        layer.visible = not layer.visible
    assert not [w for w in recwarn if issubclass(w.category, FutureWarning)]
