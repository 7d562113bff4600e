"""Where to label next: where the network is least sure, or, while labels are few, a typical place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_mtssl.gui.tasks import BLOCK

if TYPE_CHECKING:
    from napari_mtssl.gui.rasters import Predicted
    from napari_mtssl.gui.workspace import Workspace
    from napari_mtssl.images import Image

FEW_LABELS = 20
APART = 40.0  # level-0 pixels between two suggestions
PATCH = 33
SAMPLED = 300


def doubtful_pixels(held: Predicted, names: Mapping[int, str], apart: int = 48) -> pd.DataFrame:
    """Places where the predicted class is least sure, one in each square `apart` pixels wide.

    Parameters
    ----------
    held : Predicted
    names : mapping of int to str
        Of classes, by code.
    apart : int

    Returns
    -------
    DataFrame
        ``row, col, class, uncertainty``.
    """
    step = [max(1, round(apart / s)) for s in held.scale]
    doubt = np.where(held.codes > 0, 1 - 2 * np.abs(held.probability - 0.5), 0)
    rows = []
    for top in range(0, doubt.shape[0], step[0]):
        for left in range(0, doubt.shape[1], step[1]):
            part = doubt[top : top + step[0], left : left + step[1]]
            i, j = np.unravel_index(part.argmax(), part.shape)
            place = [(at + 0.5) * s - 0.5 for at, s in zip((top + i, left + j), held.scale, strict=True)]
            name = names.get(int(held.codes[top + i, left + j]))
            if name is not None:
                rows.append((*place, name, float(part.mean())))
    return pd.DataFrame(rows, columns=["row", "col", "class", "uncertainty"])


@dataclass(frozen=True)
class Suggestion:
    """A place to look at, in level-0 pixels, and why."""

    row: float
    col: float
    reason: str


def labelled_places(workspace: Workspace) -> np.ndarray:
    """Row and col, (N, 2), of all cells, or blocks and regions, of the image on screen with a class."""
    if BLOCK not in workspace.task.kinds:
        return workspace.cells()[["row", "col"]].to_numpy(float)
    study, image = workspace.need_study(), workspace.need_image()
    grid, blocks = study.grid(image.id), study.blocks(image.id)
    middles = [polygon.mean(axis=0) for polygon in study.regions(image.id)["polygon"]]
    places = np.array(middles, float).reshape(-1, 2)
    if grid is None or not len(blocks):
        return places
    corner, side = (grid.row0, grid.col0), (grid.height, grid.width)
    own = (blocks[["i", "j"]].to_numpy(float) + 0.5) * side + corner - 0.5
    return np.concatenate([own, places])


def suggest(
    image: Image, labelled: np.ndarray, pending: pd.DataFrame, seen: list[tuple[float, float]]
) -> Suggestion | None:
    """Choose the next place of an image to label.

    With at least `FEW_LABELS` labels and some predictions: the pending prediction of highest uncertainty.
    Before that: the most typical place of the commonest kind of tissue without a label.

    Parameters
    ----------
    image : Image
    labelled : ndarray (N, 2)
        Places of this image that carry a label.
    pending : DataFrame
        Predictions that nobody has reviewed: ``row, col, class, uncertainty``.
    seen : list of (row, col)
        Suggestions given before; none comes back within `APART` pixels.
    """
    avoid = np.array([*map(tuple, labelled), *seen], dtype=float).reshape(-1, 2)
    if len(labelled) >= FEW_LABELS and len(pending):
        return most_uncertain(pending, avoid)
    return _most_typical(image, avoid)


def most_uncertain(pending: pd.DataFrame, avoid: np.ndarray) -> Suggestion | None:
    """Choose the most uncertain place that is far from all of `avoid` (N, 2)."""
    order = pending.sort_values("uncertainty", ascending=False, kind="stable")
    for row, col, name in order[["row", "col", "class"]].itertuples(index=False):
        if _far(row, col, avoid):
            return Suggestion(row, col, f"the network is least sure here (it says {name})")
    return None


def _most_typical(image: Image, avoid: np.ndarray) -> Suggestion | None:
    """Group sampled patches by look; take the densest place of the largest group without a label.

    The idea of TypiClust (Hacohen et al. 2022) with the plainest features: with few labels, typical places
    teach more than uncertain ones.
    """
    from scipy.cluster.vq import kmeans2

    rng = np.random.default_rng(0)
    margin = PATCH // 2
    if min(image.height, image.width) <= PATCH:
        return None
    rows = rng.uniform(margin, image.height - margin, SAMPLED)
    cols = rng.uniform(margin, image.width - margin, SAMPLED)
    features = _features(image, np.column_stack([rows, cols]))
    known = _features(image, avoid) if len(avoid) else np.zeros((0, features.shape[1]))
    mean, spread = features.mean(0), features.std(0) + 1e-6
    features, known = (features - mean) / spread, (known - mean) / spread

    groups = min(len(known) + 1, 20)
    centres, group = kmeans2(features, groups, minit="++", seed=0)
    taken = np.bincount(_nearest(known, centres), minlength=groups) if len(known) else np.zeros(groups)
    size = np.bincount(group, minlength=groups)
    for chosen in np.lexsort((-size, taken)):
        members = np.flatnonzero(group == chosen)
        distance = np.linalg.norm(features[members] - centres[chosen], axis=1)
        for member in members[np.argsort(distance)]:
            if _far(rows[member], cols[member], avoid):
                return Suggestion(rows[member], cols[member], "a typical place that has no label yet")
    return None


def _features(image: Image, centres: np.ndarray) -> np.ndarray:
    """Mean and spread of each channel around each centre, (N, 6)."""
    patches = image.patches(centres, PATCH).astype(np.float32)
    return np.concatenate([patches.mean((1, 2)), patches.std((1, 2))], axis=1)


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - centres[None], axis=2).argmin(1)


def _far(row: float, col: float, avoid: np.ndarray) -> bool:
    return not len(avoid) or bool((np.hypot(avoid[:, 0] - row, avoid[:, 1] - col) > APART).all())
