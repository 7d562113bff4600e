"""How good predicted cells are at the places that somebody labelled, even if not all cells are labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from napari_mtssl.evaluation.metrics import (
    accuracy,
    confusion_matrix,
    confusion_scores,
    macro_f1,
    match_points,
)


@dataclass(frozen=True)
class PlaceScores:
    """Scores at labelled places.

    Attributes
    ----------
    classes : tuple of str
        Background first.
    confusion : ndarray of int, shape (C, C)
        Rows are labelled classes, columns predicted ones.
    distances : ndarray, shape (K,)
        Pixels between labelled cells and the predicted cells they were paired with.
    """

    classes: tuple[str, ...]
    confusion: np.ndarray
    distances: np.ndarray

    def __add__(self, other: PlaceScores) -> PlaceScores:
        return PlaceScores(
            self.classes, self.confusion + other.confusion, np.concatenate([self.distances, other.distances])
        )

    def scores(self) -> dict[str, float]:
        """``accuracy``, ``macro_f1``, ``centroid_px`` (nan without paired cells) and confusions."""
        return {
            "accuracy": accuracy(self.confusion),
            "macro_f1": macro_f1(self.confusion),
            "centroid_px": float(self.distances.mean()) if len(self.distances) else float("nan"),
            **confusion_scores(self.confusion, self.classes),
        }


def score_places(
    labels: pd.DataFrame, predicted: pd.DataFrame, classes: Sequence[str], radius: float = 6.0
) -> PlaceScores:
    """Ask what is predicted at each labelled place: the paired cell's class, or else background.

    Unlike detection scores, this is fair to images of which only some cells were clicked: a predicted cell
    far from every label counts neither for nor against.

    Parameters
    ----------
    labels : DataFrame
        ``row, col, class`` of one image; background places included.
    predicted : DataFrame
        ``row, col, class`` of the cells predicted there.
    classes : sequence of str
        Background first; labels of other classes are left out.
    radius : float
        Greatest distance of a pair, pixels.
    """
    index = pd.Index(classes)
    labels = labels[labels["class"].isin(index)]
    i, j = match_points(labels[["row", "col"]].to_numpy(), predicted[["row", "col"]].to_numpy(), radius)
    truth = index.get_indexer(labels["class"])
    said = np.zeros(len(labels), dtype=np.int64)
    said[i] = index.get_indexer(predicted["class"].iloc[j])
    offset = labels[["row", "col"]].to_numpy(float)[i] - predicted[["row", "col"]].to_numpy(float)[j]
    cells = truth[i] > 0
    return PlaceScores(
        tuple(classes), confusion_matrix(truth, said, len(index)), np.linalg.norm(offset[cells], axis=1)
    )
