"""The grid that rectangles of a file lie on, where they lie on one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from napari_mtssl.study.records import Grid

SAME = 0.01  # pixels by which a rectangle may differ from a block of the grid
FEWEST = 4  # rectangles of one size: fewer may lie on a grid by chance


def rectangle(ring: np.ndarray) -> tuple[float, float, float, float] | None:
    """Edges (row0, col0, row1, col1) of an upright rectangle; None if a closed ring (N, 2) is none.

    Edges count from the image's corner, as those of `Grid.edges`; the ring's points from pixel centres.
    """
    if len(ring) != 5:
        return None
    corners = ring[:4] + 0.5
    low, high = corners.min(axis=0), corners.max(axis=0)
    at_corner = np.isclose(corners, low, atol=SAME) | np.isclose(corners, high, atol=SAME)
    if not at_corner.all() or (high - low < 1).any():
        return None
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def grid_of_rectangles(
    boxes: Sequence[tuple[float, float, float, float]], first: tuple[int, int] | None = None
) -> Grid | None:
    """Find the grid that most of some rectangles are blocks of.

    Parameters
    ----------
    boxes : sequence of (row0, col0, row1, col1)
    first : tuple of int, optional
        Block (i, j) that the first rectangle is, if its file says so.

    Returns
    -------
    Grid or None
        None if there are fewer than four of one size, or these do not lie on one grid.
    """
    sizes = Counter((round(b[2] - b[0], 2), round(b[3] - b[1], 2)) for b in boxes)
    if not sizes or 2 * max(sizes.values()) < len(boxes) or max(sizes.values()) < FEWEST:
        return None
    near = sizes.most_common(1)[0][0]
    fits = [max(abs(b[2] - b[0] - near[0]), abs(b[3] - b[1] - near[1])) < SAME for b in boxes]
    edges = np.array(boxes, float)[fits]
    found = []
    for axis in (0, 1):
        size = round(float((edges[:, axis + 2] - edges[:, axis]).mean()), 9)
        start = edges[0, axis]
        off = (edges[:, axis] - start) / size
        if np.abs(off - np.rint(off)).max() * size > SAME:
            return None
        if first is not None and np.array_equal(edges[0], boxes[0]):
            corner = start - first[axis] * size
        else:
            corner = start % size
            corner = 0.0 if min(corner, size - corner) < SAME else corner - size
        found.append((size, round(float(corner), 9)))
    (height, row0), (width, col0) = found
    return Grid(height, width, row0, col0)
