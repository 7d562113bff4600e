"""Coarse labels that come from elsewhere: probability maps, a patch classifier, painted blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_mtssl.images import to_float
from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.superres.bank import gain_for
from napari_mtssl.methods.superres.patches import PatchClassifier, as_patches
from napari_mtssl.methods.superres.statistics import BIN_EDGES, as_arrays, bin_names, to_bins

if TYPE_CHECKING:
    from napari_mtssl.images import Image, ImagePool
    from napari_mtssl.study import Grid, Study

PAINTED = 0.95  # of a block must be painted for its shares to be known
LEAST = 0.5  # of a block must lie in the image for it to be labelled
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
    index = {
        item.code: mask_classes.index(item.name)
        for item in study.classes("mask")
        if item.name in mask_classes
    }
    found: dict[str, list[np.ndarray]] = {}
    for image_id in study.masked_images():
        complete = study.mask_state(image_id).complete
        image = study.image(image_id)
        for row0 in range(0, image.height, 1024):
            box = (row0, 0, min(row0 + 1024, image.height), image.width)
            _count_band(study, image_id, box, index, complete, found, len(mask_classes))
    return {name: np.stack(rows) for name, rows in found.items()}


def _count_band(
    study: Study,
    image_id: int,
    box: tuple[int, int, int, int],
    index: dict[int, int],
    complete: bool,
    found: dict[str, list[np.ndarray]],
    classes: int,
) -> None:
    """Count the blocks whose upper edge lies in a band of an image."""
    lower = (box[0], box[1], min(box[2] + 1024, study.image(image_id).height), box[3])
    numbers, names = study.coarse_map(image_id, lower)
    above = study.coarse_map(image_id, (max(box[0] - 1, 0), box[1], box[0], box[3]))[1] if box[0] else {}
    mask = study.mask(image_id, lower)
    begun = set(np.unique(numbers[: box[2] - box[0]]).tolist()) - {0} - set(above)
    for number in sorted(begun):
        values = mask[numbers == number]
        shares = np.zeros(classes)
        for code, place in index.items():
            shares[place] += (values == code).mean()
        if complete:
            shares[0] += (values == 0).mean()
        if shares.sum() >= PAINTED:
            found.setdefault(names[number], []).append(shares / shares.sum())


def classify_blocks(
    study: Study,
    images: ImagePool,
    block_classes: Sequence[str],
    mask_classes: Sequence[str],
    *,
    steps: int = 400,
) -> dict[int, dict[Place, np.ndarray]]:
    """Train the low resolution model on a study's blocks, and ask it about all the others.

    Parameters
    ----------
    study : Study
    images : ImagePool
    block_classes, mask_classes : sequence of str
    steps : int
        Optimiser updates.

    Returns
    -------
    dict of int to dict of (i, j) to ndarray (L,)
        For each image with a grid, predicted shares of the exact classes in blocks that nobody labelled.

    Raises
    ------
    MethodError
        If no block of the split ``train`` has a class.
    """
    pieces, kinds = [], []
    learnt = [i for i in study.coarse_images("train") if study.grid(i) is not None]
    gain = min((_gain(images(study.image(i))) for i in learnt), default=1.0)
    for image_id in learnt:
        grid, image = study.grid(image_id), images(study.image(image_id))
        if grid is not None:
            for block in study.blocks(image_id).itertuples():
                pieces.append(_piece(image, grid, int(block.i), int(block.j), gain))
                kinds.append(block_classes.index(str(block[3])))
    if not pieces:
        raise MethodError("No block of the images to learn from has a class: give some blocks a class.")
    eta, _ = as_arrays(
        study.statistics(), block_classes, mask_classes, sorted({block_classes[k] for k in kinds})
    )
    model = PatchClassifier(len(mask_classes), steps=steps).fit(
        as_patches(pieces), torch.from_numpy(eta[kinds])
    )
    found: dict[int, dict[Place, np.ndarray]] = {}
    for record in study.images():
        grid = study.grid(record.id)
        if grid is None:
            continue
        image = images(record)
        said = {(int(b.i), int(b.j)) for b in study.blocks(record.id).itertuples()}
        places = [(i, j) for i, j, _ in _inside(grid, (record.height, record.width)) if (i, j) not in said]
        shares = [
            model.predict(as_patches([_piece(image, grid, i, j, gain) for i, j in places[k : k + 256]]))
            for k in range(0, len(places), 256)
        ]
        found[record.id] = dict(zip(places, np.concatenate(shares) if shares else [], strict=True))
    return found


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
    """Pixels of a block as eight bits; what lies outside the image is reflected."""
    row0, col0, row1, col1 = (round(edge) for edge in grid.edges(i, j))
    pixels = image.read(row0, col0, max(row1 - row0, 1), max(col1 - col0, 1))
    if pixels.dtype == np.uint8:
        return pixels
    return np.rint(255 * np.minimum(gain * to_float(pixels), 1.0)).astype(np.uint8)


def _nearest(places: np.ndarray, wanted: float) -> np.ndarray:
    chosen = np.zeros(len(places), bool)
    chosen[np.abs(places - wanted).argmin()] = True
    return chosen
