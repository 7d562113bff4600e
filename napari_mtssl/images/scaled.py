"""A level of an image at another size, resampled region by region; regions fit together without seams."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mtssl.images.sources import window

if TYPE_CHECKING:
    from napari_mtssl.images.image import Source

BLOCK = 1024


class Scaled:
    """A source whose pixel ``i`` covers ``[i * scale, (i + 1) * scale)`` of another source's pixels.

    Parameters
    ----------
    source : Source
    scale : tuple of float
        Pixels of `source` per pixel of this one, along rows and columns.
    """

    nbytes_held = 0

    def __init__(self, source: Source, scale: tuple[float, float]) -> None:
        self._source = source
        self.scale = scale
        height, width = (
            max(math.floor(n / s + 1e-6), 1) for n, s in zip(source.shape[:2], scale, strict=True)
        )
        self.shape: tuple[int, ...] = (height, width, *source.shape[2:])
        self.ndim = len(self.shape)
        self.dtype: np.dtype[Any] = source.dtype
        self.chunks = (min(BLOCK, height), min(BLOCK, width))

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        row0, row1, col0, col1, rest = window(region, self.shape)
        out = np.empty((row1 - row0, col1 - col0, *self.shape[2:]), self.dtype)
        # block by block, so that a strong reduction does not need all it is made from at once
        step = [max(math.floor(2 * BLOCK / max(s, 1)), 16) for s in self.scale]
        for top in range(row0, row1, step[0]):
            for left in range(col0, col1, step[1]):
                block = self._block(top, min(top + step[0], row1), left, min(left + step[1], col1))
                out[top - row0 : top - row0 + step[0], left - col0 : left - col0 + step[1]] = block
        return out[rest]

    def _block(self, row0: int, row1: int, col0: int, col1: int) -> np.ndarray:
        rows = self._needed(row0, row1, 0)
        cols = self._needed(col0, col1, 1)
        pixels = np.asarray(self._source[rows, cols])
        box = (
            col0 * self.scale[1] - cols.start,
            row0 * self.scale[0] - rows.start,
            min(col1 * self.scale[1], self._source.shape[1]) - cols.start,
            min(row1 * self.scale[0], self._source.shape[0]) - rows.start,
        )
        return resample(pixels, box, row1 - row0, col1 - col0)

    def _needed(self, first: int, last: int, axis: int) -> slice:
        """Pixels of the source that the filter reaches: what is beyond the block makes seams vanish."""
        scale, size = self.scale[axis], self._source.shape[axis]
        reach = math.ceil(max(scale, 1.0)) + 1
        return slice(max(math.floor(first * scale) - reach, 0), min(math.ceil(last * scale) + reach, size))


def resample(
    pixels: np.ndarray, box: tuple[float, float, float, float], height: int, width: int
) -> np.ndarray:
    """Resample a part of unsigned pixels with a filter as wide as the reduction.

    Parameters
    ----------
    pixels : ndarray, shape (H, W) or (H, W, 3)
    box : tuple of float
        ``(left, top, right, bottom)`` of the part; pixels beyond it are used where the filter reaches them.
    height, width : int
        Size of the result.

    Returns
    -------
    ndarray, shape (height, width) or (height, width, 3), same dtype
    """
    import PIL.Image

    method = PIL.Image.Resampling.BILINEAR
    if pixels.dtype == np.uint8:
        picture = PIL.Image.fromarray(np.ascontiguousarray(pixels))
        return np.asarray(picture.resize((width, height), method, box=box))
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    resized = [
        np.asarray(
            PIL.Image.fromarray(planes[..., c].astype(np.float32)).resize((width, height), method, box=box)
        )
        for c in range(planes.shape[2])
    ]
    top = np.iinfo(pixels.dtype).max
    out = np.clip(np.rint(np.stack(resized, axis=-1)), 0, top).astype(pixels.dtype)
    return out[..., 0] if pixels.ndim == 2 else out
