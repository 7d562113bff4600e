"""What is too large or too much to be held whole is shown, and painted, where one looks."""

import imageio.v3
import numpy as np
import pytest

from napari_mtssl.gui.rasters import PAINT
from napari_mtssl.gui.regions import REGIONS
from napari_mtssl.gui.tasks import TISSUE
from napari_mtssl.study import Study

pytestmark = pytest.mark.gui
SIZE = 400


@pytest.fixture
def dock(make_dock, tmp_path, monkeypatch):
    """An image that counts as too large to be painted whole, seen whole."""
    monkeypatch.setattr("napari_mtssl.gui.rasters.MOST", 1000)
    monkeypatch.setattr("napari_mtssl.gui.rasters.NEAR", 120 * 120)
    monkeypatch.setattr("napari_mtssl.gui.regions.MOST", 3)
    imageio.v3.imwrite(tmp_path / "slide.png", np.full((SIZE, SIZE, 3), 200, np.uint8))
    with Study.create(tmp_path / "slide.mtssl") as study:
        study.add_class("gland", kind="mask", key="1", colour="#00cc00")
        study.add_class("much", kind="block", key="1", colour="#cc0000")
        image = study.add_image(tmp_path / "slide.png", height=SIZE, width=SIZE)
        square = np.array([(0, 0), (0, 20), (20, 20), (20, 0)], float)
        for n in range(8):
            study.add_region(image.id, square + 45 * n, "much")
    made = make_dock(tmp_path / "slide.mtssl")
    made.workspace.set_task(TISSUE)
    return made


def look(dock, monkeypatch, *box):
    monkeypatch.setattr(dock.layers, "viewport", lambda: box)
    dock.watch.look()


def test_the_mask_of_a_slide_is_painted_where_one_looks(dock, monkeypatch, told):
    study, image = dock.workspace.study, dock.workspace.image
    look(dock, monkeypatch, 0, 0, SIZE, SIZE)
    assert PAINT not in dock.rasters.found
    dock.deeds.take_tool("mask", "paint", 10)
    assert any("Come closer" in message for _, message in told)
    look(dock, monkeypatch, 200, 240, 300, 340)
    layer = dock.rasters.found[PAINT].__wrapped__
    assert layer.data.shape == (150, 150)
    assert tuple(layer.translate) == (175, 215)
    layer.brush_size = 10
    with layer.block_history():
        layer.paint((75, 75), layer.selected_label)
    painted = study.mask(image.id)
    rows, cols = np.nonzero(painted)
    assert abs(rows.mean() - 250) < 1 and abs(cols.mean() - 290) < 1
    look(dock, monkeypatch, 210, 250, 290, 330)  # still held
    assert layer.data.shape == (150, 150)
    look(dock, monkeypatch, 260, 260, 350, 340)
    layer = dock.rasters.found[PAINT].__wrapped__
    row0, col0 = (int(at) for at in layer.translate)
    high, wide = layer.data.shape
    assert (row0, col0) != (175, 215)
    assert np.array_equal(layer.data, painted[row0 : row0 + high, col0 : col0 + wide])
    dock.workspace.undo()
    assert not np.asarray(dock.rasters.found[PAINT].data).any()
    look(dock, monkeypatch, 0, 0, SIZE, SIZE)  # from afar the last part stays
    assert PAINT in dock.rasters.found
    assert not any(severity == "error" for severity, _ in told)


def test_of_very_many_regions_those_in_view_are_drawn(dock, monkeypatch):
    look(dock, monkeypatch, 0, 0, SIZE, SIZE)
    dock.workspace.blocks_changed.emit()
    assert REGIONS not in dock.viewer.layers
    look(dock, monkeypatch, 90, 90, 130, 130)
    assert dock.regions.layer is not None
    all_ids = dock.workspace.study.regions(dock.workspace.image.id)["id"].tolist()
    assert dock.regions.ids == all_ids[2:4]
    look(dock, monkeypatch, 300, 300, 340, 340)
    assert dock.regions.ids == all_ids[6:8]
