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


def predict(study, image_id, name):
    said = pd.DataFrame({"kind": "pattern", "class": [name, "golgi"], "probability": [0.9, 0.1]})
    study.set_image_prediction(image_id, "run", said)


def test_accepting_by_key_is_of_the_image_on_screen(dock, told):
    study, ids = dock.workspace.study, [image.id for image in dock.workspace.study.images()]
    for image_id, name in zip(ids, ("homogeneous", "speckled", "nucleolar", "mitsp"), strict=True):
        predict(study, image_id, name)
    dock.tabs.setCurrentIndex(3)
    dock.mask_review._load()
    for at in range(2):  # two are selected in the list of step 4, one of them on screen
        dock.mask_review.images.item(at, 0).setSelected(True)
    dock.tabs.setCurrentIndex(1)
    dock.workspace.select_image(ids[3])
    dock.mask_review.accept()
    found = study.image_classes()
    assert found[["image_id", "class"]].to_numpy().tolist() == [[ids[3], "mitsp"]]
    assert told[-1][1] == "1 predicted class of bob_2.png accepted; one Undo takes all back."


def test_an_image_on_screen_whose_adding_is_undone_leaves_another_one(dock, told, tmp_path):
    imageio.v3.imwrite(tmp_path / "new.png", np.zeros((SIZE, SIZE), np.uint8))
    (record,) = dock.workspace.add_images([tmp_path / "new.png"])
    dock.workspace.select_image(record.id)
    dock.workspace.set_kind("pattern")  # whose class is written over the image
    dock.label_panel.undo()
    assert dock.workspace.image.path.name == "bob_2.png"
    assert not [note for note in told if note[0] == "error"]
    dock.workspace.study.remove_image(dock.workspace.image.id)
    dock.workspace.everything_changed()
    dock.label_panel.undo()
    dock.workspace.select_image(dock.workspace.study.images()[-1].id)
    dock.label_panel.redo()
    assert dock.workspace.image.path.name == "bob_1.png"
    assert not [note for note in told if note[0] == "error"]


def test_tables_of_the_window_come_back_and_new_questions_are_said(dock, tmp_path, told):
    from napari_mtssl.gui.measuring import report

    study, read = dock.workspace.study, dock.label_panel.images.import_button.read
    study.set_image_class(1, "pattern", "golgi")
    study.set_mask_complete(1, True)
    study.set_pixel_size(1, 0.5)
    report(study, dock.workspace.heads()).to_csv(tmp_path / "all.csv", index=False)
    before, text = dock.workspace.heads(), "Classes: CSV (image, class, group, split) …"
    read(text, tmp_path / "all.csv")
    assert dock.workspace.heads() == before and "New question" not in told[-1][1]
    (tmp_path / "more.csv").write_text("image,age\nann_1.png,57\n")
    read(text, tmp_path / "more.csv")
    assert told[-1][1].endswith("New question: age.")


def test_a_question_is_not_called_as_what_is_painted_or_clicked(dock, answer, told):
    answer("mask")
    before = dock.workspace.kinds()
    dock.label_panel.images.add_head()
    assert "'mask' is no question of whole images" in told[-1][1] and dock.workspace.kinds() == before


def test_masks_without_a_table_are_never_taken_for_background(dock, tmp_path, told):
    study, image = dock.workspace.study, dock.workspace.image
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:9] = 255
    (tmp_path / "m").mkdir()
    imageio.v3.imwrite(tmp_path / "m" / "ann_1.png", mask)
    dock.workspace.set_active("background", "mask")
    dock.label_panel.images.import_button.read("Masks: a folder of PNGs …", tmp_path / "m")
    assert told[-1][1].endswith("What is inside them is cell.")
    assert dock.workspace.painted()["cell"] == 9 * SIZE and study.mask_state(image.id).complete


def test_a_complete_mask_of_a_person_is_replaced_only_if_they_say_so(dock, monkeypatch):
    from qtpy.QtWidgets import QMessageBox

    from napari_mtssl.engine.events import Preview
    from napari_mtssl.gui.stored import of_today
    from napari_mtssl.methods.prediction import Prediction

    study, image, answers = dock.workspace.study, dock.workspace.image.id, []
    monkeypatch.setattr(QMessageBox, "question", lambda *a, **k: answers.pop())
    code = next(item.code for item in study.classes("mask") if item.name == "cell")
    probs = np.zeros((2, SIZE, SIZE), np.float32)
    probs[0, :32] = probs[1, 32:] = 1
    event = Preview(1, image, (0, 0, SIZE, SIZE), Prediction(mask=probs), (1.0, 1.0), 1, 1)
    dock.runner.event.emit(of_today(study, ("background", "cell"), event))
    dock.draw_now()
    study.paint_mask(image, 0, 0, np.full((4, 4), code, np.uint16))
    dock.deeds.use_predicted()  # what is painted stays, the rest is filled
    assert dock.workspace.painted()["cell"] == 16 + 32 * SIZE
    study.paint_mask(image, 4, 0, np.full((4, 4), code, np.uint16))
    assert study.mask_state(image).complete and study.mask_state(image).source == "human"
    answers.append(QMessageBox.StandardButton.No)
    dock.deeds.use_predicted()
    assert dock.workspace.painted()["cell"] == 32 + 32 * SIZE
    answers.append(QMessageBox.StandardButton.Yes)
    dock.deeds.use_predicted()
    assert dock.workspace.painted()["cell"] == 32 * SIZE and not answers
