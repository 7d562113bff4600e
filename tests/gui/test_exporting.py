"""Exports of large images: in the background, and what is wrong is said in words."""

import json

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_mtssl.study import Study

pytestmark = pytest.mark.gui


def test_masks_of_large_images_are_written_in_the_background(
    make_dock, study_path, wait, told, tmp_path, monkeypatch
):
    with Study.open(study_path) as study:
        study.add_class("0-20", kind="block")
        code = study.add_class("tumour", kind="mask").code
        study.paint_mask(1, 10, 10, np.full((20, 20), code, np.uint16))
    dock = make_dock(study_path)
    for limit in ("exporting.LARGE", "panels.review_masks.LARGE", "panels.review_masks.OUTLINED"):
        monkeypatch.setattr(f"napari_mtssl.gui.{limit}", 0)
    review = dock.mask_review

    def save(button, name):
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (str(tmp_path / name), ""))
        monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: str(tmp_path / name))
        button.click()

    buttons = {"m.geojson": review.geojson_button, "m.zarr": review.zarr_button}
    buttons |= {"png": review.png_button, "areas.csv": review.csv_button}
    for name, button in buttons.items():
        save(button, name)
        wait(lambda name=name: any("Written:" in said and name in said for _, said in told), 30)
    assert any("in the background" in said for _, said in told)
    assert len(json.loads((tmp_path / "m.geojson").read_text())["features"]) == 1
    dock.workspace.step_image(1)
    save(review.geojson_button, "n.geojson")
    wait(lambda: any("There is no mask of second.png" in said for _, said in told), 30)
    assert not any(severity == "error" for severity, _ in told)


def test_a_name_without_an_ending_gets_one_and_replaces_nothing_unasked(dock, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (str(tmp_path / "cells"), ""))
    monkeypatch.setattr(
        QMessageBox, "question", lambda *a: said.append(a[2]) or QMessageBox.StandardButton.No
    )
    dock.review_panel.cells_export.csv_button.click()
    first = (tmp_path / "cells.csv").read_text()
    assert first and not said
    dock.workspace.study.delete_cells(dock.workspace.cells()["id"].tolist()[:1])
    dock.review_panel.cells_export.csv_button.click()
    assert said == ["There is a file cells.csv already. Replace it?"]
    assert (tmp_path / "cells.csv").read_text() == first


@pytest.fixture
def predicted_path(study_path):
    """Tumour is predicted on the right half of the first image, a corner of which is painted background."""
    with Study.open(study_path) as study:
        study.set_pixel_size(1, 2.0)
        study.add_class("0-20", kind="block")
        study.add_class("tumour", kind="mask")
        probs = np.zeros((2, 96, 96), np.float32)
        probs[0, :, :48] = probs[1, :, 48:] = 1
        study.set_mask_prediction(1, "run", (0, 0, 96, 96), probs, (1.0, 1.0), ["background", "tumour"])
        code = study.class_named("background", "mask").code
        study.paint_mask(1, 0, 88, np.full((8, 8), code, np.uint16))
    return study_path


def test_areas_are_those_of_the_mask_that_is_exported(make_dock, predicted_path, tmp_path, monkeypatch):
    dock = make_dock(predicted_path)
    tumour = 96 * 48 - 64  # the correction counts
    assert dock.rasters.areas() == {"background": 96 * 96 - tumour, "tumour": tumour}
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (str(tmp_path / "a.csv"), ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a, **k: str(tmp_path / "png"))
    dock.mask_review.csv_button.click()
    dock.mask_review.png_button.click()
    line = pd.read_csv(tmp_path / "a.csv").iloc[0]
    assert line["tumour_pixels"] == tumour == (iio.imread(tmp_path / "png" / "first.png") == 1).sum()
    noted = pd.read_csv(tmp_path / "png" / "masks.csv")  # nobody's label, should it be imported
    assert noted.to_numpy().tolist() == [["first.png", "predicted"]]
    assert line["tumour_percent"] == pytest.approx(100 * tumour / 96**2, rel=1e-4)
    assert line["tumour_mm2"] == pytest.approx(tumour * 4e-6)
    dock.mask_review.geojson_button.click()  # into the same file
    menu = dock.label_panel.blocks.import_button
    text = next(action.text() for action in menu.menu().actions() if "Exact classes" in action.text())
    menu.read(text, tmp_path / "a.csv")
    assert dock.workspace.painted()["tumour"] == tumour
    dock.label_panel.undo()
    assert dock.workspace.painted() == {"background": 64, "tumour": 0}
    dock.workspace.study.set_mask_complete(1, True)
    assert dock.rasters.areas() == {"background": 96 * 96, "tumour": 0}


def test_what_is_predicted_of_a_large_image_is_there_again(make_dock, predicted_path, wait, monkeypatch):
    """Bit by bit, and reduced as far as while it was predicted."""
    monkeypatch.setattr("napari_mtssl.gui.stored.MOST", 1000)
    monkeypatch.setattr("napari_mtssl.gui.stored.BAND", 10)
    monkeypatch.setattr("napari_mtssl.gui.rasters.HELD", 96 * 96 // 9)
    dock = make_dock(predicted_path)
    wait(lambda: dock.rasters.predicted is not None and dock.rasters.predicted.codes[-1].all(), 20)
    shown = np.asarray(dock.rasters.found["Predicted mask"].data)
    code = dock.workspace.study.class_named("tumour", "mask").code
    assert shown.shape == (32, 32)
    assert (shown[:, 16:] == code).all()
    assert not (shown[:, :16] == code).any()
    dock.workspace.step_image(1)
    assert dock.rasters.predicted is None
