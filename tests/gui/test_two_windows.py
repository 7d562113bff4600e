"""One study in two windows: each shows what was done in the other."""

import numpy as np
import pytest

from napari_mtssl.gui.panels.classes import NAME
from napari_mtssl.gui.watch import LOOK_EVERY
from napari_mtssl.study import Study

pytestmark = pytest.mark.gui


@pytest.fixture
def other(study_path, dock):
    with Study.open(study_path, annotator="colleague") as study:
        yield study


def test_what_another_window_did_appears(dock, other, wait):
    workspace, image = dock.workspace, dock.workspace.image.id
    layer = dock.layers.points["Labels"]
    before = len(layer.data)
    other.add_cell(image, 50.0, 60.0, "red")
    wait(lambda: len(layer.data) == before + 1, 10)
    assert np.array_equal(layer.data[-1], (50, 60))
    other.update_class("red", new_name="plasma cell")
    table = dock.label_panel.table
    wait(lambda: "plasma cell" in [table.item(n, NAME).text() for n in range(table.rowCount())], 10)
    dock.label_panel.undo()  # the newest edit, whoever made it
    assert "red" in [item.name for item in other.classes()]
    other.remove_image(image)
    wait(lambda: workspace.image is not None and workspace.image.id != image, 10)


def test_ones_own_edits_are_not_read_again(dock, other, qtbot, monkeypatch):
    read = []
    monkeypatch.setattr(dock.workspace, "everything_changed", lambda: read.append(1))
    dock.workspace.add_cell(40.0, 40.0)
    dock.workspace.study.undo()
    dock.workspace.study.redo()
    other.labels_mark()
    qtbot.wait(3 * LOOK_EVERY)
    assert not read
    other.add_cell(dock.workspace.image.id, 1.0, 1.0, "red")
    qtbot.wait(4 * LOOK_EVERY)
    assert len(read) == 1


def test_a_polygon_that_is_half_done_is_left_alone(dock, other, wait, qtbot, monkeypatch):
    layer = dock.layers.points["Labels"]
    before, drawing = len(layer.data), [True]
    monkeypatch.setattr(dock.watch, "_drawing", lambda: drawing[0])
    other.add_cell(dock.workspace.image.id, 50.0, 60.0, "red")
    qtbot.wait(3 * LOOK_EVERY)
    assert len(layer.data) == before
    drawing[0] = False
    wait(lambda: len(layer.data) == before + 1, 10)


def test_a_study_that_was_replaced_is_said_once(dock, study_path, told, qtbot):
    file = study_path / "study.sqlite"
    copy = file.read_bytes()
    file.unlink()
    file.write_bytes(copy)
    qtbot.wait(4 * LOOK_EVERY)
    assert sum("deleted, moved or replaced" in message for _, message in told) == 1
