"""The exact labels of a study: pixels with a class, in tiles. Every call is one edit."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator

import numpy as np

from napari_mtssl.study.blocks import BlockTable, PixelBox
from napari_mtssl.study.records import (
    MASK,
    SOURCES,
    ImageRecord,
    MaskState,
    Source,
    StudyError,
    check_choice,
)
from napari_mtssl.study.tiles import SIDE, packed, unpacked


class MaskTable(BlockTable):
    """Paint and read masks. The value of a pixel is the code of its class; 0 where nobody said anything."""

    def paint_mask(
        self,
        image_id: int,
        row0: int,
        col0: int,
        patch: np.ndarray,
        *,
        where: np.ndarray | None = None,
        source: Source = "human",
        what: str | None = None,
    ) -> None:
        """Paint pixels, as one edit.

        Parameters
        ----------
        image_id : int
        row0, col0 : int
            The pixel that the patch begins at. What lies beyond the image is left out.
        patch : ndarray of int (h, w)
            Codes of classes of the kind ``mask`` (`CellClass.code`); 0 erases.
        where : ndarray of bool (h, w), optional
            Paint only there; by default all of the patch.
        source : {'human', 'model'}
            Who proposed it. A mask that a person has painted in stays a person's.
        what : str, optional
            For the edit log.

        Raises
        ------
        StudyError
            If a value is the code of no mask class, shapes differ, or the study cannot be written.
        """
        image = self.image(image_id)
        check_choice(source, SOURCES, "source")
        patch = np.asarray(patch)
        if patch.ndim != 2 or not np.issubdtype(patch.dtype, np.integer):
            raise StudyError("A patch of a mask is a two-dimensional array of class codes.")
        where = np.ones(patch.shape, bool) if where is None else np.asarray(where, bool)
        if where.shape != patch.shape:
            raise StudyError(f"The patch has the shape {patch.shape}, but where to paint {where.shape}.")
        self._check_codes(patch[where])
        patch = patch.astype(np.uint16, copy=False)
        with self.edit(what or f"Painted in {image.name}"):
            connection = self._db.connection
            changed = False
            for i, j, here, there in _tiles(image, int(row0), int(col0), patch.shape):
                if where[there].any():
                    changed |= _paint_tile(connection, image.id, (i, j), here, patch[there], where[there])
            if changed:
                connection.execute(
                    "INSERT INTO masks (image_id, complete, source, annotator, time) VALUES (?, 0, ?, ?, ?) "
                    "ON CONFLICT (image_id) DO UPDATE SET source = excluded.source, "
                    "annotator = excluded.annotator, time = excluded.time WHERE source = 'model'",
                    (image.id, source, self.annotator, time.time()),
                )

    def mask(self, image_id: int, box: PixelBox | None = None) -> np.ndarray:
        """Codes of the pixels' classes.

        Parameters
        ----------
        image_id : int
        box : tuple of int, optional
            ``(row0, col0, row1, col1)``, half open, level-0 pixels; it may reach beyond the image. By default
            the whole image.

        Returns
        -------
        ndarray uint16 (row1 - row0, col1 - col0)
            0 where nobody said anything, see `mask_state` for what that means.
        """
        if box is None:
            image = self.image(image_id)
            box = (0, 0, image.height, image.width)
        row0, col0, row1, col1 = (int(edge) for edge in box)
        out = np.zeros((max(0, row1 - row0), max(0, col1 - col0)), np.uint16)
        tiles = self._rows(
            "SELECT i, j, data FROM mask_tiles "
            "WHERE image_id = ? AND i BETWEEN ? AND ? AND j BETWEEN ? AND ?",
            (int(image_id), row0 // SIDE, (row1 - 1) // SIDE, col0 // SIDE, (col1 - 1) // SIDE),
        )
        for i, j, data in tiles:
            down, right = i * SIDE - row0, j * SIDE - col0
            here = (slice(max(0, down), down + SIDE), slice(max(0, right), right + SIDE))
            target = out[here]
            up, left = max(0, -down), max(0, -right)
            target[:] = unpacked(data)[up : up + target.shape[0], left : left + target.shape[1]]
        return out

    def painted_tiles(self, image_id: int) -> list[tuple[int, int, int, int]]:
        """Boxes ``(row0, col0, row1, col1)`` outside of which nothing of an image is painted.

        Returns
        -------
        list of tuple of int
            Half open, level-0 pixels, of one size.
        """
        places = self._rows("SELECT i, j FROM mask_tiles WHERE image_id = ?", (int(image_id),))
        return [(i * SIDE, j * SIDE, (i + 1) * SIDE, (j + 1) * SIDE) for i, j in places]

    def painted_marks(self, image_id: int) -> dict[tuple[int, int], str]:
        """Fingerprint of each tile (i, j) that is painted, so that two states can be told apart."""
        marks = {}
        for i, j, data in self._rows(
            "SELECT i, j, data FROM mask_tiles WHERE image_id = ?", (int(image_id),)
        ):
            marks[(i, j)] = hashlib.blake2b(data, digest_size=8).hexdigest()
        return marks

    def painted_pixels(self, image_id: int) -> dict[int, int]:
        """Count the painted pixels of an image by code, tile by tile: a slide's mask is never made whole."""
        counts: dict[int, int] = {}
        for i, j in self._rows("SELECT i, j FROM mask_tiles WHERE image_id = ?", (int(image_id),)):
            (data,) = self._rows(
                "SELECT data FROM mask_tiles WHERE image_id = ? AND i = ? AND j = ?", (int(image_id), i, j)
            )[0]
            for code, n in zip(*np.unique(unpacked(data), return_counts=True), strict=True):
                if code:
                    counts[int(code)] = counts.get(int(code), 0) + int(n)
        return counts

    def set_mask_complete(self, image_id: int, complete: bool) -> None:
        """Say whether the pixels of an image that have no class are background.

        Raises
        ------
        StudyError
            If there is no such image, or the study cannot be written.
        """
        image = self.image(image_id)
        with self.edit(f"Marked the mask of {image.name} as {'complete' if complete else 'not complete'}"):
            self._db.connection.execute(
                "INSERT INTO masks (image_id, complete, source, annotator, time) "
                "SELECT :image, :complete, 'human', :annotator, :time WHERE :complete "
                "OR EXISTS (SELECT 1 FROM masks WHERE image_id = :image) "
                "ON CONFLICT (image_id) DO UPDATE SET complete = excluded.complete, "
                "annotator = excluded.annotator, time = excluded.time "
                "WHERE complete IS NOT excluded.complete",
                {
                    "image": image.id,
                    "complete": bool(complete),
                    "annotator": self.annotator,
                    "time": time.time(),
                },
            )

    def mask_state(self, image_id: int) -> MaskState:
        """Tell whether an image is painted, whether its mask is complete, and who painted it."""
        image_id = self.image(image_id).id
        tiles = "SELECT EXISTS (SELECT 1 FROM mask_tiles WHERE image_id = ?)"
        painted = bool(self._rows(tiles, (image_id,))[0][0])
        rows = self._rows("SELECT complete, source FROM masks WHERE image_id = ?", (image_id,))
        complete = bool(rows and rows[0][0])
        return MaskState(painted, complete, rows[0][1] if painted or complete else None)

    def masked_images(self, split: str | None = None) -> list[int]:
        """Images with a painted pixel or a complete mask, all or those of one split."""
        rows = self._rows(
            "SELECT id FROM images WHERE (split = ? OR ? IS NULL) AND "
            "(id IN (SELECT image_id FROM mask_tiles) OR id IN (SELECT image_id FROM masks WHERE complete)) "
            "ORDER BY id",
            (split, split),
        )
        return [image_id for (image_id,) in rows]

    def clear_mask(self, image_id: int) -> None:
        """Erase the whole mask of an image; it is not complete then.

        Raises
        ------
        StudyError
            If there is no such image, or the study cannot be written.
        """
        image = self.image(image_id)
        with self.edit(f"Erased the mask of {image.name}"):
            for table in ("mask_tiles", "masks"):
                self._db.connection.execute(f"DELETE FROM {table} WHERE image_id = ?", (image.id,))

    def _check_codes(self, values: np.ndarray) -> None:
        """See that every value is 0 or the code of a mask class."""
        known = {0, *(c.code for c in self.classes(MASK))}
        if values.size == 0:
            return
        low, high = int(values.min()), int(values.max())
        if low >= 0 and high < 2**16:  # a table of 16-bit values is many times as fast as sorting them
            seen = np.zeros(2**16, bool)
            seen[values] = True
            found = np.flatnonzero(seen).tolist()
        else:
            found = [low, high]
        unknown = sorted(set(found) - known)
        if unknown:
            raise StudyError(
                f"The study '{self.name}' has no mask class with the code {unknown[0]}: add the class first."
            )


def _tiles(
    image: ImageRecord, row0: int, col0: int, shape: tuple[int, ...]
) -> Iterator[tuple[int, int, tuple[slice, slice], tuple[slice, slice]]]:
    """Each tile that a patch reaches: its number down and right, and where both overlap in tile and patch."""
    top, left = max(0, row0), max(0, col0)
    bottom, right = min(image.height, row0 + shape[0]), min(image.width, col0 + shape[1])
    if top >= bottom or left >= right:
        return
    for i in range(top // SIDE, (bottom - 1) // SIDE + 1):
        for j in range(left // SIDE, (right - 1) // SIDE + 1):
            a, b = max(top, i * SIDE), min(bottom, (i + 1) * SIDE)
            c, d = max(left, j * SIDE), min(right, (j + 1) * SIDE)
            tile = (slice(a - i * SIDE, b - i * SIDE), slice(c - j * SIDE, d - j * SIDE))
            yield i, j, tile, (slice(a - row0, b - row0), slice(c - col0, d - col0))


def _paint_tile(
    connection: sqlite3.Connection,
    image_id: int,
    place: tuple[int, int],
    here: tuple[slice, slice],
    patch: np.ndarray,
    where: np.ndarray,
) -> bool:
    """Paint a part of one tile, and tell whether that changed anything."""
    found = connection.execute(
        "SELECT id, data FROM mask_tiles WHERE image_id = ? AND i = ? AND j = ?", (image_id, *place)
    ).fetchone()
    tile = unpacked(found[1]) if found else np.zeros((SIDE, SIDE), np.uint16)
    part = tile[here]
    if (part[where] == patch[where]).all():
        return False
    part[where] = patch[where]
    if not tile.any():
        connection.execute("DELETE FROM mask_tiles WHERE id = ?", found[:1])
    elif found:
        connection.execute("UPDATE mask_tiles SET data = ? WHERE id = ?", (packed(tile), found[0]))
    else:
        connection.execute(
            "INSERT INTO mask_tiles (image_id, i, j, data) VALUES (?, ?, ?, ?)",
            (image_id, *place, packed(tile)),
        )
    return True
