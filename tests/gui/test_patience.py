"""A server that does not answer: the window lives meanwhile, says what it waits for, and can give up."""

from __future__ import annotations

import threading

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


def test_an_answer_that_comes_late_and_an_error(dock, silent):
    seen = when_shown(lambda dialog: silent.set())
    assert patiently(lambda: silent.wait(60) and 7, "Reading far.zarr …", dock) == 7
    assert seen == ["Reading far.zarr …"]
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 // 0, "Reading …")


def test_an_image_of_a_silent_server_can_be_given_up(dock, silent, monkeypatch, tmp_path, told):
    monkeypatch.setattr(patience, "QUICK", 0.01)
    workspace = dock.workspace
    first = workspace.image
    url = "memory://far/one.ome.zarr"
    create_pyramid(tmp_path / "one.ome.zarr", (64, 64, 3), np.dtype(np.uint8), 0.5)[0][...] = 9
    import fsspec

    fsspec.filesystem("memory").put(str(tmp_path / "one.ome.zarr"), "/far/one.ome.zarr", recursive=True)
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
