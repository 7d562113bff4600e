"""Where in an image things lie, found by R-trees: of points by SQLite's own, of regions by one in memory.

Blocks and tiles of masks need none: they lie on a grid, and the index of their table is their place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from shapely import STRtree

Box = tuple[float, float, float, float]  # (row0, col0, row1, col1), half open, level-0 pixels
POINTS = ("cells", "predictions")  # tables that have a tree


def tree_statements(table: str) -> Iterator[str]:
    """Give a table of points an R-tree: SQL that makes it, fills it, and keeps it by triggers."""
    tree = f"places_{table}"
    row = "{0}.id, {0}.image_id, {0}.image_id, {0}.row, {0}.row, {0}.col, {0}.col"
    put = f"INSERT INTO {tree} VALUES ({row.format('new')})"
    drop = f"DELETE FROM {tree} WHERE id = old.id"
    yield f"CREATE VIRTUAL TABLE {tree} USING rtree (id, image0, image1, row0, row1, col0, col1)"
    yield f"INSERT INTO {tree} SELECT {row.format(table)} FROM {table}"
    yield f"CREATE TRIGGER {tree}_insert AFTER INSERT ON {table} BEGIN {put}; END"
    yield f"CREATE TRIGGER {tree}_delete AFTER DELETE ON {table} BEGIN {drop}; END"
    moved = f"AFTER UPDATE OF id, image_id, row, col ON {table}"
    yield f"CREATE TRIGGER {tree}_update {moved} BEGIN {drop}; {put}; END"


def in_box(table: str, image_id: int, box: Box) -> tuple[str, list[float]]:
    """Condition, with its values, that a point of `table` lies in a box of an image.

    The tree knows 32-bit numbers, rounded outwards: the points' own decide.
    """
    row0, col0, row1, col1 = (float(edge) for edge in box)
    condition = (
        f"{table}.id IN (SELECT id FROM places_{table} WHERE image1 >= ? AND image0 <= ? "
        "AND row1 >= ? AND row0 <= ? AND col1 >= ? AND col0 <= ?) "
        f"AND {table}.image_id = ? AND {table}.row >= ? AND {table}.col >= ? "
        f"AND {table}.row < ? AND {table}.col < ?"
    )
    tree = [image_id, image_id, row0, row1, col0, col1]
    return condition, [*tree, image_id, row0, col0, row1, col1]


class RegionTree:
    """Which polygons may reach into a box.

    Parameters
    ----------
    polygons : sequence of ndarray (N, 2)
        Rows and columns.
    """

    def __init__(self, polygons: Sequence[np.ndarray]) -> None:
        import shapely

        bounds = [(*polygon.min(axis=0), *polygon.max(axis=0)) for polygon in polygons]
        self._tree: STRtree = shapely.STRtree([shapely.box(*bound) for bound in bounds])

    def within(self, box: Box) -> list[int]:
        """Places in the sequence of those whose bounds touch a box, in its order."""
        import shapely

        return sorted(int(at) for at in self._tree.query(shapely.box(*box)))
