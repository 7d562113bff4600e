"""How good predictions are: of patches (class, centroid, confidence) and of whole images (found cells)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from napari_mtssl.evaluation.table import CONFUSION, TAKEN_FOR


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Count patches by true and predicted class.

    Parameters
    ----------
    truth, predicted : ndarray of int, shape (N,)
        Class indices in ``[0, n_classes)``.
    n_classes : int

    Returns
    -------
    ndarray of int, shape (n_classes, n_classes)
        Rows are true classes, columns predicted ones.

    Raises
    ------
    ValueError
        If the lengths differ or an index is out of range.
    """
    truth, predicted = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if truth.shape != predicted.shape:
        raise ValueError(
            f"There are {len(truth)} true but {len(predicted)} predicted classes; give one for each."
        )
    both = np.concatenate([truth, predicted])
    if len(both) and (both.min() < 0 or both.max() >= n_classes):
        raise ValueError(f"A class index lies outside 0 to {n_classes - 1}; check the list of classes.")
    return np.bincount(truth * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def confusion_scores(confusion: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Share of each true class that was predicted as each class, as ``confusion/TRUE -> PREDICTED``.

    Parameters
    ----------
    confusion : ndarray, shape (C, C)
        Rows are true classes.
    classes : sequence of str

    Returns
    -------
    dict of str to float
        nan for a class that does not occur.
    """
    true = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, true, out=np.full(confusion.shape, np.nan), where=true > 0)
    return {
        f"{CONFUSION}{a}{TAKEN_FOR}{b}": float(shares[i, j])
        for i, a in enumerate(classes)
        for j, b in enumerate(classes)
    }


def accuracy(confusion: np.ndarray) -> float:
    """Share of patches on the diagonal of a confusion matrix; nan without patches."""
    return float(np.trace(confusion) / confusion.sum()) if confusion.sum() else float("nan")


def f1_scores(confusion: np.ndarray) -> np.ndarray:
    """F1 of each class, ``2 tp / (2 tp + fp + fn)``; nan for a class neither true nor predicted anywhere.

    Parameters
    ----------
    confusion : ndarray, shape (C, C)
        Rows are true classes.

    Returns
    -------
    ndarray, shape (C,)
    """
    total = confusion.sum(axis=0) + confusion.sum(axis=1)
    return np.divide(2.0 * np.diag(confusion), total, out=np.full(len(total), np.nan), where=total > 0)


def macro_f1(confusion: np.ndarray) -> float:
    """Mean of the F1 scores of the classes that occur; nan without patches."""
    scores = f1_scores(confusion)
    return float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")


def centroid_error(truth: np.ndarray, predicted: np.ndarray, foreground: np.ndarray) -> float:
    """Mean distance between true and predicted centroids, over patches that do hold a cell.

    Parameters
    ----------
    truth, predicted : ndarray, shape (N, 2)
        ``(row, col)`` in pixels.
    foreground : ndarray of bool, shape (N,)
        Whether the true class is a cell; background has no centroid.

    Returns
    -------
    float
        Pixels; nan if no patch holds a cell.
    """
    foreground = np.asarray(foreground, dtype=bool)
    if not foreground.any():
        return float("nan")
    offset = np.asarray(truth, dtype=float)[foreground] - np.asarray(predicted, dtype=float)[foreground]
    return float(np.linalg.norm(offset, axis=1).mean())


def expected_calibration_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = 15) -> float:
    """Gap between confidence and accuracy, averaged over equal bins of confidence (Guo et al. 2017, Eq. 3).

    Parameters
    ----------
    probabilities : ndarray, shape (N, C)
        Rows sum to one.
    truth : ndarray of int, shape (N,)
    bins : int

    Returns
    -------
    float
        In [0, 1]; nan without patches.
    """
    if not len(truth):
        return float("nan")
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == np.asarray(truth)
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(bin_of, weights=correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def match_points(truth: np.ndarray, predicted: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Pair true and predicted points one to one: as many pairs as possible, then as close as possible.

    Parameters
    ----------
    truth : ndarray, shape (N, 2)
    predicted : ndarray, shape (M, 2)
    radius : float
        Greatest distance of a pair, inclusive, in pixels.

    Returns
    -------
    truth_index, predicted_index : ndarray of int, shape (K,)
        The k-th pair; no index occurs twice.

    Raises
    ------
    ValueError
        If the radius is not positive.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    if not radius > 0:
        raise ValueError(f"A matching radius of {radius} px is not possible; give a positive number.")
    truth = np.asarray(truth, dtype=float).reshape(-1, 2)
    predicted = np.asarray(predicted, dtype=float).reshape(-1, 2)
    n, m = len(truth), len(predicted)
    empty = np.empty(0, dtype=np.int64)
    if not n or not m:
        return empty, empty
    near = cKDTree(truth).sparse_distance_matrix(cKDTree(predicted), radius, output_type="ndarray")
    if not len(near):
        return empty, empty
    # Points that could be paired form small islands, and each island is an assignment problem of its own.
    links = coo_array((np.ones(len(near)), (near["i"], near["j"] + n)), shape=(n + m, n + m))
    _, island = connected_components(links, directed=False)
    near = near[np.argsort(island[near["i"]], kind="stable")]
    starts = np.flatnonzero(np.diff(island[near["i"]], prepend=-1))
    pairs = []
    for edges in np.split(near, starts[1:]):
        rows, row_of = np.unique(edges["i"], return_inverse=True)
        cols, col_of = np.unique(edges["j"], return_inverse=True)
        # One more pair is worth more than any sum of distances.
        reward = (radius + 1.0) * (min(len(rows), len(cols)) + 1.0)
        cost = np.zeros((len(rows), len(cols)))
        cost[row_of, col_of] = edges["v"] - reward
        chosen_row, chosen_col = linear_sum_assignment(cost)
        possible = cost[chosen_row, chosen_col] < 0
        pairs.append(np.stack([rows[chosen_row[possible]], cols[chosen_col[possible]]]))
    truth_index, predicted_index = np.concatenate(pairs, axis=1)
    return truth_index, predicted_index


@dataclass
class DetectionCounts:
    """What was found in some images, as counts that add up over images.

    Attributes
    ----------
    classes : tuple of str
        Cell classes that are scored.
    found, true, predicted : int
        Pairs within the radius, true cells and predicted cells, whatever their class.
    correct : ndarray of int, shape (C,)
        Pairs whose two classes agree, by class.
    true_of, predicted_of : ndarray of int, shape (C,)
        True and predicted cells by class; a prediction paired with a cell whose class nobody gave counts
        neither for nor against any class.
    found_of, named_of : ndarray of int, shape (C,)
        Pairs by true class and by predicted class, of cells whose class is scored.
    """

    classes: tuple[str, ...]
    found: int
    true: int
    predicted: int
    correct: np.ndarray
    true_of: np.ndarray
    predicted_of: np.ndarray
    found_of: np.ndarray
    named_of: np.ndarray

    def __add__(self, other: DetectionCounts) -> DetectionCounts:
        if self.classes != other.classes:
            raise ValueError(
                "Counts of different classes cannot be added; score all images with the same classes."
            )
        return DetectionCounts(
            self.classes,
            self.found + other.found,
            self.true + other.true,
            self.predicted + other.predicted,
            self.correct + other.correct,
            self.true_of + other.true_of,
            self.predicted_of + other.predicted_of,
            self.found_of + other.found_of,
            self.named_of + other.named_of,
        )

    def scores(self) -> dict[str, float]:
        """Put detection and classification in numbers.

        Returns
        -------
        dict of str to float
            ``detection_precision``, ``detection_recall``, ``detection_f1`` over all cells; ``f1_CLASS``, in
            which a missed cell and a false one count as well as a wrong class, and ``weighted_f1``, their
            mean weighted by the number of true cells of each class; ``weighted_f1_found``, the same mean over
            the cells that were found, where only a wrong class counts. A ratio of nothing to nothing is nan.

        Notes
        -----
        Sirinukunwattana et al. (2016) report classification and joint detection and classification as two
        results: ``weighted_f1`` is the joint one, ``weighted_f1_found`` is nearer to the first.
        """
        each = _f1(self.correct, self.true_of, self.predicted_of)
        return {
            "detection_precision": _ratio(self.found, self.predicted),
            "detection_recall": _ratio(self.found, self.true),
            "detection_f1": _ratio(2 * self.found, self.predicted + self.true),
            **{f"f1_{name}": score for name, score in zip(self.classes, each, strict=True)},
            "weighted_f1": _weighted(each, self.true_of),
            "weighted_f1_found": _weighted(_f1(self.correct, self.found_of, self.named_of), self.found_of),
        }


def _f1(correct: np.ndarray, true: np.ndarray, said: np.ndarray) -> list[float]:
    """F1 of each class; nan where a class neither is nor was said."""
    return [_ratio(2 * c, t + s) for c, t, s in zip(correct, true, said, strict=True)]


def _weighted(each: Sequence[float], weights: np.ndarray) -> float:
    """Mean over classes that occur, weighted by how often; nan if none does."""
    present = weights > 0
    return float(np.average(np.array(each)[present], weights=weights[present])) if present.any() else math.nan


def _ratio(part: float, whole: float) -> float:
    """Quotient; nan for 0 / 0."""
    return float(part / whole) if whole else float("nan")


def count_detections(
    truth: pd.DataFrame, predicted: pd.DataFrame, classes: Sequence[str], radius: float = 6.0
) -> DetectionCounts:
    """Compare the cells of one image with those predicted.

    Parameters
    ----------
    truth : DataFrame
        ``row, col, class``; a missing class (None or nan) is a cell whose class is not known.
    predicted : DataFrame
        ``row, col, class``; no background.
    classes : sequence of str
        Cell classes to score; a cell of any other class still counts as a cell.
    radius : float
        Greatest distance of a pair, pixels.

    Returns
    -------
    DetectionCounts
    """
    i, j = match_points(truth[["row", "col"]].to_numpy(), predicted[["row", "col"]].to_numpy(), radius)
    names = list(classes)
    true_class = pd.Index(names).get_indexer(truth["class"].astype(object))
    said_class = pd.Index(names).get_indexer(predicted["class"].astype(object))
    unknown = truth["class"].isna().to_numpy()
    counted = np.ones(len(predicted), dtype=bool)
    counted[j[unknown[i]]] = False
    agree = (true_class[i] == said_class[j]) & (true_class[i] >= 0)
    scored = true_class[i] >= 0

    def by_class(indices: np.ndarray) -> np.ndarray:
        return np.bincount(indices[indices >= 0], minlength=len(names))

    return DetectionCounts(
        classes=tuple(names),
        found=len(i),
        true=len(truth),
        predicted=len(predicted),
        correct=by_class(true_class[i][agree]),
        true_of=by_class(true_class),
        predicted_of=by_class(said_class[counted]),
        found_of=by_class(true_class[i]),
        named_of=by_class(said_class[j][scored]),
    )
