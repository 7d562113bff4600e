"""The mask of a slide by a network that normalises each image by itself: tiles do not show."""

import pickle

import imageio.v3
import numpy as np
import pytest
import torch

from napari_mtssl.engine import checkpoint, runners
from napari_mtssl.engine.dense import dense_maps, join, predict_image
from napari_mtssl.engine.predictor import Predictor
from napari_mtssl.engine.slide_prediction import SlideStore, looked_over, plan_slide, predict_tile, slicer_of
from napari_mtssl.images import open_image
from napari_mtssl.images.tissue import TissueMask
from napari_mtssl.methods.multimix import MultiMix, slide

VOCABULARY = {"mask": ("background", "disc"), "diagnosis": ("dark", "bright", "other")}
HEIGHT, WIDTH = 96, 192


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, value in (("WINDOWS", 2), ("SIDE", 160), ("RIM", 32)):
        monkeypatch.setattr(slide, name, value)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker has: what is compared bit for bit is computed alike
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 255, (HEIGHT // 16, WIDTH // 16, 3)).astype(float)
    pixels = coarse.repeat(16, 0).repeat(16, 1) * rng.uniform(0.8, 1, (HEIGHT, WIDTH, 1))
    pixels[40:80, 60:150] = 235  # even glass, where many pixels are the greatest
    file = tmp_path_factory.mktemp("slide") / "slide.png"
    imageio.v3.imwrite(file, pixels.astype(np.uint8))
    return file


def build(**settings):
    config = MultiMix.configure("robust", size=64, **settings)
    return MultiMix(config, VOCABULARY, torch.device("cpu"))


def everywhere(image):
    return TissueMask(np.ones((1, 1), bool), image.height, image.width)


@pytest.mark.parametrize(
    ("settings", "tile"),
    [({}, 96), ({"variant": "u-net", "normalisation": "equalised", "smooth": 0.02, "mirror": False}, 48)],
    ids=["bridge", "u-net"],
)
def test_tiles_equal_the_whole(path, settings, tile):
    slicer, image = build(**settings).on_slide(), open_image(path)
    slicer = slicer.knowing(slicer.look_over(image, everywhere(image)))
    parts = list(predict_image(slicer, image, tile=tile))
    assert len(parts) == (8 if settings else 2)
    tiled = join(parts, HEIGHT, WIDTH)
    box = (0, 0, HEIGHT, WIDTH)
    whole = slicer.decode(dense_maps(slicer, image, box), box)
    assert whole.mask[1].std() > 0.01
    np.testing.assert_allclose(tiled.mask, whole.mask, atol=1e-4)
    assert set(tiled.pictures) == ({"uncertainty"} if settings else {"uncertainty", "saliency"})
    for name, picture in tiled.pictures.items():
        np.testing.assert_allclose(picture, whole.pictures[name], atol=1e-4)


def test_a_slide_goes_on_with_what_was_taken_of_it_once(path, tmp_path, monkeypatch):
    """Killed after a tile: the rest, also by a worker, is what it would have been, bit for bit."""
    method = build(variant="umtl", mirror=False)
    checkpoint.save(tmp_path, "best", method, method.optimiser(), 0, notes={"extent_um": 32.0})
    image = open_image(path, pixel_size_um=0.25)
    assert slicer_of(method, image, 0.5) is None  # a field is looked at as a whole
    monkeypatch.setattr("napari_mtssl.images.image.LARGE", 1000)
    slicer = slicer_of(method, image, method.slide_um({"extent_um": 32.0}))
    plan = plan_slide(slicer, image, um_per_px=0.25, tissue=everywhere(image), tile=96)
    assert plan.tile == 320  # less around it than three times as much as itself
    store = SlideStore(tmp_path / "p", plan.identity, ())
    known = looked_over(slicer, plan, store)
    here = predict_tile(slicer.knowing(known.whole), plan.view, plan.tiles[0])
    store.close()

    monkeypatch.setattr(slide.SlideFields, "look_over", None)  # nobody looks again
    store = SlideStore(tmp_path / "p", plan.identity, ())
    again = looked_over(slicer, plan, store)
    store.close()
    job = pickle.loads(pickle.dumps(runners.tile_job(tmp_path, again)))
    ((number, there),) = runners._predict_tiles(job, [(0, plan.tiles[0])])
    assert number == 0 and np.array_equal(here.mask, there.mask)
    assert set(here.pictures) == {"uncertainty", "saliency"}
    assert all(np.array_equal(values, there.pictures[name]) for name, values in here.pictures.items())


def test_previews_of_a_slide_and_its_class(path, tmp_path, monkeypatch):
    method = build(variant="umtl", mirror=False)
    checkpoint.save(tmp_path, "best", method, method.optimiser(), 0, notes={"extent_um": 64.0})
    image = open_image(path, pixel_size_um=0.5)  # predicted at 1 um a pixel
    monkeypatch.setattr("napari_mtssl.images.image.LARGE", 1000)
    kept = []
    with Predictor(tmp_path) as predictor:
        said = list(predictor.previews(image, 1, tmp_path / "p", kept.append))
    masks = [event for event in said if event.prediction.mask is not None]
    assert masks[0].scale == (2.0, 2.0) and "saliency" in masks[0].prediction.pictures
    assert sum((b[2] - b[0]) * (b[3] - b[1]) for b in (event.box for event in masks)) >= HEIGHT * WIDTH
    assert set(said[-1].prediction.image["class"]) == set(VOCABULARY["diagnosis"])
    whole = method.predict_image(image).image["probability"]
    np.testing.assert_array_equal(said[-1].prediction.image["probability"], whole)
    image.pixel_size_um = None
    assert slicer_of(method, image, 1.0) is None


def test_windows_lie_on_tissue_and_are_always_the_same(path, monkeypatch):
    image = open_image(path)
    tissue = TissueMask(np.zeros((3, 4), bool), HEIGHT, WIDTH)
    tissue.mask[2, 3] = True
    monkeypatch.setattr(slide, "RIM", 48)  # windows are 64 pixels apart
    assert slide.places(image, tissue) == [(64 - 48, 128 - 48)]
    assert slide.places(image, everywhere(image)) == slide.places(image, everywhere(image))
    assert len(set(slide.places(image, everywhere(image)))) == 2


def test_what_cannot_be_cut_stays_whole():
    assert build(variant="enc").on_slide() is None  # no mask
    assert build(bridge="shuffled").on_slide() is None
    assert build(bridge="zeros").on_slide() is not None
    with pytest.raises(RuntimeError, match="looked it over"):
        build().on_slide().predict(torch.zeros(1, 3, 512, 512))
