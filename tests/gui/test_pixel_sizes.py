"""A slide that does not say how large its pixels are: asked once, kept, undone, changed."""

import numpy as np
import pytest
from qtpy.QtWidgets import QInputDialog

from napari_mtssl.evaluation.slide_files import write_slide
from napari_mtssl.evaluation.slide_generator import made_slide
from napari_mtssl.study import Study

pytestmark = pytest.mark.gui


@pytest.fixture
def answers(monkeypatch):
    """What the user says next; what was asked."""
    said, asked = [], []

    def get(parent, title, text, *_):
        asked.append(text)
        return (said.pop(0), True) if said else (0.0, False)

    monkeypatch.setattr(QInputDialog, "getDouble", get)
    monkeypatch.setattr("napari_mtssl.images.image.LARGE", 1000)
    return said, asked


@pytest.fixture
def silent(tmp_path):
    """Two slides without pixel size, of which the study has the first."""
    paths = [
        write_slide(made_slide(600, 500, period=128), tmp_path / f"silent{n}.ome.tif", tile=256)
        for n in range(2)
    ]
    with Study.create(tmp_path / "silent.mtssl") as study:
        study.add_image(paths[0], height=600, width=500)
        return study.path, paths[1]


def test_asked_once_kept_undone_and_changed(make_dock, silent, answers, wait):
    said, asked = answers
    said.append(0.4)
    dock = make_dock(silent[0])
    workspace = dock.workspace
    wait(lambda: asked)
    assert "silent0.ome.tif does not say" in asked[0]
    assert workspace.image.pixel_size_um == workspace.study.images()[0].pixel_size_um == 0.4
    assert np.allclose(dock.layers.image.scale, 0.4)
    workspace.undo()
    assert workspace.image.pixel_size_um is None
    assert np.allclose(dock.layers.image.scale, 1)
    said.append(0.5)
    dock.study_panel.images.table.setCurrentCell(0, 0)
    dock.study_panel.images.size_button.click()
    assert np.allclose(dock.layers.image.scale, 0.5)
    assert len(asked) == 2
    with Study.open(silent[0]) as again:
        assert again.images()[0].pixel_size_um == 0.5


def test_who_does_not_know_is_not_asked_again(make_dock, silent, answers, wait):
    _, asked = answers
    dock = make_dock(silent[0])
    wait(lambda: asked)
    dock.workspace.refresh_image()
    dock.workspace.study.add_image(silent[1], height=600, width=500)
    dock.workspace.images_changed.emit()
    wait(lambda: len(asked) == 2)
    assert "silent1" in asked[1]
    assert dock.workspace.image.pixel_size_um is None
