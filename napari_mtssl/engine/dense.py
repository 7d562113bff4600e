"""A patch classifier run over whole images: tiles with context, the visible part first, no seams.

Every tile is predicted with the halo its network needs and decoded with a margin around it; of the cells
found, those inside the tile are kept. So each cell comes once, and as if the image had been one tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch

from napari_mtssl.images import Image, to_float
from napari_mtssl.images.tissue import find_tissue
from napari_mtssl.methods.base import Geometry, Method, MethodError
from napari_mtssl.methods.prediction import Prediction

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class TileResult:
    """Prediction of one tile.

    Attributes
    ----------
    box : tuple of int
        ``(row0, col0, row1, col1)``, half open, level-0 pixels.
    prediction : Prediction
        Of its cells those whose centre lies in the box.
    maps : dict of str to ndarray (K, h, w)
        The network's outputs on the same grid; empty on glass, and if the method predicts whole images.
    scale : tuple of float
        Level-0 pixels per element of the grids, along rows and columns.
    done, total : int
        Tiles done, this one included, and tiles in all.
    """

    box: Box
    prediction: Prediction
    maps: dict[str, np.ndarray]
    scale: tuple[float, float]
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
    """Predict an image tile by tile, or at once if that is the method's way.

    Parameters
    ----------
    method : Method
        Trained; its teacher predicts.
    image : Image
    view : tuple of int, optional
        What the user sees, predicted first.
    tile : int
        Side of a tile in pixels, rounded up to what the method's geometry needs.
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
    parts = boxes(method, image, tile, view)
    for done, box in enumerate(parts, start=1):
        if cancelled is not None and cancelled():
            return
        prediction, maps = predict_part(method, image, box)
        yield TileResult(box, prediction, maps, scale_of(method, image, prediction), done, len(parts))


def boxes(method: Method, image: Image, tile: int, view: Box | None = None) -> list[Box]:
    """Cut an image into what the method predicts at a time, what is seen first.

    Parameters
    ----------
    method : Method
    image : Image
    tile : int
        Side of a tile in pixels, rounded up to what the method's geometry needs.
    view : tuple of int, optional
        What the user sees.
    """
    if method.whole_image:
        return [(0, 0, image.height, image.width)]
    return tiles(image.height, image.width, round_up(tile, method.geometry.unit), view)


def on_glass(method: Method, image: Image, box: Box) -> bool:
    """Whether a tile has no tissue, so that nobody needs to look at it; a whole image is no tile."""
    return not method.whole_image and not find_tissue(image).touches(box)


def predict_part(method: Method, image: Image, box: Box) -> tuple[Prediction, dict[str, np.ndarray]]:
    """Predict one of the `boxes` of an image, as `predict_box`; on glass there is nothing, without a look."""
    if on_glass(method, image, box):
        return nothing(method, box), {}
    return predict_box(method, image, box)


_NOTHING: WeakKeyDictionary[Method, Prediction] = WeakKeyDictionary()


@torch.no_grad()
def nothing(method: Method, box: Box) -> Prediction:
    """Give what a method says of a tile of glass: no cells, and grids of 0."""
    if method not in _NOTHING:  # which grids it has is seen in the smallest tile
        unit, halo = method.geometry.unit, method.geometry.halo
        smallest = torch.ones(1, 3, unit + 2 * halo, unit + 2 * halo, device=method.device)
        maps = {name: values[0].float().cpu().numpy() for name, values in method.predict(smallest).items()}
        _NOTHING[method] = method.decode(maps, (0, 0, unit, unit))
    said, stride = _NOTHING[method], method.geometry.stride
    shape = tuple(round_up(box[i + 2] - box[i], stride) // stride for i in (0, 1))
    return Prediction(
        said.cells.iloc[:0],
        None if said.mask is None else np.zeros((len(said.mask), *shape), said.mask.dtype),
        {name: np.zeros(shape, values.dtype) for name, values in said.pictures.items()},
        said.image.iloc[:0],
    )


def predict_box(method: Method, image: Image, box: Box) -> tuple[Prediction, dict[str, np.ndarray]]:
    """Predict one of the `boxes` of an image.

    Returns
    -------
    prediction : Prediction
        Of its cells those with their centre in the box.
    maps : dict of str to ndarray (K, h, w)
    """
    if method.whole_image:
        return method.predict_image(image), {}
    stride = method.geometry.stride
    outer = _with_margin(box, method.geometry, image.height, image.width)
    maps = dense_maps(method, image, outer)
    prediction = method.decode(maps, outer)
    # pixel centres are at integers, so pixel r covers [r - 0.5, r + 0.5)
    row, col = (prediction.cells[name].to_numpy() + 0.5 for name in ("row", "col"))
    inside = (row >= box[0]) & (row < box[2]) & (col >= box[1]) & (col < box[3])
    rows = slice((box[0] - outer[0]) // stride, (round_up(box[2], stride) - outer[0]) // stride)
    cols = slice((box[1] - outer[1]) // stride, (round_up(box[3], stride) - outer[1]) // stride)
    kept = {name: values[:, rows, cols].copy() for name, values in maps.items()}
    return prediction.cropped(rows, cols, inside), kept


def scale_of(method: Method, image: Image, prediction: Prediction) -> tuple[float, float]:
    """Level-0 pixels per element of a prediction's grids, along rows and columns."""
    if not method.whole_image:
        return (float(method.geometry.stride),) * 2
    grids = [*prediction.pictures.values(), *([] if prediction.mask is None else prediction.mask)]
    if not grids:
        return 1.0, 1.0
    return image.height / grids[0].shape[0], image.width / grids[0].shape[1]


@torch.no_grad()
def dense_maps(method: Method, image: Image, box: Box) -> dict[str, np.ndarray]:
    """Predict a box whose corners and sides are multiples of the geometry's unit.

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
    stride, window, unit = method.geometry.stride, method.geometry.window, method.geometry.unit
    if min(image.height, image.width) < window:
        raise MethodError(f"The image is smaller than {window} pixels; choose a larger one to compare on.")
    rng = np.random.default_rng(seed)
    parts = boxes(method, image, 512)
    chosen = rng.permutation(len(parts))[:4]
    dense, patchwise = [], []
    for number, index in enumerate(chosen):
        box = parts[index]
        count = n // len(chosen) + (number < n % len(chosen))
        maps = dense_maps(method, image, (box[0], box[1], round_up(box[2], unit), round_up(box[3], unit)))
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


def join(results: Sequence[TileResult], height: int, width: int) -> Prediction:
    """Put the predictions of all tiles of an image together.

    Parameters
    ----------
    results : sequence of TileResult
        Of `predict_image`, all of them.
    height, width : int
        Of the image.

    Returns
    -------
    Prediction
        Its grids cover the whole image.
    """
    first = results[0]
    if len(results) == 1:
        return first.prediction
    stride = round(first.scale[0])
    parts = {result.box: result.prediction for result in results}
    return Prediction(
        pd.concat([part.cells for part in parts.values()], ignore_index=True),
        stitch(
            {box: part.mask for box, part in parts.items() if part.mask is not None}, height, width, stride
        )
        if first.prediction.mask is not None
        else None,
        {
            name: stitch({box: part.pictures[name] for box, part in parts.items()}, height, width, stride)
            for name in first.prediction.pictures
        },
    )


def round_up(value: int, step: int) -> int:
    """Smallest multiple of `step` that is not below `value`."""
    return -(-value // step) * step


def _with_margin(box: Box, geometry: Geometry, height: int, width: int) -> Box:
    """Grow a box by what decoding it needs, on the grid and not beyond the image."""
    unit = geometry.unit
    margin = round_up(geometry.margin, unit)
    return (
        max(0, box[0] - margin),
        max(0, box[1] - margin),
        min(round_up(height, unit), round_up(box[2], unit) + margin),
        min(round_up(width, unit), round_up(box[3], unit) + margin),
    )
