"""Predictions under the mouse: what is clicked or selected is settled by the keys; no edit is lost."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from napari_mtssl.gui.layers import LABELS, PREDICTIONS, PSEUDO
from napari_mtssl.gui.ring import FOCUS

pytestmark = pytest.mark.gui


@pytest.fixture
def layer(dock, predicted):
    """Predictions, under review; the least sure one, at (84, 84), is in focus."""
    predicted(dock)
    dock.window().show()
    dock.tabs.setCurrentIndex(3)
    assert dock.review_panel.current() == (84.0, 84.0)
    return dock.layers.points[PREDICTIONS]


def press(layer, key):
    """What napari does when a key is pressed while the layer is active."""
    from napari.utils.key_bindings import coerce_keybinding

    layer.keymap[coerce_keybinding(key)](layer)


def mouse(layer, *places, modifiers=()):
    """Press at the first place, move through the others, and release at the last, as napari's canvas does."""
    from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks

    layer = layer.__wrapped__
    begin = ("mouse_press", mouse_press_callbacks)
    moves = [("mouse_move", mouse_move_callbacks)] * (len(places) - 1)
    end = ("mouse_release", mouse_release_callbacks)
    event = SimpleNamespace(button=1, view_direction=None, up_direction=None, dims_displayed=[0, 1])
    for (kind, send), place in zip([begin, *moves, end], [*places, places[-1]], strict=True):
        event.type, event.is_dragging, event.handled = kind, kind == "mouse_move", False
        event.position, event.pos, event.modifiers = tuple(place), np.array(place) * 4.0, list(modifiers)
        send(layer, event)


def marked(layer):
    return sorted(tuple(layer.data[row].tolist()) for row in layer.selected_data)


def stored(dock):
    return dock.workspace.study.cells(dock.workspace.image.id)


def settled(dock, count=1):
    return stored(dock)[["row", "col", "class", "status"]].to_numpy().tolist()[-count:]


@pytest.mark.parametrize("mode", ["pan_zoom", "select"])
def test_the_keys_settle_the_prediction_that_was_clicked(dock, layer, mode):
    layer.mode = mode
    before = tuple(dock.viewer.scene.camera.center)
    mouse(layer, (50, 82))
    assert dock.review_panel.current() == (48.0, 84.0)
    assert marked(layer) == [(48, 84)]
    assert dock.viewer.layers[FOCUS].data.tolist() == [[48, 84]] * 2
    assert tuple(dock.viewer.scene.camera.center) == before  # it is seen already
    press(layer, "Y")
    assert settled(dock) == [[48, 84, "blue", "accepted"]]


def test_a_drag_of_the_view_and_a_click_beside_leave_the_focus(dock, layer):
    mouse(layer, (48, 84), (40, 80), (30, 70))
    mouse(layer, (57, 60))
    assert dock.review_panel.current() == (84.0, 84.0)
    assert marked(layer) == [(84, 84)]


def test_from_afar_a_small_ring_is_met_all_the_same(dock, layer):
    dock.viewer.scene.camera.zoom = 0.2
    mouse(layer, (48, 65))
    assert dock.review_panel.current() == (48.0, 84.0)


def test_several_that_are_selected_in_the_layer_are_settled_together(dock, layer):
    layer.mode = "select"
    mouse(layer, (20, 70), (40, 80), (70, 95))
    assert marked(layer) == [(30, 84), (48, 84), (66, 84)]
    assert len(dock.review_panel.table.selectionModel().selectedRows()) == 3
    dock.draw_now()  # predictions are drawn anew
    dock.review_panel.reload()
    dock.review_panel.reload.now()
    assert marked(layer) == [(30, 84), (48, 84), (66, 84)]
    press(layer, "2")
    assert sorted(cell[:3] for cell in settled(dock, 3)) == [[row, 84, "red"] for row in (30, 48, 66)]


def test_with_nothing_selected_the_keys_settle_nothing(dock, layer, told):
    layer.mode = "select"
    before = len(stored(dock))
    mouse(layer, (60, 60))
    dock.draw_now()
    press(layer, "Y")
    assert len(stored(dock)) == before
    assert not dock.viewer.layers[FOCUS].visible
    assert any("Select a prediction first" in message for _, message in told)


def test_what_is_selected_in_the_list_is_marked_on_the_image(dock, layer):
    dock.review_panel.table.selectAll()
    assert len(marked(layer)) == 4
    dock.review_panel.step(1)
    assert marked(layer) == [(48, 84)]


def test_sorting_and_filtering_keep_the_focus(dock, layer):
    review = dock.review_panel
    mouse(layer, (66, 84))
    review.table.sortByColumn(3, review.table.horizontalHeader().sortIndicatorOrder())
    assert review.current() == (66.0, 84.0)
    review.only_class.setCurrentIndex(review.only_class.findData("red"))
    assert review.current() == (66.0, 84.0)
    review.only_class.setCurrentIndex(review.only_class.findData("blue"))
    assert review.current() is None
    assert marked(layer) == []


def test_a_prediction_that_the_list_leaves_out_is_not_taken_for_another(dock, layer, told):
    review = dock.review_panel
    review.least.setValue(0.7)
    before = len(stored(dock))
    mouse(layer, (48, 84))
    assert any("not in the list" in message for _, message in told)
    press(layer, "Y")
    assert len(stored(dock)) == before


def test_the_same_place_of_another_image_is_not_in_focus(dock, layer, predicted):
    dock.tabs.setCurrentIndex(1)
    mouse(layer, (66, 84))
    dock.workspace.step_image(1)
    predicted(dock)
    assert dock.review_panel.current() is None
    assert marked(dock.layers.points[PREDICTIONS]) == []


def test_a_point_added_to_the_predictions_becomes_a_label(dock, layer, told):
    dock.workspace.set_active("red")
    layer.mode = "add"
    mouse(layer, (57, 60))
    assert settled(dock) == [[57, 60, "red", "accepted"]]
    assert len(layer.data) == 4
    assert any("becomes a label" in message for _, message in told)
    assert dock.review_panel.current() == (84.0, 84.0)
    layer.add([500, 500])
    assert len(layer.data) == 4
    assert any("outside" in message for _, message in told)
    before = len(stored(dock))
    dock.viewer.layers.remove(LABELS)
    layer.add([57, 70])
    assert len(stored(dock)) == before
    assert any("Nothing was labelled" in message for _, message in told)


def test_deleted_predictions_are_rejected(dock, layer):
    layer.mode = "select"
    layer.selected_data = {0, 2}
    chosen = layer.data[[0, 2]].tolist()
    layer.remove_selected()  # the button of napari's layer controls
    assert sorted(cell[:2] for cell in settled(dock, 2)) == chosen
    assert {cell[3] for cell in settled(dock, 2)} == {"rejected"}
    mouse(layer, (48, 84))
    press(layer, "Delete")
    assert settled(dock) == [[48, 84, "background", "rejected"]]
    dock.draw_now()
    assert layer.data.tolist() == [[84, 84]]
    dock.label_panel.undo()
    dock.draw_now()
    assert len(layer.data) == 2


def test_a_dragged_prediction_goes_back_and_it_is_said(dock, layer, told):
    layer.mode = "select"
    before, count = layer.data.tolist(), len(stored(dock))
    mouse(layer, (48, 84), (52, 80), (56, 60))
    assert layer.data.tolist() == before
    assert any("cannot be moved" in message for _, message in told)
    assert len(stored(dock)) == count
    assert dock.review_panel.current() == (48.0, 84.0)
    press(layer, "Control-V")
    assert any("pasted" in message for _, message in told)


def test_pseudo_labels_are_refused_to_be_edited(dock, told):
    frame = pd.DataFrame({"row": [20.0, 40.0], "col": 80.0, "class": "red", "confidence": 0.9})
    dock.layers.fill(PSEUDO, frame)
    layer, before = dock.layers.points[PSEUDO], len(stored(dock))
    for edit in (lambda: layer.add([60, 60]), lambda: layer.remove([0])):
        told.clear()
        edit()
        assert layer.data.tolist() == [[20, 80], [40, 80]]
        assert layer.features["class"].astype(str).tolist() == ["red", "red"]
        assert any("cannot be edited" in message for _, message in told)
    assert len(stored(dock)) == before
