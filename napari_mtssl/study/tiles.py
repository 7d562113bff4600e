"""How arrays lie in the database: tiles of masks compressed, polygons as they are."""

from __future__ import annotations

import zlib

import numpy as np

from napari_mtssl.study.records import StudyError

SIDE = 256  # pixels of a tile


def packed(tile: np.ndarray) -> bytes:
    """Compress a tile (SIDE, SIDE) of class codes."""
    # Level 1: a stroke should be on disk before the next one begins, and flat areas are small at any level.
    return zlib.compress(np.ascontiguousarray(tile, "<u2").tobytes(), 1)


def unpacked(data: bytes) -> np.ndarray:
    """Make the tile (SIDE, SIDE) uint16 of `packed` bytes; it can be written to.

    Raises
    ------
    StudyError
        If the bytes are damaged.
    """
    try:
        raw = zlib.decompress(data)
        return np.frombuffer(raw, "<u2").reshape(SIDE, SIDE).astype(np.uint16)
    except (zlib.error, ValueError) as error:
        raise StudyError(
            f"A part of a mask in this study is damaged ({error}): restore the study from a backup."
        ) from error


def polygon_bytes(polygon: np.ndarray) -> bytes:
    """Bytes of a polygon (N, 2)."""
    return np.ascontiguousarray(polygon, "<f8").tobytes()


def polygon_of(data: bytes) -> np.ndarray:
    """Make the polygon (N, 2) of its bytes.

    Raises
    ------
    StudyError
        If the bytes are damaged.
    """
    try:
        return np.frombuffer(data, "<f8").reshape(-1, 2).astype(np.float64)
    except ValueError as error:
        raise StudyError("A region in this study is damaged: restore the study from a backup.") from error
