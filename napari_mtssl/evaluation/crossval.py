"""Folds by patient: stratified, disjoint, the same for everybody who asks with the same seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from napari_mtssl.evaluation.readers import DataError

SEED = 12357  # the report's
TRIES = 200


def folds_by_group(
    groups: np.ndarray, labels: Mapping[str, np.ndarray], folds: int = 5, seed: int = SEED
) -> np.ndarray:
    """Put whole groups into folds so that classes are spread as evenly as groups allow.

    Groups are dealt out, in many random orders with the largest first, each to the fold where it disturbs the
    balance least; the best dealing wins.

    Parameters
    ----------
    groups : ndarray, shape (N,)
        Patient of each image.
    labels : mapping of str to ndarray of int, shape (N,)
        Class of each image by kind, -1 for none.
    folds : int
    seed : int

    Returns
    -------
    ndarray of int, shape (N,)
        Fold of each image, 0 to ``folds - 1``.

    Raises
    ------
    DataError
        If there are fewer groups than folds.
    """
    names, member = np.unique(groups, return_inverse=True)
    if folds < 2 or len(names) < folds:
        raise DataError(f"{len(names)} patients cannot be split into {folds} folds; use fewer folds.")
    columns = [np.ones(len(groups))]
    for values in labels.values():
        columns += [(values == k).astype(float) for k in np.unique(values[values >= 0])]
    counts = np.zeros((len(names), len(columns)))
    np.add.at(counts, member, np.stack(columns, 1))
    counts /= counts.sum(0)
    rng = np.random.default_rng(seed)
    best, lowest = np.zeros(len(names), int), np.inf
    for _ in range(TRIES):
        dealt = _deal(counts, folds, rng)
        shares = np.zeros((folds, counts.shape[1]))
        np.add.at(shares, dealt, counts)
        # a class that is missing from a fold cannot be scored there: worse than any unevenness
        cost = ((shares - 1 / folds) ** 2).sum() + 10.0 * (shares == 0).sum()
        if cost < lowest:
            best, lowest = dealt, cost
    return best[member.reshape(-1)]


def _deal(counts: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    order = rng.permutation(len(counts))
    weight = counts.max(1) * np.exp(0.5 * rng.standard_normal(len(counts)))
    order = order[np.argsort(-weight[order], kind="stable")]
    shares = np.zeros((folds, counts.shape[1]))
    dealt = np.zeros(len(counts), int)
    for group in order:
        after = ((shares[None] + np.eye(folds)[:, :, None] * counts[group] - 1 / folds) ** 2).sum((1, 2))
        dealt[group] = int(np.argmin(after + 1e-9 * rng.random(folds)))
        shares[dealt[group]] += counts[group]
    return dealt


def inner_split(
    groups: np.ndarray, labels: Mapping[str, np.ndarray], share: float = 0.2, seed: int = SEED
) -> np.ndarray:
    """Choose patients to validate on, about `share` of the images.

    Returns
    -------
    ndarray of bool, shape (N,)
        True for images to validate on.
    """
    folds = min(round(1 / share), len(np.unique(groups)))
    chosen: np.ndarray = folds_by_group(groups, labels, folds, seed) == 0
    return chosen
