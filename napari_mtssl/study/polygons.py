"""Outlines of pixels, and pixels of outlines, holes and all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

    padded = np.pad(mask.astype(bool), 1)
    parts, n = ndimage.label(padded)
    shells: dict[int, np.ndarray] = {}
    holes: dict[int, list[np.ndarray]] = {part: [] for part in range(1, n + 1)}
    for contour in find_contours(padded, 0.5, fully_connected="low"):
        # A contour runs half-way between a pixel inside and one outside: here, the two about its first point.
        row, col = contour[0]
        beside = parts[int(np.floor(row)), int(np.floor(col))], parts[int(np.ceil(row)), int(np.ceil(col))]
        ring = _along_edges(contour)
        if _signed_area(ring) * _OUTSIDE > 0:
            shells[max(beside)] = ring
        else:
            holes[max(beside)].append(ring)
    for part in sorted(shells):
        polygon = shapely.Polygon(shells[part][:, ::-1], [ring[:, ::-1] for ring in holes[part]])
        if simplify > 0:
            polygon = polygon.simplify(simplify)
        yield from polygons_in(polygon)


_OUTSIDE = 1  # the sign of the area that find_contours gives a contour about higher values


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


def _signed_area(ring: np.ndarray) -> float:
    row, col = ring[:-1].T
    ahead_row, ahead_col = ring[1:].T
    return float((col * ahead_row - ahead_col * row).sum() / 2)


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


def filled(rings: Sequence[np.ndarray]) -> tuple[int, int, np.ndarray]:
    """Find the pixels whose centres lie in a polygon.

    Parameters
    ----------
    rings : sequence of ndarray (N, 2)
        The outline, then its holes: (row, col), pixel centres at integers.

    Returns
    -------
    row0, col0 : int
        The pixel that the array begins at.
    inside : ndarray of bool
    """
    from skimage.draw import polygon

    low = np.floor(rings[0].min(axis=0)).astype(int)
    shape = tuple((np.ceil(rings[0].max(axis=0)).astype(int) - low + 1).tolist())
    inside = np.zeros(shape, bool)
    for ring in rings:
        rows, cols = polygon(*(ring - low).T, shape=shape)
        inside[rows, cols] ^= True
    return int(low[0]), int(low[1]), inside
