"""Conversion to OME-Zarr: pixel for pixel, in bounded memory, and going on after an interruption."""

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

import napari_mtssl.images.convert as convert_module
from napari_mtssl.cli.app import app
from napari_mtssl.evaluation.slide_files import write_slide
from napari_mtssl.evaluation.slide_generator import made_slide
from napari_mtssl.images import ImageError, open_image
from napari_mtssl.images.convert import convert, halved, part_of


@pytest.fixture(scope="module")
def slide():
    return made_slide(1100, 1301, period=128, seed=3)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks small enough for a small slide to have many."""
    monkeypatch.setattr(convert_module, "BLOCK", 512)
    monkeypatch.setattr(convert_module, "CHUNK", 128)


@pytest.fixture(scope="module")
def flat(slide, tmp_path_factory):
    path = tmp_path_factory.mktemp("flat") / "flat.tif"
    pixels = slide.read(0, 0, slide.height, slide.width)
    tifffile.imwrite(
        path, pixels, resolution=(20_000, 20_000), resolutionunit="CENTIMETER", photometric="rgb"
    )
    return path


def test_every_pixel_and_level(slide, flat, tmp_path, small_blocks):
    steps = list(convert(open_image(flat), tmp_path / "a.ome.zarr"))
    assert steps[-1].done == steps[-1].total == len(steps)
    image = open_image(tmp_path / "a.ome.zarr")
    assert image.pixel_size_um == pytest.approx(0.5)
    assert [level.shape[:2] for level in image.levels] == [(1100, 1301), (550, 651)]
    whole = slide.read(0, 0, 1100, 1301)
    for level in image.levels:
        assert np.array_equal(level.compute(), whole)
        whole = halved(whole)
    assert not part_of(tmp_path / "a.ome.zarr").exists()


@pytest.mark.parametrize("stop", [1, 8])
def test_it_goes_on_where_it_was(flat, tmp_path, small_blocks, stop):
    out = tmp_path / "a.ome.zarr"
    first = convert(open_image(flat), out)
    for _ in range(stop):
        next(first)
    first.close()
    assert not out.exists()
    steps = list(convert(open_image(flat), out))
    assert [step.done for step in steps] == list(range(stop + 1, steps[-1].total + 1))
    list(convert(open_image(flat), tmp_path / "b.ome.zarr"))
    for one, other in zip(open_image(out).levels, open_image(tmp_path / "b.ome.zarr").levels, strict=True):
        assert np.array_equal(one.compute(), other.compute())


def test_another_image_does_not_go_on(flat, tmp_path, small_blocks):
    out = tmp_path / "a.ome.zarr"
    first = convert(open_image(flat), out)
    next(first)
    first.close()
    other = write_slide(made_slide(600, 600, period=128), tmp_path / "other.svs")
    assert next(convert(open_image(other), out)).done == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey(tmp_path, dtype):
    pixels = np.arange(1300 * 700).reshape(1300, 700).astype(dtype)
    tifffile.imwrite(tmp_path / "grey.tif", pixels)
    list(convert(open_image(tmp_path / "grey.tif"), tmp_path / "grey.ome.zarr"))
    image = open_image(tmp_path / "grey.ome.zarr")
    assert image.pixel_size_um is None
    assert np.array_equal(image.levels[0].compute(), pixels)
    assert image.levels[1].dtype == dtype


def test_halving_rounds_and_repeats():
    assert halved(np.array([[255, 255, 7], [255, 254, 7]], np.uint8)).tolist() == [[255, 7]]
    assert halved(np.array([[0], [1], [9]], np.uint16)).tolist() == [[1], [9]]


def test_nothing_is_overwritten(flat, tmp_path):
    (tmp_path / "there.zarr").mkdir()
    with pytest.raises(ImageError, match="already something"):
        next(convert(open_image(flat), tmp_path / "there.zarr"))
    with pytest.raises(ImageError, match=r"does not end in \.zarr"):
        next(convert(open_image(flat), tmp_path / "a.tif"))


def test_the_command(slide, tmp_path):
    path = write_slide(slide, tmp_path / "made.svs")
    out = tmp_path / "made.ome.zarr"
    result = CliRunner().invoke(app, ["convert", str(path), str(out)])
    assert result.exit_code == 0, result.output
    assert np.array_equal(open_image(out).levels[0].compute(), open_image(path).levels[0].compute())
    again = CliRunner().invoke(app, ["convert", str(path), str(out)])
    assert again.exit_code == 2
    assert CliRunner().invoke(app, ["convert", str(path), str(out), "--overwrite"]).exit_code == 0
