"""A patch classifier run over whole images: tiles with context, the visible part first, no seams.

Every tile is predicted with the halo its network needs and decoded with a margin around it; of the cells
found, those inside the tile are kept. So each cell comes once, and as if the image had been one tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch

from napari_mtssl.images import Image, to_float
from napari_mtssl.methods.base import Geometry, Method, MethodError

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class TileResult:
    """Prediction of one tile.

    Attributes
    ----------
    box : tuple of int
        ``(row0, col0, row1, col1)``, half open, level-0 pixels.
    frame : DataFrame
        Cells whose centre lies in the box: ``row, col, class, confidence, uncertainty``.
    pictures : dict of str to ndarray (h, w)
        Such as ``uncertainty``; element ``(i, j)`` is centred at ``box[:2] + (stride - 1) / 2 + (i, j) *
        stride``.
    maps : dict of str to ndarray (K, h, w)
        The network's outputs on the same grid.
    stride : int
        Level-0 pixels per element.
    done, total : int
        Tiles done, this one included, and tiles in all.
    """

    box: Box
    frame: pd.DataFrame
    pictures: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]
    stride: int
    done: int
    total: int


@dataclass(frozen=True)
class Agreement:
    """How far dense outputs equal patch-wise ones on random sites.

    Attributes
    ----------
    agreement : float
        Share of sites with the same most probable class.
    max_abs_logit_difference : float
    n : int
        Sites compared.
    """

    agreement: float
    max_abs_logit_difference: float
    n: int


@runtime_checkable
class PatchClassifier(Protocol):
    """A method that can also classify single patches; its `predict` calls the same outputs ``logits``."""

    def classify(self, patches: torch.Tensor) -> torch.Tensor:
        """Class logits (N, C) of the teacher for patches (N, 3, window, window) in [0, 1]."""


def tiles(height: int, width: int, tile: int, view: Box | None = None) -> list[Box]:
    """Cut an image into tiles, ordered by what is seen first.

    Parameters
    ----------
    height, width, tile : int
        Pixels.
    view : tuple of int, optional
        ``(row0, col0, row1, col1)`` that the user sees: tiles that touch it come first, nearest to its
        centre first, then the others outwards. By default the whole image is seen.

    Returns
    -------
    list of tuple of int
        Half-open boxes that cover the image exactly once.
    """
    row0, col0, row1, col1 = (0, 0, height, width) if view is None else view
    tops, lefts = np.arange(0, height, tile), np.arange(0, width, tile)
    top, left = (grid.ravel() for grid in np.meshgrid(tops, lefts, indexing="ij"))
    bottom, right = np.minimum(top + tile, height), np.minimum(left + tile, width)
    seen = (top < row1) & (bottom > row0) & (left < col1) & (right > col0)
    distance = np.hypot((top + bottom) / 2 - (row0 + row1) / 2, (left + right) / 2 - (col0 + col1) / 2)
    order = np.lexsort((left, top, distance, ~seen))
    return [tuple(box) for box in np.stack([top, left, bottom, right], axis=1)[order].tolist()]


def predict_image(
    method: Method,
    image: Image,
    *,
    view: Box | None = None,
    tile: int = 512,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[TileResult]:
    """Predict an image tile by tile.

    Parameters
    ----------
    method : Method
        Trained; its teacher predicts.
    image : Image
    view : tuple of int, optional
        What the user sees, predicted first.
    tile : int
        Side of a tile in pixels, rounded up to the method's stride.
    cancelled : callable, optional
        Asked before each tile; once it returns True no more tiles come.

    Yields
    ------
    TileResult

    Raises
    ------
    ImageError
        If pixels cannot be read.
    """
    boxes = tiles(image.height, image.width, round_up(tile, method.geometry.stride), view)
    for done, box in enumerate(boxes, start=1):
        if cancelled is not None and cancelled():
            return
        frame, pictures, maps = predict_box(method, image, box)
        yield TileResult(box, frame, pictures, maps, method.geometry.stride, done, len(boxes))


def predict_box(
    method: Method, image: Image, box: Box
) -> tuple[pd.DataFrame, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Predict one box of an image, its corner on the method's grid.

    Returns
    -------
    frame : DataFrame
        Cells with their centre in the box.
    pictures : dict of str to ndarray (h, w)
    maps : dict of str to ndarray (K, h, w)
    """
    stride = method.geometry.stride
    outer = _with_margin(box, method.geometry, image.height, image.width)
    maps = dense_maps(method, image, outer)
    frame, pictures = method.decode(maps, outer)
    # pixel centres are at integers, so pixel r covers [r - 0.5, r + 0.5)
    row, col = frame["row"].to_numpy() + 0.5, frame["col"].to_numpy() + 0.5
    inside = (row >= box[0]) & (row < box[2]) & (col >= box[1]) & (col < box[3])
    rows = slice((box[0] - outer[0]) // stride, (round_up(box[2], stride) - outer[0]) // stride)
    cols = slice((box[1] - outer[1]) // stride, (round_up(box[3], stride) - outer[1]) // stride)
    # copies: a view would keep the margin alive, and the listener lives in another thread
    return (
        frame[inside].reset_index(drop=True),
        {name: picture[rows, cols].copy() for name, picture in pictures.items()},
        {name: values[:, rows, cols].copy() for name, values in maps.items()},
    )


@torch.no_grad()
def dense_maps(method: Method, image: Image, box: Box) -> dict[str, np.ndarray]:
    """Predict a box whose sides are multiples of the stride.

    Returns
    -------
    dict of str to ndarray, each (K, h, w)
    """
    halo = method.geometry.halo
    height, width = box[2] - box[0] + 2 * halo, box[3] - box[1] + 2 * halo
    pixels = to_float(image.read(box[0] - halo, box[1] - halo, height, width))
    tensor = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]  # (1, 3, H, W)
    outputs = method.predict(tensor.contiguous().to(method.device))
    return {name: values[0].float().cpu().numpy() for name, values in outputs.items()}


@torch.no_grad()
def agreement(method: Method, image: Image, n: int = 500, seed: int = 0) -> Agreement:
    """Compare dense with patch-wise classification on random sites of an image.

    In dense mode a convolution sees real pixels where in training it saw the patch's padding, so the two
    differ unless the network was made or trained for it.

    Parameters
    ----------
    method : Method
        One that is a `PatchClassifier`.
    image : Image
    n : int
        Sites, drawn from at most four tiles of 512 pixels.
    seed : int

    Raises
    ------
    MethodError
        If the method does not classify patches, or the image is smaller than one window.
    """
    if not isinstance(method, PatchClassifier):
        raise MethodError(
            f"The method '{method.name}' does not classify patches; there is nothing to compare."
        )
    stride, window = method.geometry.stride, method.geometry.window
    if min(image.height, image.width) < window:
        raise MethodError(f"The image is smaller than {window} pixels; choose a larger one to compare on.")
    rng = np.random.default_rng(seed)
    boxes = tiles(image.height, image.width, round_up(512, stride))
    chosen = rng.permutation(len(boxes))[:4]
    dense, patchwise = [], []
    for number, index in enumerate(chosen):
        box = boxes[index]
        count = n // len(chosen) + (number < n % len(chosen))
        maps = dense_maps(method, image, (box[0], box[1], round_up(box[2], stride), round_up(box[3], stride)))
        rows, cols = (rng.integers(0, size, count) for size in maps["logits"].shape[1:])
        dense.append(maps["logits"][:, rows, cols].T)
        corners = [(box[a] + i * stride + (stride - window) // 2) for a, i in ((0, rows), (1, cols))]
        patches = np.stack(
            [to_float(image.read(int(r), int(c), window, window)) for r, c in zip(*corners, strict=True)]
        )
        batch = torch.from_numpy(patches).permute(0, 3, 1, 2).contiguous().to(method.device)
        patchwise.append(
            torch.cat([method.classify(part) for part in batch.split(128)]).float().cpu().numpy()
        )
    a, b = np.concatenate(dense), np.concatenate(patchwise)
    return Agreement(float((a.argmax(1) == b.argmax(1)).mean()), float(np.abs(a - b).max()), len(a))


def stitch(results: Mapping[Box, np.ndarray], height: int, width: int, stride: int) -> np.ndarray:
    """Put pictures (h, w) or maps (K, h, w) of tiles together to one of the whole image."""
    first = next(iter(results.values()))
    shape = (*first.shape[:-2], -(-height // stride), -(-width // stride))
    whole = np.full(shape, np.nan, first.dtype)
    for (row0, col0, _, _), part in results.items():
        h, w = part.shape[-2:]
        whole[..., row0 // stride : row0 // stride + h, col0 // stride : col0 // stride + w] = part
    return whole


def round_up(value: int, step: int) -> int:
    """Smallest multiple of `step` that is not below `value`."""
    return -(-value // step) * step


def _with_margin(box: Box, geometry: Geometry, height: int, width: int) -> Box:
    """Grow a box by what decoding it needs, on the grid and not beyond the image."""
    stride = geometry.stride
    margin = round_up(geometry.margin, stride)
    return (
        max(0, box[0] - margin),
        max(0, box[1] - margin),
        min(round_up(height, stride), round_up(box[2], stride) + margin),
        min(round_up(width, stride), round_up(box[3], stride) + margin),
    )
