"""Coarse labels that come from elsewhere: probability maps, a patch classifier, painted blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_mtssl.images import to_float
from napari_mtssl.images.tissue import find_tissue, in_study
from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.superres.bank import gain_for, to_unit
from napari_mtssl.methods.superres.patches import PatchClassifier, as_patches
from napari_mtssl.methods.superres.reader import label_extents
from napari_mtssl.methods.superres.statistics import BIN_EDGES, as_arrays, bin_names, bin_of, to_bins

if TYPE_CHECKING:
    import pandas as pd

    from napari_mtssl.images import Image, ImagePool
    from napari_mtssl.study import Grid, Study

SQUARE = 1024  # pixels that are counted at once
PAINTED = 0.95  # of a block must be painted for its shares to be known
LEAST = 0.5  # of a block must lie in the image for it to be labelled
AT_ONCE = 64  # blocks that are looked at together
Place = tuple[int, int]


def binned_map(
    probabilities: np.ndarray,
    scale: tuple[float, float],
    grid: Grid,
    shape: tuple[int, int],
    edges: Sequence[float] = BIN_EDGES,
) -> dict[Place, str]:
    """Give each block of a grid the bin of its mean probability.

    Parameters
    ----------
    probabilities : ndarray, shape (h, w), values in [0, 1]
        Of a patch classifier, a heat map, ...; nan where there is none.
    scale : tuple of float
        Level-0 pixels per element along rows and columns; the map begins in the image's corner.
    grid : Grid
    shape : tuple of int
        Height and width of the image.
    edges : sequence of float
        Of the bins, rising.

    Returns
    -------
    dict of (i, j) to str
        For `Study.set_blocks`; blocks without a probability, or mostly outside the image, are left out.

    Raises
    ------
    MethodError
        If the values are no probabilities, or the edges do not rise.
    """
    values = np.asarray(probabilities, float)
    if values.ndim != 2 or (np.nan_to_num(values) < 0).any() or (np.nan_to_num(values) > 1).any():
        raise MethodError("A probability map is a table of numbers from 0 to 1; divide by 100 or 255 first.")
    if not (np.diff(edges) > 0).all() or len(edges) < 2:
        raise MethodError("Edges of bins must rise, such as 0, 0.2, 0.5, 1.")
    rows = (np.arange(values.shape[0]) + 0.5) * scale[0] - 0.5
    cols = (np.arange(values.shape[1]) + 0.5) * scale[1] - 0.5
    names = bin_names(edges)
    found = {}
    for i, j, (row0, col0, row1, col1) in _inside(grid, shape):
        down = (rows > row0 - 0.5) & (rows <= row1 - 0.5)
        right = (cols > col0 - 0.5) & (cols <= col1 - 0.5)
        # a block finer than the map takes the element its middle lies in
        if not down.any():
            down = _nearest(rows, (row0 + row1) / 2 - 0.5)
        if not right.any():
            right = _nearest(cols, (col0 + col1) / 2 - 0.5)
        part = values[np.ix_(down, right)]
        if np.isfinite(part).any():
            found[i, j] = names[int(to_bins(np.nanmean(part), edges))]
    return found


def painted_shares(study: Study, mask_classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Shares of the exact classes in blocks that somebody painted, by coarse class.

    Returns
    -------
    dict of str to ndarray (n, L)
        For `measured_statistics`: only blocks of which 95 % are painted.
    """
    order = np.full(2**16, -1)
    for item in study.classes("mask"):
        if item.name in mask_classes:
            order[item.code] = mask_classes.index(item.name)
    found: dict[str, list[np.ndarray]] = {}
    for image_id in study.masked_images():
        order[0] = 0 if study.mask_state(image_id).complete else -1
        seen: set[int] = set()
        for box in _labelled_boxes(label_extents(study, image_id)):
            exact = order[study.mask(image_id, box)]
            if (exact < 0).all():
                continue
            numbers, names = study.coarse_map(image_id, box)
            # what reaches the rim of the box is not whole in it
            rim = {*np.unique(numbers[[0, -1]]).tolist(), *np.unique(numbers[:, [0, -1]]).tolist()}
            shares = _shares(numbers, exact, len(mask_classes))
            for number in sorted(set(names) - rim - seen):
                seen.add(number)
                if shares[number].sum() >= PAINTED:
                    found.setdefault(names[number], []).append(shares[number] / shares[number].sum())
    return {name: np.stack(rows) for name, rows in found.items()}


def _labelled_boxes(labels: Sequence[tuple[float, ...]]) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of pixels, not much larger than `SQUARE`, such that each label is whole in one, with a rim."""
    squares: dict[tuple[int, int], list[tuple[float, ...]]] = {}
    for label in labels:
        squares.setdefault((int(label[0] // SQUARE), int(label[1] // SQUARE)), []).append(label)
    for members in squares.values():
        edges = np.array(members)
        low, high = np.floor(edges[:, :2].min(0)).astype(int), np.ceil(edges[:, 2:].max(0)).astype(int)
        yield int(low[0]) - 2, int(low[1]) - 2, int(high[0]) + 2, int(high[1]) + 2


def _shares(numbers: np.ndarray, exact: np.ndarray, classes: int) -> dict[int, np.ndarray]:
    """Share of each exact class in the pixels of each number; what nobody painted is in none."""
    present, place = np.unique(numbers, return_inverse=True)
    counts = np.bincount(
        place.ravel() * (classes + 1) + exact.ravel() + 1, minlength=len(present) * (classes + 1)
    )
    counts = counts.reshape(len(present), classes + 1)
    return dict(zip(present.tolist(), counts[:, 1:] / counts.sum(1, keepdims=True), strict=True))


@dataclass(frozen=True)
class Guess:
    """How far the low resolution model is, and what it said of some blocks.

    Attributes
    ----------
    done, total : int
        Steps of learning and blocks, together.
    image_id : int or None
        None while it learns.
    shares : dict of (i, j) to ndarray (L,)
        Of some blocks of that image.
    """

    done: int
    total: int
    image_id: int | None
    shares: Mapping[Place, np.ndarray]


def classify_blocks(
    study: Study,
    images: ImagePool,
    block_classes: Sequence[str],
    mask_classes: Sequence[str],
    *,
    steps: int = 400,
    image_ids: Sequence[int] | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> dict[int, dict[Place, np.ndarray]]:
    """Train the low resolution model on a study's blocks, and ask it about all the others.

    Parameters
    ----------
    study : Study
    images : ImagePool
    block_classes, mask_classes : sequence of str
    steps : int
        Optimiser updates.
    image_ids : sequence of int, optional
        Images whose blocks it is asked about; by default all that have a grid.
    tell : callable, optional
        Gets how far it is.

    Returns
    -------
    dict of int to dict of (i, j) to ndarray (L,)
        For each image with a grid, predicted shares of the exact classes in blocks that nobody labelled.

    Raises
    ------
    MethodError
        If no block of the split ``train`` has a class.
    """
    wanted = [record.id for record in study.images()] if image_ids is None else image_ids
    asked = [image_id for image_id in wanted if study.grid(image_id) is not None]
    found: dict[int, dict[Place, np.ndarray]] = {image_id: {} for image_id in asked}
    for guess in guess_blocks(study, images, block_classes, mask_classes, steps=steps, image_ids=asked):
        if guess.image_id is not None:
            found[guess.image_id] |= guess.shares
        if tell is not None:
            tell(guess.done, guess.total)
    return found


def guess_blocks(
    study: Study,
    images: ImagePool,
    block_classes: Sequence[str],
    mask_classes: Sequence[str],
    *,
    image_ids: Sequence[int],
    steps: int = 400,
) -> Iterator[Guess]:
    """Do what `classify_blocks` does, in small parts, and yield each; it may be left before the end."""
    if len(mask_classes) < 2:
        raise MethodError("There is no exact class: add one first, such as tumour, and what blocks contain.")
    patches, kinds, gain = _learnt(study, images, block_classes)
    eta, _ = as_arrays(
        study.statistics(), block_classes, mask_classes, sorted({block_classes[k] for k in kinds})
    )
    todo = {i: _unlabelled(study, images(study.image(i)), i) for i in image_ids}
    total = steps + sum(len(places) for places in todo.values())
    model = PatchClassifier(len(mask_classes), steps=steps)
    for step in model.learning(patches, torch.from_numpy(eta[kinds])):
        yield Guess(step, total, None, {})
    done = steps
    for image_id, places in todo.items():
        image, grid = images(study.image(image_id)), study.grid(image_id)
        assert grid is not None
        for start in range(0, len(places), AT_ONCE):
            part = places[start : start + AT_ONCE]
            shares = model.predict(torch.cat([as_patches([_piece(image, grid, *p, gain)]) for p in part]))
            done += len(part)
            yield Guess(done, total, image_id, dict(zip(part, shares, strict=True)))


def name_shares(
    shares: np.ndarray, statistics: pd.DataFrame, block_classes: Sequence[str], mask_classes: Sequence[str]
) -> list[str]:
    """Coarse class of blocks whose shares of the exact classes are known or guessed.

    Parameters
    ----------
    shares : ndarray (N, L)
    statistics : DataFrame
        Of the study.
    block_classes, mask_classes : sequence of str

    Returns
    -------
    list of str
        With two exact classes, the bin (``20-30``) that the share lies in; else, and where there is no such
        bin, the class whose means are nearest. Classes that nobody explained are given to no block.

    Raises
    ------
    MethodError
        If nobody explained any.
    """
    means = {}
    for name in block_classes:
        with contextlib.suppress(MethodError):
            means[name] = as_arrays(statistics, [name], mask_classes, [name])[0][0]
    if not means:
        raise MethodError("Nobody has said what blocks of any class contain: give means in the statistics.")
    names = list(means)
    apart = ((np.asarray(shares)[:, None] - np.stack(list(means.values()))) ** 2).sum(2)
    bins = [bin_of(name) for name in names]
    if len(mask_classes) == 2:
        for at, edges in enumerate(bins):
            if edges is not None:
                inside = (shares[:, 1] >= edges[0]) & ((shares[:, 1] < edges[1]) | (edges[1] == 1))
                apart[inside, at] -= 4.0  # nearer than any mean can be
    return [names[at] for at in apart.argmin(1)]


def keep_guesses(
    study: Study,
    found: Mapping[int, Mapping[Place, np.ndarray]],
    block_classes: Sequence[str],
    mask_classes: Sequence[str],
) -> tuple[int, int]:
    """Give blocks that have no class the one that `classify_blocks` saw, as one edit.

    Returns
    -------
    blocks, images : int
        How many got one.

    Raises
    ------
    MethodError, StudyError
        If nobody explained any class, or the study cannot be written. Then no block was changed.
    """
    counts = []
    with study.edit("Guessed the class of blocks"):
        for image_id, shares in found.items():
            given = set(study.blocks(image_id)[["i", "j"]].itertuples(index=False, name=None))
            free = {place: share for place, share in shares.items() if place not in given}
            if free:
                rows = np.stack(list(free.values()))
                said = name_shares(rows, study.statistics(), block_classes, mask_classes)
                study.set_blocks(image_id, dict(zip(free, said, strict=True)))
                counts.append(len(free))
    return sum(counts), len(counts)


def _learnt(
    study: Study, images: ImagePool, block_classes: Sequence[str]
) -> tuple[torch.Tensor, list[int], float]:
    """Blocks to learn from, the index of each one's class, and the brightness to multiply pixels by."""
    ids = [i for i in study.coarse_images("train") if study.grid(i) is not None]
    gain = min((_gain(images(study.image(i))) for i in ids), default=1.0)
    pieces, kinds = [], []
    for image_id in ids:
        image, grid = images(study.image(image_id)), study.grid(image_id)
        assert grid is not None
        for i, j, name in study.blocks(image_id).itertuples(index=False):
            pieces.append(as_patches([_piece(image, grid, int(i), int(j), gain)]))
            kinds.append(block_classes.index(name))
    if not pieces:
        raise MethodError("No block of the images to learn from has a class: give some blocks a class.")
    if len({piece.dtype for piece in pieces}) > 1:
        pieces = [to_unit(piece).half() for piece in pieces]
    return torch.cat(pieces), kinds, gain


def _unlabelled(study: Study, image: Image, image_id: int) -> list[Place]:
    """Blocks of an image without a class; where there is glass, those with tissue."""
    grid = study.grid(image_id)
    if grid is None:
        return []
    said = set(study.blocks(image_id)[["i", "j"]].itertuples(index=False, name=None))
    free = [(i, j, edges) for i, j, edges in _inside(grid, (image.height, image.width)) if (i, j) not in said]
    tissue = find_tissue(in_study(image, study.path, image_id))
    return [(i, j) for i, j, edges in free if tissue.touches(edges)]


def _inside(grid: Grid, shape: tuple[int, int]) -> list[tuple[int, int, tuple[float, float, float, float]]]:
    """Blocks that lie in an image at least by half, with their edges."""
    i0, j0, i1, j1 = grid.blocks_over((0, 0, *shape))
    found = []
    for i in range(i0, i1):
        for j in range(j0, j1):
            row0, col0, row1, col1 = edges = grid.edges(i, j)
            height, width = min(row1, shape[0]) - max(row0, 0), min(col1, shape[1]) - max(col0, 0)
            if height * width >= LEAST * grid.height * grid.width:
                found.append((i, j, edges))
    return found


def _gain(image: Image) -> float:
    """Brightness that an image of 16 bits is multiplied by to fill eight."""
    if image.dtype == np.uint8:
        return 1.0
    return gain_for(torch.from_numpy(to_float(image.thumbnail(512))))


def _piece(image: Image, grid: Grid, i: int, j: int, gain: float) -> np.ndarray:
    """Pixels of a block, of eight bits as they are, else in [0, 1]; what lies outside is reflected."""
    row0, col0, row1, col1 = (round(edge) for edge in grid.edges(i, j))
    pixels = image.read(row0, col0, max(row1 - row0, 1), max(col1 - col0, 1))
    if pixels.dtype == np.uint8:
        return pixels
    return np.minimum(gain * to_float(pixels), 1.0)


def _nearest(places: np.ndarray, wanted: float) -> np.ndarray:
    chosen = np.zeros(len(places), bool)
    chosen[np.abs(places - wanted).argmin()] = True
    return chosen
