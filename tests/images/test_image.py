import threading

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_mtssl.images import Image, ImageError, to_float
from napari_mtssl.images.image import reflect_index
from napari_mtssl.images.sources import Decoded


def image_of(pixels, tmp_path=None):
    from pathlib import Path

    return Image(Path("made.png"), [Decoded(pixels.shape, pixels.dtype, lambda: pixels)])


@given(size=st.integers(1, 9), start=st.integers(-40, 40), length=st.integers(1, 50))
def test_reflect_index_equals_numpy_padding(size, start, length):
    before, after = max(-start, 0), max(start + length - size, 0)
    padded = np.pad(np.arange(size), (before, after), mode="reflect" if size > 1 else "edge")
    expected = padded[start + before : start + before + length]
    assert np.array_equal(reflect_index(start, length, size), expected)


def test_read_inside_and_far_outside(rgb):
    image = image_of(rgb)
    assert np.array_equal(image.read(10, 20, 5, 7), rgb[10:15, 20:27])
    padded = np.pad(rgb, ((200, 200), (300, 300), (0, 0)), mode="reflect")
    assert np.array_equal(image.read(-200, -300, 400, 500), padded[:400, :500])
    assert np.array_equal(image.read(150, 200, 30, 30), padded[350:380, 500:530])


def test_read_gives_a_copy_and_repeats_grey(rgb):
    grey = rgb[..., 0]
    image = image_of(grey)
    assert image.channels == 1
    region = image.read(0, 0, *grey.shape)
    assert region.shape == (70, 90, 3)
    assert (region == grey[..., None]).all()
    region[:] = 0
    assert (image.read(0, 0, *grey.shape) == grey[..., None]).all()


def test_empty_region_is_refused(rgb):
    with pytest.raises(ImageError, match="at least 1 x 1"):
        image_of(rgb).read(0, 0, 0, 5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-60, 130), st.floats(-60, 150)), max_size=20), st.integers(1, 41))
def test_patches_are_nearest_pixel_crops(centres, size):
    rgb = np.random.default_rng(1).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    padded = np.pad(rgb, ((300, 300), (300, 300), (0, 0)), mode="reflect")
    patches = image_of(rgb).patches(np.array(centres).reshape(-1, 2), size)
    assert patches.shape == (len(centres), size, size, 3)
    for patch, (row, col) in zip(patches, centres, strict=True):
        top, left = round(row) - size // 2 + 300, round(col) - size // 2 + 300
        assert np.array_equal(patch, padded[top : top + size, left : left + size])


def test_patches_of_distant_blocks(rng):
    pixels = rng.integers(0, 2**16, (3000, 2500), dtype=np.uint16)
    image = image_of(pixels)
    centres = rng.uniform([20, 20], [2980, 2480], (50, 2))
    patches = image.patches(centres, 3)
    assert patches.dtype == np.uint16
    middle = np.rint(centres).astype(int)
    assert np.array_equal(patches[:, 1, 1, 0], pixels[middle[:, 0], middle[:, 1]])


def test_a_centre_that_is_no_number_is_refused(rgb):
    with pytest.raises(ImageError, match="not a number"):
        image_of(rgb).patches(np.array([[1.0, np.nan]]), 5)


def test_levels_are_dask_arrays_and_decode_once(rgb):
    calls = []
    source = Decoded(rgb.shape, rgb.dtype, lambda: calls.append(1) or rgb)
    from pathlib import Path

    image = Image(Path("a.png"), [source])
    assert isinstance(image.levels[0], da.Array)
    assert image.nbytes_held == 0 and not calls
    assert np.array_equal(image.levels[0][5:9, 3:8, 1].compute(), rgb[5:9, 3:8, 1])
    threads = [threading.Thread(target=image.read, args=(0, 0, 9, 9)) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(calls) == 1 and image.nbytes_held == rgb.nbytes


def test_to_float_by_dtype():
    assert to_float(np.array([0, 51, 255], np.uint8)) == pytest.approx([0, 0.2, 1])
    assert to_float(np.array([0, 65535], np.uint16)).dtype == np.float32
    assert to_float(np.array([65535], np.uint16))[0] == 1
    with pytest.raises(ImageError, match="float64"):
        to_float(np.zeros(3))


def test_resized_averages_what_a_pixel_covers():
    pixels = np.zeros((40, 60), np.uint8)
    pixels[:, ::2] = 255  # what every second column would turn black or white, if it were sampled
    small = image_of(pixels).resized(10, 15)
    assert small.shape == (10, 15) and small.dtype == np.float32
    assert np.abs(small[:, 1:-1] - 0.5).max() < 0.1


def test_resized_keeps_places(rng):
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[40:60, 120:160] = [255, 0, 51]
    for height, width in ((50, 100), (25, 100), (200, 400)):
        small = image_of(pixels).resized(height, width)
        assert small.shape == (height, width, 3)
        row, col = (np.arange(n) + 0.5 for n in (height, width))
        weight = small[..., 0] / small[..., 0].sum()
        assert (weight.sum(1) * row).sum() * 100 / height == pytest.approx(50, abs=0.2)
        assert (weight.sum(0) * col).sum() * 200 / width == pytest.approx(140, abs=0.2)
        assert small[..., 2].sum() == pytest.approx(small[..., 0].sum() / 5, rel=0.01)


def test_resized_in_bands_and_from_the_coarser_level(rng, monkeypatch):
    smooth = (rng.random((13, 9)) * 255).astype(np.uint8).repeat(31, 0).repeat(47, 1)
    whole = image_of(smooth).resized(12, 10)
    monkeypatch.setattr("napari_mtssl.images.whole.AT_ONCE", 1000)
    monkeypatch.setattr("napari_mtssl.images.whole.BAND", 64)
    assert np.abs(image_of(smooth).resized(12, 10) - whole).max() < 0.06  # of blocks from 0 to 1
    from pathlib import Path

    read = []
    half = smooth[::2, ::2]
    levels = [
        Decoded(p.shape, p.dtype, lambda p=p: read.append(p.shape) or p) for p in (smooth, half, half[:8, :8])
    ]
    Image(Path("a.tif"), levels).resized(20, 20)
    assert read == [half.shape]


def test_resized_to_nothing_is_refused(rgb):
    with pytest.raises(ImageError, match="at least 1 x 1"):
        image_of(rgb).resized(0, 5)
