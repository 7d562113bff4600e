"""The patches that methods learn from and are judged on: drawn once by seed, the same for every method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_mtssl.evaluation.readers import DataError, FieldOfView
from napari_mtssl.images import open_image

BACKGROUND = "background"
CLASSES = (BACKGROUND, "epithelial", "inflammatory")  # of patches; in whole images, every kind is a class
PATCH = 41  # pixels, as in the paper
JITTER = 8  # pixels: a classifier that only ever saw centred cells could not be run over a whole image
RADIUS = 6.0  # pixels between a nucleus and the cell that was found for it, at most
# Pixels from a background place to the nearest nucleus, at least: farther than any jittered cell.
CLEAR = 12.0
# In whole images, one click in so many is on background: most of an image is, and every cell that is found
# there in error counts.
BACKGROUND_EVERY = 3


@dataclass(frozen=True)
class Places:
    """Places with a class in some images.

    Attributes
    ----------
    image : ndarray of int, shape (N,)
        Index into the list of images they were drawn from.
    centres : ndarray of int, shape (N, 2)
        ``(row, col)`` of the middle of the patch, level-0 pixels.
    classes : ndarray of int, shape (N,)
        Index into `names`.
    centroids : ndarray, shape (N, 2)
        ``(row, col)`` of the cell, level-0 pixels; for background the middle of the patch.
    names : tuple of str
        Of the classes, background first.
    """

    image: np.ndarray
    centres: np.ndarray
    classes: np.ndarray
    centroids: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, index: np.ndarray) -> Places:
        return Places(
            self.image[index], self.centres[index], self.classes[index], self.centroids[index], self.names
        )

    def in_patch(self, size: int) -> np.ndarray:
        """Centroids in pixels of patches of this size around the centres, (N, 2)."""
        return self.centroids - self.centres + size // 2


def all_places(
    fields: Sequence[FieldOfView], seed: int, *, names: Sequence[str] = CLASSES, jitter: int = JITTER
) -> Places:
    """Take every nucleus of some classes, and as many background places as the largest class has nuclei.

    Parameters
    ----------
    fields : sequence of FieldOfView
    seed : int
    names : sequence of str
        Classes, background first.
    jitter : int
        Greatest offset of a patch's middle from its nucleus along rows and along columns, pixels.

    Returns
    -------
    Places

    Raises
    ------
    DataError
        If a class does not occur in these images.
    """
    rng = np.random.default_rng([seed, 1])
    image, classes, centroids = [], [], []
    for index, view in enumerate(fields):
        for kind, name in enumerate(names[1:], start=1):
            points = view.centroids[name]
            image.append(np.full(len(points), index))
            classes.append(np.full(len(points), kind))
            centroids.append(points)
    kinds = np.concatenate(classes)
    counts = np.bincount(kinds, minlength=len(names))[1:]
    for name, count in zip(names[1:], counts, strict=True):
        if count == 0:
            raise DataError(f"These {len(fields)} images hold no {name} nucleus; add images that do.")
    where, points = _background(fields, int(counts.max()), rng)
    cells = np.concatenate(centroids)
    offset = rng.integers(-jitter, jitter + 1, cells.shape)
    middle = np.concatenate([np.rint(cells).astype(np.int64) + offset, points])
    return Places(
        np.concatenate([*image, where]),
        middle,
        np.concatenate([kinds, np.zeros(len(points), dtype=kinds.dtype)]),
        np.concatenate([cells, points.astype(float)]),
        tuple(names),
    )


def _background(
    fields: Sequence[FieldOfView], count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw places far from all nuclei: image index (count,) and integer points (count, 2)."""
    from scipy.spatial import cKDTree

    where, points = [], []
    trees = [cKDTree(view.truth()[["row", "col"]].to_numpy()) for view in fields]
    images = [open_image(view.path) for view in fields]
    missing, rounds = count, 0
    while missing > 0:
        if rounds == 50:
            raise DataError(f"These images are too full of nuclei for {count} background places; add images.")
        rounds += 1
        index = rng.integers(len(fields), size=2 * missing + 20)
        draw = rng.random((len(index), 2))
        for i, tree in enumerate(trees):
            mine = index == i
            candidates = (draw[mine] * (images[i].height, images[i].width)).astype(np.int64)
            free = tree.query(candidates)[0] >= CLEAR if tree.n else np.ones(len(candidates), dtype=bool)
            draw[mine] = np.where(free[:, None], candidates, -1)
        good = np.flatnonzero(draw[:, 0] >= 0)[:missing]
        where.append(index[good])
        points.append(draw[good].astype(np.int64))
        missing -= len(good)
    return np.concatenate(where), np.concatenate(points)


def draw_labelled(
    places: Places, count: int, seed: int, *, background_every: int | None = None
) -> np.ndarray:
    """Choose `count` places, as evenly over the classes as the number allows.

    Parameters
    ----------
    places : Places
    count : int
    seed : int
    background_every : int, optional
        Make every so-manyth place a background one, and share the others evenly among the classes of cells;
        by default background is a class as any other.

    Returns
    -------
    ndarray of int, shape (count,)
        Indices into `places`; smaller draws of one seed are part of larger ones.

    Raises
    ------
    DataError
        If a class has too few places.
    """
    rng = np.random.default_rng([seed, 2])
    kinds = rng.permutation(len(places.names)).tolist()
    shuffled = [rng.permutation(np.flatnonzero(places.classes == kind)) for kind in range(len(places.names))]
    if background_every is not None:
        kinds.remove(0)
    chosen = []
    taken = [0] * len(places.names)
    for turn in range(count):
        if background_every is not None and turn % background_every == 0:
            kind = 0
        else:
            kind = kinds.pop(0)
            kinds.append(kind)
        if taken[kind] >= len(shuffled[kind]):
            raise DataError(
                f"{count} labelled places need more than the {len(shuffled[kind])} of class "
                f"{places.names[kind]} that there are; ask for fewer or add images."
            )
        chosen.append(int(shuffled[kind][taken[kind]]))
        taken[kind] += 1
    return np.array(chosen, dtype=np.int64)


def cut(fields: Sequence[FieldOfView], image: np.ndarray, centres: np.ndarray, size: int) -> np.ndarray:
    """Cut patches around places.

    Parameters
    ----------
    fields : sequence of FieldOfView
    image : ndarray of int, shape (N,)
        Index of each place's image.
    centres : ndarray, shape (N, 2)
    size : int
        Side in pixels.

    Returns
    -------
    ndarray of uint8, shape (N, size, size, 3)
    """
    patches = np.empty((len(image), size, size, 3), np.uint8)
    for index in np.unique(image):
        mine = image == index
        patches[mine] = open_image(fields[index].path).patches(centres[mine], size)
    return patches
