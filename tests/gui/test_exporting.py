"""Exports of large images: in the background, and what is wrong is said in words."""

import json

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

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
    monkeypatch.setattr("napari_mtssl.gui.exporting.LARGE", 0)
    review = dock.mask_review

    def save(button, name):
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a, **k: (str(tmp_path / name), ""))
        button.click()

    for button, name in ((review.geojson_button, "m.geojson"), (review.zarr_button, "m.zarr")):
        save(button, name)
        wait(lambda name=name: any("Written:" in said and name in said for _, said in told), 30)
    assert any("in the background" in said for _, said in told)
    assert len(json.loads((tmp_path / "m.geojson").read_text())["features"]) == 1
    dock.workspace.step_image(1)
    save(review.geojson_button, "n.geojson")
    wait(lambda: any("There is no mask of second.png" in said for _, said in told), 30)
    assert not any(severity == "error" for severity, _ in told)
