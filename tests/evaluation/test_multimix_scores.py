import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from napari_mtssl.evaluation.multimix_scores import class_scores, mask_scores, mean_scores


def masks():
    truth, found = np.zeros((2, 32, 40), bool), np.zeros((2, 32, 40), bool)
    truth[0, 8:16, 8:16] = True
    found[0, 8:16, 12:20] = True
    truth[1, 4:8, 4:8] = found[1, 4:8, 4:8] = True
    return truth, found


def test_masks_by_hand():
    scores = mask_scores(*masks(), spacing=[(2.0, 0.5), None])
    assert scores["dice"] == pytest.approx([0.5, 1])
    assert scores["jaccard"] == pytest.approx([1 / 3, 1])
    assert scores["precision"] == pytest.approx([0.5, 1]) and scores["recall"] == pytest.approx([0.5, 1])
    assert scores["hausdorff_px"] == pytest.approx([4, 0])
    assert scores["hd95_px"] == pytest.approx([4, 0])
    assert scores["hd95_mm"][0] == pytest.approx(2) and np.isnan(scores["hd95_mm"][1])
    assert scores["ssim"][1] == pytest.approx(1) and 0 < scores["ssim"][0] < 1
    assert np.allclose(scores["jaccard"], scores["dice"] / (2 - scores["dice"]))
    assert mean_scores(scores)["hd95_mm"] == pytest.approx(2)


def test_empty_masks():
    truth, _ = masks()
    nothing = np.zeros_like(truth)
    both = mask_scores(nothing, nothing)
    assert (both["dice"] == 1).all() and (both["jaccard"] == 1).all() and (both["precision"] == 1).all()
    assert (both["hd95_px"] == 0).all() and "hd95_mm" not in mean_scores(both)
    one = mask_scores(truth, nothing)
    assert (one["dice"] == 0).all() and (one["recall"] == 0).all()
    assert one["hausdorff_px"] == pytest.approx([np.hypot(32, 40)] * 2)


def test_classes_against_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 60)
    abnormal = np.clip(0.3 * truth + 0.7 * rng.random(60), 0, 1)
    scores = class_scores(np.stack([1 - abnormal, abnormal], 1), truth)
    assert scores["auroc"] == pytest.approx(roc_auc_score(truth, abnormal))
    assert scores["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, abnormal > 0.5))
    perfect = class_scores(np.eye(2)[truth], truth)
    assert perfect == pytest.approx(dict.fromkeys(scores, 1.0) | {"ece": 0.0})


def test_more_classes_and_a_missing_one():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], 50)
    truth = rng.integers(0, 3, 50)
    scores = class_scores(probabilities, truth)
    expected = np.mean([roc_auc_score(truth == c, probabilities[:, c]) for c in range(3)])
    assert scores["auroc"] == pytest.approx(expected)
    alone = class_scores(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0]))
    assert np.isnan(alone["auroc"]) and alone["accuracy"] == 1 and alone["balanced_accuracy"] == 1
