"""Specimens in a real window: what an image is, whose it is, and what there is to say of several at once."""

import imageio.v3
import numpy as np
import pandas as pd
import pytest
from qtpy.QtWidgets import QInputDialog

from napari_mtssl.gui.panels.classes import NAME
from napari_mtssl.gui.panels.groups import BY_NAME, SELECTED
from napari_mtssl.gui.status import StatusLine
from napari_mtssl.study import Study
from napari_mtssl.study.templates import use_template

pytestmark = pytest.mark.gui
SIZE = 64


@pytest.fixture
def dock(make_dock, tmp_path):
    """The dock with four images of two patients, none of which is labelled."""
    rng = np.random.default_rng(0)
    with Study.create(tmp_path / "hep2.mtssl") as study:
        use_template(study, "specimens")
        for name in ("ann_1", "ann_2", "bob_1", "bob_2"):
            pixels = rng.integers(0, 40, (SIZE, SIZE, 3), dtype=np.uint8)
            pixels[16:48, 16:48, 1] += 150
            imageio.v3.imwrite(tmp_path / f"{name}.png", pixels)
            study.add_image(tmp_path / f"{name}.png", height=SIZE, width=SIZE)
    made = make_dock(tmp_path / "hep2.mtssl")
    made.tabs.setCurrentIndex(1)
    return made


@pytest.fixture
def answer(monkeypatch):
    """Answer the next questions."""

    def give(text, good=True):
        monkeypatch.setattr(QInputDialog, "getText", lambda *a, **k: (text, good))
        monkeypatch.setattr(QInputDialog, "getItem", lambda *a, **k: (text, good))

    return give


def given(dock):
    found = dock.workspace.study.image_classes(dock.workspace.image.id)
    return dict(zip(found["kind"], found["class"], strict=True))


def marked(table):
    return {table.item(index.row(), NAME).text() for index in table.selectedIndexes()}


def test_the_tables_mark_what_the_image_is_and_not_what_was_given_last(dock):
    page = dock.label_panel.images
    table, below = page.heads["pattern"], dock.findChild(StatusLine).active
    assert marked(table.table) == set()
    page.give_by_key("pattern", "golgi")
    page._recount.now()
    assert marked(table.table) == {"golgi"} and "golgi" in below.text()
    assert "keys" in page._titles["pattern"].text() and "keys" not in page._titles["intensity"].text()
    dock.workspace.step_image(1)
    page._recount.now()
    assert marked(table.table) == set() and "golgi" not in below.text()
    dock.workspace.step_image(-1)
    page._recount.now()
    assert marked(table.table) == {"golgi"}
    dock.label_panel.undo()
    page._recount.now()
    assert marked(table.table) == set()


def test_a_class_can_be_removed_or_renamed_without_giving_it_to_the_image(dock, answer, told):
    table = dock.label_panel.images.heads["pattern"]
    answer("mitsp")
    table.remove_button.click()
    assert "mitsp" not in dock.workspace.colours("pattern") and given(dock) == {}
    table.table.cellClicked.emit(0, NAME)
    assert given(dock) == {"pattern": "homogeneous"}
    table.table.cellClicked.emit(1, NAME)  # the first click of a double click
    table.table.cellDoubleClicked.emit(1, NAME)
    assert given(dock) == {"pattern": "homogeneous"}
    answer("homogeneous")
    table.remove_button.click()
    assert "homogeneous" in dock.workspace.colours("pattern")
    assert told[-1][0] in ("warning", "error") and "homogeneous" in told[-1][1]


def test_what_is_settled_is_in_no_doubt_any_more(dock):
    study, image = dock.workspace.study, dock.workspace.image.id
    said = [("pattern", "golgi", 0.4), ("pattern", "numem", 0.3), ("intensity", "positive", 0.9)]
    study.set_image_prediction(image, "run", pd.DataFrame(said, columns=["kind", "class", "probability"]))

    def doubt():
        return dock.workspace.image_table([image])["doubt"].item()

    assert doubt() == pytest.approx(0.35)
    study.set_image_class(image, "pattern", "numem")
    assert doubt() == pytest.approx(0.1)  # of the question that is open
    study.set_image_class(image, "intensity", "positive")
    assert np.isnan(doubt())


def test_a_filled_mask_is_told_to_be_completed(dock, told):
    page = dock.label_panel.images
    page.fill_by_threshold()
    page.fill_by_threshold()
    assert sum("Mask is complete" in message for _, message in told) == 1


def test_patients_of_many_images_at_once(dock, answer, told):
    box, study = dock.study_panel.images, dock.workspace.study
    answer("_")
    box.group_button.choose(BY_NAME)
    assert [image.group for image in study.images()] == ["ann", "ann", "bob", "bob"]
    assert [box.table.item(at, 1).text() for at in range(4)] == ["ann", "ann", "bob", "bob"]
    dock.label_panel.undo()
    assert len({image.group for image in study.images()}) == 4
    box.table.clearSelection()
    box.table.setSelectionMode(box.table.SelectionMode.MultiSelection)
    for at in (1, 2):
        box.table.selectRow(at)
    answer("patient 7")
    box.group_button.choose(SELECTED)
    assert [image.group == "patient 7" for image in study.images()] == [False, True, True, False]
    assert len(box.selected()) == 2
    choice = box.table.cellWidget(2, 2)
    choice.setCurrentIndex(2)
    choice.activated.emit(2)
    assert [image.split for image in study.images()] == ["train", "test", "test", "train"]
    box.remove()
    assert [image.path.stem for image in study.images()] == ["ann_1", "bob_2"]
    dock.label_panel.undo()
    assert len(study.images()) == 4
    answer("%")
    box.group_button.choose(BY_NAME)
    answer(" ")
    box.group_button.choose(BY_NAME)
    assert [message for severity, message in told if severity != "info"] == [
        "There is no '%' in the name of any image.",
        "A group needs a name.",
    ]


def test_a_whole_group_follows_into_another_split(dock, answer, told):
    box, study = dock.study_panel.images, dock.workspace.study
    answer("_")
    box.group_button.choose(BY_NAME)
    choice = box.table.cellWidget(0, 2)
    choice.setCurrentIndex(1)
    choice.activated.emit(1)
    splits = ["validation", "validation", "train", "train"]
    assert [image.split for image in study.images()] == splits
    assert [box.table.cellWidget(at, 2).currentData() for at in range(4)] == splits
    assert "1 other image of the same group now used to validate, too" in told[-1][1]
    dock.label_panel.undo()
    assert {image.split for image in study.images()} == {"train"}
    study.set_split(study.images()[0].id, "test")  # as an older study may have it
    box.refresh()
    assert "The group 'ann' has images used to train and test" in box.problems.shown.itemAt(0).widget().text()
    choice = box.table.cellWidget(1, 2)
    choice.setCurrentIndex(2)
    choice.activated.emit(2)
    assert box.problems.shown.count() == 0


def test_a_study_that_cannot_be_written_is_not_cross_validated(dock, told, monkeypatch):
    monkeypatch.setattr(type(dock.workspace.study), "read_only", True)
    dock.train_panel.cross_validate()
    assert not dock.runner.busy and "read-only" in told[-1][1]
