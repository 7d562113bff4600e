import numpy as np
import pandas as pd
import pytest
import torch

from napari_mtssl.engine import dense
from napari_mtssl.engine.dense import agreement, dense_maps, join, predict_image, stitch, tiles
from napari_mtssl.images import open_image
from napari_mtssl.images.tissue import TissueMask, write_tissue
from napari_mtssl.methods.base import MethodError


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The small method after 60 steps, and an image (not of whole tiles or strides) with its truth."""
    import tiny_method as tiny

    method, samples = tiny.make_method(), tiny.make_samples(200)
    method.prepare(samples)
    optimiser = method.optimiser()
    torch.manual_seed(0)
    for _ in range(60):
        output = method.step(samples, 0.0, 32)
        optimiser.zero_grad()
        output.losses["labels"].backward()
        optimiser.step()
        method.after_step()
    pixels, truth = tiny.draw_discs(203, 331, 60, seed=7)
    path = tiny.save_image(tmp_path_factory.mktemp("dense") / "discs.png", pixels)
    return method, open_image(path), truth


def test_tiles_cover_every_pixel_once_and_the_visible_ones_come_first():
    view = (300, 500, 420, 800)
    boxes = tiles(1000, 1300, 128, view)
    cover = np.zeros((1000, 1300), int)
    for row0, col0, row1, col1 in boxes:
        cover[row0:row1, col0:col1] += 1
    assert (cover == 1).all()
    seen = [b[0] < 420 and b[2] > 300 and b[1] < 800 and b[3] > 500 for b in boxes]
    assert sum(seen) == 8 and all(seen[:8])
    centres = np.array([[(b[0] + b[2]) / 2, (b[1] + b[3]) / 2] for b in boxes])
    distance = np.hypot(*(centres - (360, 650)).T)
    assert (np.diff(distance[8:]) >= 0).all()


def test_tiles_without_a_view_start_in_the_middle():
    assert tiles(300, 300, 100)[0] == (100, 100, 200, 200)


@pytest.mark.parametrize("tile", [32, 64, 90])
def test_stitched_tiles_equal_the_whole_image(trained, tile):
    method, image, _ = trained
    (whole,) = predict_image(method, image, tile=1000)
    parts = list(predict_image(method, image, tile=tile, view=(50, 60, 90, 100)))
    for name, expected in whole.maps.items():
        joined = stitch({p.box: p.maps[name] for p in parts}, image.height, image.width, int(whole.scale[0]))
        np.testing.assert_allclose(joined, expected, atol=1e-5)
    joined = stitch(
        {p.box: p.prediction.pictures["uncertainty"] for p in parts},
        image.height,
        image.width,
        int(whole.scale[0]),
    )
    np.testing.assert_allclose(joined, whole.prediction.pictures["uncertainty"], atol=1e-5)
    cells = pd.concat([p.prediction.cells for p in parts]).sort_values(["row", "col"], ignore_index=True)
    expected = whole.prediction.cells.sort_values(["row", "col"], ignore_index=True)
    pd.testing.assert_frame_equal(cells, expected, atol=1e-5)
    assert len(expected) > 30


def test_cells_lie_in_their_own_tile(trained):
    method, image, _ = trained
    parts = list(predict_image(method, image, tile=32))
    assert [p.done for p in parts] == list(range(1, parts[0].total + 1))
    for part in parts:
        row0, col0, row1, col1 = part.box
        assert part.prediction.cells["row"].between(row0 - 0.5, row1 - 0.5, inclusive="left").all()
        assert part.prediction.cells["col"].between(col0 - 0.5, col1 - 0.5, inclusive="left").all()
        assert part.prediction.pictures["uncertainty"].shape == (
            -(-(row1 - row0) // 4),
            -(-(col1 - col0) // 4),
        )


def test_predictions_lie_on_the_cells(trained):
    method, image, truth = trained
    (whole,) = predict_image(method, image, tile=1000)
    alone = truth[
        [
            (np.hypot(truth["row"] - r, truth["col"] - c) < 24).sum() == 1
            for r, c in zip(truth["row"], truth["col"], strict=True)
        ]
    ]
    found = 0
    for cell in alone.itertuples():
        distance = np.hypot(
            whole.prediction.cells["row"] - cell.row, whole.prediction.cells["col"] - cell.col
        )
        nearest = distance.idxmin()
        found += (
            distance[nearest] < 5
            and whole.prediction.cells.loc[nearest, "class"] == truth.loc[cell.Index, "class"]
        )
    assert len(alone) >= 8 and found >= 0.8 * len(alone)


def test_prediction_stops_before_the_next_tile(trained):
    method, image, _ = trained
    done = []
    for part in predict_image(method, image, tile=64, cancelled=lambda: len(done) == 3):
        done.append(part)
    assert len(done) == 3 and done[0].total > 3


def test_glass_is_not_looked_at(trained, tmp_path, monkeypatch):
    method, image, _ = trained
    whole = list(predict_image(method, image, tile=64))
    slide = open_image(image.path)
    slide.tissue_file = tmp_path / "1.png"
    write_tissue(TissueMask(np.array([[1, 0]], bool), 203, 331), slide.tissue_file)  # right half: glass
    looked, real = [], dense.dense_maps
    monkeypatch.setattr(dense, "dense_maps", lambda *given: looked.append(given[2]) or real(*given))
    parts = list(predict_image(method, slide, tile=64))
    assert [(p.box, p.done, p.total) for p in parts] == [(p.box, p.done, p.total) for p in whole]
    tissue = [p for p in parts if p.box[1] < 331 / 2]
    assert len(looked) == len(tissue) < len(parts)
    same = {p.box: p.prediction for p in whole}
    for part in parts:
        said, expected = part.prediction, same[part.box]
        assert list(said.cells) == list(expected.cells)
        assert said.pictures["uncertainty"].shape == expected.pictures["uncertainty"].shape
        if part in tissue:
            pd.testing.assert_frame_equal(said.cells, expected.cells)
        else:
            assert len(said.cells) == 0 and not said.pictures["uncertainty"].any()
    joined = join(parts, 203, 331)
    assert joined.pictures["uncertainty"].shape == join(whole, 203, 331).pictures["uncertainty"].shape
    assert joined.cells["col"].max() < 192 < join(whole, 203, 331).cells["col"].max()
    # corrected meanwhile: all of it is tissue
    write_tissue(TissueMask(np.ones((1, 3), bool), 203, 331), slide.tissue_file)
    assert not any(dense.on_glass(method, slide, p.box) for p in parts)


def test_dense_equals_patchwise_without_padding(trained):
    method, image, _ = trained
    result = agreement(method, image, n=301, seed=1)
    assert result.n == 301
    assert result.agreement == 1.0
    assert result.max_abs_logit_difference < 1e-5


def test_agreement_notices_a_difference(trained, monkeypatch):
    method, image, _ = trained
    real = method.classify
    monkeypatch.setattr(method, "classify", lambda patches: real(patches.flip(1)))
    result = agreement(method, image)
    assert result.agreement < 1 and result.max_abs_logit_difference > 0.1


def test_agreement_needs_a_patch_classifier_and_room(trained, tiny, tmp_path):
    method, image, _ = trained
    small = open_image(tiny.save_image(tmp_path / "small.png", np.zeros((10, 40, 3), np.uint8)))
    with pytest.raises(MethodError, match="smaller than 16 pixels"):
        agreement(method, small)

    plain = type("Plain", (), {"name": "plain", "geometry": method.geometry})()
    with pytest.raises(MethodError, match="does not classify patches"):
        agreement(plain, image)


def test_maps_of_a_box_equal_that_part_of_the_whole(trained):
    method, image, _ = trained
    whole = dense_maps(method, image, (0, 0, 204, 332))["logits"]
    part = dense_maps(method, image, (40, 60, 104, 132))["logits"]
    np.testing.assert_allclose(part, whole[:, 10:26, 15:33], atol=1e-5)
