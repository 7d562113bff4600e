"""Tissue from an empty dock to exports, where nothing is as usual: as a pathologist goes through the steps.

Sixteen bits of which twelve are used, blocks of 20 x 28 um, five coarse classes, two exact ones and a region.
"""

import json

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from qtpy.QtWidgets import QFileDialog, QInputDialog

from napari_mtssl.evaluation.synthetic_tissue import tissue
from napari_mtssl.gui.panels.statistics import EXACT, MEAN, SPREAD
from napari_mtssl.gui.rasters import BLOCKS, PAINT, PREDICTED
from napari_mtssl.gui.regions import REGIONS
from napari_mtssl.gui.tasks import TISSUE
from napari_mtssl.gui.training import State
from napari_mtssl.study import Grid, Study

pytestmark = [pytest.mark.gui, pytest.mark.slow]
NAMES, EDGES = ["none", "little", "half", "much", "all"], [0, 0.05, 0.35, 0.65, 0.95]
TINY = {"widths": "4-6-8", "stem": 1, "crop": 64, "batch_size": 2, "views": 1, "ema": 0.5}


def press(layer, key):
    from napari.utils.key_bindings import coerce_keybinding

    layer.keymap[coerce_keybinding(key)](layer)


@pytest.fixture
def answer(monkeypatch):
    """Answer what is asked for: a name, where to save."""

    def say(name=None, path=None):
        monkeypatch.setattr(QInputDialog, "getText", lambda *a, **k: (name, True))
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (str(path), ""))
        monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: str(path))

    return say


@pytest.fixture
def labelled(make_dock, tmp_path, answer):
    """The dock with everything labelled, by its own buttons, keys and tables."""
    made = tissue(200, 300, seed=5)
    deep = made.image.astype(np.uint16) * 16
    where = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}  # half a micrometre
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb", **where)
    dock = make_dock()
    workspace, page = dock.workspace, dock.label_panel.blocks
    workspace.create(tmp_path / "odd.mtssl")
    workspace.add_images([tmp_path / "deep.tif"])
    assert workspace.image.pixel_size_um == pytest.approx(0.5)
    workspace.set_task(TISSUE)
    size = page.grid.size
    size.unit.setCurrentText("µm")
    size.height_box.setValue(20)
    size.width_box.setValue(28)
    page.lay_button.click()
    assert workspace.study.grid(1) == Grid(40, 56)
    assert "20 × 28 µm" in page.hint.text()
    for table, names in ((page.classes, NAMES), (page.exact, ("gland", "mucus"))):
        for name in names:
            answer(name)
            table.add_button.click()
    page.block_tools.buttons["paint"].click()
    layer = dock.rasters.found[BLOCKS]
    assert layer.data.shape == (5, 6)
    shares = made.mask[:, :280].reshape(5, 40, 5, 56).mean((1, 3))
    bins, bare = np.searchsorted(EDGES, shares, side="right"), layer.__wrapped__
    for key in np.unique(bins):
        press(layer, str(key))
        with bare.block_history():  # one stroke
            for place in np.argwhere(bins == key):
                bare.paint(tuple(place), bare.selected_label)
    assert len(workspace.study.blocks(1)) == 25
    assert dict(zip(NAMES, "12345", strict=True)) == {c.name: c.key for c in workspace.classes("block")}
    page.region_tools.buttons["add_polygon"].click()
    press(dock.regions.layer, "3")
    dock.regions.layer.add_polygons(np.array([[150.0, 281], [150, 299], [199, 299], [199, 281]]))
    assert workspace.study.regions(1)["class"].tolist() == ["half"]
    return dock


def explain(dock):
    """Type what the classes mean, in per cent."""
    page = dock.label_panel.blocks
    page.statistics_section.expand(animate=False)
    table = page.statistics.table
    assert table.rowCount() == 10
    means = dict(zip(NAMES, (0, 20, 50, 80, 100), strict=True))
    for at in range(10):
        mean = means[table.item(at, 0).text()] * (0.9 if table.item(at, EXACT).text() == "gland" else 0.1)
        table.item(at, MEAN).setText(f"{mean:g} %")
        table.item(at, SPREAD).setText("0" if mean == 0 else "9")


def test_nothing_as_usual_works_from_the_grid_to_the_exports(labelled, told, wait, answer, tmp_path):
    dock, study = labelled, labelled.workspace.study
    panel, kinds = dock.train_panel, []
    dock.runner.event.connect(lambda event: kinds.append(event))
    panel.library_ready()
    panel.advanced.expand(animate=False)
    for name, value in TINY.items():
        field = panel.form.fields[name]
        if hasattr(field, "setValue"):
            field.setValue(value)
        elif hasattr(field, "findData"):
            field.setCurrentIndex(field.findData(value))
        else:
            field.setText(str(value))
    panel.steps.setValue(3)
    panel.start_button.click()
    assert not dock.runner.busy  # it is said before anything slow begins
    assert "Nobody has said what a block of the class" in panel.shown.error.text()
    explain(dock)
    assert any("below 3 % counts as 3 %" in message for _, message in told)
    said = study.statistics().set_index(["block_class", "mask_class"])
    assert said.loc[("much", "background"), "mean"] == pytest.approx(0.2)
    panel.start_button.click()
    wait(lambda: dock.runner.state is State.WAITING or not dock.runner.busy, 120)
    assert dock.runner.failure is None, dock.runner.failure
    started = [event for event in kinds if event.kind == "started"]
    assert started[-1].n_labelled == 26  # 25 blocks and the region
    dock.draw_now()
    shown = dock.rasters.found[PREDICTED]
    assert np.asarray(shown.data).all()
    np.testing.assert_allclose(shown.scale, [0.5, 0.5])  # over the image, in micrometres

    dock.label_panel.blocks.mask_tools.buttons["paint"].click()
    press(dock.rasters.found[PAINT], "2")
    bare = dock.rasters.found[PAINT].__wrapped__
    with bare.block_history():
        bare.paint((60, 60), bare.selected_label)
    wait(lambda: len([event for event in kinds if event.kind == "started"]) > len(started), 60)
    wait(lambda: dock.runner.state is State.WAITING or not dock.runner.busy, 120)
    assert dock.runner.failure is None, dock.runner.failure
    assert next(event for event in reversed(kinds) if event.kind == "started").n_labelled == 27
    panel.stop_button.click()
    wait(lambda: not dock.runner.busy, 20)

    review = dock.mask_review
    dock.tabs.setCurrentIndex(3)
    review.reload.now()
    wait(lambda: review.areas.rowCount() == 3, 60)
    shares = [float(review.areas.item(at, 2).text().rstrip(" %")) for at in range(3)]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    areas = [float(review.areas.item(at, 1).text().removesuffix(" mm²")) for at in range(3)]
    assert sum(areas) == pytest.approx(0.015, rel=1e-3)
    check_exports(review, answer, tmp_path)
    assert not [message for severity, message in told if severity == "error"]
    undo_all(dock)


def check_exports(review, answer, folder):
    """Write the mask in every way, and the areas."""
    answer(path=folder / "mask.geojson")
    review.geojson_button.click()
    found = json.loads((folder / "mask.geojson").read_text())["features"]
    assert {item["properties"]["classification"]["name"] for item in found} <= {"gland", "mucus"}
    answer(path=folder / "mask.zarr")
    review.zarr_button.click()
    labels = zarr.open_group(folder / "mask.zarr")["labels/mask/0"]
    assert labels.shape == (200, 300)
    answer(path=folder / "png")
    review.png_button.click()
    mask = iio.imread(folder / "png" / "deep.png")
    np.testing.assert_array_equal(mask, labels[:])
    assert mask[60, 60] == 2  # the correction
    answer(path=folder / "areas.csv")
    review.csv_button.click()
    line = pd.read_csv(folder / "areas.csv").iloc[0]
    assert line["gland_mm2"] + line["mucus_mm2"] + line["background_mm2"] == pytest.approx(0.015, rel=1e-3)


def undo_all(dock):
    """Take back every edit, one by one; the layers follow."""
    for _ in range(200):
        if not dock.workspace.study.can_undo:
            break
        dock.label_panel.undo()
        if not dock.workspace.study.images():
            break
    with Study.open(dock.workspace.study.path) as study:
        assert not study.images()
        assert not study.classes("block")
    assert not {BLOCKS, PAINT, REGIONS} & {layer.name for layer in dock.viewer.layers}
