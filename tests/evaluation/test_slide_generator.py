"""Made-up slides: deterministic, true to what they say of themselves, and never large in memory."""

import tracemalloc

import numpy as np
import openslide
import pytest
import tifffile
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from napari_mtssl.evaluation.slide_files import levels_of, write_slide
from napari_mtssl.evaluation.slide_generator import REGIONS, made_slide
from napari_mtssl.images import ImageError, open_image


@pytest.fixture(scope="module")
def slide():
    return made_slide(1500, 1300, period=256, seed=3)


def test_parts_equal_the_whole(slide):
    whole = slide.read(0, 0, 1500, 1300)
    assert np.array_equal(slide.read(333, 611, 200, 100), whole[333:533, 611:711])
    assert not np.array_equal(made_slide(1500, 1300, period=256, seed=4).read(0, 0, 1500, 1300), whole)


def test_regions_and_cells_are_where_the_pixels_show_them(slide):
    region = slide.region(0, 0, 1500, 1300)
    assert 0.19 < (region > 0).mean() < 0.21
    grey = slide.read(0, 0, 1500, 1300).mean(axis=2)
    assert grey[region == 0].min() > 230
    cells = slide.cells()
    at = region[cells["row"].round().astype(int), cells["col"].round().astype(int)]
    assert len(cells) > 300
    assert (at > 0).all()
    nuclei = grey[cells["row"].round().astype(int), cells["col"].round().astype(int)]
    assert np.median(nuclei) < np.median(grey[region > 0]) - 40
    assert {name for name, _ in slide.outlines()} == set(REGIONS[1:])


def test_cells_of_boxes_are_all_cells_once(slide):
    boxes = [(r, c, r + 500, c + 650) for r in (0, 500, 1000) for c in (0, 650)]
    assert sum(len(slide.cells(box)) for box in boxes) == len(slide.cells())


def test_reduced_levels_are_means(slide):
    fine = slide.read(300, 300, 256, 256).astype(float).reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(slide.read(75, 75, 64, 64, level=2) - fine).mean() < 2


def test_equal_keys_mean_equal_tiles():
    slide = made_slide(40_000, 40_000, period=256)
    found = {}
    for row0 in range(2048, 20_000, 512):
        key = slide.tile_key(row0, 9216, 512, 0)
        if key is not None:
            tile = slide.read(row0, 9216, 512, 512)
            assert np.array_equal(found.setdefault(key, tile), tile)
    assert len({key[1] for key in found}) == 3  # glass, stroma, tumour


def test_svs_is_aperios(slide, tmp_path):
    path = write_slide(slide, tmp_path / "made.svs", tile=256)
    with openslide.OpenSlide(path) as file:
        assert file.properties["openslide.vendor"] == "aperio"
        assert file.properties["openslide.mpp-x"] == "0.5"
        assert file.properties["openslide.objective-power"] == "20"
        assert file.level_dimensions == ((1300, 1500), (325, 375))
        assert set(file.associated_images) == {"thumbnail", "label", "macro"}
        pixels = np.asarray(file.read_region((500, 300), 0, (400, 300)))[..., :3].astype(int)
    assert np.abs(pixels - slide.read(300, 500, 300, 400)).mean() < 5  # JPEG


@pytest.mark.parametrize("name", ["made.tif", "made.ome.tif", "made.ome.zarr"])
def test_pyramids(slide, tmp_path, name):
    image = open_image(write_slide(slide, tmp_path / name, tile=256, lossless=True))
    assert image.pixel_size_um == pytest.approx(0.5)
    assert [level.shape for level in image.levels] == [slide.level_shape(k) for k in levels_of(slide)]
    assert np.array_equal(image.levels[1].compute(), slide.read(0, 0, 750, 650, level=1))


def test_the_reference_reader_reads_the_zarr(slide, tmp_path):
    path = write_slide(slide, tmp_path / "made.ome.zarr")
    nodes = list(Reader(parse_url(str(path)))())
    assert nodes[0].data[0].shape == (3, 1500, 1300)


def test_memory_does_not_grow_with_the_slide(tmp_path):
    slide = made_slide(6000, 6000, tissue=0.1, period=256)
    slide.read(0, 0, 8, 8)
    tracemalloc.start()
    write_slide(slide, tmp_path / "large.tif")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 2**20  # the slide itself has 103 MiB
    assert tifffile.TiffFile(tmp_path / "large.tif").series[0].shape == (6000, 6000, 3)


def test_what_is_not_possible_is_refused(slide, tmp_path):
    with pytest.raises(ValueError, match="too small"):
        made_slide(10, 1000)
    with pytest.raises(ValueError, match="tissue"):
        made_slide(1000, 1000, tissue=0.9)
    with pytest.raises(ImageError, match="no kind of slide"):
        write_slide(slide, tmp_path / "made.png")
