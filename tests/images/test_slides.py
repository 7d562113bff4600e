"""Whole slides: levels, pixel size, what lies beside them, and reading by micrometres per pixel."""

import os
import sys
import threading

import numpy as np
import openslide
import pytest
import zarr

import napari_mtssl.images.opening
from napari_mtssl.evaluation.slide_files import write_slide
from napari_mtssl.evaluation.slide_generator import made_slide
from napari_mtssl.images import ImageError, ImagePool, open_image
from napari_mtssl.images.chunk_cache import Cached, ChunkCache


@pytest.fixture(scope="module")
def slide():
    return made_slide(1500, 1300, period=256, seed=3)


@pytest.fixture(scope="module")
def svs(slide, tmp_path_factory):
    return write_slide(slide, tmp_path_factory.mktemp("slide") / "made.svs", tile=256, lossless=True)


def test_an_aperio_slide(slide, svs):
    image = open_image(svs)
    assert (image.height, image.width, image.channels) == (1500, 1300, 3)
    assert image.pixel_size_um == pytest.approx(0.5)
    assert image.magnification == 20
    assert [source.shape for source in image.sources] == [(1500, 1300, 3), (375, 325, 3)]
    # one in between is made, or a viewer would load up to sixteen times the pixels of its screen
    assert [level.shape for level in image.levels] == [(1500, 1300, 3), (750, 650, 3), (375, 325, 3)]
    middle = image.levels[1].compute().astype(int)
    assert np.abs(middle - slide.read(0, 0, 750, 650, level=1)).mean() < 2
    assert np.array_equal(image.read(310, 520, 200, 333), slide.read(310, 520, 200, 333))
    assert np.array_equal(image.levels[2].compute(), slide.read(0, 0, 375, 325, level=2))
    assert set(image.associated) == {"thumbnail", "label", "macro"}
    assert image.associated["label"]().shape == (64, 96, 3)


def test_any_index_of_a_level(svs):
    for image in (open_image(svs), open_image(svs).at(0.8)):
        level = image.levels[0]
        whole = image.read(0, 0, image.height, image.width)
        for index in (
            np.s_[5],
            np.s_[10:200:7, 5:900:3],
            np.s_[3, 4],
            np.s_[:, 7, 1],
            np.s_[8:8],
            np.s_[-3:],
        ):
            one, other = level[index].compute().astype(int), whole[index].astype(int)
            assert one.shape == other.shape
            assert np.abs(one - other).max(initial=0) <= 1  # resampled blocks may round otherwise


def test_padding_beyond_the_slide_is_a_reflection(slide, svs):
    region = open_image(svs).read(-20, 1200, 100, 130)
    inner = slide.read(0, 1200, 80, 100)
    assert np.array_equal(region, np.pad(inner, [(20, 0), (0, 30), (0, 0)], mode="reflect"))


def test_a_slide_is_read_from_several_threads(slide, svs):
    image = open_image(svs)
    wrong = []

    def read(seed):
        rng = np.random.default_rng(seed)
        for row, col in rng.integers(0, 1200, (10, 2)):
            if not np.array_equal(image.read(row, col, 64, 64), slide.read(row, col, 64, 64)):
                wrong.append((row, col))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_makers_tiff_goes_through_openslide(slide, svs, tmp_path):
    renamed = tmp_path / "aperio.tif"
    renamed.write_bytes(svs.read_bytes())
    assert open_image(renamed).magnification == 20
    plain = open_image(write_slide(slide, tmp_path / "plain.tif", tile=256))
    assert plain.magnification is None
    assert len(plain.levels) == 2


def test_the_level_is_chosen_by_micrometres(slide, svs):
    image = open_image(svs)
    quarter = image.at(2.0)
    assert np.array_equal(quarter.read(50, 60, 100, 100), slide.read(50, 60, 100, 100, level=2))
    assert quarter.scale == (4.0, 4.0)
    half = image.at(1.0)
    assert (half.height, half.width) == (750, 650)
    assert half.pixel_size_um == pytest.approx(1.0)
    exact = slide.read(200, 200, 200, 200).astype(float).reshape(100, 2, 100, 2, 3).mean(axis=(1, 3))
    assert np.abs(half.read(100, 100, 100, 100) - exact).mean() < 6
    assert image.at(0.5).read(1, 2, 3, 4).shape == (3, 4, 3)


def test_resampled_regions_fit_together(svs):
    view = open_image(svs).at(0.8)
    whole = view.read(0, 0, view.height, view.width).astype(int)
    parts = [view.read(r, 100, 97, 400) for r in range(100, 488, 97)]
    assert np.abs(np.concatenate(parts) - whole[100:488, 100:500]).max() <= 1


def test_a_place_keeps_its_place(slide, svs):
    at = open_image(svs).read_at(2.0, 700.0, 650.0, 20, 20)
    assert np.array_equal(at, slide.read(165, 153, 20, 20, level=2))


def test_thumbnail(slide, svs):
    small = open_image(svs).thumbnail(200)
    assert small.shape == (200, 173, 3)
    assert small.std() > 5
    assert np.array_equal(open_image(svs).thumbnail(375), slide.read(0, 0, 375, 325, level=2))


def test_a_slide_that_does_not_tell_its_pixel_size_says_so(slide, tmp_path):
    silent = tmp_path / "silent.ome.zarr"
    write_slide(slide, silent)
    group = zarr.open_group(silent, mode="a")
    ome = dict(group.attrs["ome"])
    ome["multiscales"][0]["axes"] = [{"name": a, "type": "space"} for a in "cyx"]
    group.attrs["ome"] = ome
    image = open_image(silent)
    assert image.pixel_size_um is None
    with pytest.raises(ImageError, match="does not say how large its pixels are"):
        image.at(1.0)
    told = open_image(silent, pixel_size_um=0.5)
    assert told.at(1.0).height == 750
    with pytest.raises(ImageError, match="too coarse"):
        told.at(0.1)


def test_a_large_image_without_a_pyramid_is_refused(slide, tmp_path, monkeypatch):
    path = write_slide(made_slide(600, 600, period=256), tmp_path / "flat.tif")
    assert len(open_image(path).sources) == 1
    monkeypatch.setattr(napari_mtssl.images.opening.open_image, "__kwdefaults__", {
        "pixel_size_um": None, "flat_limit": 100_000
    })  # fmt: skip
    with pytest.raises(ImageError, match=r"no pyramid.*napari-mtssl convert"):
        open_image(path)
    assert open_image(path, flat_limit=None).height == 600


def test_what_is_no_slide(tmp_path):
    (tmp_path / "text.svs").write_text("not a slide")
    with pytest.raises(ImageError, match="not a slide"):
        open_image(tmp_path / "text.svs")


def test_a_damaged_tile_is_told_and_the_slide_stays_usable(svs, tmp_path, monkeypatch):
    image = open_image(svs)
    real = openslide.OpenSlide.read_region

    def fail(self, *args):
        raise openslide.OpenSlideError("bad tile")

    monkeypatch.setattr(openslide.OpenSlide, "read_region", fail)
    with pytest.raises(ImageError, match=r"made\.svs cannot be decoded"):
        image.read(0, 0, 10, 10)
    monkeypatch.setattr(openslide.OpenSlide, "read_region", real)
    assert image.read(0, 0, 10, 10).shape == (10, 10, 3)


def test_ome_zarr_at_a_url(slide, tmp_path):
    import fsspec

    path = write_slide(slide, tmp_path / "made.ome.zarr")
    fsspec.filesystem("memory").put(str(path), "/bucket/made.ome.zarr", recursive=True)
    image = open_image("memory://bucket/made.ome.zarr")
    assert image.path.name == "made.ome.zarr"
    assert image.pixel_size_um == pytest.approx(0.5)
    assert np.array_equal(image.read(300, 400, 500, 600), slide.read(300, 400, 500, 600))
    with pytest.raises(ImageError, match="no OME-Zarr image at memory://bucket/other"):
        open_image("memory://bucket/other.ome.zarr")
    with pytest.raises(ImageError, match="Only OME-Zarr can be read from a URL"):
        open_image("https://example.org/slide.svs")


def test_the_cache_is_bounded_and_right(slide):
    class Counting:
        shape, dtype, chunks, nbytes_held = (1500, 1300, 3), np.dtype(np.uint8), (256, 256), 0
        reads = 0

        def __getitem__(self, region):
            self.reads += 1
            rows, cols = (range(*s.indices(n)) for s, n in zip(region, self.shape, strict=False))
            return slide.read(rows[0], cols[0], len(rows), len(cols))

    source = Counting()
    cache = ChunkCache(max_bytes=3 * 256 * 256 * 3)
    cached = Cached(source, "memory://made", cache)
    expected = slide.read(200, 200, 200, 100)
    for _ in range(2):
        assert np.array_equal(cached[200:400, 200:300], expected)
    assert source.reads == 8  # four chunks, but only three fit
    assert cache.held <= cache.max_bytes
    source.reads = 0
    for _ in range(3):
        cached[1490:1500, 1290:1300]
    assert source.reads == 1


def test_the_pool_keeps_slides(svs):
    class Record:
        path, height, width, pixel_size_um = svs, 1500, 1300, 0.25

    pool = ImagePool()
    assert pool(Record()) is pool(Record())
    assert pool(Record()).pixel_size_um == 0.25


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there a thread has a priority")
def test_decoding_for_a_window_lets_its_thread_go_first(svs):
    from concurrent.futures import ThreadPoolExecutor

    level = open_image(svs).levels[0]

    def read():
        level[:64, :64].compute(scheduler="synchronous")
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(read).result() >= 10
    assert read() == mine
