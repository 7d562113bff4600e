"""From dense maps to cells: every place votes for where its centroid is, peaks of the votes are cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from scipy.special import softmax
from skimage.feature import peak_local_max

COLUMNS = ["row", "col", "class", "confidence", "uncertainty"]


def entropy(probs: np.ndarray) -> np.ndarray:
    """Entropy over the first axis as a share of its largest value: (C, ...) to (...)."""
    share = probs / np.maximum(probs.sum(0, keepdims=True), 1e-12)
    return -(share * np.log(np.maximum(share, 1e-12))).sum(0) / np.log(len(probs))


def class_probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the first axis."""
    return softmax(logits, axis=0)


def vote_maps(
    probs: np.ndarray,
    centroids: np.ndarray,
    shape: tuple[int, int],
    stride: int,
    window: int,
    sigma: float,
    reach: float,
) -> np.ndarray:
    """Accumulate, for every class, what places say about the pixel where they see their cell.

    A place votes with weight ``p_fg exp(-d^2 / (2 reach^2))`` times its class probabilities, where d is
    how far off it sees its cell: near ones see it best. The background's probability votes too, and its
    share at a peak says how doubtful the cell is. Votes are smoothed: one sure place makes a peak of 1.

    Parameters
    ----------
    probs : ndarray, shape (C, h, w)
    centroids : ndarray, shape (2, h, w)
        (row, col) in units of the window around each place.
    shape : tuple of int
        Pixels covered.
    stride, window : int
        Pixels.
    sigma : float
        Of the smoothing Gaussian, pixels.
    reach : float
        Pixels.

    Returns
    -------
    ndarray, shape (C, *shape), float32
    """
    height, width = shape
    corners = np.stack(np.meshgrid(*(np.arange(n) * stride for n in probs.shape[1:]), indexing="ij"))
    seen = corners - (window - stride) / 2 + np.clip(centroids, 0, 1) * window - 0.5
    away = ((seen - corners - (stride - 1) / 2) ** 2).sum(0)
    where = np.rint(seen).astype(np.int64)
    inside = (where >= 0).all(0) & (where[0] < height) & (where[1] < width)
    pixel = where[0, inside] * width + where[1, inside]
    votes = np.empty((len(probs), height, width), np.float32)
    weight = (1.0 - probs[0, inside]) * np.exp(-away[inside] / (2.0 * reach**2))
    for index, prob in enumerate(probs):
        flat = np.bincount(pixel, weight * prob[inside], height * width)
        votes[index] = gaussian_filter(flat.reshape(shape).astype(np.float32), sigma, mode="constant")
    return votes * np.float32(2.0 * np.pi * sigma**2)


def peaks(votes: np.ndarray, classes: Sequence[str], radius: float, least: float) -> pd.DataFrame:
    """Cells at the local maxima of all votes but the background's.

    Parameters
    ----------
    votes : ndarray, shape (C, H, W)
    classes : sequence of str
        Index 0 is the background.
    radius : float
        Pixels that two cells keep apart.
    least : float
        Votes that a cell needs.

    Returns
    -------
    DataFrame
        ``row, col, class, confidence, uncertainty``, in pixels of the map; confidence is the share of the
        class among all votes at the peak.
    """
    total = votes[1:].sum(0)
    found = peak_local_max(
        total, min_distance=max(1, round(radius)), threshold_abs=max(least, 1e-6), exclude_border=False
    )
    at_peaks = votes[:, found[:, 0], found[:, 1]]
    best = at_peaks[1:].argmax(0) + 1
    share = at_peaks / np.maximum(at_peaks.sum(0), 1e-12)
    return pd.DataFrame(
        {
            "row": found[:, 0].astype(float),
            "col": found[:, 1].astype(float),
            "class": np.asarray(classes, dtype=object)[best],
            "confidence": share[best, np.arange(len(found))].astype(float),
            "uncertainty": entropy(at_peaks).astype(float),
        },
        columns=COLUMNS,
    )
