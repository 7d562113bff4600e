"""Every score of MultiMix's paper, and those it lacks; MONAI's where MONAI has them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from napari_mtssl.evaluation import metrics

PER_IMAGE = ("dice", "jaccard", "ssim", "hausdorff_px", "hd95_px", "hd95_mm", "precision", "recall")
CUT = 0.5  # one threshold for every score of a mask


def mask_scores(
    truth: np.ndarray, found: np.ndarray, spacing: Sequence[tuple[float, float] | None] | None = None
) -> dict[str, np.ndarray]:
    """Scores of each image's mask.

    Parameters
    ----------
    truth, found : ndarray of bool, shape (N, h, w)
    spacing : sequence of (float, float) or None, length N, optional
        Height and width of a pixel in millimetres.

    Returns
    -------
    dict of str to ndarray (N,)
        ``dice``, ``jaccard``, ``ssim`` (of the masks as images), ``hausdorff_px``, ``hd95_px``, ``hd95_mm``
        (nan where no size is known), ``precision``, ``recall``. Two empty masks agree wholly; a distance from
        an empty mask is the image's diagonal.
    """
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_iou
    from monai.metrics.meandice import compute_dice
    from monai.metrics.regression import SSIMMetric

    y = torch.from_numpy(np.ascontiguousarray(truth)).float()[:, None]
    p = torch.from_numpy(np.ascontiguousarray(found)).float()[:, None]
    both_empty = np.asarray(~(truth.any((1, 2)) | found.any((1, 2))))
    scores = {
        "dice": _plain(compute_dice(p, y, include_background=True, ignore_empty=False)),
        "jaccard": _plain(compute_iou(p, y, include_background=True, ignore_empty=False)),
        "ssim": _plain(SSIMMetric(spatial_dims=2, data_range=1.0)(p, y)),
    }
    hits = (truth & found).sum((1, 2))
    scores["precision"] = _ratio(hits, found.sum((1, 2)), both_empty)
    scores["recall"] = _ratio(hits, truth.sum((1, 2)), both_empty)
    scores["hausdorff_px"], scores["hd95_px"] = np.empty(len(y)), np.empty(len(y))
    scores["hd95_mm"] = np.full(len(y), np.nan)
    for index in range(len(y)):
        pair = p[index : index + 1], y[index : index + 1]
        size = None if spacing is None else spacing[index]
        for name, percentile, scale in (
            ("hausdorff_px", None, (1.0, 1.0)),
            ("hd95_px", 95, (1.0, 1.0)),
            ("hd95_mm", 95, size),
        ):
            if scale is None:
                continue
            if both_empty[index]:
                scores[name][index] = 0.0
            elif not (truth[index].any() and found[index].any()):
                scores[name][index] = np.hypot(truth.shape[1] * scale[0], truth.shape[2] * scale[1])
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)  # of MONAI about itself
                    distance = compute_hausdorff_distance(
                        *pair, include_background=True, percentile=percentile, spacing=list(scale)
                    )
                scores[name][index] = float(distance)
    return scores


def _plain(values: object) -> np.ndarray:
    """One number for each image."""
    return np.asarray(values, dtype=float).reshape(-1)


def _one(value: object) -> float:
    """Take the number out of what MONAI returns."""
    return float(np.asarray(value, dtype=float))


def _ratio(part: np.ndarray, whole: np.ndarray, both_empty: np.ndarray) -> np.ndarray:
    """Share of the whole; 0 of nothing, but 1 where both masks are empty."""
    ratio = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return np.where(both_empty, 1.0, ratio)


def class_scores(probabilities: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Scores of image classes, the first of which is the normal one.

    Parameters
    ----------
    probabilities : ndarray, shape (N, C)
    truth : ndarray of int, shape (N,)

    Returns
    -------
    dict of str to float
        ``accuracy``, ``f1_normal``, ``f1_abnormal`` (mean of the other classes), ``auroc`` (of not being
        normal; with more than two classes the mean of one against the others), ``balanced_accuracy``,
        ``ece``; nan where only one class is there.
    """
    import torch
    from monai.metrics import compute_roc_auc
    from monai.networks.utils import one_hot

    classes = probabilities.shape[1]
    confusion = metrics.confusion_matrix(truth, probabilities.argmax(1), classes)
    f1 = metrics.f1_scores(confusion)
    of_class = np.diag(confusion) / np.maximum(confusion.sum(1), 1)
    there = confusion.sum(1) > 0
    auroc = float("nan")
    if classes == 2 and there.all():
        auroc = _one(compute_roc_auc(torch.from_numpy(probabilities[:, 1]), torch.from_numpy(truth)))
    elif there.sum() > 1:
        hot = one_hot(torch.from_numpy(truth)[:, None], classes)[:, there]
        auroc = _one(compute_roc_auc(torch.from_numpy(probabilities[:, there]), hot))
    return {
        "accuracy": metrics.accuracy(confusion),
        "f1_normal": float(f1[0]),
        "f1_abnormal": float(np.nanmean(f1[1:])) if not np.isnan(f1[1:]).all() else float("nan"),
        "auroc": auroc,
        "balanced_accuracy": float(of_class[there].mean()) if there.any() else float("nan"),
        "ece": metrics.expected_calibration_error(probabilities, truth),
    }


def mean_scores(scores: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean over images of what `mask_scores` gives; a score that no image has is left out."""
    return {name: float(np.nanmean(each)) for name, each in scores.items() if not np.isnan(each).all()}
