"""The two ways pixels are kept: decoded once and held, or read tile by tile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from napari_mtssl.images.image import ImageError, StackError

CHUNK = 1024


class Decoded:
    """An image that is decoded as a whole on first use, then held.

    Parameters
    ----------
    shape : tuple of int
        ``(H, W)`` or ``(H, W, 3)``.
    dtype : numpy.dtype
    decode : callable
        Returns the pixels; called at most once.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], decode: Callable[[], np.ndarray]
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.ndim = len(shape)
        self.chunks = (min(CHUNK, shape[0]), min(CHUNK, shape[1]))
        self._decode = decode
        self._pixels: np.ndarray | None = None
        self._lock = threading.Lock()

    @property
    def nbytes_held(self) -> int:
        """Bytes of decoded pixels."""
        return 0 if self._pixels is None else self._pixels.nbytes

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        with self._lock:
            if self._pixels is None:
                self._pixels = self._decode()
        return self._pixels[region]


class Tiled:
    """An array in tiles on disk, of any axis order that contains rows and columns.

    Parameters
    ----------
    array : array-like
        With ``shape``, ``dtype`` and slicing, such as a zarr array.
    axes : str
        One letter for each dimension of `array`: ``Y``, ``X``, at most one of ``C`` or ``S`` for the samples
        of a pixel, any other letter for a dimension of length one.
    chunks : sequence of int
        Length of the stored tiles along each dimension of `array`.
    keep : object, optional
        Kept alive as long as this source, such as an open file.
    """

    nbytes_held = 0

    def __init__(self, array: Any, axes: str, chunks: Sequence[int], keep: Any = None) -> None:
        self._array = array
        self._axes = axes
        self._keep = keep
        self.shape = plane_shape(axes, array.shape)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        stored = dict(zip(axes, chunks, strict=True))
        self.chunks = (grown_tile(stored["Y"], self.shape[0]), grown_tile(stored["X"], self.shape[1]))

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        index = tuple(dict(zip("YX", region, strict=False)).get(axis, slice(None)) for axis in self._axes)
        return to_plane(np.asarray(self._array[index]), self._axes)[(slice(None), slice(None), *region[2:])]


def window(
    region: tuple[Any, ...], shape: Sequence[int]
) -> tuple[int, int, int, int, tuple[slice | int, ...]]:
    """Rectangle that an index into a plane needs, and the index that is left to apply to it.

    dask fuses what is done to an array into its index, so that steps and single rows can come, too.

    Returns
    -------
    row0, row1, col0, col1 : int
    rest : tuple
        ``pixels[row0:row1, col0:col1][rest]`` is what was asked for.
    """
    edges: list[int] = []
    rest: list[slice | int] = []
    for where, size in zip((*region[:2], slice(None), slice(None))[:2], shape, strict=False):
        if isinstance(where, slice):
            start, stop, step = where.indices(size)
            if step < 0:
                raise IndexError("a plane is read forwards")
            edges += [start, max(start, stop)]
            rest.append(slice(None, None, step))
        else:
            at = int(where) % size
            edges += [at, at + 1]
            rest.append(0)
    return edges[0], edges[1], edges[2], edges[3], (*rest, *region[2:])


def plane_shape(axes: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape ``(H, W)`` or ``(H, W, 3)`` that `to_plane` gives an array of this shape."""
    sizes = dict(zip(axes, shape, strict=True))
    colour = sizes.get("C", 1) * sizes.get("S", 1) > 2
    return (sizes["Y"], sizes["X"]) + ((3,) if colour else ())


def to_plane(pixels: np.ndarray, axes: str) -> np.ndarray:
    """Bring rows and columns to the front, samples to the back, and drop what has length one.

    Parameters
    ----------
    pixels : ndarray
        Of `axes`, in any byte order.
    axes : str
        One letter for each dimension.

    Returns
    -------
    ndarray, shape (H, W) or (H, W, 3), native byte order
    """
    rows, cols = axes.index("Y"), axes.index("X")
    rest = [axis for axis in range(pixels.ndim) if axis not in (rows, cols)]
    pixels = pixels.transpose(rows, cols, *rest).reshape(pixels.shape[rows], pixels.shape[cols], -1)
    return without_alpha(pixels.astype(pixels.dtype.newbyteorder("="), copy=False))


def grown_tile(tile: int, size: int) -> int:
    """Whole number of tiles close to `CHUNK`, so that dask has few tasks."""
    return min(max(CHUNK // max(tile, 1), 1) * tile, size)


def without_alpha(pixels: np.ndarray) -> np.ndarray:
    """Grey or RGB from any of grey, grey and alpha, RGB, RGB and alpha; alpha is composited on white.

    Parameters
    ----------
    pixels : ndarray, shape (H, W, 1 | 2 | 3 | 4), unsigned

    Returns
    -------
    ndarray, shape (H, W) or (H, W, 3), same dtype
    """
    samples = pixels.shape[2]
    if samples in (2, 4):
        top = np.iinfo(pixels.dtype).max
        alpha = pixels[..., -1:]
        colour = pixels[..., :-1]
        if (alpha != top).any():
            weight = alpha.astype(np.float32) / top
            colour = np.rint(colour * weight + top * (1 - weight)).astype(pixels.dtype)
        pixels = colour
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def check_pixels(name: str, dtype: np.dtype[Any], axes: str, shape: Sequence[int]) -> None:
    """Refuse what the networks cannot read, with the reason.

    Parameters
    ----------
    name : str
        File name for the message.
    dtype : numpy.dtype
    axes : str
        One letter for each dimension.
    shape : sequence of int

    Raises
    ------
    ImageError
        For a stack, a wrong number of channels, or pixels that are not 8- or 16-bit unsigned integers.
    """
    if np.dtype(dtype) not in (np.uint8, np.uint16):
        advice = "True/False" if np.dtype(dtype).kind == "b" else str(np.dtype(dtype))
        raise ImageError(
            f"{name} holds {advice} pixels; convert it to 8-bit (uint8) or 16-bit (uint16) unsigned integers."
        )
    sizes = dict(zip(axes, shape, strict=True))
    if "Y" not in sizes or "X" not in sizes:
        raise ImageError(f"{name} has axes {axes}; it needs rows (Y) and columns (X).")
    if min(shape) < 1:
        raise ImageError(f"{name} has no pixels (shape {tuple(shape)}); use an image that has some.")
    for axis, size in sizes.items():
        if axis not in "YXCS" and size > 1:
            raise StackError(
                f"{name} is a stack (axis {axis} has {size} planes); save the plane or projection to label."
            )
    samples = sizes.get("S", 1) * sizes.get("C", 1)
    allowed = (1, 3, 4) if sizes.get("C", 1) == 1 else (1, 3)
    if samples not in allowed:
        raise ImageError(f"{name} has {samples} channels; save 1 (grey) or 3 (RGB) of them.")
