"""Any image as an OME-Zarr pyramid, in bounded memory; a conversion that was cut off goes on where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mtssl.images.image import Image, ImageError
from napari_mtssl.images.pyramids import CHUNK, create_pyramid, depth

if TYPE_CHECKING:
    import zarr

# Side of what is read at a time. Half of it is a whole number of chunks: no chunk is written twice.
BLOCK = 4 * CHUNK
STATE = "conversion.json"  # beside the levels until they are complete


@dataclass(frozen=True)
class Progress:
    """How far a conversion is, in blocks."""

    done: int
    total: int


def convert(image: Image, out: Path) -> Generator[Progress, None, None]:
    """Write an image as OME-Zarr 0.5 with levels until both sides are at most 1024 pixels.

    Level 0 is the image, pixel for pixel; each further level is the mean over blocks of 2 x 2. What is not
    complete is called ``OUT.part``: the next conversion of the same image to the same place goes on from
    there.

    Parameters
    ----------
    image : Image
        Opened with ``flat_limit=None`` if it has no pyramid.
    out : Path
        Must not exist, and end in ``.zarr``.

    Yields
    ------
    Progress
        After each block; closing the generator stops the conversion.

    Raises
    ------
    ImageError
        If there is something at `out`, it cannot be written, or the image cannot be decoded.
    """
    if not out.name.lower().endswith(".zarr"):
        raise ImageError(f"{out.name} does not end in .zarr; call it {out.stem}.ome.zarr.")
    if out.exists():
        raise ImageError(f"There is already something at {out}; choose another name or remove it.")
    part = part_of(out)
    shape = image.sources[0].shape
    blocks = _blocks(shape, image.sources[0].chunks)
    identity = {"shape": list(shape), "dtype": str(image.dtype), "of": str(image.path), "blocks": len(blocks)}
    try:
        done, arrays = _begin(part, image, identity)
        for index in range(done, len(blocks)):
            _convert_block(image, arrays, *blocks[index])
            _remember(part, identity, index + 1)
            yield Progress(index + 1, len(blocks))
        (part / STATE).unlink(missing_ok=True)
        part.rename(out)
    except OSError as error:
        raise ImageError(
            f"{out} cannot be written ({error.strerror or error}); "
            "make room or choose another place. What is done is kept."
        ) from error


def part_of(out: Path) -> Path:
    """Where a conversion is until it is complete."""
    return out.with_name(out.name + ".part")


def discard(out: Path) -> None:
    """Remove what an incomplete conversion left."""
    shutil.rmtree(part_of(out), ignore_errors=True)


Block = tuple[int, int, int, int, int]


def _blocks(shape: tuple[int, ...], chunks: tuple[int, int]) -> list[Block]:
    """Cut all levels into what is read at a time: ``(level, row0, col0, row1, col1)``."""
    height, width = shape[:2]
    levels = depth(height, width)
    blocks: list[Block] = []
    for level in range(max(levels - 1, 1)):
        high, wide = (BLOCK, BLOCK)
        if level == 0 and chunks[1] >= width:  # strips: to read a part of a row is to read all of it
            high, wide = 2 * CHUNK, -(-width // BLOCK) * BLOCK
        for row0 in range(0, height, high):
            for col0 in range(0, width, wide):
                blocks.append((level, row0, col0, min(row0 + high, height), min(col0 + wide, width)))
        height, width = -(-height // 2), -(-width // 2)
    return blocks


def _begin(part: Path, image: Image, identity: dict[str, Any]) -> tuple[int, list[zarr.Array]]:
    """Go on where a conversion of this image stopped, or start one: blocks done, and the levels to fill."""
    import zarr

    try:
        state = json.loads((part / STATE).read_text())
    except (OSError, ValueError):
        state = {}
    if {name: state.get(name) for name in identity} == identity:
        group = zarr.open_group(part, mode="r+")
        arrays = [group[str(level)] for level in range(depth(image.height, image.width))]
        return int(state["done"]), arrays
    shape = image.sources[0].shape
    part.parent.mkdir(parents=True, exist_ok=True)
    arrays = create_pyramid(part, shape, image.dtype, image.pixel_size_um, chunk=CHUNK)
    _remember(part, identity, 0)
    return 0, arrays


def _remember(part: Path, identity: dict[str, Any], done: int) -> None:
    """Write down how many blocks are done; a block that is done twice is written alike."""
    new = part / (STATE + ".new")
    new.write_text(json.dumps(identity | {"done": done}))
    new.replace(part / STATE)


def _convert_block(
    image: Image, arrays: list[zarr.Array], level: int, row0: int, col0: int, row1: int, col1: int
) -> None:
    """Copy a block if it is of level 0, and write its reduction to the level above."""
    if level == 0:
        pixels = np.asarray(image.sources[0][row0:row1, col0:col1])
        arrays[0][_window(arrays[0], row0, col0, row1, col1)] = _stored(pixels)
    else:
        stored = np.asarray(arrays[level][_window(arrays[level], row0, col0, row1, col1)])
        pixels = np.moveaxis(stored, 0, -1) if stored.ndim == 3 else stored
    if level + 1 < len(arrays):
        half = halved(pixels)
        top, left = row0 // 2, col0 // 2
        where = _window(arrays[level + 1], top, left, top + half.shape[0], left + half.shape[1])
        arrays[level + 1][where] = _stored(half)


def _window(array: zarr.Array, row0: int, col0: int, row1: int, col1: int) -> tuple[slice, ...]:
    colour = (slice(None),) if array.ndim == 3 else ()
    return (*colour, slice(row0, row1), slice(col0, col1))


def _stored(pixels: np.ndarray) -> np.ndarray:
    """Put colours first, as they are stored."""
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0)) if pixels.ndim == 3 else pixels


def halved(pixels: np.ndarray) -> np.ndarray:
    """Means over blocks of 2 x 2; an odd last row or column is repeated.

    Parameters
    ----------
    pixels : ndarray of uint8 or uint16, shape (H, W) or (H, W, 3)

    Returns
    -------
    ndarray, half as high and wide, rounded up, same dtype
    """
    over = [(0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2)] + [(0, 0)] * (pixels.ndim - 2)
    if over[0][1] or over[1][1]:
        pixels = np.pad(pixels, over, mode="edge")
    total = pixels[0::2, 0::2].astype(np.uint32)
    for part in (pixels[0::2, 1::2], pixels[1::2, 0::2], pixels[1::2, 1::2]):
        total += part
    return ((total + 2) // 4).astype(pixels.dtype)
