"""From probabilities at the working size to masks: smoothing, holes, and the largest parts."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_mtssl.methods.multimix.config import MultiMixConfig


def refine(probabilities: np.ndarray, config: MultiMixConfig) -> np.ndarray:
    """Smooth masks, fill their holes and drop small parts, as the settings say.

    Parameters
    ----------
    probabilities : ndarray, shape (K + 1, h, w)
        Of the classes, the background's first.

    Returns
    -------
    ndarray of float32, shape (K + 1, h, w)
        Pixels that are taken from a class become background, and the other way round; those that keep their
        class keep their probabilities, up to smoothing.
    """
    found = smoothed(probabilities.astype(np.float32), config.smooth * probabilities.shape[-1])
    if not config.largest:
        return found
    best = found.argmax(axis=0)
    for index in range(1, len(found)):
        inside = best == index
        kept = ndimage.binary_fill_holes(_largest(inside, config.largest))
        _exchange(found, inside & ~kept, index)
        _exchange(found, kept & (best == 0), index)
    return found


def smoothed(probabilities: np.ndarray, sigma: float) -> np.ndarray:
    """Blur each plane (K + 1, h, w) by a Gaussian of `sigma` pixels; 0 changes nothing."""
    if not sigma:
        return probabilities
    return np.stack([ndimage.gaussian_filter(plane, sigma, mode="nearest") for plane in probabilities])


def _exchange(found: np.ndarray, where: np.ndarray, index: int) -> None:
    """Exchange a class with the background in these pixels."""
    found[0, where], found[index, where] = found[index, where].copy(), found[0, where].copy()


def _largest(inside: np.ndarray, count: int, least: float = 0.05) -> np.ndarray:
    """Keep the largest parts of a mask, and of these what is not tiny beside the largest."""
    labels, parts = ndimage.label(inside)
    if not parts:
        return inside
    sizes = np.bincount(labels.ravel())[1:]
    order = np.argsort(sizes)[::-1][:count]
    kept = order[sizes[order] >= least * sizes[order[0]]]
    return np.isin(labels, kept + 1)
