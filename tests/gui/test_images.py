"""Images as wholes in a real window: browse, classes by key, masks, predictions, contact sheet."""

import time

import imageio.v3
import numpy as np
import pandas as pd
import pytest
from qtpy.QtGui import QShowEvent

from napari_mtssl.engine.events import Preview
from napari_mtssl.gui.image_table import image_table, mask_doubt
from napari_mtssl.gui.panels.browser import BY_DOUBT, ID
from napari_mtssl.gui.panels.classes import FIRST, NAME
from napari_mtssl.gui.rasters import PAINT, PREDICTED, SALIENCY
from napari_mtssl.gui.tasks import LUNGS, SPECIMENS, task_of
from napari_mtssl.gui.thumbnails import SIDE, thumbnail
from napari_mtssl.images import ImagePool
from napari_mtssl.methods.prediction import Prediction
from napari_mtssl.study import Study
from napari_mtssl.study.mask_zarr import export_mask_zarr

pytestmark = pytest.mark.gui
SIZE = 80


def make_images(folder, count, size=SIZE):
    rng = np.random.default_rng(0)
    paths = []
    for n in range(count):
        pixels = rng.integers(0, 90, (size, size), dtype=np.uint8)
        pixels[size // 4 : size // 2, size // 4 : size // 2] += np.uint8(100 + 5 * n)
        paths.append(folder / f"chest{n}.png")
        imageio.v3.imwrite(paths[-1], pixels)
    return paths


def make_study(folder, count=4, size=SIZE):
    with Study.create(folder / "chests.mtssl") as study:
        study.add_class("lung", kind="mask", key="1", colour="#00cc00")
        study.add_class("normal", kind="diagnosis", key="1", colour="#3333ff")
        study.add_class("pneumonia", kind="diagnosis", key="2", colour="#ff3333")
        for path in make_images(folder, count, size):
            study.add_image(path, height=size, width=size)
        return study.path


@pytest.fixture
def dock(make_dock, tmp_path):
    made = make_dock(make_study(tmp_path))
    made.tabs.setCurrentIndex(1)
    return made


@pytest.fixture
def page(dock):
    return dock.label_panel.images


def press(layer, key):
    from napari.utils.key_bindings import coerce_keybinding

    layer.keymap[coerce_keybinding(key)](layer)


def given(dock):
    with Study.open(dock.workspace.study.path) as study:
        found = study.image_classes()
    return {(i, k): c for i, k, c in found[["image_id", "kind", "class"]].itertuples(index=False)}


def predict(dock, image_id, probability, mask=None, saliency=None):
    """Have a run say something of an image: the share of pneumonia, a mask."""
    from napari_mtssl.gui.stored import keep, of_today

    frame = pd.DataFrame(
        {
            "kind": "diagnosis",
            "class": ["normal", "pneumonia"],
            "probability": [1 - probability, probability],
        }
    )
    pictures = {} if saliency is None else {"saliency": saliency}
    said = Prediction(mask=mask, pictures=pictures, image=frame)
    shape = (1, 1) if mask is None else mask.shape[1:]
    event = Preview(1, image_id, (0, 0, SIZE, SIZE), said, (SIZE / shape[0], SIZE / shape[1]), 1, 1)
    masks = [item.name for item in dock.workspace.study.classes("mask")]
    keep(dock.workspace.study, "a-run", masks, event)
    dock.runner.event.emit(of_today(dock.workspace.study, masks, event))
    dock.draw_now()


def half():
    """A mask of 16 by 16 whose upper half is lung."""
    mask = np.zeros((2, 16, 16), np.float32)
    mask[0], mask[1, :8] = 0.1, 0.9
    mask[0, 8:], mask[1, 8:] = 0.9, 0.1
    return mask


def test_a_study_with_a_diagnosis_opens_as_images(dock, page):
    assert dock.workspace.task is LUNGS
    assert [layer.name for layer in dock.viewer.layers] == ["chest0.png", PREDICTED, PAINT]
    assert list(page.heads) == ["diagnosis"]
    assert page.isVisibleTo(dock.label_panel)


def test_a_key_gives_the_image_a_class_and_the_next_key_of_the_table_another(dock, page):
    image = dock.viewer.layers["chest0.png"]
    press(image, "T")
    assert dock.workspace.kind == "diagnosis"
    press(image, "2")
    assert given(dock) == {(dock.workspace.image.id, "diagnosis"): "pneumonia"}
    assert dock.viewer.canvas.overlays.text.text == "● diagnosis: pneumonia"
    press(image, "1")
    assert set(given(dock).values()) == {"normal"}
    dock.label_panel.undo()
    assert set(given(dock).values()) == {"pneumonia"}
    dock.label_panel.undo()
    assert given(dock) == {}


def test_a_click_in_the_table_gives_the_class_and_none_takes_it_away(dock, page):
    page.heads["diagnosis"].table.cellClicked.emit(1, 1)
    assert set(given(dock).values()) == {"pneumonia"}
    page._give("diagnosis", None)
    assert given(dock) == {}


def test_masks_are_painted_marked_complete_and_kept_when_images_are_switched(dock, page, told):
    page.tools.buttons["paint"].click()
    layer = dock.rasters.found[PAINT].__wrapped__
    assert (layer.mode, layer.brush_size) == ("paint", 3)  # it suits a small image
    page.tools.size.setValue(12)
    assert layer.brush_size == 12
    layer.brush_size = 10
    with layer.block_history():
        layer.paint((20, 20), layer.selected_label)
    painted = np.array(layer.data)
    assert painted.any()
    press(dock.rasters.found[PAINT], "C")
    study, first = dock.workspace.study, dock.workspace.image.id
    assert study.mask_state(first).complete
    assert page.complete.isChecked()
    press(dock.rasters.found[PAINT], "PageDown")
    assert dock.workspace.image.path.name == "chest1.png"
    assert not np.asarray(dock.rasters.found[PAINT].data).any()
    assert not page.complete.isChecked()
    with dock.rasters.found[PAINT].__wrapped__.block_history():
        dock.rasters.found[PAINT].__wrapped__.paint((5, 5), 1 + layer.selected_label * 0)
    press(dock.rasters.found[PAINT], "PageUp")
    np.testing.assert_array_equal(dock.rasters.found[PAINT].data, painted)
    assert not any(severity == "error" for severity, _ in told)


def test_a_polygon_is_one_edit(dock, page):
    page.tools.buttons["polygon"].click()
    layer = dock.rasters.found[PAINT].__wrapped__
    layer.paint_polygon(np.array([[10, 10], [10, 50], [50, 50]]), layer.selected_label)
    study, image = dock.workspace.study, dock.workspace.image.id
    np.testing.assert_array_equal(study.mask(image), layer.data)
    assert study.mask(image).any()
    dock.label_panel.undo()
    assert not study.mask(image).any()
    assert not np.asarray(dock.rasters.found[PAINT].data).any()


def test_a_polygon_that_was_begun_is_not_closed_over_the_next_image(dock, page):
    page.tools.buttons["polygon"].click()
    layer = dock.rasters.found[PAINT].__wrapped__
    layer.opacity = 0.3
    layer._overlays["polygon"].points = [[10.5, 10.5], [10.5, 50.5], [50.5, 50.5]]
    dock.workspace.step_image(1)
    layer = dock.rasters.found[PAINT].__wrapped__
    assert layer._overlays["polygon"].points == []
    assert (layer.mode, layer.opacity) == ("polygon", 0.3)  # the tool stays in the hand
    assert dock.viewer.layers.selection.active == layer
    layer.paint_polygon(np.array([[10, 10], [10, 50], [50, 50]]), layer.selected_label)
    images = dock.workspace.study.images()
    assert not dock.workspace.study.mask(images[0].id).any()
    assert dock.workspace.study.mask(images[1].id).any()


def test_keys_work_on_the_thumbnails_and_in_the_list_of_the_review(dock, page, wait, qtbot):
    from qtpy.QtCore import Qt

    study = dock.workspace.study
    ids = [image.id for image in study.images()]
    wait(lambda: page.browser.list.count() == 4, 5)
    dock.workspace.set_kind("diagnosis")
    qtbot.keyClicks(page.browser.list, "2")
    assert given(dock) == {(ids[0], "diagnosis"): "pneumonia"}
    qtbot.keyClicks(page.browser.list, "C")
    assert study.mask_state(ids[0]).complete
    qtbot.keyClicks(page.browser.list, "u")  # by its first letter no image begins
    assert dock.workspace.image.id == ids[1]
    qtbot.keyClicks(page.browser.list, "t")
    assert dock.workspace.kind == "mask"
    page.sheet_button.click()
    wait(lambda: page.sheet.list.count() == 4, 5)
    qtbot.keyClicks(page.sheet.list, "u")
    assert dock.workspace.image.id == ids[2]
    dock.tabs.setCurrentIndex(3)  # where a digit corrects a class, not the brush
    qtbot.keyClicks(dock.mask_review.images, "1")
    assert given(dock)[ids[2], "diagnosis"] == "normal"
    qtbot.keyClick(dock.mask_review.images, Qt.Key.Key_Right)
    assert dock.workspace.image.id == ids[3]
    qtbot.keyClick(dock.mask_review.images, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert (ids[2], "diagnosis") not in given(dock)


def test_images_of_masks_alone_are_walked_by_what_they_lack_and_by_doubt(make_dock, tmp_path, told):
    with Study.create(tmp_path / "masks.mtssl") as study:
        study.add_class("lung", kind="mask", key="1")
        for path in make_images(tmp_path, 4):
            study.add_image(path, height=SIZE, width=SIZE)
        study.set_mask_complete(study.images()[1].id, True)
    dock = make_dock(study.path)
    dock.workspace.set_task(LUNGS)
    page = dock.label_panel.images
    ids = [image.id for image in dock.workspace.study.images()]
    page.next_unlabelled()
    assert dock.workspace.image.id == ids[2]  # the second one has a mask
    page.next_uncertain()
    assert any("lacks a class or a mask" in message for _, message in told)
    for image_id, sure in zip(ids, (0.9, 0.6, 0.7, 0.99), strict=True):
        mask = np.where(half() > 0.5, sure, 1 - sure).astype(np.float32)
        study = dock.workspace.study
        study.set_mask_prediction(image_id, "one", (0, 0, SIZE, SIZE), mask, (1, 1), ["background", "lung"])
    for expected in (ids[2], ids[0], ids[3], ids[2]):
        page.next_uncertain()
        assert dock.workspace.image.id == expected
    assert mask_doubt(dock.workspace.study, ids[3]) == pytest.approx(0.0100, abs=2e-3)


def test_the_predicted_mask_is_shown_used_and_corrected(dock, page):
    image = dock.workspace.image.id
    predict(dock, image, 0.7, half(), np.full((16, 16), 0.3, np.float32))
    lung = next(item.code for item in dock.workspace.classes("mask") if item.name == "lung")
    assert (dock.rasters.found[PREDICTED].data[:8] == lung).all()
    np.testing.assert_allclose(dock.rasters.found[SALIENCY].data, 0.3)
    page.use_button.click()
    study = dock.workspace.study
    assert (study.mask(image)[: SIZE // 2] == lung).all()
    assert not study.mask(image)[SIZE // 2 :].any()
    state = study.mask_state(image)
    assert (state.complete, state.source) == (True, "model")
    layer = dock.rasters.found[PAINT].__wrapped__
    with layer.block_history():
        layer.paint((70, 70), lung)
    assert study.mask(image)[70, 70] == lung
    assert study.mask_state(image).source == "human"
    dock.label_panel.undo()
    dock.label_panel.undo()
    assert not study.mask_state(image).painted


def test_what_was_predicted_before_is_there_when_the_image_comes_back(dock):
    first = dock.workspace.image.id
    predict(dock, first, 0.7, half())
    dock.workspace.step_image(1)
    assert not np.asarray(dock.rasters.found[PREDICTED].data).any()
    dock.workspace.step_image(-1)
    assert np.asarray(dock.rasters.found[PREDICTED].data).any()
    assert dock.rasters.areas()["lung"] == pytest.approx(SIZE * SIZE / 2)


def test_next_unlabelled_and_most_uncertain(dock, page, told):
    ids = [image.id for image in dock.workspace.study.images()]
    page.doubt_button.click()
    assert any("has a prediction" in message for _, message in told)
    for image_id, share in zip(ids, (0.9, 0.45, 0.2, 0.6), strict=True):
        predict(dock, image_id, share)
    page.doubt_button.click()
    assert dock.workspace.image.id == ids[1]
    page.doubt_button.click()
    assert dock.workspace.image.id == ids[3]
    page.doubt_button.click()
    page.doubt_button.click()
    page.doubt_button.click()  # all were shown: again from the first
    assert dock.workspace.image.id == ids[1]
    for image_id in (ids[1], ids[3]):
        dock.workspace.set_image_class("diagnosis", "normal", image_id)
        dock.workspace.study.set_mask_complete(image_id, True)
    dock.workspace.select_image(ids[0])
    press(dock.viewer.layers["chest0.png"], "U")
    assert dock.workspace.image.id == ids[2]


def test_predicted_classes_are_listed_by_doubt_and_accepted_in_one_edit(dock, wait, told):
    ids = [image.id for image in dock.workspace.study.images()]
    for image_id, share in zip(ids, (0.9, 0.45, 0.2, 0.6), strict=True):
        predict(dock, image_id, share)
    dock.workspace.set_image_class("diagnosis", "normal", ids[0])
    dock.tabs.setCurrentIndex(3)
    review = dock.mask_review
    wait(lambda: review.images.rowCount() == 4, 5)
    assert review.images.item(0, 0).text() == "chest1"
    review.images.selectAll()
    review.accept_button.click()
    found = dock.workspace.study.image_classes().set_index("image_id")
    assert found["class"].tolist() == ["normal", "normal", "normal", "pneumonia"]
    assert found.loc[ids[3], "source"] == "model"
    assert found.loc[ids[3], "confidence"] == pytest.approx(0.6)
    assert found.loc[ids[0], "source"] == "human"
    dock.label_panel.undo()
    assert len(dock.workspace.study.image_classes()) == 1


def test_the_review_has_room_for_long_classes_and_shows_areas_of_a_painted_mask(dock, wait, told):
    study, first = dock.workspace.study, dock.workspace.image.id
    long = "pneumonia, organising, of unknown origin, in both lungs"
    study.update_class("pneumonia", new_name=long, kind="diagnosis")
    study.add_class("clinic", kind="origin")
    study.set_image_class(first, "diagnosis", long)
    lung = next(item.code for item in study.classes("mask") if item.name == "lung")
    study.paint_mask(first, 0, 0, np.full((10, SIZE), lung, np.uint16))
    study.set_mask_complete(first, True)
    dock.workspace.everything_changed()
    dock.tabs.setCurrentIndex(3)
    review = dock.mask_review
    wait(lambda: review.images.rowCount() == 4 and review.areas.rowCount() == 2, 10)
    header = review.images.horizontalHeader()
    header.setSectionResizeMode(1, header.ResizeMode.Interactive)  # a window that is not shown has any width
    for width, wraps in ((900, False), (150, True)):
        review.images.setColumnWidth(1, width)
        review._show_images(dock.workspace.image_table())
        heights = {review.images.item(at, 1).text(): review.images.rowHeight(at) for at in range(4)}
        assert (heights[long] > 1.2 * heights["no class yet"]) is wraps, heights
    assert review.areas.item(1, 1).text() == f"{10 * SIZE} px"
    assert not review.use_button.isEnabled()  # nothing is predicted
    # where an image comes from is not learnt: nothing sees it
    offered = [review.seen_class.itemText(at) for at in range(review.seen_class.count())]
    assert offered == ["normal", long]


def test_the_review_opens_with_the_image_on_screen_selected_and_follows_it(dock, wait, qtbot):
    ids = [image.id for image in dock.workspace.study.images()]
    for image_id, share in zip(ids, (0.9, 0.45, 0.2, 0.6), strict=True):
        predict(dock, image_id, share)
    dock.tabs.setCurrentIndex(3)
    review = dock.mask_review
    wait(lambda: review._selected() == [ids[0]], 5)
    qtbot.keyClicks(review.images, "y")
    assert given(dock) == {(ids[0], "diagnosis"): "pneumonia"}
    dock.workspace.step_image(1)
    wait(lambda: review._selected() == [ids[1]], 5)
    qtbot.keyClicks(review.images, "y")
    assert given(dock)[ids[1], "diagnosis"] == "normal"  # that of the image that is seen
    assert len(given(dock)) == 2


def test_a_brush_of_background_says_so(dock, page, told):
    page.tools.buttons["paint"].click()
    assert not any("paints background" in message for _, message in told)
    dock.workspace.set_active("background", "mask")
    page.tools.buttons["paint"].click()
    assert page.tools.buttons["paint"].isChecked() and not page.tools.buttons["erase"].isChecked()
    assert any("paints background" in message for _, message in told)


def test_the_browser_shows_pictures_sorts_and_a_click_shows_the_image(dock, page, wait):
    ids = [image.id for image in dock.workspace.study.images()]
    for image_id, share in zip(ids, (0.9, 0.45, 0.2, 0.6), strict=True):
        predict(dock, image_id, share)
    browser = page.browser
    wait(lambda: browser.list.count() == 4, 5)
    wait(lambda: len(page.thumbnails.pictures) == 4, 10)
    browser.order.setCurrentText(BY_DOUBT)
    wait(lambda: browser.list.item(0).data(ID) == ids[1], 5)
    browser.order.setCurrentText("by diagnosis")
    wait(lambda: browser.list.item(0).data(ID) == ids[1] and browser.list.item(1).data(ID) == ids[2], 5)
    browser.list.itemClicked.emit(browser.list.item(1))
    assert dock.workspace.image.id == ids[2]


def test_arrow_keys_walk_over_images_and_over_thumbnails(dock, page, wait, monkeypatch):
    ids = [image.id for image in dock.workspace.study.images()]
    press(dock.layers.image, "Right")
    assert dock.workspace.image.id == ids[1]
    press(dock.layers.image, "Left")
    press(dock.layers.image, "Left")
    assert dock.workspace.image.id == ids[-1]
    browser = page.browser
    wait(lambda: browser.list.count() == 4, 5)
    browser.list.setCurrentRow(1)  # not by the user
    assert dock.workspace.image.id == ids[-1]
    monkeypatch.setattr(browser.list, "hasFocus", lambda: True)
    browser.list.setCurrentRow(2)
    assert dock.workspace.image.id == ids[2]


def test_the_contact_sheet_is_a_window_of_its_own(dock, page, wait):
    page.sheet_button.click()
    wait(lambda: page.sheet.list.count() == 4, 5)
    assert page.sheet.window() is not dock.window()
    assert page.sheet.order.currentText() == "by diagnosis"
    dock.workspace.study.add_class("mild", kind="severity")
    dock.workspace.classes_edited()
    wait(lambda: page.sheet.order.findText("by severity") > 0, 5)
    assert page.sheet.order.currentText() == "by diagnosis"


def test_another_question_can_be_asked_of_images(dock, page, monkeypatch, told):
    from qtpy.QtWidgets import QInputDialog

    answers = iter([("Severity", True), ("mild", True)])
    monkeypatch.setattr(QInputDialog, "getText", lambda *a, **k: next(answers))
    page.head_button.click()
    assert list(page.heads) == ["diagnosis", "severity"]
    page.heads["severity"].table.cellClicked.emit(0, 1)
    assert "mild" in given(dock).values()
    answers = iter([("class", True), ("mild", True)])
    page.head_button.click()
    assert any("cannot name" in message or "names no kind" in message for _, message in told)


def test_a_study_with_a_second_question_stays_with_the_method_that_it_was_used_with(dock, page):
    study = dock.workspace.study
    study.add_class("mild", kind="severity")
    assert task_of(study) is SPECIMENS  # nothing else is known
    study.new_run("multimix")
    assert task_of(study) is LUNGS
    study.new_run("joint-unet")
    assert task_of(study) is SPECIMENS
    dock.study_panel.task.setCurrentIndex(dock.study_panel.task.findData("lungs"))
    dock.study_panel.task.activated.emit(dock.study_panel.task.currentIndex())
    dock.study_panel.open_path(study.path)
    assert dock.workspace.task is LUNGS  # as it was chosen


def test_what_changed_while_another_step_was_open_is_counted_when_it_is_shown(dock, page, qtbot):
    images = dock.workspace.study.images()
    predict(dock, images[0].id, 0.3)
    predict(dock, images[1].id, 0.8)
    page._recount.now()
    dock.tabs.setCurrentIndex(3)
    dock.workspace.select_image(images[1].id)
    dock.workspace.study.set_image_class(images[1].id, "diagnosis", "pneumonia")
    dock.workspace.image_classes_changed.emit()
    qtbot.wait(400)  # the count that is due now finds the page hidden
    dock.tabs.setCurrentIndex(1)
    page.showEvent(QShowEvent())  # which Qt sends in a window that is shown
    rows = page.heads["diagnosis"].table
    here = {rows.item(at, NAME).text(): rows.item(at, FIRST + 1).text() for at in range(rows.rowCount())}
    assert here == {"normal": "20%", "pneumonia": "● 80%"}


def test_the_image_on_screen_is_removed_and_its_neighbour_shown(dock, page, told):
    names = [image.path.name for image in dock.workspace.study.images()]
    dock.study_panel.images.table.selectRow(0)
    dock.study_panel.images.remove()
    assert dock.workspace.image.path.name == names[1]
    assert dock.workspace.study.undo() == f"Undone: Removed the image {names[0]}"


def test_walking_goes_past_images_that_cannot_be_read_and_says_so(dock, page, told):
    images = dock.workspace.study.images()
    images[1].path.unlink()
    damaged = images[2].path.read_bytes()
    images[2].path.write_bytes(damaged[:200])
    press(dock.layers.image, "Right")
    assert dock.workspace.image.path.name == "chest3.png" == dock.layers.image.name
    assert any("chest1.png" in message for _, message in told)
    press(dock.layers.image, "Left")
    assert dock.workspace.image.path.name == "chest0.png"
    press(dock.layers.image, "U")
    assert dock.workspace.image.path.name == "chest3.png"
    for image, share in zip(images, (0.6, 0.55, 0.5, 0.9), strict=True):
        predict(dock, image.id, share)
    press(dock.layers.image, "G")
    assert dock.workspace.image.path.name == "chest0.png"
    press(dock.layers.image, "G")
    assert dock.workspace.image.path.name == "chest3.png"
    dock.workspace.step_image(1)
    assert dock.workspace.image.path.name == "chest0.png"
    assert not any(severity == "error" for severity, _ in told)


def test_one_bad_file_does_not_keep_the_others_out(dock, tmp_path, told):
    more = tmp_path / "more"
    more.mkdir()
    for path in make_images(more, 3):
        path.rename(path.with_name(f"new-{path.name}"))
    (more / "new-chest1.png").write_bytes(b"no image")
    dock.study_panel.take([more])
    study = dock.workspace.study
    assert [image.path.name for image in study.images()][4:] == ["new-chest0.png", "new-chest2.png"]
    assert any("new-chest1.png" in m and "The other 2 were added" in m for _, m in told)
    assert study.undo() == "Undone: Added 2 images"


def test_specimens_have_two_heads_from_the_start(make_dock, study_path):
    dock = make_dock(study_path)
    dock.workspace.set_task(SPECIMENS)
    assert list(dock.label_panel.images.heads) == ["pattern", "intensity"]


def test_exports(dock, wait, tmp_path, monkeypatch, told):
    from qtpy.QtWidgets import QFileDialog

    predict(dock, dock.workspace.image.id, 0.7, half())
    review = dock.mask_review
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: str(tmp_path / "masks"))
    review.png_button.click()
    values = imageio.v3.imread(tmp_path / "masks" / "chest0.png")
    assert (values[: SIZE // 2 - 2] == 1).all()
    for name, button in (
        ("areas.csv", review.csv_button),
        ("lungs.geojson", review.geojson_button),
        ("lungs.ome.zarr", review.zarr_button),
    ):
        monkeypatch.setattr(
            QFileDialog, "getSaveFileName", lambda *a, name=name, **k: (str(tmp_path / name), "")
        )
        button.click()
    table = pd.read_csv(tmp_path / "areas.csv")
    assert table["diagnosis_predicted"][0] == "pneumonia"
    assert table["lung_pixels"][0] == SIZE * SIZE / 2
    assert "lung" in (tmp_path / "lungs.geojson").read_text()
    assert (tmp_path / "lungs.ome.zarr" / "labels").is_dir()
    assert not any(severity == "error" for severity, _ in told)


def test_classes_and_masks_are_imported(dock, page, tmp_path, monkeypatch, told):
    from qtpy.QtWidgets import QFileDialog

    (tmp_path / "said.csv").write_text("image,diagnosis\nchest1.png,pneumonia\nchest2,normal\n")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a, **k: (str(tmp_path / "said.csv"), ""))
    texts = [action.text() for action in page.import_button.menu().actions()]
    page.import_button.menu().actions()[0].trigger()
    assert sorted(given(dock).values()) == ["normal", "pneumonia"]
    folder = tmp_path / "masks"
    folder.mkdir()
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[:20] = 255
    imageio.v3.imwrite(folder / "chest0.png", mask)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: str(folder))
    page.import_button.menu().actions()[1].trigger()
    assert "folder" in texts[1]
    painted = np.array(dock.rasters.found[PAINT].data)
    assert painted[:20].all()
    study, first = dock.workspace.study, dock.workspace.image.id
    export_mask_zarr(study, first, tmp_path / "mask.zarr")
    study.clear_mask(first)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: str(tmp_path / "mask.zarr"))
    page.import_button.menu().actions()[2].trigger()
    back = np.asarray(dock.rasters.found[PAINT].data)
    np.testing.assert_array_equal(back[:20], painted[:20])
    (tmp_path / "said.csv").write_text("image,diagnosis\nnobody.png,pneumonia\n")
    page.import_button.menu().actions()[0].trigger()
    assert any("nobody" in message for _, message in told)
    assert not any(severity == "error" for severity, _ in told)


def test_the_table_of_images_says_what_is_given_and_what_is_predicted(tmp_path):
    with Study.open(make_study(tmp_path)) as study:
        ids = [image.id for image in study.images()]
        study.set_image_class(ids[0], "diagnosis", "normal")
        frame = pd.DataFrame(
            {"kind": "diagnosis", "class": ["normal", "pneumonia"], "probability": [0.3, 0.7]}
        )
        for image_id in ids[:2]:
            study.set_image_prediction(image_id, "a-run", frame)
        table = image_table(study, ["diagnosis"])
    assert table["of_diagnosis"].fillna("").tolist() == ["normal", "pneumonia", "", ""]
    assert table["colours"].tolist()[:2] == [[("#3333ff", True)], [("#ff3333", False)]]
    assert table["doubt"][1] == pytest.approx(0.3)
    assert table["classed"].tolist() == [True, False, False, False]


def test_thumbnails_keep_the_shape(tmp_path):
    imageio.v3.imwrite(tmp_path / "wide.png", np.arange(200 * 100, dtype=np.uint16).reshape(100, 200))
    with Study.create(tmp_path / "one.mtssl") as study:
        record = study.image(study.add_image(tmp_path / "wide.png", height=100, width=200).id)
        made = thumbnail(ImagePool()(record))
    assert made.shape == (SIDE // 2, SIDE, 3)
    assert made.max() == 255


@pytest.mark.slow
def test_the_next_large_image_is_there_soon(make_dock, tmp_path, wait):
    dock = make_dock(make_study(tmp_path, 4, 2048))
    dock.workspace.step_image(1)
    times = []
    for _ in range(4):
        begun = time.thread_time()  # other programs do not count
        dock.workspace.step_image(1)
        times.append(time.thread_time() - begun)
    assert np.median(times) < 0.6  # 0.3 on the wall clock of an idle machine, see docs/benchmarks.md


def test_a_threshold_fills_a_first_mask_and_the_next_try_replaces_it(dock, page, told):
    study, image = dock.workspace.study, dock.workspace.image
    code = next(c.code for c in study.classes("mask") if c.name == "lung")
    dock.workspace.set_active("lung", "mask")
    study.paint_mask(image.id, 70, 70, np.full((4, 4), code))
    page.fill_button.click()
    mask = study.mask(image.id)
    square = mask[SIZE // 4 + 2 : SIZE // 2 - 2, SIZE // 4 + 2 : SIZE // 2 - 2]
    assert (square == code).all()
    assert (mask[70:74, 70:74] == code).all()
    assert (mask == code).sum() < 0.1 * mask.size
    page.which.setCurrentText("dark")
    page.fill_button.click()
    mask = study.mask(image.id)
    assert (mask[SIZE // 4 + 2 : SIZE // 2 - 2, SIZE // 4 + 2 : SIZE // 2 - 2] == 0).all()
    assert (mask == code).sum() > 0.8 * mask.size
    dock.label_panel.undo()
    mask = study.mask(image.id)
    assert (mask == code).sum() == 16
    study.set_mask_complete(image.id, True)
    page.level.setValue(-10)
    page.level.sliderReleased.emit()
    assert (study.mask(image.id) == code).sum() == 16  # what nobody painted is background there
    assert any("mask is complete" in message for _, message in told)
    assert not any(severity == "error" for severity, _ in told)


def test_maps_are_light_on_a_dark_image_and_dye_on_a_bright_one(dock, make_dock, study_path):
    assert dock.layers.over_image("Uncertainty")["blending"] == "additive"
    dock.open_study(study_path)  # pale, with dark spots
    assert dock.layers.over_image("Uncertainty")["blending"] == "multiplicative"
