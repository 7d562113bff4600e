import numpy as np
import pytest

from napari_mtssl.evaluation.outlines import (
    OutlineScores,
    Overlap,
    near_outline,
    outline,
    overlap,
    with_outlines,
)


def square(low, high, side=40):
    mask = np.zeros((side, side), bool)
    mask[low:high, low:high] = True
    return mask


def test_by_hand():
    found = overlap(square(10, 20), square(15, 25))
    assert found == Overlap(25, 100, 100)
    assert found.iou == pytest.approx(25 / 175) and found.dice == pytest.approx(0.25)
    assert np.isnan(Overlap().iou) and np.isnan(Overlap().dice)


def test_l7_pooled_dice_and_iou_say_the_same():
    rng = np.random.default_rng(0)
    scores = OutlineScores(3.0)
    for _ in range(5):
        scores.add(rng.random((30, 30)) < 0.4, rng.random((30, 30)) < 0.6)
    found = scores.scores()
    for prefix in ("", "masked_"):
        iou = found[f"{prefix}iou"]
        assert found[f"{prefix}dice"] == pytest.approx(2 * iou / (1 + iou))
    # means over images do not, and the published figures have the pooled relation
    assert found["image_dice"] != pytest.approx(2 * found["image_iou"] / (1 + found["image_iou"]), abs=1e-6)
    for iou, dice in ((0.5722, 0.7278), (0.5810, 0.7350), (0.5953, 0.7463)):
        assert 2 * iou / (1 + iou) == pytest.approx(dice, abs=1e-4)


def test_masked_scores_look_near_the_outline_only():
    true = square(10, 30)
    near = near_outline(true, 2)
    assert near[10, 20] and near[11, 20] and near[9, 20] and near[8, 20]
    assert not near[12, 20] and not near[7, 20] and not near[20, 20]
    far_wrong = true.copy()
    far_wrong[0:4] = True
    scores = OutlineScores(2.0)
    scores.add(far_wrong, true)
    found = scores.scores()
    assert found["masked_iou"] == 1.0 and found["iou"] < 0.8


@pytest.mark.parametrize("value", [False, True])
def test_no_outline_no_pixels_near_it(value):
    assert not near_outline(np.full((5, 5), value), 3).any()
    scores = OutlineScores(3.0)
    scores.add(np.full((5, 5), value), np.full((5, 5), value))
    assert np.isnan(scores.scores()["masked_iou"])


def test_outlines_are_drawn_on_the_edge_of_the_mask():
    mask = square(10, 20)
    assert outline(mask).sum() == 36
    picture = with_outlines(np.zeros((40, 40, 3), np.uint8), [(mask, (0, 255, 0))])
    assert picture[10, 15, 1] == 255 and not picture[15, 15].any() and not picture[0, 0].any()
