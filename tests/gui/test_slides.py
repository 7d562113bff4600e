"""A slide dropped onto napari comes as a lazy pyramid in micrometres."""

import imageio.v3 as iio
import numpy as np
import pytest
from qtpy.QtWidgets import QMessageBox

from napari_mtssl.evaluation.slide_files import write_slide
from napari_mtssl.evaluation.slide_generator import made_slide
from napari_mtssl.gui.slides import get_reader, read_slides
from napari_mtssl.images import ImageError, open_image
from napari_mtssl.study import Study


def test_layers_of_a_slide(tmp_path):
    path = str(write_slide(made_slide(1500, 1300, period=128), tmp_path / "made.svs"))
    ((levels, settings, kind),) = get_reader(path)(path)
    assert kind == "image"
    assert settings["multiscale"]
    assert settings["rgb"]
    assert [level.shape for level in levels] == [(1500, 1300, 3), (750, 650, 3), (375, 325, 3)]
    assert settings["scale"] == pytest.approx([0.5, 0.5])
    assert settings["metadata"]["magnification"] == 20


def test_what_is_not_ours(tmp_path):
    assert get_reader("notes.txt") is None
    assert get_reader([]) is None
    with pytest.raises(ImageError, match="no file"):
        read_slides(str(tmp_path / "gone.svs"))


@pytest.mark.gui
def test_napari_shows_a_slide(make_napari_viewer, tmp_path):
    path = write_slide(made_slide(1500, 1300, period=128), tmp_path / "made.svs")
    viewer = make_napari_viewer()
    (layer,) = viewer.open(str(path), plugin="napari-mtssl")
    assert layer.multiscale
    assert tuple(layer.scale) == pytest.approx((0.5, 0.5))


@pytest.mark.gui
def test_slides_are_read_in_the_background_and_the_users_settings_stay(tmp_path, monkeypatch):
    from napari.settings import get_settings

    from napari_mtssl.gui.background import read_in_background

    monkeypatch.delenv("NAPARI_ASYNC", raising=False)
    settings = get_settings()
    before = settings.experimental.async_
    try:
        read_in_background(True)
        assert settings.experimental.async_
        settings.save(tmp_path / "settings.yaml")
        assert "async" not in (tmp_path / "settings.yaml").read_text()
        read_in_background(False)
        assert not settings.experimental.async_
        monkeypatch.setenv("NAPARI_ASYNC", "0")
        read_in_background(True)
        assert not settings.experimental.async_
    finally:
        settings.experimental.async_ = before


@pytest.mark.gui
def test_a_large_image_without_a_pyramid_is_converted_when_asked(
    make_napari_viewer, qtbot, tmp_path, monkeypatch
):
    pixels = np.random.default_rng(0).integers(0, 255, (600, 1500, 3), dtype=np.uint8)
    iio.imwrite(tmp_path / "flat.png", pixels)
    monkeypatch.setitem(open_image.__kwdefaults__, "flat_limit", 1000)
    viewer = make_napari_viewer()
    answers = []
    monkeypatch.setattr(QMessageBox, "question", lambda *_: answers.pop())
    answers.append(QMessageBox.StandardButton.No)
    with pytest.raises(ImageError, match="no pyramid"):
        read_slides(str(tmp_path / "flat.png"))
    assert not list(tmp_path.glob("*.zarr*"))
    answers.append(QMessageBox.StandardButton.Yes)
    assert read_slides(str(tmp_path / "flat.png")) == [(None,)]
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=30_000)
    assert viewer.layers[0].multiscale
    np.testing.assert_array_equal(np.asarray(viewer.layers[0].data[0][:50, :50]), pixels[:50, :50])


@pytest.mark.gui
def test_a_label_is_shown_only_when_asked_for_and_nowhere_else(make_dock, tmp_path, told):
    from napari_mtssl.gui.beside import BesideDialog

    made = made_slide(1500, 1300, period=128)
    paths = [write_slide(made, tmp_path / name) for name in ("made.svs", "made.ome.zarr")]
    with Study.create(tmp_path / "slides.mtssl") as study:
        for path in paths:
            study.add_image(path, height=1500, width=1300, pixel_size_um=0.5)
    dock = make_dock(tmp_path / "slides.mtssl")
    before = list(dock.viewer.layers)
    dock.study_panel.images.beside_button.click()
    dialog = dock.findChild(BesideDialog)
    assert sorted(dialog.pictures) == ["label", "macro", "thumbnail"]

    def shown():
        found = {name: picture.pixmap() for name, picture in dialog.pictures.items()}
        return {name for name, pixmap in found.items() if pixmap is not None and not pixmap.isNull()}

    assert shown() == {"thumbnail"}
    dialog.buttons["label"].click()
    assert shown() == {"thumbnail", "label"}
    assert list(dock.viewer.layers) == before
    dialog.close()
    dock.workspace.select_image(2)
    dock.study_panel.images.beside_button.click()
    assert any("Nothing lies beside" in message for _, message in told)
