"""Going through predictions: by button and by key; 100,000 rows; filters; export."""

import json

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import Qt

from napari_mtssl.gui.layers import PREDICTIONS
from napari_mtssl.gui.panels.review_table import PredictionModel

pytestmark = pytest.mark.gui


@pytest.fixture
def review(dock, predicted):
    predicted(dock)
    return dock.review_panel


def last_cell(dock):
    return dock.workspace.cells().iloc[-1]


def test_the_list_starts_with_the_least_confident(review):
    shown = review.model.shown()["confidence"].tolist()
    assert shown == sorted(shown)
    assert review.model.index(0, 0).data() == "blue"
    assert review.model.index(0, 1).data() == "0.50"
    assert "4" in review.progress.text()


def test_stepping_brings_the_cell_to_the_centre_and_marks_it(dock, review):
    review.step(1)
    np.testing.assert_allclose(dock.viewer.scene.camera.center[-2:], (84, 84))
    layer = dock.layers.points[PREDICTIONS]
    assert [layer.data[i].tolist() for i in layer.selected_data] == [[84, 84]]
    review.step(1)
    np.testing.assert_allclose(dock.viewer.scene.camera.center[-2:], (48, 84))
    review.step(-1)
    review.step(-1)
    np.testing.assert_allclose(dock.viewer.scene.camera.center[-2:], (30, 84))


def test_all_layers_have_the_units_of_the_image(dock, review, told, qtbot):
    review.step(1)  # the ring around what is in focus is a layer, too
    dock.workspace.study.set_pixel_size(dock.workspace.study.images()[1].id, 0.5)
    for by, units in ((1, "micrometer"), (1, "pixel")):
        dock.workspace.step_image(by)
        qtbot.wait(50)  # napari draws
        assert {str(unit) for layer in dock.viewer.layers for unit in layer.units} == {units}
    assert not [message for _, message in told if "units" in message]


@pytest.mark.parametrize(
    ("key", "status", "name"),
    [("Y", "accepted", "blue"), ("N", "rejected", "background"), ("2", "corrected", "red")],
)
def test_verdicts_by_key_on_the_layer(dock, review, key, status, name):
    from napari.utils.key_bindings import coerce_keybinding

    layer = dock.layers.points[PREDICTIONS]
    review.step(1)
    layer.keymap[coerce_keybinding(key)](layer)
    cell = last_cell(dock)
    assert (cell["status"], cell["class"], cell["source"]) == (status, name, "model")
    assert (cell["row"], cell["col"]) == (84, 84)
    assert review.model.rowCount() == 3
    assert review.current() == (48.0, 84.0)  # the next one is in focus
    dock.draw_now()
    assert len(layer.data) == 3


@pytest.mark.parametrize(("key", "status"), [("y", "accepted"), ("n", "rejected"), ("2", "corrected")])
def test_verdicts_by_key_in_the_list(dock, review, qtbot, key, status):
    review.step(1)
    count = len(dock.workspace.cells())
    qtbot.keyClicks(review.table, key, Qt.KeyboardModifier.ControlModifier)  # Ctrl+Y is Redo
    assert len(dock.workspace.cells()) == count
    qtbot.keyClicks(review.table, key)
    assert last_cell(dock)["status"] == status


def test_verdicts_by_button(dock, review):
    review.step(1)
    review.accept_button.click()
    review.reject_button.click()
    next(a for a in review.class_button.menu().actions() if a.text().startswith("blue")).trigger()
    assert dock.workspace.cells()["status"].tolist()[-3:] == ["accepted", "rejected", "corrected"]
    assert "3</b> reviewed" in review.progress.text()


def test_several_selected_are_settled_in_one_edit(dock, review):
    before = len(dock.workspace.cells())
    review.table.selectAll()
    review.accept()
    assert len(dock.workspace.cells()) == before + 4
    dock.label_panel.undo()
    review.reload.now()
    assert len(dock.workspace.cells()) == before
    assert review.model.rowCount() == 4


def test_undo_makes_a_prediction_pending_again(dock, review):
    review.step(1)
    review.accept()
    dock.label_panel.undo()
    review.reload.now()
    assert review.model.rowCount() == 4


def test_a_click_on_a_predicted_cell_settles_it(dock, review):
    from napari_mtssl.gui.layers import LABELS

    dock.layers.points[LABELS].add([83, 85])
    review.reload.now()
    assert review.model.rowCount() == 3


def test_filters_by_class_and_confidence_and_accept_all(dock, review, told):
    review.only_class.setCurrentIndex(review.only_class.findData("red"))
    assert set(review.model.shown()["class"]) == {"red"}
    review.least.setValue(0.85)
    assert review.model.shown()["confidence"].tolist() == [0.9]
    review.accept_all_button.click()
    assert last_cell(dock)["confidence"] == 0.9
    assert any("1 predictions accepted" in message or "1 prediction" in message for _, message in told)
    review.least.setValue(0.95)
    review.accept_all()
    assert any("list is empty" in message for _, message in told)


def test_only_what_is_in_view(dock, review):
    review.follow((0, 0, 60, 100))
    review.in_view.setChecked(True)
    assert review.model.shown()["row"].tolist() == [48, 30]
    review.step(1)
    review.follow((40, 80, 56, 90))  # the list moved the view: it stays as it is
    assert review.model.rowCount() == 2
    review._moved_at = -np.inf
    review.follow((60, 0, 100, 100))  # the user moved it
    assert review.model.shown()["row"].tolist() == [84, 66]
    review.in_view.setChecked(False)
    assert review.model.rowCount() == 4


def test_the_least_sure_of_too_many_to_hold(dock, predicted, monkeypatch):
    """The list, the canvas and the keys have what is asked for, wherever on the slide it is."""
    monkeypatch.setattr("napari_mtssl.gui.predictions.MOST", 2)
    predicted(dock)
    dock.workspace.select_image(dock.workspace.image.id)
    review = dock.review_panel
    review.reload.now()
    assert review.model.shown()["row"].tolist() == [84, 48]
    assert "<b>2</b> in the list below, the least sure of 4" in review.progress.text()
    review.only_class.setCurrentIndex(review.only_class.findData("red"))
    review.reload.now()
    dock.draw_now()
    assert review.model.shown()["row"].tolist() == [66, 30]
    assert sorted(dock.layers.points[PREDICTIONS].data[:, 0]) == [30, 66]
    review.only_class.setCurrentIndex(0)
    review.follow((0, 0, 40, 100))
    review.in_view.setChecked(True)
    review.reload.now()
    assert review.model.shown()["row"].tolist() == [30]
    review.in_view.setChecked(False)
    review.reload.now()
    review.accept_all()
    review.reload.now()
    assert review.model.shown()["row"].tolist() == [66, 30]  # what is left


def test_a_verdict_without_a_selection_says_what_to_do(review, told):
    review.table.clearSelection()
    review.table.selectionModel().clear()
    review.accept()
    assert any("Select a prediction" in message for _, message in told)


def test_add_missed_lets_the_user_click(dock, review):
    review.missed_button.click()
    layer = dock.viewer.layers.selection.active
    assert layer.name == "Labels"
    assert layer.mode == "add"


def test_predictions_never_change_labels(dock, predicted):
    before = dock.workspace.cells().copy()
    for _ in range(3):
        predicted(dock)
    pd.testing.assert_frame_equal(before, dock.workspace.cells())


def test_export_for_qupath_and_as_csv(dock, review, tmp_path, monkeypatch):
    from qtpy.QtWidgets import QFileDialog

    review.step(1)
    review.accept()
    export = review.cells_export
    for name, button in (("out.geojson", export.geojson_button), ("out.csv", export.csv_button)):
        monkeypatch.setattr(
            QFileDialog, "getSaveFileName", lambda *a, name=name, **k: (str(tmp_path / name), "")
        )
        button.click()
    written = json.loads((tmp_path / "out.geojson").read_text())
    count = len(dock.workspace.cells())
    assert len(written["features"]) == count
    assert written["features"][-1]["properties"]["classification"]["name"] == "blue"
    table = pd.read_csv(tmp_path / "out.csv")
    assert list(table.columns) == ["image", "row", "col", "class"]
    assert len(table) == count


def test_predictions_go_out_as_such_in_the_csv_and_come_back_as_no_labels(
    dock, review, tmp_path, monkeypatch, told
):
    from qtpy.QtWidgets import QFileDialog

    path = str(tmp_path / "out.csv")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (path, ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a, **k: (path, ""))
    review.step(1)
    review.accept()
    review.cells_export.with_predictions.setChecked(True)
    review.cells_export.csv_button.click()
    before = len(dock.workspace.cells())
    table = pd.read_csv(path)
    assert list(table.columns) == ["image", "row", "col", "class", "label", "probability"]
    assert table["label"].value_counts().to_dict() == {"given": before, "predicted": 3}
    assert sorted(table.loc[table["label"] == "predicted", "probability"]) == [0.6, 0.8, 0.9]
    assert table.loc[table["label"] == "given", "probability"].dropna().tolist() == [0.5]
    dock.label_panel.import_csv()
    assert len(dock.workspace.cells()) == before
    assert any("3 predictions left out (nobody reviewed them)" in message for _, message in told)


def test_the_first_key_of_the_review_settles_the_least_sure_prediction(dock, predicted, qtbot):
    dock.tabs.setCurrentIndex(0)
    predicted(dock)
    dock.window().show()
    dock.tabs.setCurrentIndex(3)
    assert dock.review_panel.current() == (84.0, 84.0)
    np.testing.assert_allclose(dock.viewer.scene.camera.center[-2:], (84, 84))
    qtbot.keyClicks(dock.review_panel.table, "y")
    assert (last_cell(dock)["status"], last_cell(dock)["row"]) == ("accepted", 84)
    dock.tabs.setCurrentIndex(1)
    dock.tabs.setCurrentIndex(3)
    assert dock.review_panel.current() == (48.0, 84.0)  # where it was left


def test_a_black_and_white_ring_shows_the_cell_in_focus(dock, review):
    from napari_mtssl.gui.ring import FOCUS

    assert FOCUS not in dock.viewer.layers
    dock.tabs.setCurrentIndex(3)
    review.step(1)
    ring = dock.viewer.layers[FOCUS]
    assert ring.visible and ring.data.tolist() == [[84, 84]] * 2
    assert sorted(ring.border_color[:, 0].tolist()) == [0, 1]  # one of them is seen on any image
    assert ring.border_width[0] > ring.border_width[1]  # the white one leaves some of the black one
    assert dock.viewer.layers.selection.active.name == PREDICTIONS  # whose keys settle it
    review.step(1)
    assert ring.data.tolist() == [[48, 84]] * 2
    dock.tabs.setCurrentIndex(1)
    assert not ring.visible
    dock.tabs.setCurrentIndex(3)
    review.step(1)
    assert ring.visible
    dock.workspace.step_image(1)
    assert not ring.visible
    dock.viewer.layers.remove(ring)  # the user wants none
    dock.workspace.step_image(1)
    review.step(1)
    assert FOCUS not in dock.viewer.layers


def test_missed_cells_are_never_background(dock, review, told):
    dock.workspace.set_active("background")
    review.missed_button.click()
    assert dock.workspace.active == "blue"
    dock.layers.points["Labels"].add([50, 50])
    assert last_cell(dock)["class"] == "blue"
    assert any("become blue" in message and "background" in message for _, message in told)


def test_a_folder_that_cannot_be_written_is_said_in_words(review, told, monkeypatch):
    from qtpy.QtWidgets import QFileDialog

    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: ("/nowhere/at/all/out.geojson", ""))
    review.cells_export.export_geojson()
    assert told
    assert all(severity != "error" for severity, _ in told)


def test_a_hundred_thousand_predictions_are_listed(qtbot):
    rng = np.random.default_rng(0)
    n = 100_000
    frame = pd.DataFrame(
        {
            "row": rng.random(n),
            "col": rng.random(n),
            "class": rng.choice(["a", "b"], n),
            "confidence": rng.random(n),
        }
    ).assign(uncertainty=0.5)
    model = PredictionModel()
    model.set_frame(frame, {"a": "#ff0000", "b": "#00ff00"})
    model.only_class = "a"
    model.rearrange()
    assert model.rowCount() == int((frame["class"] == "a").sum())
    shown = [model.index(at, 1).data() for at in range(100)]
    assert shown == sorted(shown)
