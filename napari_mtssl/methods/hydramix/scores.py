"""Scores of classified patches, as in the paper."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import f1_score


def patch_scores(
    probs: np.ndarray, centroids: np.ndarray, classes: np.ndarray, truth: np.ndarray
) -> dict[str, float]:
    """Accuracy, macro-F1 over the classes that occur, and mean distance of centroids of cells.

    Parameters
    ----------
    probs : ndarray, shape (N, C)
    centroids, truth : ndarray, shape (N, 2)
        (row, col) in pixels; of background they mean nothing.
    classes : ndarray, shape (N,)
        0 is the background.

    Returns
    -------
    dict of str to float
        ``accuracy``, ``macro_f1``, ``centroid_px`` (nan if there is no cell).
    """
    best = probs.argmax(1)
    cells = classes > 0
    error = np.linalg.norm(centroids[cells] - truth[cells], axis=1)
    return {
        "accuracy": float((best == classes).mean()),
        "macro_f1": float(
            f1_score(classes, best, labels=np.unique(classes), average="macro", zero_division=0)
        ),
        "centroid_px": float(error.mean()) if cells.any() else float("nan"),
    }
