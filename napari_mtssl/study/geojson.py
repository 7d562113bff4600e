"""QuPath's GeoJSON of cells, both ways; see `features` for what it shares with that of polygons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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
from napari_mtssl.study.merge import ImportReport, merge_cells, only_predictions
from napari_mtssl.study.records import PREDICTED, SOURCES, STATUSES
from napari_mtssl.study.study import Study

_COLUMNS = ["row", "col", "class", "source", "status", "confidence"]


def import_geojson(
    study: Study, path: Path | str, image_id: int, *, predictions: bool = False
) -> ImportReport:
    """Import cells from QuPath: points as they are, outlines by their centroid (a cell's by its nucleus).

    Parameters
    ----------
    study : Study
    path : path
        A FeatureCollection, a list of features, or a single feature; children within parents count too.
        Classes come with ``color: [r, g, b]`` or the ``colorRGB`` of older QuPath.
    image_id : int
        The image that the file belongs to.
    predictions : bool
        Also take predictions that this program exported and that nobody reviewed.

    Raises
    ------
    StudyError
        If the file is not such a file, has no object with a class, or a place is outside the image. Then
        nothing was imported.
    """
    path = Path(path)
    image = study.image(image_id)
    rows: list[tuple[Any, ...]] = []
    colours: dict[str, str] = {}
    skipped = predicted = 0

    def read(feature: dict[str, Any]) -> tuple[Any, ...]:
        return class_of(feature), _origin(feature), _places(feature)

    for (name, colour), (source, status, confidence), places in read_features(path, read):
        if not name or not places or (status == PREDICTED and not predictions):
            skipped += 1
            predicted += bool(name and places)
            continue
        if colour is not None:
            colours.setdefault(name, colour)
        status = "accepted" if status == PREDICTED else status
        rows += [(row, col, name, source, status, confidence) for row, col in places]
    if not rows and predicted:
        raise only_predictions(path, predicted)
    if not rows:
        raise nothing_in(path, "cells", skipped, "a class and a place")
    frame = pd.DataFrame(rows, columns=_COLUMNS).assign(image_id=image.id)
    return merge_cells(
        study, frame, f"Imported {path.name}", colours=colours, skipped=skipped, predicted=predicted
    )


def export_geojson(study: Study, image_id: int, path: Path | str, predictions: bool = False) -> int:
    """Export the cells of an image for QuPath: drag the file onto the image there.

    Cells are annotations with class, colour and, of predictions, confidence. Predictions that nobody has
    reviewed are detections.

    Parameters
    ----------
    study : Study
    image_id : int
    path : path
        Replaced whole, or left as it was.
    predictions : bool
        Export these too.

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
    colours = {c.name: c.colour for c in study.classes()}
    cells = study.cells(image_id).assign(kind="annotation")
    if predictions:
        pending = study.pending_predictions(image_id).assign(
            kind="detection", source="model", status=PREDICTED
        )
        cells = pd.concat([cells, pending], ignore_index=True) if len(pending) else cells
    return write_features(Path(path), _features(cells), colours, image.checksum)


def write_predictions(
    path: Path | str, cells: pd.DataFrame, colours: Mapping[str, str], name: str = ""
) -> int:
    """Write predicted cells of an image that need not belong to a study, as QuPath's detections.

    Parameters
    ----------
    path : path
        Replaced whole, or left as it was.
    cells : DataFrame
        ``row, col, class, confidence`` in level-0 pixels.
    colours : mapping of str to str
        Class name to ``#rrggbb``.
    name : str
        Of the image: objects of two images have different names in QuPath.

    Returns
    -------
    int
        How many objects were written.

    Raises
    ------
    StudyError
        If the file cannot be written.
    """
    rows = cells.assign(kind="detection", id=range(len(cells)), source="model", status=PREDICTED)
    return write_features(Path(path), _features(rows), colours, name)


def _features(cells: pd.DataFrame) -> Iterator[Feature]:
    """Objects of cells with the columns ``kind, id`` and those of an import."""
    columns = [cells[c].tolist() for c in ["kind", "id", *_COLUMNS]]
    for kind, cell, row, col, name, source, status, confidence in zip(*columns, strict=True):
        x, y = image_position(col), image_position(row)
        yield Feature(
            f"{kind} {cell}",
            f'{{"type": "Point", "coordinates": [{x}, {y}]}}',
            name,
            {"source": source, "status": status},
            kind,
            None if np.isnan(confidence) else {"confidence": confidence},
        )


def _origin(feature: dict[str, Any]) -> tuple[str, str, float | None]:
    """Source, status and confidence, where this program wrote them; else a human's."""
    properties = feature.get("properties") or {}
    said = properties.get("metadata") or {}
    source, status = said.get("source"), said.get("status")
    if source not in SOURCES or status not in (*STATUSES, PREDICTED):
        return "human", "accepted", None
    measured = properties.get("measurements") or {}
    if isinstance(measured, list):  # older QuPath
        measured = {item["name"]: item["value"] for item in measured}
    confidence = measured.get("confidence")
    return source, status, None if confidence is None else float(confidence)


def _places(feature: dict[str, Any]) -> list[tuple[float, float]]:
    """List ``(row, col)`` of a feature: points, and outlines by their centroid; none for a line.

    Of an outline in pieces, a detection is where its largest piece is, for a nucleus may be torn; an
    annotation (QuPath merges them into one) is as many cells as pieces.
    """
    geometry = feature.get("nucleusGeometry") or feature.get("geometry") or {}
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if not coordinates:
        return []
    match kind:
        case "Point":
            return [pixel_position(coordinates)]
        case "MultiPoint":
            return [pixel_position(point) for point in coordinates]
        case "Polygon":
            return [_centroid(coordinates)[1]]
        case "MultiPolygon":
            pieces = [_centroid(piece) for piece in coordinates if piece]
            one = (feature.get("properties") or {}).get("objectType") in ("cell", "detection")
            return [place for _, place in ([max(pieces)] if one and pieces else pieces)]
    return []


def _centroid(polygon: list[Any]) -> tuple[float, tuple[float, float]]:
    """Area of a polygon (outer ring, then holes), and its centre in pixels ``(row, col)``."""
    weights, centres = [], []
    for i, points in enumerate(polygon):
        area, centre = _ring(np.array([p[:2] for p in points], dtype=np.float64))
        weights.append(-area if i else area)
        centres.append(centre)
    total = sum(weights)
    if total <= 0:  # no area: a line drawn as a polygon
        weights = [1.0] * len(centres)
    x, y = np.average(centres, axis=0, weights=weights)
    return total, (float(y - 0.5), float(x - 0.5))


def _ring(points: np.ndarray) -> tuple[float, np.ndarray]:
    """Area and centre ``(x, y)`` of a ring, by the shoelace formula about its first point (for precision)."""
    local = points - points[0]
    ahead = np.roll(local, -1, axis=0)
    cross = local[:, 0] * ahead[:, 1] - ahead[:, 0] * local[:, 1]
    double = cross.sum()
    if double == 0:
        return 0.0, points.mean(axis=0)
    return abs(double) / 2, points[0] + ((local + ahead) * cross[:, None]).sum(axis=0) / (3 * double)
