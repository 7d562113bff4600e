"""New OME-Zarr pyramids: their arrays and their metadata, for whoever fills them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import zarr
    from numcodecs import Zstd

CHUNK = 512
SMALLEST = 1024


def depth(height: int, width: int, smallest: int = SMALLEST) -> int:
    """How many levels, each half the one before, until both sides are at most `smallest`."""
    levels = 1
    while max(height, width) > smallest:
        height, width, levels = -(-height // 2), -(-width // 2), levels + 1
    return levels


def create_pyramid(
    path: Path,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    pixel_size_um: float | None,
    *,
    chunk: int = CHUNK,
    n_levels: int | None = None,
    scale: float = 1.0,
    extra: Mapping[str, Any] | None = None,
) -> list[zarr.Array]:
    """Make an empty OME-Zarr 0.5 image.

    Parameters
    ----------
    path : Path
        Folder; anything there is replaced.
    shape : sequence of int
        ``(H, W)``, or ``(H, W, 3)`` which becomes axes c, y, x as the format wants them.
    dtype : numpy.dtype
    pixel_size_um : float or None
        Of the pixels that `scale` counts; without one, lengths are in pixels.
    chunk : int
        Side of the chunks.
    n_levels : int, optional
        By default until both sides are at most 1024.
    scale : float
        Pixels of the image it belongs to, per pixel of level 0, whose outer edges fall together.
    extra : mapping, optional
        More OME metadata, such as ``image-label``.

    Returns
    -------
    list of zarr.Array
        Levels, finest first, of shape ``(3, h, w)`` or ``(h, w)`` and filled with 0; each has half as many
        rows and columns as the one before, rounded up.
    """
    import zarr

    height, width = int(shape[0]), int(shape[1])
    colour = len(shape) == 3
    group = zarr.open_group(path, mode="w", zarr_format=3)
    arrays = []
    for level in range(n_levels or depth(height, width)):
        size = (-(-height // 2**level), -(-width // 2**level))
        arrays.append(
            group.create_array(
                str(level),
                shape=((3, *size) if colour else size),
                chunks=((3, chunk, chunk) if colour else (chunk, chunk)),
                dtype=dtype,
                dimension_names=(["c", "y", "x"] if colour else ["y", "x"]),
            )
        )
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [_multiscale(path.name, colour, len(arrays), pixel_size_um, scale)],
        **({"omero": _omero(dtype)} if colour else {}),
        **(extra or {}),
    }
    return arrays


class ChunkWriter:
    """Writes whole chunks of an array (h, w) of `create_pyramid`, as zarr does to the byte, in this thread.

    zarr hands each chunk to three threads and waits for them: 4 ms of the processor for a small one, of
    which 0.2 ms are work. An array that is encoded or kept in another way than ours is left to zarr.

    Parameters
    ----------
    array : zarr.Array
    """

    def __init__(self, array: zarr.Array) -> None:
        self._array, self._folder, self._zstd = array, _folder_of(array), _zstd_of(array)
        self._shape, self._dtype = array.chunks, array.dtype
        self._rows: set[str] = set()  # folders that are there

    def write(self, row: int, col: int, values: np.ndarray) -> None:
        """Write the chunk whose first element is at `row, col`, all that there is of it; nobody else may."""
        height, width = values.shape
        if self._folder is None or self._zstd is None:
            self._array[row : row + height, col : col + width] = values
            return
        whole = np.zeros(self._shape, self._dtype)
        whole[:height, :width] = values
        # names are put together by hand: as objects they cost as much as writing does
        folder = f"{self._folder}/c/{row // self._shape[0]}"
        path = f"{folder}/{col // self._shape[1]}"
        if not whole.any():  # what is not there is 0
            Path(path).unlink(missing_ok=True)
            return
        if folder not in self._rows:
            os.makedirs(folder, exist_ok=True)
            self._rows.add(folder)
        # whole or not at all, whenever the program ends
        with open(f"{path}.partial", "wb") as file:
            file.write(self._zstd.encode(whole))
        os.replace(f"{path}.partial", path)


def _folder_of(array: zarr.Array) -> Path | None:
    """Folder of an array on this disk whose chunks have the names that are usual in Zarr 3."""
    root = getattr(array.store, "root", None)
    names = array.metadata.to_dict().get("chunk_key_encoding")
    usual = names == {"name": "default", "configuration": {"separator": "/"}}
    return Path(root) / array.path if isinstance(root, Path) and usual else None


def _zstd_of(array: zarr.Array) -> Zstd | None:
    """Give what encodes an array whose bytes are only compressed, with Zstandard."""
    from numcodecs import Zstd

    steps = array.metadata.to_dict().get("codecs", ())
    if [step["name"] for step in steps] != ["bytes", "zstd"] or array.fill_value != 0:
        return None
    order = steps[0].get("configuration", {}).get("endian", sys.byteorder)
    return Zstd(**steps[1]["configuration"]) if order == sys.byteorder else None


def _multiscale(
    name: str, colour: bool, n_levels: int, pixel_size_um: float | None, scale: float
) -> dict[str, Any]:
    """Axes and, for each level, where its pixels lie: centred on the blocks that they stand for."""
    unit = {} if pixel_size_um is None else {"unit": "micrometer"}
    size = 1.0 if pixel_size_um is None else float(pixel_size_um)
    first = [1.0] if colour else []
    datasets = []
    for level in range(n_levels):
        side = size * scale * 2**level
        start = (side - size) / 2
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": [*first, side, side]}]
        if start:
            steps.append({"type": "translation", "translation": [0.0] * len(first) + [start, start]})
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    axes: list[dict[str, Any]] = [{"name": "c", "type": "channel"}] if colour else []
    axes += [{"name": axis, "type": "space", **unit} for axis in "yx"]
    return {"name": name, "axes": axes, "datasets": datasets, "type": "mean"}


def _omero(dtype: np.dtype[Any]) -> dict[str, Any]:
    """How viewers should show the three channels: as red, green and blue."""
    top = int(np.iinfo(dtype).max)
    window = {"min": 0, "max": top, "start": 0, "end": top}
    channels = [
        {"label": label, "color": colour, "window": window, "active": True}
        for label, colour in (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))
    ]
    return {"channels": channels, "rdefs": {"model": "color"}}
