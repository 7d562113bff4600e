"""What a coarse class says about the exact ones: mean and spread of each exact class's share of a block."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.superres.losses import RHO_MIN

if TYPE_CHECKING:
    from napari_mtssl.study import Study

# The paper's bins of a patch classifier's probability.
BIN_EDGES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
COLUMNS = ["block_class", "mask_class", "mean", "spread", "source"]
VAGUE = 0.25  # spread of a share of which nothing is known
LEAST_LEFT = 0.01  # a share that follows from the others
PRIOR = 2.0  # blocks that a default is worth when statistics are measured
_RANGE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(?:-|–|to)\s*(\d+(?:\.\d+)?)\s*(?:%|per ?cent)?\s*$")


def bin_names(edges: Sequence[float] = BIN_EDGES) -> list[str]:
    """Names of bins of a share or probability, such as ``20-30``, in per cent."""
    return [f"{100 * low:g}-{100 * high:g}" for low, high in itertools.pairwise(edges)]


def to_bins(values: np.ndarray, edges: Sequence[float] = BIN_EDGES) -> np.ndarray:
    """Bin (0, 1, ...) of each share or probability; a value on an edge belongs to the upper bin."""
    found = np.searchsorted(np.asarray(edges), values, side="right") - 1
    return np.clip(found, 0, len(edges) - 2)


def bin_of(name: str) -> tuple[float, float] | None:
    """Edges, as shares, of a class that is called like a bin in per cent (``20-30``, ``95 - 100 %``)."""
    match = _RANGE.match(name)
    if match is None:
        return None
    low, high = float(match[1]) / 100, float(match[2]) / 100
    return (low, high) if 0 <= low < high <= 1 else None


def default_statistics(block_classes: Sequence[str], mask_classes: Sequence[str]) -> pd.DataFrame:
    """Statistics of classes that are called like bins: the first foreground class has the bin's share.

    Parameters
    ----------
    block_classes : sequence of str
        Others than bins get no row.
    mask_classes : sequence of str
        The background first. What is not the first foreground class is background; there is no default for
        more than two exact classes.

    Returns
    -------
    DataFrame
        Columns ``block_class, mask_class, mean, spread, source``. The mean is the middle of the bin; the
        spread that of a uniform distribution over it, ``width / sqrt(12)``, at least 0.03.
    """
    if len(mask_classes) != 2:
        return pd.DataFrame(columns=COLUMNS)
    return bin_statistics(block_classes, mask_classes, mask_classes[1])


def bin_statistics(block_classes: Sequence[str], mask_classes: Sequence[str], exact: str) -> pd.DataFrame:
    """Statistics of classes that are called like bins of the share of one exact class.

    Parameters
    ----------
    block_classes : sequence of str
        Others than bins get no row.
    mask_classes : sequence of str
        The background first. Of two, the background has what is left; of more, only `exact` is known.
    exact : str

    Returns
    -------
    DataFrame
        As `default_statistics`.
    """
    rows = []
    for name in block_classes:
        edges = bin_of(name)
        if edges is not None:
            middle = (edges[0] + edges[1]) / 2
            spread = max((edges[1] - edges[0]) / np.sqrt(12.0), RHO_MIN)
            if len(mask_classes) == 2:
                rows.append((name, mask_classes[0], 1.0 - middle, spread, "default"))
            rows.append((name, exact, middle, spread, "default"))
    return pd.DataFrame(rows, columns=COLUMNS)


def explain_bins(study: Study, exact: str) -> list[str]:
    """Say what a study's classes called like bins mean of one exact class; of two their names say all.

    Parameters
    ----------
    study : Study
        Classes of which it has statistics keep them.
    exact : str

    Returns
    -------
    list of str
        Exact classes of whose share nothing is known by that.
    """
    classes = [item.name for item in study.classes("mask")]
    known = study.statistics()
    said = set(known["block_class"])
    new = bin_statistics([b.name for b in study.classes("block") if b.name not in said], classes, exact)
    if len(new):
        study.set_statistics(pd.concat([known, new], ignore_index=True))
    return [item.name for item in study.classes("mask") if not item.background and item.name != exact]


def restate_bin(study: Study, name: str) -> None:
    """Have a class that was renamed to another bin mean that one, if it meant what its old name said."""
    known = study.statistics()
    mine = known["block_class"] == name
    classes = [item.name for item in study.classes("mask")]
    exact = [each for each in known.loc[mine, "mask_class"] if each != classes[0]]
    if bin_of(name) is not None and len(exact) == 1 and (known.loc[mine, "source"] == "default").all():
        new = bin_statistics([name], classes, exact[0])
        study.set_statistics(pd.concat([known[~mine], new], ignore_index=True))


def floored(table: pd.DataFrame) -> list[str]:
    """Say which coarse classes have a spread below the least one; nothing if none has."""
    low = table.loc[table["spread"] < RHO_MIN, "block_class"].unique()
    if not len(low):
        return []
    return [f"No class is surer than {RHO_MIN:.0%} of a block: that is the spread taken of {', '.join(low)}."]


def measured_statistics(
    shares: Mapping[str, np.ndarray], mask_classes: Sequence[str], prior: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Statistics of blocks whose exact classes somebody painted or estimated.

    Few blocks say little: means are drawn towards the default of the coarse class, as if that were two more
    blocks; spreads likewise. Where it has none, towards the mean of all blocks of all classes and one of
    equal shares: an exact class that is rare everywhere stays rare.

    Parameters
    ----------
    shares : mapping of str to ndarray (n, L)
        For each coarse class, the share of every exact class in each block.
    mask_classes : sequence of str
    prior : DataFrame, optional
        As from `default_statistics`.

    Returns
    -------
    DataFrame
        Columns ``block_class, mask_class, mean, spread, source`` (``measured``), and ``low, high, blocks``:
        the 95 % confidence interval of the mean and how many blocks there were.
    """
    from scipy.stats import t

    known = (
        {}
        if prior is None
        else {(r.block_class, r.mask_class): (r.mean, r.spread) for r in prior.itertuples()}
    )
    blocks = {name: np.asarray(v, float).reshape(-1, len(mask_classes)) for name, v in shares.items()}
    every = np.concatenate([*blocks.values(), np.full((1, len(mask_classes)), 1.0 / len(mask_classes))])
    away = ((every[:-1] - every.mean(0)) ** 2).sum(0) + VAGUE**2
    usual = every.mean(0), np.sqrt(away / len(every))
    rows = []
    for name, values in blocks.items():
        n = len(values)
        for index, kind in enumerate(mask_classes):
            mean0, spread0 = known.get((name, kind), (usual[0][index], usual[1][index]))
            mean = (values[:, index].sum() + PRIOR * mean0) / (n + PRIOR)
            squares = ((values[:, index] - values[:, index].mean()) ** 2).sum() if n else 0.0
            free = max(n - 1, 0) + PRIOR
            spread = max(float(np.sqrt((squares + PRIOR * spread0**2) / free)), RHO_MIN)
            half = float(t.ppf(0.975, free)) * spread / np.sqrt(n + PRIOR)
            low, high = max(mean - half, 0.0), min(mean + half, 1.0)
            rows.append((name, kind, mean, spread, "measured", low, high, n))
    return pd.DataFrame(rows, columns=[*COLUMNS, "low", "high", "blocks"])


def as_arrays(
    table: pd.DataFrame, block_classes: Sequence[str], mask_classes: Sequence[str], needed: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Statistics as arrays, the user's where there are some and the defaults elsewhere.

    Parameters
    ----------
    table : DataFrame
        Columns ``block_class, mask_class, mean, spread``.
    block_classes, mask_classes : sequence of str
    needed : sequence of str
        Coarse classes that blocks have.

    Returns
    -------
    eta, rho : ndarray float32, shape (Z, L)
        Means that add up to one in each row, and spreads of at least 0.03.

    Raises
    ------
    MethodError
        If a needed class has no statistics, or its means do not add up.
    """
    silent = [name for name in block_classes if name not in set(table["block_class"])]
    both = pd.concat([default_statistics(silent, mask_classes), table[COLUMNS]], ignore_index=True)
    mean = both.pivot(index="block_class", columns="mask_class", values="mean")
    spread = both.pivot(index="block_class", columns="mask_class", values="spread")
    places = {"index": list(block_classes), "columns": list(mask_classes)}
    eta = mean.reindex(**places).to_numpy(np.float32, copy=True)
    rho = spread.reindex(**places).to_numpy(np.float32, copy=True)
    # With one share missing the rest follows: an expert who says "30 % cancer" need not say "70 % not".
    missing = np.isnan(eta)
    one = missing.sum(1) == 1
    # But that nothing is left of a class added later nobody said: before, the background was all the rest.
    one &= (len(mask_classes) == 2) | missing[:, 0] | (np.nansum(eta, axis=1) < 1 - LEAST_LEFT)
    # An expert's 98.5 % and 2 % leave nothing; what is too much is said below.
    eta[one[:, None] & missing] = np.maximum(1.0 - np.nansum(eta[one], axis=1), 0.0)
    rho = np.where(np.isnan(rho), np.nanmax(np.where(np.isnan(rho), -1.0, rho), axis=1, keepdims=True), rho)
    for row, name in enumerate(block_classes):
        if name not in needed:
            continue
        if np.isnan(eta[row]).any():
            silent = [each for each, value in zip(mask_classes, eta[row], strict=True) if np.isnan(value)]
            raise MethodError(
                f"Nobody has said what a block of the class '{name}' contains: give its mean and spread for "
                f"{', '.join(silent)} in the statistics, or call it by its range, such as 20-30."
            )
        if abs(eta[row].sum() - 1.0) > 0.05 or (eta[row] < 0).any():
            raise MethodError(
                f"The means of the block class '{name}' add up to {100 * eta[row].sum():.0f} %; "
                "they must add up to 100 %."
            )
    eta = np.nan_to_num(eta, nan=1.0 / len(mask_classes))
    eta = eta / np.maximum(eta.sum(1, keepdims=True), 1e-6)
    return eta.astype(np.float32), np.maximum(np.nan_to_num(rho, nan=0.25), RHO_MIN).astype(np.float32)
