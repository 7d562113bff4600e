"""Step 1 in a real window: new, open, recent, images, groups, splits, and what is wrong with them."""

import shutil

import imageio.v3
import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox

from napari_mtssl.gui.layers import LABELS
from napari_mtssl.study import Study

pytestmark = pytest.mark.gui


@pytest.fixture
def choose(monkeypatch):
    """Answer the next file dialogs with a path."""

    def answer(path):
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (str(path), ""))
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a, **k: (str(path), ""))
        monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *a, **k: ([str(path)], ""))
        monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: str(path))

    return answer


def test_from_nothing_to_the_first_label(make_dock, tmp_path, choose, told):
    dock = make_dock()
    panel = dock.study_panel
    assert "No study is open" in panel.name.text()
    assert not panel.images.add_button.isEnabled()
    choose(tmp_path / "mine")
    panel.new()
    assert dock.workspace.study.path.name == "mine.mtssl"
    imageio.v3.imwrite(tmp_path / "slide.png", np.full((64, 80, 3), 200, np.uint8))
    choose(tmp_path / "slide.png")
    panel.images.add_button.click()
    assert panel.images.table.item(0, 0).text() == "slide.png"
    assert "80 × 64" in panel.images.table.item(0, 0).toolTip()
    dock.workspace.study.add_class("cell")
    dock.workspace.classes_edited()
    dock.layers.points[LABELS].add([10, 20])
    assert len(dock.workspace.cells()) == 1
    assert not [m for severity, m in told if severity == "error"]


def test_a_new_study_may_have_the_classes_of_a_template(make_dock, tmp_path, choose, told):
    dock = make_dock()
    panel = dock.study_panel
    actions = {action.text(): action for action in panel.new_button.menu().actions() if action.text()}
    assert list(actions) == [
        "Cells …",
        "Tissue …",
        "Lungs …",
        "Specimens …",
        "Without classes …",
    ]
    assert all(action.toolTip() for action in actions.values())
    choose(tmp_path / "specimens")
    actions["Specimens …"].trigger()
    assert dock.workspace.task.name == "specimens" and panel.task.currentText() == "Specimens"
    table = dock.label_panel.images.heads["pattern"].table
    assert table.rowCount() == 7
    assert "less than six" in table.item(2, 1).toolTip()
    choose(tmp_path / "mine")
    actions["Without classes …"].trigger()
    assert dock.workspace.study.path.name == "mine.mtssl"
    assert len(dock.workspace.study.classes(None)) == 1
    assert not [m for severity, m in told if severity == "error"]


def test_open_and_recent(make_dock, study_path, choose):
    dock = make_dock()
    choose(study_path)
    dock.study_panel.open()
    assert dock.workspace.study.path == study_path
    dock.study_panel._fill_recent()
    assert any("small.mtssl" in action.text() for action in dock.study_panel.recent.menu().actions())


def test_a_folder_that_is_no_study_is_refused_in_words(make_dock, tmp_path, choose, told):
    dock = make_dock()
    choose(tmp_path)
    dock.study_panel.open()
    assert dock.workspace.study is None
    assert told
    assert all(severity == "warning" for severity, _ in told)


def test_a_file_that_is_no_image_is_refused_in_words(dock, tmp_path, choose, told):
    (tmp_path / "notes.png").write_text("no image")
    choose(tmp_path / "notes.png")
    dock.study_panel.images.add_files()
    assert len(dock.workspace.study.images()) == 2
    assert any("notes.png" in message for _, message in told)


def test_an_image_that_is_there_already_is_shown_and_told(dock, choose, told):
    choose(dock.workspace.study.images()[1].path)
    dock.study_panel.images.add_files()
    assert len(dock.workspace.study.images()) == 2
    assert dock.workspace.image.path.name == "second.png"
    assert ("info", "second.png is in the study already.") in told


def write_dicom(path, low, high):
    """A grey image of values from `low` to `high`, to be shown from 0 to 1000."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1")
    file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file.Rows, file.Columns, file.SamplesPerPixel, file.PhotometricInterpretation = 40, 50, 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
    file.WindowCenter, file.WindowWidth = 500.5, 1001
    file.PixelData = np.linspace(low, high, 2000).astype(np.uint16).tobytes()
    file["PixelData"].VR = "OW"
    file.save_as(path, enforce_file_format=True)


def test_a_radiograph_is_shown_in_its_own_window(dock, tmp_path):
    for name, span in (("dark.dcm", (100, 400)), ("bright.dcm", (600, 900))):
        write_dicom(tmp_path / name, *span)
    added = dock.workspace.add_images([tmp_path / "dark.dcm", tmp_path / "bright.dcm"])
    for record, span in zip(added, ((100, 400), (600, 900)), strict=True):
        dock.workspace.select_image(record.id)
        layer = dock.layers.image
        assert tuple(layer.contrast_limits) == (0, 65535)
        # what is drawn is as far from black as the window says
        assert np.asarray(layer.data).min() / 65535 == pytest.approx(span[0] / 1000, abs=2e-3)


@pytest.fixture
def zarr(tmp_path):
    """An OME-Zarr image, which is a folder."""
    from napari_mtssl.images import open_image
    from napari_mtssl.images.convert import convert

    imageio.v3.imwrite(tmp_path / "pyramid.png", np.full((96, 128, 3), 180, np.uint8))
    for _ in convert(open_image(tmp_path / "pyramid.png"), tmp_path / "pyramid.ome.zarr"):
        pass
    return tmp_path / "pyramid.ome.zarr"


def test_an_ome_zarr_folder_is_one_image_also_chosen_from_inside(dock, zarr, choose, told):
    panel = dock.study_panel.images
    choose(zarr)
    panel.folder_button.click()
    choose(next(path for path in zarr.iterdir() if path.is_dir()))  # a level of the pyramid
    panel.folder_button.click()
    assert [image.path.name for image in dock.workspace.study.images()][2:] == ["pyramid.ome.zarr"]
    panel.table.cellClicked.emit(2, 0)
    assert (dock.workspace.image.height, dock.workspace.image.width) == (96, 128)
    assert told == [("info", "pyramid.ome.zarr is in the study already.")]


def test_all_images_of_a_folder_are_added_and_an_empty_one_is_said(dock, tmp_path, choose, told):
    folder = tmp_path / "folder"
    folder.mkdir()
    choose(folder)
    dock.study_panel.images.folder_button.click()
    assert any("no images in the folder" in message for _, message in told)
    for name in ("a.png", "b.png", "a_mask.png"):
        imageio.v3.imwrite(folder / name, np.full((40, 40, 3), len(name), np.uint8))
    dock.study_panel.images.folder_button.click()
    assert [image.path.name for image in dock.workspace.study.images()][2:] == ["a.png", "b.png"]


def test_what_is_dropped_on_the_panel_is_added(dock, zarr, tmp_path, told):
    from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
    from qtpy.QtGui import QDropEvent

    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in (zarr, tmp_path / "pyramid.png")])
    assert dock.study_panel.acceptDrops()
    event = QDropEvent(
        QPointF(5, 5),
        Qt.DropAction.CopyAction,
        mime,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    dock.study_panel.dropEvent(event)
    names = [image.path.name for image in dock.workspace.study.images()][2:]
    assert names == ["pyramid.ome.zarr", "pyramid.png"]
    assert not [message for severity, message in told if severity != "info"]


def test_the_viewers_image_is_added_by_its_file(dock, tmp_path, told):
    imageio.v3.imwrite(tmp_path / "third.png", np.full((50, 60, 3), 99, np.uint8))
    dock.viewer.open(str(tmp_path / "third.png"), plugin="napari")
    dock.viewer.layers.selection.active = dock.viewer.layers["third"]
    dock.study_panel.images.add_layer()
    assert dock.workspace.image.path.name == "third.png"
    dock.viewer.add_image(np.zeros((8, 8)), name="made up")
    dock.viewer.layers.selection.active = dock.viewer.layers["made up"]
    dock.study_panel.images.add_layer()
    assert any("comes from no file" in message for _, message in told)


def test_groups_and_splits_are_edited_in_the_list(dock):
    table = dock.study_panel.images.table
    table.item(1, 1).setText("patient 7")
    box = table.cellWidget(1, 2)
    box.setCurrentIndex(1)
    box.activated.emit(1)
    second = dock.workspace.study.images()[1]
    assert (second.group, second.split) == ("patient 7", "validation")


def test_a_click_on_a_row_shows_the_image(dock):
    dock.study_panel.images.table.cellClicked.emit(1, 0)
    assert dock.workspace.image.path.name == "second.png"
    assert dock.study_panel.images.table.item(1, 0).font().bold()


def test_a_removed_image_comes_back_with_its_labels(dock):
    before = len(dock.workspace.cells())
    dock.study_panel.images.table.selectRow(0)
    dock.study_panel.images.remove()
    assert [i.path.name for i in dock.workspace.study.images()] == ["second.png"]
    assert "first.png" not in dock.viewer.layers
    dock.label_panel.undo()
    assert dock.study_panel.images.table.rowCount() == 2
    dock.study_panel.images.table.cellClicked.emit(0, 0)
    assert len(dock.layers.points[LABELS].data) == before


def test_an_image_that_moved_is_found_again(dock, tmp_path, choose, told):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(tmp_path / "second.png", moved / "second.png")
    dock.study_panel.images.refresh()
    assert dock.study_panel.images.problems.shown.count() == 1
    dock.study_panel.images.table.cellClicked.emit(1, 0)
    assert dock.workspace.image.path.name == "first.png"
    assert any("second.png" in message for _, message in told)
    choose(moved / "second.png")
    dock.study_panel.images.problems.shown.itemAt(0).widget().findChildren(
        type(dock.study_panel.images.add_button)
    )[0].click()
    assert dock.workspace.image.path == moved / "second.png"
    assert dock.study_panel.images.problems.shown.count() == 0


def test_a_changed_image_is_taken_only_after_a_question(dock, tmp_path, monkeypatch):
    imageio.v3.imwrite(tmp_path / "second.png", np.full((96, 96, 3), 10, np.uint8))
    dock.study_panel.images.refresh()
    accept = (
        dock.study_panel.images.problems.shown.itemAt(0)
        .widget()
        .findChildren(type(dock.study_panel.images.add_button))[0]
    )
    monkeypatch.setattr(QMessageBox, "question", lambda *a, **k: QMessageBox.StandardButton.No)
    accept.click()
    assert len(dock.workspace.study.problems()) == 1
    monkeypatch.setattr(QMessageBox, "question", lambda *a, **k: QMessageBox.StandardButton.Yes)
    accept.click()
    assert not dock.workspace.study.problems()


def test_an_image_at_an_address_is_added_and_its_loss_is_told(dock, zarr, monkeypatch, qtbot, told):
    import fsspec

    memory, url = fsspec.filesystem("memory"), "memory://panel/far.ome.zarr"
    memory.put(str(zarr), "/panel/far.ome.zarr", recursive=True)
    said = iter(["panel/far.ome.zarr", url, "memory://panel/other.ome.zarr"])
    monkeypatch.setattr(QInputDialog, "getText", lambda *a, **k: (next(said), True))
    panel = dock.study_panel.images
    panel.url_button.click()
    assert any("is no address" in message for _, message in told)
    panel.url_button.click()
    record = dock.workspace.study.images()[-1]
    assert record.url == url
    dock.workspace.select_image(record.id)
    assert dock.workspace.pixels.url == url
    memory.mv("/panel/far.ome.zarr", "/panel/other.ome.zarr", recursive=True)
    path = dock.workspace.study.path
    dock.workspace.close()
    dock.workspace.open(path)
    qtbot.waitUntil(lambda: panel.problems.shown.count() == 1, timeout=20_000)
    panel.problems.shown.itemAt(0).widget().findChildren(type(panel.add_button))[0].click()
    assert panel.problems.shown.count() == 0
    memory.rm("/panel", recursive=True)


def test_labels_come_in_from_csv_and_geojson_once(dock, tmp_path, choose, told):
    table = tmp_path / "labels.csv"
    table.write_text("image,row,col,class\nfirst.png,80,80,blue\nfirst.png,80,50,green\n")
    choose(table)
    before = len(dock.workspace.cells())
    for _ in range(2):
        dock.label_panel.import_csv()
        assert len(dock.workspace.cells()) == before + 2
    assert any("2 cells added" in message for _, message in told)
    from napari_mtssl.study.exchange import export_geojson

    export_geojson(dock.workspace.study, dock.workspace.image.id, tmp_path / "out.geojson")
    choose(tmp_path / "out.geojson")
    dock.label_panel.import_geojson()
    assert len(dock.workspace.cells()) == before + 2
    table.write_text("image,row,col\nfirst.png,1,1\n")
    choose(table)
    dock.label_panel.import_csv()
    assert any("class is missing" in message for _, message in told)


def test_a_layer_that_names_its_study_opens_it(make_dock, study_path, qtbot):
    """What File > Open Sample and a study dropped onto napari do."""
    from napari_mtssl.gui.samples import image_layers

    dock = make_dock()
    with Study.open(study_path) as study:
        (data, settings, _), *_ = image_layers(study)
    dock.viewer.add_image(data, **settings)
    qtbot.waitUntil(lambda: dock.workspace.study is not None, timeout=5000)
    assert [layer.name for layer in dock.viewer.layers].count("first.png") == 1
    assert dock.tabs.currentIndex() == 1


def test_the_reader_takes_studies_only(study_path, tmp_path):
    from napari_mtssl.gui.reader import get_reader

    assert get_reader(str(tmp_path)) is None
    assert get_reader([str(study_path), str(study_path)]) is None
    read = get_reader(str(study_path))
    assert callable(read)


@pytest.mark.slow
def test_samples_are_ready_studies(monkeypatch, tmp_path):
    from napari_mtssl.gui import samples

    monkeypatch.setattr(samples, "samples_folder", lambda: tmp_path)
    monkeypatch.setattr(samples, "open_dock", lambda: None)
    for make, classes in ((lambda: samples.field(size=256), 3), (samples.ihc, 3)):
        for _ in range(2):  # the second time it is opened again
            (data, settings, kind), *_ = make()
            assert kind == "image"
            assert data.shape[-1] == 3
        with Study.open(settings["metadata"]["mtssl_image"][0]) as study:
            assert len(study.classes()) >= classes
            assert (study.counts()["total"] > 0).sum() >= classes
