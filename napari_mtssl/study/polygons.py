"""Outlines of pixels, and pixels of outlines, holes and all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from shapely import Point, Polygon
    from shapely.geometry.base import BaseGeometry


def outlines(mask: np.ndarray, simplify: float = 0.0) -> Iterator[Polygon]:
    """Outline every connected part of a mask along the edges of its pixels.

    Parameters
    ----------
    mask : ndarray of bool (h, w)
        Pixels that touch at a corner alone are not connected.
    simplify : float
        Pixels by which an outline may leave the edges, to have fewer corners.

    Yields
    ------
    Polygon
        Valid, with holes. Coordinates (col, row) count from the upper left corner of the first pixel, so that
        the area is the number of pixels.
    """
    import shapely
    from scipy import ndimage
    from skimage.measure import find_contours

    parts, _ = ndimage.label(mask)
    for part, place in enumerate(ndimage.find_objects(parts), start=1):
        own = np.pad(parts[place] == part, 1)
        first = [edge.start for edge in place]
        rings = [_along_edges(c) + first for c in find_contours(own, 0.5, fully_connected="low")]
        rings.sort(key=_area, reverse=True)  # a hole is smaller than what it is in
        polygon = shapely.Polygon(rings[0][:, ::-1], [ring[:, ::-1] for ring in rings[1:]])
        if simplify > 0:
            polygon = polygon.simplify(simplify)
        yield from polygons_in(polygon)


def outlines_in_tiles(
    tiles: Iterable[tuple[int, int, np.ndarray]],
    shape: tuple[int, int],
    codes: Sequence[int],
    simplify: float = 0.0,
) -> Iterator[tuple[int, Polygon]]:
    """Outline the parts of a label image that is too large to be held, see `outlines`.

    Parameters
    ----------
    tiles : iterable of (row0, col0, ndarray of int (h, w))
        Parts that together make the whole, in any order.
    shape : tuple of int
        Of the whole.
    codes : sequence of int
        Values to outline; parts of different values lie beside each other.
    simplify : float

    Yields
    ------
    code : int
    Polygon
        Parts that reach over the edge of a tile come last, put together.
    """
    import shapely
    from shapely import affinity

    cut: dict[int, list[Polygon]] = {code: [] for code in codes}
    for row0, col0, tile in tiles:
        height, width = tile.shape
        inner = (
            col0 > 0,
            row0 > 0,
            col0 + width < shape[1],
            row0 + height < shape[0],
        )  # which edges (left, upper, right, lower) are not those of the whole
        present = set(np.unique(tile).tolist())
        for code in (code for code in codes if code in present):
            for polygon in outlines(tile == code):
                left, top, right, bottom = polygon.bounds
                touches = (left == 0, top == 0, right == width, bottom == height)
                moved = affinity.translate(polygon, col0, row0)
                if any(there and open_ for there, open_ in zip(touches, inner, strict=True)):
                    cut[code].append(moved)
                else:
                    yield from ((code, part) for part in _simple(moved, simplify))
    for code, pieces in cut.items():
        if pieces:  # corners on the edges of tiles are on a line now, and go
            for polygon in polygons_in(shapely.union_all(pieces)):
                yield from ((code, part) for part in _simple(polygon.simplify(0), simplify))


def _simple(polygon: Polygon, simplify: float) -> Iterator[Polygon]:
    yield from polygons_in(polygon.simplify(simplify) if simplify > 0 else polygon)


def _along_edges(contour: np.ndarray) -> np.ndarray:
    """Turn a contour that cuts the corners of pixels into one along their edges, in corner coordinates.

    Between two points of the contour, both on a line between two pixel centres, lies one corner of pixels.
    """
    ahead = contour[1:]
    here = contour[:-1]
    half = np.where(here % 1 == 0.5, here, ahead)
    corners = np.where(half % 1 == 0.5, half, (here + ahead) / 2)
    # padded by one pixel, and a corner lies half a pixel from the centre: both together
    corners = np.rint(corners - 0.5)
    turn = np.any(np.roll(corners, -1, axis=0) - corners != corners - np.roll(corners, 1, axis=0), axis=1)
    ring = corners[turn]
    return np.concatenate([ring, ring[:1]])


def _area(ring: np.ndarray) -> float:
    row, col = ring[:-1].T
    ahead_row, ahead_col = ring[1:].T
    return float(abs((col * ahead_row - ahead_col * row).sum()) / 2)


def polygons_in(shape: BaseGeometry) -> Iterator[Polygon]:
    """List the valid polygons that a shape consists of; lines and points are left out."""
    import shapely

    if not shape.is_valid:
        shape = shapely.make_valid(shape)
    for part in shapely.get_parts(shape):
        if part.geom_type == "Polygon" and part.area > 0:
            yield part
        elif part.geom_type in ("MultiPolygon", "GeometryCollection"):
            yield from polygons_in(part)


def shape_of(ring: np.ndarray) -> BaseGeometry:
    """Make the shape of one ring (N, 2), in which what lies inside an even number of times is outside."""
    import shapely

    simple = shapely.Polygon(ring)
    if simple.is_valid:
        return simple
    # Cut the ring where it meets itself, and keep the faces that are inside.
    closed = np.concatenate([ring, ring[:1]])
    faces = shapely.get_parts(shapely.polygonize([shapely.unary_union(shapely.LineString(closed))]))
    return shapely.union_all([face for face in faces if _inside(closed, face.representative_point())])


def _inside(closed: np.ndarray, point: Point) -> bool:
    """Tell whether a ray from a point crosses a ring an odd number of times."""
    (x0, y0), (x1, y1) = closed[:-1].T, closed[1:].T
    across = (y0 > point.y) != (y1 > point.y)
    at = x0[across] + (point.y - y0[across]) * (x1[across] - x0[across]) / (y1[across] - y0[across])
    return bool((at > point.x).sum() % 2)


def ring_of(rings: Sequence[np.ndarray]) -> np.ndarray:
    """Make one ring of an outline and its holes: it runs to each hole and back along one line.

    Parameters
    ----------
    rings : sequence of ndarray (N, 2)
        The outline, then its holes; whether the last point repeats the first does not matter.
    """
    closed = [ring if (ring[0] == ring[-1]).all() else np.concatenate([ring, ring[:1]]) for ring in rings]
    if len(closed) == 1:
        return closed[0][:-1]
    start = closed[0][:1]
    return np.concatenate([closed[0], *(np.concatenate([hole, start]) for hole in closed[1:])])[:-1]


def filled(
    rings: Sequence[np.ndarray], within: tuple[int, int, int, int] | None = None
) -> tuple[int, int, np.ndarray]:
    """Find the pixels whose centres lie in a polygon, inside an odd number of its rings.

    Parameters
    ----------
    rings : sequence of ndarray (N, 2)
        The outline, then its holes: (row, col), pixel centres at integers. Of centres on an edge, those on an
        upper or left one are inside.
    within : tuple of int, optional
        ``(row0, col0, row1, col1)``, half open: what lies outside is left out.

    Returns
    -------
    row0, col0 : int
        The pixel that the array begins at.
    inside : ndarray of bool
    """
    low = np.floor(np.min([ring.min(axis=0) for ring in rings], axis=0)).astype(int)
    high = np.ceil(np.max([ring.max(axis=0) for ring in rings], axis=0)).astype(int) + 1
    if within is not None:
        low, high = np.maximum(low, within[:2]), np.minimum(high, within[2:])
    height, width = np.maximum(high - low, 0).tolist()
    # The parity of the edges that are crossed on the way from the left: one more column for those beyond.
    crossed = np.zeros((height, width + 1), np.uint8)
    begin = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    up = begin[:, 0] > end[:, 0]
    begin[up], end[up] = end[up], begin[up]
    first = np.maximum(np.ceil(begin[:, 0]).astype(int), low[0])
    n = np.maximum(np.minimum(np.ceil(end[:, 0]).astype(int), high[0]) - first, 0)
    edge = np.repeat(np.arange(len(n)), n)
    rows = first[edge] + np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    slope = (end[edge, 1] - begin[edge, 1]) / (end[edge, 0] - begin[edge, 0])
    cols = np.ceil(begin[edge, 1] + (rows - begin[edge, 0]) * slope).astype(int)
    np.add.at(crossed, (rows - low[0], np.clip(cols - low[1], 0, width)), 1)
    inside = np.add.accumulate(crossed[:, :width], axis=1, dtype=np.uint8) % 2 == 1
    return int(low[0]), int(low[1]), inside
