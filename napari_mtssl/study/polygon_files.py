"""QuPath's GeoJSON of blocks (rectangles), regions and masks (polygons with holes), both ways."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_mtssl.study.features import (
    Feature,
    class_of,
    image_position,
    nothing_in,
    pixel_position,
    read_features,
    write_features,
)
from napari_mtssl.study.lattices import SAME, grid_of_rectangles, rectangle
from napari_mtssl.study.mask_pixels import HELD, mask_codes, mask_tiles
from napari_mtssl.study.merge import ImportReport, make_classes
from napari_mtssl.study.merge_labels import joined, merge_blocks, merge_regions
from napari_mtssl.study.polygons import filled, outlines_in_tiles, polygons_in, ring_of, shape_of
from napari_mtssl.study.records import BLOCK, MASK, Grid, ImageRecord
from napari_mtssl.study.study import Study

if TYPE_CHECKING:
    from shapely import Polygon

_BAND = 2048  # rows that are painted at once


@dataclass(frozen=True)
class Outline:
    """A polygon of a file: its class, colour, and rings (N, 2) of (row, col), the outline first."""

    name: str
    colour: str | None
    rings: list[np.ndarray]
    block: tuple[int, int] | None = None  # that it is, if the file says so


def export_regions_geojson(study: Study, image_id: int, path: Path | str) -> int:
    """Export the blocks (as rectangles) and regions of an image for QuPath.

    Parameters
    ----------
    study : Study
    image_id : int
    path : path
        Replaced whole, or left as it was.

    Returns
    -------
    int
        How many objects were written.

    Raises
    ------
    StudyError
        If there is no such image, or the file cannot be written.
    """
    study.check_no_image(path)
    image = study.image(image_id)
    colours = {c.name: c.colour for c in study.classes(BLOCK)}
    items: list[Feature] = []
    grid = study.grid(image.id)
    if grid is not None:
        for i, j, name in study.blocks(image.id).itertuples(index=False):
            top, left, bottom, right = (f"{edge!r}" for edge in grid.edges(i, j))
            corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
            said = {"kind": "block", "row": str(i), "col": str(j)}
            items.append(_polygon(f"block {i} {j}", [corners], name, said))
    for number, polygon, name in study.regions(image.id).itertuples(index=False):
        for part, rings in enumerate(_rings_of_region(polygon)):
            points = [[(image_position(c), image_position(r)) for r, c in ring.tolist()] for ring in rings]
            items.append(_polygon(f"region {number} {part}", points, name, {"kind": "region"}))
    return write_features(Path(path), items, colours, image.checksum)


def import_regions_geojson(
    study: Study, path: Path | str, image_id: int, *, grid: Grid | None = None
) -> ImportReport:
    """Import polygons from QuPath as blocks and regions.

    A polygon that is a block of the image's grid becomes that block, every other one a region.

    Parameters
    ----------
    study : Study
    path : path
        As for `import_geojson`. Objects without class, points and lines are left out.
    image_id : int
    grid : Grid, optional
        For an image that has none. By default the one that the rectangles of the file lie on, if at least
        four, and half of all polygons, are of one size on one grid; else all polygons become regions.

    Raises
    ------
    StudyError
        If the file is not such a file, has no polygon with a class, or one is outside the image. Then nothing
        was imported.
    """
    path = Path(path)
    image = study.image(image_id)
    found, skipped = read_outlines(path)
    colours = _colours(found)
    what = f"Imported {path.name}"
    with study.edit(what):
        laid = study.grid(image.id)
        if laid is None:
            laid = grid or _grid_of(found)
            if laid is not None:
                study.set_grid(image.id, laid)
        blocks, regions = [], []
        for outline in found:
            place = None if laid is None else _block_at(laid, outline, image)
            if place is not None:
                blocks.append((image.id, *place, outline.name))
            else:
                regions.append((image.id, ring_of(outline.rings), outline.name))
        reports = []
        if blocks:
            frame = pd.DataFrame(blocks, columns=["image_id", "i", "j", "class"])
            reports.append(merge_blocks(study, frame, what, colours=colours))
        if regions:
            frame = pd.DataFrame(regions, columns=["image_id", "polygon", "class"])
            reports.append(merge_regions(study, frame, what, colours=colours))
    report = joined(reports)
    noun = "coarse label" if len(reports) == 2 else report.noun
    return ImportReport(report.added, report.unchanged, report.changed, skipped, report.classes_created, noun)


def export_mask_geojson(
    study: Study,
    image_id: int,
    path: Path | str,
    *,
    predictions: bool = False,
    simplify: float = 0.0,
) -> int:
    """Export the mask of an image as polygons for QuPath: along the edges of pixels, with holes.

    Parameters
    ----------
    study : Study
    image_id : int
    path : path
        Replaced whole, or left as it was.
    predictions : bool
        Also what is predicted of pixels that nobody painted.
    simplify : float
        Pixels by which outlines may leave the edges, to have fewer corners.

    Returns
    -------
    int
        How many polygons were written. Background is not.

    Raises
    ------
    StudyError
        If there is no such image, nothing is painted, or the file cannot be written.
    """
    study.check_no_image(path)
    image = study.image(image_id)
    classes = {c.code: (c.name, c.colour) for c in study.classes(MASK) if not c.background}
    if image.height * image.width <= HELD:
        codes = mask_codes(study, image.id, predictions=predictions)
        return write_mask_polygons(path, codes, classes, image.checksum, simplify=simplify)
    tiles, shape = mask_tiles(study, image.id, predictions=predictions), (image.height, image.width)
    return write_tile_polygons(path, tiles, shape, classes, image.checksum, simplify=simplify)


def write_mask_polygons(
    path: Path | str,
    codes: np.ndarray,
    classes: Mapping[int, tuple[str, str]],
    image: str,
    *,
    simplify: float = 0.0,
) -> int:
    """Write a mask as polygons for QuPath, see `export_mask_geojson`.

    Parameters
    ----------
    path : path
    codes : ndarray of int (height, width)
    classes : mapping of int to (str, str)
        Name and colour of each code; pixels of other codes are not written.
    image : str
        What tells the image from others: a checksum, or a name. Objects are named after it.
    simplify : float

    Returns
    -------
    int
        How many polygons were written.

    Raises
    ------
    StudyError
        If the file cannot be written.
    """
    return write_tile_polygons(path, [(0, 0, codes)], codes.shape, classes, image, simplify=simplify)


def write_tile_polygons(
    path: Path | str,
    tiles: Iterable[tuple[int, int, np.ndarray]],
    shape: tuple[int, int],
    classes: Mapping[int, tuple[str, str]],
    image: str,
    *,
    simplify: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
) -> int:
    """Write a mask that comes in tiles as polygons for QuPath; what tiles cut through is put together.

    Parameters
    ----------
    path : path
    tiles : iterable of (row0, col0, ndarray of int)
        See `outlines_in_tiles`.
    shape : tuple of int
        Of the whole mask.
    classes, image, simplify
        As for `write_mask_polygons`; `simplify` in elements of the mask.
    scale : tuple of float
        Level-0 pixels (rows, columns) to an element.

    Returns
    -------
    int
        How many polygons were written.

    Raises
    ------
    StudyError
        If the file cannot be written.
    """
    counts = dict.fromkeys(classes, 0)

    def items() -> Iterator[Feature]:
        for code, polygon in outlines_in_tiles(tiles, shape, list(classes), simplify):
            points = [
                [(f"{x * scale[1]:.10g}", f"{y * scale[0]:.10g}") for x, y in ring.coords]
                for ring in _rings(polygon)
            ]
            yield _polygon(f"mask {code} {counts[code]}", points, classes[code][0], {"kind": "mask"})
            counts[code] += 1

    return write_features(Path(path), items(), dict(classes.values()), image)


def import_mask_geojson(
    study: Study, path: Path | str, image_id: int, *, complete: bool = False
) -> ImportReport:
    """Paint the polygons of QuPath's GeoJSON into the mask of an image; where they overlap, the last counts.

    Parameters
    ----------
    study : Study
    path : path
        As for `import_geojson`. Objects without class, points and lines are left out.
    image_id : int
    complete : bool
        Whether the polygons say all: then the other pixels are background.

    Raises
    ------
    StudyError
        If the file is not such a file, or has no polygon with a class. Then nothing was imported.
    """
    path = Path(path)
    image = study.image(image_id)
    found, skipped = read_outlines(path, exact=False)
    with study.edit(f"Imported {path.name}"):
        names, created = make_classes(study, [f.name for f in found], _colours(found), MASK)
        codes = {c.name: c.code for c in study.classes(MASK)}
        pieces = [(outline.rings, codes[names[outline.name]]) for outline in found]
        changed = _paint(study, image, pieces)
        if complete:
            study.set_mask_complete(image.id, True)
    return ImportReport(changed, len(found) - changed, 0, skipped, created, "polygon")


def _paint(study: Study, image: ImageRecord, pieces: list[tuple[list[np.ndarray], int]]) -> int:
    """Paint polygons in bands of rows, and count those that changed something.

    One by one, they would compress the same tiles again and again; all at once, a slide would not fit.
    """
    first = np.array([rings[0][:, 0].min() for rings, _ in pieces])
    last = np.array([rings[0][:, 0].max() for rings, _ in pieces])
    changed: set[int] = set()
    for row0 in range(0, image.height, _BAND):
        box = (row0, 0, min(row0 + _BAND, image.height), image.width)
        here = np.flatnonzero((last >= row0 - 1) & (first <= box[2])).tolist()
        if not here:
            continue
        before = study.mask(image.id, box)
        after = before.copy()
        for n in here:
            rings, code = pieces[n]
            row, col, inside = filled(rings, box)
            part = after[row - row0 : row - row0 + inside.shape[0], col : col + inside.shape[1]]
            if (part[inside] != code).any():
                part[inside] = code
                changed.add(n)
        study.paint_mask(image.id, row0, 0, after, where=after != before)
    return len(changed)


def read_outlines(path: Path, *, exact: bool = True) -> tuple[list[Outline], int]:
    """Read the polygons with a class of a GeoJSON file, and count the other objects.

    Parameters
    ----------
    path : Path
    exact : bool
        To the last bit, at ten times the time.

    Raises
    ------
    StudyError
        If it is no such file, or has no polygon with a class.
    """

    def read(feature: dict[str, Any]) -> list[Outline]:
        name, colour = class_of(feature)
        geometry = feature.get("geometry") or {}
        points = geometry.get("coordinates")
        parts = {"Polygon": [points], "MultiPolygon": points}
        polygons = parts.get(str(geometry.get("type"))) or []
        rings = [[_ring(ring, exact) for ring in polygon] for polygon in polygons if polygon]
        return [Outline(name, colour, polygon, _block_said(feature)) for polygon in rings] if name else []

    found: list[Outline] = []
    skipped = 0
    for outlines in read_features(path, read, exact=exact):
        skipped += not outlines
        found += outlines
    if not found:
        raise nothing_in(path, "polygons", skipped, "a class and an area")
    return found, skipped


def _ring(points: list[Any], exact: bool) -> np.ndarray:
    if exact:
        ring = np.array([pixel_position(point) for point in points], np.float64)
    else:
        ring = np.array([point[1::-1] for point in points], np.float64) - 0.5
    if len(ring) < 4 or not np.isfinite(ring).all():
        raise ValueError("a ring of fewer than four points")
    return ring


def _block_said(feature: dict[str, Any]) -> tuple[int, int] | None:
    """Row and column of a block that this program exported."""
    said = (feature.get("properties") or {}).get("metadata") or {}
    try:
        return (int(said["row"]), int(said["col"])) if said["kind"] == "block" else None
    except (KeyError, TypeError, ValueError):
        return None


def _grid_of(found: list[Outline]) -> Grid | None:
    """Grid that rectangles lie on, if they are most of what was found."""
    boxes = [(rectangle(outline.rings[0]), outline.block) for outline in found if len(outline.rings) == 1]
    upright = [(box, block) for box, block in boxes if box is not None]
    if 2 * len(upright) < len(found) or not upright:
        return None
    return grid_of_rectangles([box for box, _ in upright], upright[0][1])


def _block_at(grid: Grid, outline: Outline, image: ImageRecord) -> tuple[int, int] | None:
    """Find the block that a rectangle is; None if it is none."""
    box = rectangle(outline.rings[0]) if len(outline.rings) == 1 else None
    if box is None:
        return None
    i = round((box[0] - grid.row0) / grid.height)
    j = round((box[1] - grid.col0) / grid.width)
    i0, j0, i1, j1 = grid.blocks_over((0, 0, image.height, image.width))
    fits = np.allclose(grid.edges(i, j), box, rtol=0, atol=SAME)
    return (i, j) if fits and i0 <= i < i1 and j0 <= j < j1 else None


def _rings_of_region(polygon: np.ndarray) -> list[list[np.ndarray]]:
    """Rings of the polygons that a region's one ring stands for."""
    import shapely

    if shapely.Polygon(polygon).is_valid:  # as it is, to the last bit
        return [[np.concatenate([polygon, polygon[:1]])]]
    return [[np.array(r.coords) for r in _rings(part)] for part in polygons_in(shape_of(polygon))]


def _rings(polygon: Polygon) -> list[Any]:
    return [polygon.exterior, *polygon.interiors]


def _colours(found: Iterable[Outline]) -> dict[str, str]:
    colours: dict[str, str] = {}
    for outline in found:
        if outline.colour is not None:
            colours.setdefault(outline.name, outline.colour)
    return colours


def _polygon(
    name: str, rings: Iterable[Iterable[tuple[str, str]]], class_name: str, said: dict[str, str]
) -> Feature:
    """Make an object of rings of (x, y) as text."""
    points = ", ".join(f"[{', '.join(f'[{x}, {y}]' for x, y in ring)}]" for ring in rings)
    return Feature(name, f'{{"type": "Polygon", "coordinates": [{points}]}}', class_name, said)
