"""The coarse labels of a study: blocks of a grid, and free regions. Every call is one edit."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from napari_mtssl.study.cells import CellTable
from napari_mtssl.study.places import Box, RegionTree
from napari_mtssl.study.polygons import filled
from napari_mtssl.study.records import BLOCK, Grid, ImageRecord, StudyError, plural
from napari_mtssl.study.tiles import polygon_bytes, polygon_of

PixelBox = tuple[int, int, int, int]  # (row0, col0, row1, col1), half open
_BLOCK_TYPES = {"i": np.int64, "j": np.int64, "class": str}


def check_grid(grid: Grid) -> None:
    """See that a grid has a sensible size; raises StudyError."""
    values = np.array([grid.height, grid.width, grid.row0, grid.col0], float)
    if not (np.isfinite(values).all() and values[0] >= 1 and values[1] >= 1):
        raise StudyError(
            f"Blocks of {grid.height:g} by {grid.width:g} pixels make no grid: give at least one pixel."
        )


class BlockTable(CellTable):
    """Lay grids, and give blocks and regions a class of the kind ``block``."""

    # By image: the count of changes that it was read at, the regions, and their tree.
    _regions: dict[int, tuple[int, list[tuple[int, np.ndarray, str]], RegionTree | None]] | None = None

    def set_grid(self, image_id: int, grid: Grid, *, erase: bool = False) -> None:
        """Lay a grid over an image.

        Parameters
        ----------
        image_id : int
        grid : Grid
        erase : bool
            Erase the blocks of another grid; else they forbid to lay a new one.

        Raises
        ------
        StudyError
            If the grid has no sensible size, the image has blocks of another grid, or the study cannot be
            written.
        """
        image = self.image(image_id)
        check_grid(grid)
        values = [float(value) for value in (grid.height, grid.width, grid.row0, grid.col0)]
        grid = Grid(*values)
        old = self.grid(image_id)
        if old == grid:
            return
        with self.edit(f"Laid a grid over {image.name}"):
            n = self._rows("SELECT count(*) FROM blocks WHERE image_id = ?", (image.id,))[0][0]
            if n and not erase:
                raise StudyError(
                    f"{image.name} has {plural(n, 'block')} with a class in a grid of other blocks: "
                    "erase them first."
                )
            self._db.connection.execute("DELETE FROM blocks WHERE image_id = ?", (image.id,))
            self._db.connection.execute(
                "INSERT INTO grids (image_id, height, width, row0, col0) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (image_id) DO UPDATE SET height = excluded.height, width = excluded.width, "
                "row0 = excluded.row0, col0 = excluded.col0",
                (image.id, *values),
            )

    def grid(self, image_id: int) -> Grid | None:
        """Grid of an image; None if it has none."""
        rows = self._rows("SELECT height, width, row0, col0 FROM grids WHERE image_id = ?", (int(image_id),))
        return Grid(*rows[0]) if rows else None

    def set_blocks(
        self, image_id: int, blocks: Mapping[tuple[int, int], str | None], *, what: str | None = None
    ) -> None:
        """Give blocks of the image's grid a class, as one edit.

        Parameters
        ----------
        image_id : int
        blocks : mapping of (i, j) to class name or None
            Indices in the grid, down and to the right; None erases.
        what : str, optional
            For the edit log; by default the number of blocks.

        Raises
        ------
        StudyError
            If the image has no grid, a block lies outside of it, a class is unknown, or the study cannot be
            written. Then no block was changed.
        """
        image = self.image(image_id)
        with self.edit(what or f"Labelled {plural(len(blocks), 'block')} of {image.name}"):
            self._check_blocks(image, blocks)
            ids = {name: self._class_id(name, BLOCK) for name in {c for c in blocks.values() if c}}
            connection = self._db.connection
            connection.executemany(
                "DELETE FROM blocks WHERE image_id = ? AND i = ? AND j = ?",
                [(image.id, int(i), int(j)) for (i, j), name in blocks.items() if name is None],
            )
            now = time.time()
            connection.executemany(
                "INSERT INTO blocks (image_id, i, j, class_id, annotator, time) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (image_id, i, j) DO UPDATE SET class_id = excluded.class_id, "
                "annotator = excluded.annotator, time = excluded.time "
                "WHERE class_id IS NOT excluded.class_id",
                [
                    (image.id, int(i), int(j), ids[name], self.annotator, now)
                    for (i, j), name in blocks.items()
                    if name is not None
                ],
            )

    def blocks(self, image_id: int, box: Box | None = None) -> pd.DataFrame:
        """Blocks of an image that have a class.

        Parameters
        ----------
        image_id : int
        box : tuple of float, optional
            ``(row0, col0, row1, col1)``, half open, level-0 pixels: those that reach into it.

        Returns
        -------
        DataFrame
            Columns ``i, j, class``, sorted by place.
        """
        where, values = "image_id = ?", [int(image_id)]
        grid = None if box is None else self.grid(image_id)
        if box is not None and grid is not None:
            i0, j0, i1, j1 = grid.blocks_over(_whole(box))
            where += " AND i >= ? AND i < ? AND j >= ? AND j < ?"
            values += [i0, i1, j0, j1]
        return self._frame(
            "SELECT i, j, name FROM blocks JOIN classes ON classes.id = class_id "
            f"WHERE {where} ORDER BY i, j",
            values,
            _BLOCK_TYPES,
        )

    def coarse_images(self, split: str | None = None) -> list[int]:
        """Images that have a block or region with a class, all or those of one split."""
        rows = self._rows(
            "SELECT id FROM images WHERE (split = ? OR ? IS NULL) AND (id IN (SELECT image_id FROM blocks) "
            "OR id IN (SELECT image_id FROM regions)) ORDER BY id",
            (split, split),
        )
        return [image_id for (image_id,) in rows]

    def coarse_classes(self, split: str) -> set[str]:
        """Names of the classes that blocks and regions of a split have."""
        either = " OR ".join(
            f"EXISTS (SELECT 1 FROM {table} JOIN images ON images.id = image_id "
            "WHERE class_id = classes.id AND split = ?)"
            for table in ("blocks", "regions")
        )
        sql = f"SELECT name FROM classes WHERE kind = 'block' AND ({either})"
        return {name for (name,) in self._rows(sql, (split, split))}

    # -- regions -------------------------------------------------------------------------------------------

    def add_region(self, image_id: int, polygon: np.ndarray, class_name: str) -> int:
        """Add a free region.

        Parameters
        ----------
        image_id : int
        polygon : ndarray (N, 2), N >= 3
            Corners (row, col) in level-0 pixels, pixel centres at integers. What lies inside an even number
            of times is outside, so that a ring that runs in and out along one line has a hole.
        class_name : str
            Of the kind ``block``.

        Returns
        -------
        int
            The region's id, never used again for another.

        Raises
        ------
        StudyError
            If this is no polygon, it lies outside the image, the class is unknown, or the study cannot be
            written.
        """
        image = self.image(image_id)
        corners = _corners(image, polygon)
        with self.edit(f"Added a {class_name} region to {image.name}"):
            added = self._db.connection.execute(
                "INSERT INTO regions (image_id, class_id, annotator, time, polygon) VALUES (?, ?, ?, ?, ?)",
                (
                    image.id,
                    self._class_id(class_name, BLOCK),
                    self.annotator,
                    time.time(),
                    polygon_bytes(corners),
                ),
            ).lastrowid
        assert added is not None
        return added

    def set_region_class(self, ids: int | Iterable[int], class_name: str) -> None:
        """Give regions another class.

        Raises
        ------
        StudyError
            If there is no such region or class, or the study cannot be written.
        """
        numbers = self._regions_named(ids)
        with self.edit(f"Gave {plural(len(numbers), 'region')} the class {class_name}"):
            class_id = self._class_id(class_name, BLOCK)
            self._db.connection.execute(
                "UPDATE regions SET class_id = :class_id, annotator = :annotator, time = :time "
                f"WHERE {_AMONG} AND class_id IS NOT :class_id",
                {
                    "class_id": class_id,
                    "annotator": self.annotator,
                    "time": time.time(),
                    "ids": json.dumps(numbers),
                },
            )

    def set_region_polygon(self, region_id: int, polygon: np.ndarray) -> None:
        """Give a region another outline.

        Parameters
        ----------
        region_id : int
        polygon : ndarray (N, 2), N >= 3
            As for `add_region`.

        Raises
        ------
        StudyError
            If there is no such region, this is no polygon or outside the image, or the study cannot be
            written.
        """
        (number,) = self._regions_named(region_id)
        image = self.image(self._rows("SELECT image_id FROM regions WHERE id = ?", (number,))[0][0])
        corners = _corners(image, polygon)
        with self.edit(f"Changed the outline of a region of {image.name}"):
            self._db.connection.execute(
                "UPDATE regions SET polygon = ?, annotator = ?, time = ? WHERE id = ?",
                (polygon_bytes(corners), self.annotator, time.time(), number),
            )

    def delete_regions(self, ids: int | Iterable[int]) -> None:
        """Delete regions.

        Raises
        ------
        StudyError
            If there is no such region, or the study cannot be written.
        """
        numbers = self._regions_named(ids)
        with self.edit(f"Deleted {plural(len(numbers), 'region')}"):
            self._db.connection.execute(f"DELETE FROM regions WHERE {_AMONG}", {"ids": json.dumps(numbers)})

    def regions(self, image_id: int, box: Box | None = None) -> pd.DataFrame:
        """Regions of an image.

        Parameters
        ----------
        image_id : int
        box : tuple of float, optional
            ``(row0, col0, row1, col1)``, level-0 pixels: those whose bounds touch it, found by an R-tree.

        Returns
        -------
        DataFrame
            Columns ``id, polygon, class``, in the order they were added; polygons are arrays (N, 2).
        """
        rows = self._known_regions(image_id, box)
        return pd.DataFrame(
            {
                "id": np.array([row[0] for row in rows], np.int64),
                "polygon": pd.Series([row[1] for row in rows], dtype=object),
                "class": pd.Series([row[2] for row in rows], dtype=str),
            }
        )

    def _known_regions(self, image_id: int, box: Box | None = None) -> list[tuple[int, np.ndarray, str]]:
        """Give number, polygon and class of regions; kept, with their tree, until labels change."""
        if self._regions is None:
            self._regions = {}
        known, now = self._regions.get(int(image_id)), self.change_counter()
        if known is None or known[0] != now or self._editing:
            rows = self._rows(
                "SELECT regions.id, polygon, name FROM regions JOIN classes ON classes.id = class_id "
                "WHERE image_id = ? ORDER BY regions.id",
                (int(image_id),),
            )
            found = [(number, polygon_of(data), name) for number, data, name in rows]
            known = (now, found, RegionTree([polygon for _, polygon, _ in found]) if found else None)
            self._regions[int(image_id)] = known
        _, found, tree = known
        return found if box is None or tree is None else [found[at] for at in tree.within(box)]

    # -- both ----------------------------------------------------------------------------------------------

    def coarse_map(self, image_id: int, box: PixelBox, step: int = 1) -> tuple[np.ndarray, dict[int, str]]:
        """Tell which block or region each pixel lies in; regions lie over blocks.

        Parameters
        ----------
        image_id : int
        box : tuple of int
            ``(row0, col0, row1, col1)``, half open, level-0 pixels; it may reach beyond the image.
        step : int
            Pixels to an element of the answer, which is taken at the middle of these.

        Returns
        -------
        numbers : ndarray int32
            ``ceil((row1 - row0) / step)`` rows; 0 where nobody said anything. A block or region has the same
            number in every box, and no other of the study has it.
        classes : dict of int to str
            Class of each number in the box.
        """
        row0, col0, row1, col1 = (int(edge) for edge in box)
        rows = row0 + np.arange(0, row1 - row0, step) + (step - 1) / 2
        cols = col0 + np.arange(0, col1 - col0, step) + (step - 1) / 2
        numbers = np.zeros((len(rows), len(cols)), np.int32)
        if numbers.size == 0:
            return numbers, {}
        names = {c.code: c.name for c in self.classes(BLOCK)}
        classes = self._draw_blocks(numbers, image_id, rows, cols, names)
        classes |= self._draw_regions(numbers, image_id, rows, cols, step)
        image = self.image(image_id)
        numbers[(rows < -0.5) | (rows > image.height - 0.5)] = 0
        numbers[:, (cols < -0.5) | (cols > image.width - 0.5)] = 0
        present = np.unique(numbers)
        return numbers, {number: classes[number] for number in present[present > 0].tolist()}

    def _draw_blocks(
        self,
        numbers: np.ndarray,
        image_id: int,
        rows: np.ndarray,
        cols: np.ndarray,
        names: Mapping[int, str],
    ) -> dict[int, str]:
        grid = self.grid(image_id)
        if grid is None:
            return {}
        i, j = grid.block_of(rows, cols)
        found = self._rows(
            "SELECT id, i, j, class_id FROM blocks WHERE image_id = ? AND i BETWEEN ? AND ? "
            "AND j BETWEEN ? AND ?",
            (int(image_id), int(i[0]), int(i[-1]), int(j[0]), int(j[-1])),
        )
        if not found:
            return {}
        ids, down, right, class_ids = np.array(found, np.int64).T
        table = np.zeros((i[-1] - i[0] + 1, j[-1] - j[0] + 1), np.int32)
        table[down - i[0], right - j[0]] = 2 * ids  # even numbers are blocks, odd ones regions
        numbers[:] = table[np.ix_(i - i[0], j - j[0])]
        return {2 * n: names[c] for n, c in zip(ids.tolist(), class_ids.tolist(), strict=True)}

    def _draw_regions(
        self,
        numbers: np.ndarray,
        image_id: int,
        rows: np.ndarray,
        cols: np.ndarray,
        step: int,
    ) -> dict[int, str]:
        box = (rows[0] - step, cols[0] - step, rows[-1] + step, cols[-1] + step)
        found = self._known_regions(image_id, box)
        for region_id, polygon, _ in found:
            corners = (polygon - (rows[0], cols[0])) / step
            down, right, inside = filled([corners], (0, 0, *numbers.shape))
            part = numbers[down : down + inside.shape[0], right : right + inside.shape[1]]
            part[inside] = 2 * region_id + 1
        return {2 * region_id + 1: name for region_id, _, name in found}

    # -- checks --------------------------------------------------------------------------------------------

    def _check_blocks(self, image: ImageRecord, blocks: Iterable[tuple[int, int]]) -> None:
        grid = self.grid(image.id)
        if grid is None:
            raise StudyError(f"{image.name} has no grid: lay one over it first.")
        i0, j0, i1, j1 = grid.blocks_over((0, 0, image.height, image.width))
        for i, j in blocks:
            if not (i0 <= i < i1 and j0 <= j < j1):
                raise StudyError(
                    f"Block ({i}, {j}) lies outside {image.name}, whose grid has rows {i0} to {i1 - 1} and "
                    f"columns {j0} to {j1 - 1} of blocks."
                )

    def _regions_named(self, ids: int | Iterable[int]) -> list[int]:
        numbers = [int(n) for n in (ids if isinstance(ids, Iterable) else [ids])]
        sql = "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT id FROM regions) LIMIT 1"
        gone = self._rows(sql, (json.dumps(numbers),))
        if gone:
            raise StudyError(f"The study '{self.name}' has no region number {gone[0][0]} (any more).")
        return numbers


def _whole(box: Box) -> PixelBox:
    """Pixels that a box touches."""
    return math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])


_AMONG = "id IN (SELECT value FROM json_each(:ids))"


def _corners(image: ImageRecord, polygon: np.ndarray) -> np.ndarray:
    """Corners of a region; StudyError if they make none, or lie outside the image."""
    corners = np.asarray(polygon, np.float64)
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3 or not np.isfinite(corners).all():
        raise StudyError("A region is a polygon of three corners (row, col) or more.")
    if (corners.max(axis=0) < -0.5).any() or (
        corners.min(axis=0) > (image.height - 0.5, image.width - 0.5)
    ).any():
        raise StudyError(f"This region lies outside {image.name}.")
    return corners
