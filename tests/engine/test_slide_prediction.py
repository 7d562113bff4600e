"""Slides: every tile with tissue once, as if the slide were one image, also after kills at any moment."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import slide_child
import torch
from scipy import ndimage

from napari_mtssl.engine.dense import predict_image
from napari_mtssl.engine.slide_prediction import SlideError, SlideStore, plan_slide, predict_slide
from napari_mtssl.images import ImageError, open_image
from napari_mtssl.images.tissue import TissueMask
from napari_mtssl.methods.base import Geometry
from napari_mtssl.methods.prediction import Prediction

SIZE = (700, 900)


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    pixels, _ = slide_child.tiny_method.draw_discs(*SIZE, 400)
    return slide_child.tiny_method.save_image(tmp_path_factory.mktemp("slide") / "slide.png", pixels)


def opened(folder, plan, method):
    return SlideStore(folder, plan.identity, method.vocabulary.get("cell", ()))


@pytest.fixture(scope="module")
def uninterrupted(slide, tmp_path_factory):
    method, plan = slide_child.prepared(slide)
    store = opened(tmp_path_factory.mktemp("whole") / "p", plan, method)
    tiles = list(predict_slide(method, plan, store))
    return tiles, store.cells()


def test_tiles_of_glass_are_left_out(slide, uninterrupted):
    tiles, cells = uninterrupted
    assert [tile.number for tile in tiles] == list(range(len(tiles)))
    assert len(tiles) < 6 * 8 == -(-SIZE[0] // 128) * -(-SIZE[1] // 128)
    assert tiles[-1].done == tiles[-1].total == len(tiles)
    assert len(cells) == sum(len(tile.output.cells) for tile in tiles) > 50
    assert not ((cells["row"] < 200) & (cells["col"] < 300)).any()


def test_a_slide_is_predicted_as_if_it_were_one_image(slide, tmp_path):
    method, _ = slide_child.prepared(slide)
    image = open_image(slide)
    plan = plan_slide(method, image, tile=128)
    store = opened(tmp_path / "p", plan, method)
    list(predict_slide(method, plan, store))
    (whole,) = predict_image(method, image, tile=1024)
    order = ["row", "col"]
    one = store.cells().sort_values(order, ignore_index=True)
    other = whole.prediction.cells.sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(one, other, atol=1e-5, check_dtype=False)
    uncertainty = np.asarray(store.grid("uncertainty")[0]).astype(float)
    assert np.abs(uncertainty - whole.prediction.pictures["uncertainty"]).max() < 2e-3  # float16


def test_killed_at_any_moment_no_tile_is_done_twice_and_none_is_missing(slide, tmp_path, uninterrupted):
    log, folder = tmp_path / "log", tmp_path / "p"
    log.touch()
    command = [sys.executable, slide_child.__file__, str(slide), str(folder), str(log)]
    rng = random.Random(1)
    total = len(uninterrupted[0])
    kills = 0
    for _ in range(3):
        before = len(log.read_text().splitlines())
        child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
        goal = min(before + rng.randint(1, total // 4), total - 2)
        deadline = time.monotonic() + 60
        while len(log.read_text().splitlines()) < goal and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03))
        child.send_signal(signal.SIGKILL)
        kills += child.wait() == -signal.SIGKILL
    assert kills == 3
    method, plan = slide_child.prepared(slide)
    store = opened(folder, plan, method)
    logged = [int(line) for line in log.read_text().splitlines()]
    done = store.done()
    assert len(logged) == len(set(logged))  # what was said to be done was not done again
    assert set(logged) <= done
    rest = [tile.number for tile in predict_slide(method, plan, store)]
    assert not done & set(rest)
    assert len(done) + len(rest) == total
    pd.testing.assert_frame_equal(store.cells(), uninterrupted[1])


def test_what_the_user_sees_comes_first(slide, tmp_path):
    method, plan = slide_child.prepared(slide)
    store = opened(tmp_path / "p", plan, method)
    first = next(predict_slide(method, plan, store, view=(520, 780, 600, 860)))
    assert first.box == (511.5, 767.5, 639.5, 895.5)


def test_cancelled_and_gone_on(slide, tmp_path, uninterrupted):
    method, plan = slide_child.prepared(slide)
    store = opened(tmp_path / "p", plan, method)
    done = []
    for tile in predict_slide(method, plan, store, cancelled=lambda: len(done) >= 5):
        done.append(tile.number)
    assert len(done) == 5
    rest = [tile.number for tile in predict_slide(method, plan, store, cancelled=None)]
    assert sorted(done + rest) == [tile.number for tile in uninterrupted[0]]


def test_listeners_hear_of_a_tile_before_it_counts(slide, tmp_path):
    method, plan = slide_child.prepared(slide)
    store = opened(tmp_path / "p", plan, method)
    heard = []

    def listen(number, output):
        if len(heard) == 3:
            raise RuntimeError("the program ends here")
        heard.append((number, len(output.cells), len(store.done())))

    with pytest.raises(RuntimeError):
        list(predict_slide(method, plan, store, on_tile=listen))
    assert [n for _, _, n in heard] == [0, 1, 2]
    assert len(store.done()) == 3


def test_another_run_or_slide_is_refused(slide, tmp_path):
    method, plan = slide_child.prepared(slide)
    store = opened(tmp_path / "p", plan, method)
    with pytest.raises(SlideError, match="another program"):
        opened(tmp_path / "p", plan, method)
    store.close()
    with torch.no_grad():
        method.average[0].weight += 1
    other = plan_slide(method, open_image(slide), tile=128, tissue=slide_child.corner(*SIZE))
    with pytest.raises(SlideError, match="with another run"):
        opened(tmp_path / "p", other, method)


class Masker:
    """A method that says of every pixel whether it is dark, at stride 2."""

    name, title, whole_image = "masker", "Masker", False
    vocabulary = {"mask": ("background", "dark")}
    geometry = Geometry(stride=2, halo=2, window=2, margin=0, align=4)
    device = torch.device("cpu")
    config = slide_child.tiny_method.MethodConfig()

    def state(self):
        return {}

    def look_over(self, view, tissue):
        return {}

    def predict(self, tile):
        inner = tile[:, :, 2:-2, 2:-2].mean(1, keepdim=True)
        dark = torch.nn.functional.avg_pool2d((inner < 0.7).float(), 2)
        return {"dark": dark}

    def decode(self, maps, box):
        dark = maps["dark"][0]
        return Prediction(mask=np.stack([1 - dark, dark]))


class Blobs(Masker):
    """Finds dark blobs: their centres of mass."""

    vocabulary = {"cell": ("background", "blob")}
    geometry = Geometry(stride=2, halo=2, window=2, margin=24, align=4)

    def decode(self, maps, box):
        labels, n = ndimage.label(maps["dark"][0] > 0.5)
        middles = np.array(ndimage.center_of_mass(labels > 0, labels, range(1, n + 1))).reshape(-1, 2)
        frame = pd.DataFrame(box[:2] + (middles + 0.5) * 2 - 0.5, columns=["row", "col"])
        return Prediction(cells=frame.assign(**{"class": "blob", "confidence": 1.0, "uncertainty": 0.0}))


def test_pixels_of_another_size(tmp_path):
    """A slide with pixels half as large as those learnt from: cells come out at their places on the slide."""
    pixels = np.full((600, 800, 3), 240, np.uint8)
    truth = np.array([(r, c) for r in range(40, 600, 83) for c in range(30, 800, 71)], float)
    for row, col in truth.astype(int):
        pixels[row - 6 : row + 7, col - 6 : col + 7] = 60
    path = slide_child.tiny_method.save_image(tmp_path / "blobs.png", pixels)
    for size in (0.5, 0.25, 0.35):
        plan = plan_slide(Blobs(), open_image(path, pixel_size_um=size), um_per_px=0.5, tile=100)
        store = opened(tmp_path / f"p{size}", plan, Blobs())
        list(predict_slide(Blobs(), plan, store))
        found = store.cells()[["row", "col"]].sort_values(["row", "col"]).to_numpy()
        assert len(found) == len(truth)
        nearest = np.abs(truth[:, None] - found[None]).max(axis=2).min(axis=1)
        assert nearest.max() <= 0.5 / size + 0.1  # half an element of the grid
    with pytest.raises(ImageError, match="does not say how large"):
        plan_slide(Blobs(), open_image(path), um_per_px=0.5)


def test_masks_are_labels_of_a_pyramid(slide, tmp_path):
    image = open_image(slide, pixel_size_um=0.5)
    plan = plan_slide(Masker(), image, tile=100, tissue=slide_child.corner(*SIZE))
    store = opened(tmp_path / "p", plan, Masker())
    list(predict_slide(Masker(), plan, store))
    list(store.finish())
    labels = open_image(tmp_path / "p" / "mask.ome.zarr")
    assert (labels.height, labels.width) == (350, 450)
    assert labels.pixel_size_um == pytest.approx(1.0)
    whole = labels.levels[0].compute()
    (exact,) = predict_image(Masker(), image, tile=1024)
    truth = exact.prediction.mask.argmax(axis=0) + 1
    done = whole > 0
    assert np.array_equal(whole[done], truth[done])
    assert done.mean() > 0.7
    assert not done[:100, :100].any()
    areas = store.areas(Masker.vocabulary["mask"])
    assert areas["pixels"].sum() == done.sum()


def test_grids_have_coarser_levels(tmp_path, monkeypatch):
    from napari_mtssl.engine import slide_prediction_store as module

    monkeypatch.setattr(module, "BLOCK", 1024)
    store = SlideStore(tmp_path / "p", {"a": 1}, ())
    levels = store.make_grid("mask", (2500, 1100), np.uint8, pixel_size_um=None)
    levels[0][:] = np.repeat(np.arange(2500).astype(np.uint8)[:, None], 1100, axis=1)
    assert [level.shape for level in levels] == [(2500, 1100), (1250, 550), (625, 275)]
    steps = list(store.finish())
    assert steps[-1][0] == steps[-1][1] == len(steps)
    assert np.array_equal(np.asarray(levels[2])[:, 7], np.arange(0, 2500, 4).astype(np.uint8))
    assert list(store.finish()) == []


def test_whole_image_methods_are_refused(slide):
    class Whole(Masker):
        whole_image = True

    with pytest.raises(SlideError, match="as a whole"):
        plan_slide(Whole(), open_image(slide), tissue=TissueMask(np.ones((1, 1), bool), *SIZE))


def test_the_child_is_where_the_test_expects_it():
    assert Path(slide_child.__file__).parent == Path(__file__).parent
