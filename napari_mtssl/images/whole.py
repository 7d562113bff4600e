"""A level of an image as a whole, at another size: averaged over blocks first where it is large."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_mtssl.images.image import to_float

if TYPE_CHECKING:
    from napari_mtssl.images.image import Source

BAND = 1024  # rows that are read at a time, about
# A level larger than this is reduced band by band before it is resized, pixels.
AT_ONCE = 2**24


def resized(source: Source, height: int, width: int) -> np.ndarray:
    """Read all of a level at another size: float32 in [0, 1], (height, width) or (height, width, 3)."""
    pixels, rows, cols = _reduced(source, height, width)
    return _resample(pixels, rows, cols, height, width)


def _reduced(source: Source, height: int, width: int) -> tuple[np.ndarray, float, float]:
    """Pixels of a level in [0, 1], averaged over whole blocks if it is large, and its size in such blocks."""
    rows, cols = source.shape[:2]
    factor = max(min(rows // height, cols // width) // 2, 1) if rows * cols > AT_ONCE else 1
    if factor == 1:
        return to_float(np.asarray(source[slice(0, rows), slice(0, cols)])), rows, cols
    band = max(BAND // factor, 1) * factor
    parts = []
    for top in range(0, rows, band):
        pixels = to_float(np.asarray(source[slice(top, min(top + band, rows)), slice(0, cols)]))
        over = [(0, -pixels.shape[0] % factor), (0, -cols % factor)] + [(0, 0)] * (pixels.ndim - 2)
        pixels = np.pad(pixels, over, mode="edge")
        shape = (pixels.shape[0] // factor, factor, pixels.shape[1] // factor, factor, *pixels.shape[2:])
        parts.append(pixels.reshape(shape).mean(axis=(1, 3), dtype=np.float32))
    return np.concatenate(parts), rows / factor, cols / factor


def _resample(pixels: np.ndarray, rows: float, cols: float, height: int, width: int) -> np.ndarray:
    """Resample the first `rows` and `cols` of float pixels with a filter as wide as the reduction."""
    import PIL.Image

    if pixels.ndim == 3:
        planes = [_resample(pixels[..., c], rows, cols, height, width) for c in range(pixels.shape[2])]
        return np.stack(planes, axis=-1)
    plane = PIL.Image.fromarray(np.ascontiguousarray(pixels))
    resampled = plane.resize((width, height), PIL.Image.Resampling.BILINEAR, box=(0, 0, cols, rows))
    return np.array(resampled, dtype=np.float32)  # a copy: Pillow's own may not be written to
