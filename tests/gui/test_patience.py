"""A server that does not answer: the window lives meanwhile, says what it waits for, and can give up."""

from __future__ import annotations

import threading

import imageio.v3 as iio
import numpy as np
import pytest
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QProgressDialog

from napari_mtssl.gui import patience
from napari_mtssl.gui.patience import patiently
from napari_mtssl.images import ImageError
from napari_mtssl.images.pyramids import create_pyramid

pytestmark = pytest.mark.gui


def when_shown(deed):
    """Do something with the dialog, as soon as it is there; gives what was seen of it."""
    seen = []

    def look():
        dialog = QApplication.activeModalWidget()
        if isinstance(dialog, QProgressDialog):
            seen.append(dialog.labelText())
            deed(dialog)
        else:
            QTimer.singleShot(10, look)

    QTimer.singleShot(0, look)
    return seen


@pytest.fixture
def silent():
    """A server's answer that never comes, until the test is over."""
    answer = threading.Event()
    yield answer
    answer.set()


def test_an_import_that_is_given_up_leaves_nothing(dock, tmp_path, silent, wait, monkeypatch, told):
    from qtpy.QtWidgets import QFileDialog

    from napari_mtssl.study import exchange

    table = tmp_path / "labels.csv"
    table.write_text("image,row,col,class\nfirst.png,80,80,green\n")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a, **k: (str(table), ""))
    quick, done = exchange.import_csv, threading.Event()

    def slow(study, path):
        try:
            silent.wait(60)
            return quick(study, path)
        finally:
            done.set()

    monkeypatch.setattr(exchange, "import_csv", slow)
    before = dock.workspace.cells()
    seen = when_shown(lambda dialog: dialog.cancel())
    dock.label_panel.import_csv()
    assert seen == ["Importing labels.csv …"]
    assert told[-1] == ("warning", "labels.csv was not imported.")
    silent.set()
    wait(done.is_set)
    wait(lambda: not any(thread.name == "patience" for thread in threading.enumerate()))
    assert dock.workspace.study.cells(1).equals(before)
    assert "green" not in [item.name for item in dock.workspace.study.classes()]
    seen = when_shown(lambda dialog: None)
    dock.label_panel.import_csv()  # now it answers
    assert len(dock.workspace.cells()) == len(before) + 1
    assert dock.workspace.undo() == "Undone: Imported labels.csv"


def test_an_answer_that_comes_late_and_an_error(dock, silent):
    seen = when_shown(lambda dialog: silent.set())
    assert patiently(lambda: silent.wait(60) and 7, "Reading far.zarr …", dock) == 7
    assert seen == ["Reading far.zarr …"]
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 // 0, "Reading …")


@pytest.fixture
def far(tmp_path):
    """Address of an image on a server."""
    import fsspec

    create_pyramid(tmp_path / "one.ome.zarr", (64, 64, 3), np.dtype(np.uint8), 0.5)[0][...] = 9
    fsspec.filesystem("memory").put(str(tmp_path / "one.ome.zarr"), "/far/one.ome.zarr", recursive=True)
    return "memory://far/one.ome.zarr"


def test_an_image_of_a_silent_server_can_be_given_up(dock, silent, far, monkeypatch):
    monkeypatch.setattr(patience, "QUICK", 0.01)
    workspace, url = dock.workspace, far
    first = workspace.image
    (record,) = workspace.add_images([url])
    pool = workspace.pool
    asked = []

    def slow(wanted):
        if wanted.url == url:
            asked.append(threading.current_thread())
            silent.wait(60)
        return pool(wanted)

    workspace.pool = slow
    seen = when_shown(lambda dialog: dialog.cancel())
    with pytest.raises(ImageError, match="given up"):
        workspace.select_image(record.id)
    assert seen == ["Reading memory://far/one.ome.zarr …"]
    assert workspace.image == first
    silent.set()
    workspace.select_image(record.id)
    assert workspace.image == record
    assert asked and threading.main_thread() is not asked[0]


def test_files_that_take_long_to_read_are_waited_for_with_a_window_that_lives(
    dock, tmp_path, silent, monkeypatch, wait
):
    from napari_mtssl.gui import adding

    quick = adding.checksum
    for number in range(3):
        iio.imwrite(tmp_path / f"x{number}.png", np.full((9, 9), number, np.uint8))
    monkeypatch.setattr(adding, "checksum", lambda path: silent.wait(60) and quick(path))
    files, before = sorted(tmp_path.glob("x?.png")), len(dock.workspace.study.images())
    seen = when_shown(lambda dialog: dialog.cancel())
    with pytest.raises(ImageError, match=r"^Reading 3 files was given up\.$"):
        dock.workspace.add_images(files)
    assert seen == ["Reading 3 files …"]
    silent.set()
    wait(lambda: not any(thread.name == "patience" for thread in threading.enumerate()))
    assert len(dock.workspace.study.images()) == before
    records = dock.workspace.add_images(files)
    assert [(record.path, record.checksum) for record in records] == [(path, quick(path)) for path in files]


def test_checksums_and_tissue_of_a_server_are_not_read_in_the_windows_thread(dock, far, monkeypatch):
    from napari_mtssl.gui import adding, slide_tissue

    workspace, threads = dock.workspace, []

    def noted(module, name):
        usual = getattr(module, name)

        def read(*arguments):
            threads.append(threading.current_thread())
            return usual(*arguments)

        monkeypatch.setattr(module, name, read)

    noted(adding, "fingerprint")
    noted(slide_tissue, "find_tissue")
    (record,) = workspace.add_images([far])
    assert record.checksum == adding.fingerprint(far)
    workspace.select_image(record.id)
    monkeypatch.setattr("napari_mtssl.gui.samples.open_dock", lambda: dock)
    assert slide_tissue.edit_tissue() is not None
    added, _, tissue = threads
    assert threading.main_thread() not in (added, tissue)
