"""QuPath's GeoJSON, both ways.

QuPath counts ``(x, y)`` from the upper left corner of the first pixel; this program counts ``(row, column)``
from its centre. So ``row = y - 0.5`` and ``col = x - 0.5``. The sums are done in decimals, on the shortest
digits that name a position, so that a place that goes out and comes back is the same to the last bit.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_mtssl.study.files import read_text, written_whole
from napari_mtssl.study.merge import ImportReport, merge_cells
from napari_mtssl.study.records import SOURCES, STATUSES, StudyError, plural
from napari_mtssl.study.study import Study

_HALF = Decimal("0.5")
_EXACT = Context(prec=800)  # digits: more than the sum of one half and any float has
_PREDICTED = "predicted"  # what `metadata.status` says of a prediction that nobody has reviewed
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
    try:
        root = json.loads(read_text(path), parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{path.name} is no GeoJSON: {error}.") from error
    rows: list[tuple[Any, ...]] = []
    colours: dict[str, str] = {}
    skipped = 0
    for number, feature in enumerate(features_in(root, path), start=1):
        try:
            name, colour = class_of(feature)
            source, status, confidence = _origin(feature)
            places = _places(feature)
        except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise StudyError(
                f"Object {number} of {path.name} cannot be read as GeoJSON: {error!r}."
            ) from error
        if not name or not places or (status == _PREDICTED and not predictions):
            skipped += 1
            continue
        if colour is not None:
            colours.setdefault(name, colour)
        status = "accepted" if status == _PREDICTED else status
        rows += [(row, col, name, source, status, confidence) for row, col in places]
    if not rows:
        raise StudyError(
            f"{path.name} has no cells to import: "
            + (
                f"of its {plural(skipped, 'object')} none has a class and a place."
                if skipped
                else "it is empty."
            )
        )
    frame = pd.DataFrame(rows, columns=_COLUMNS).assign(image_id=image.id)
    return merge_cells(study, frame, f"Imported {path.name}", colours=colours, skipped=skipped)


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
    image = study.image(image_id)
    colours = {c.name: rgb(c.colour) for c in study.classes()}
    cells = study.cells(image_id).assign(kind="annotation")
    if predictions:
        pending = study.pending_predictions(image_id).assign(
            kind="detection", source="model", status=_PREDICTED
        )
        cells = pd.concat([cells, pending], ignore_index=True) if len(pending) else cells
    _write(Path(path), cells, colours, image.checksum)
    return len(cells)


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
    rows = cells.assign(kind="detection", id=range(len(cells)), source="model", status=_PREDICTED)
    _write(Path(path), rows, {c: rgb(colour) for c, colour in colours.items()}, name)
    return len(cells)


def rgb(colour: str) -> list[int]:
    """Turn ``#rrggbb`` into three numbers, as QuPath writes colours."""
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _write(path: Path, cells: pd.DataFrame, colours: Mapping[str, list[int]], image: str) -> None:
    """Write objects with the columns ``kind, id`` and those of an import."""
    with written_whole(path) as stream:
        stream.write('{"type": "FeatureCollection", "features": [')
        columns = [cells[c].tolist() for c in ["kind", "id", *_COLUMNS]]
        for n, (kind, cell, row, col, name, source, status, confidence) in enumerate(
            zip(*columns, strict=True)
        ):
            properties: dict[str, Any] = {
                "objectType": kind,
                "classification": {"name": name, "color": colours[name]},
                "metadata": {"source": source, "status": status},
            }
            if not np.isnan(confidence):
                properties["measurements"] = {"confidence": confidence}
            x, y = image_position(col), image_position(row)
            stream.write(
                f'{"," if n else ""}\n{{"type": "Feature", "id": "{object_name(image, f"{kind} {cell}")}", '
                f'"geometry": {{"type": "Point", "coordinates": [{x}, {y}]}}, '
                f'"properties": {json.dumps(properties, ensure_ascii=False)}}}'
            )
        stream.write("\n]}\n")


def object_name(image: str, name: str) -> uuid.UUID:
    """Name of an object that is the same in every export: QuPath then knows it again."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{image} {name}")


def image_position(value: float) -> str:
    """Position of QuPath, from the edge of the first pixel, of one of ours, from its centre."""
    return format(_EXACT.add(Decimal(repr(value)), _HALF), "f")


def features_in(root: Any, path: Path) -> Iterator[dict[str, Any]]:
    """All features, also those within others (QuPath's ``childObjects``)."""
    if isinstance(root, dict) and root.get("type") == "FeatureCollection":
        root = root.get("features")
    elif isinstance(root, dict):
        root = [root]
    if not isinstance(root, list) or not all(
        isinstance(f, dict) and f.get("type") == "Feature" for f in root
    ):
        raise StudyError(f"{path.name} is JSON, but no GeoJSON: it has no list of features.")
    for feature in root:
        yield feature
        children = (feature.get("properties") or {}).get("childObjects")
        if children:
            yield from features_in(children, path)


def class_of(feature: dict[str, Any]) -> tuple[str | None, str | None]:
    """Name and colour of a feature's class; None where it has none."""
    properties = feature.get("properties") or {}
    said = properties.get("classification")
    if not said:
        return None, None
    if isinstance(said, str):
        said = {"name": said}
    name = said.get("name") or ": ".join(said.get("names", []))  # QuPath writes derived classes both ways
    if not isinstance(name, str):
        raise TypeError(f"{name!r} is no name of a class")
    colour = said.get("color", said.get("colorRGB", properties.get("color")))
    if isinstance(colour, int):  # older QuPath: signed 32 bits, alpha first
        return name, f"#{colour & 0xFFFFFF:06x}"
    if isinstance(colour, list):
        red, green, blue = (int(value) & 0xFF for value in colour[:3])
        return name, f"#{red:02x}{green:02x}{blue:02x}"
    return name, None


def _origin(feature: dict[str, Any]) -> tuple[str, str, float | None]:
    """Source, status and confidence, where this program wrote them; else a human's."""
    properties = feature.get("properties") or {}
    said = properties.get("metadata") or {}
    source, status = said.get("source"), said.get("status")
    if source not in SOURCES or status not in (*STATUSES, _PREDICTED):
        return "human", "accepted", None
    measured = properties.get("measurements") or {}
    if isinstance(measured, list):  # older QuPath
        measured = {item["name"]: item["value"] for item in measured}
    confidence = measured.get("confidence")
    return source, status, None if confidence is None else float(confidence)


def _places(feature: dict[str, Any]) -> list[tuple[float, float]]:
    """List ``(row, col)`` of a feature: every point, or an outline's centroid; none for a line."""
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
            return [_centroid([coordinates])]
        case "MultiPolygon":
            return [_centroid(coordinates)]
    return []


def pixel_position(point: Sequence[Any]) -> tuple[float, float]:
    """Our (row, col), from the centre of the first pixel, of QuPath's (x, y) from its edge."""
    x, y = point[:2]
    return float(_EXACT.subtract(Decimal(y), _HALF)), float(_EXACT.subtract(Decimal(x), _HALF))


def _centroid(polygons: list[Any]) -> tuple[float, float]:
    """Centre of area of polygons (outer ring, then holes), in pixels ``(row, col)``."""
    weights, centres = [], []
    for polygon in polygons:
        for i, points in enumerate(polygon):
            area, centre = _ring(np.array([p[:2] for p in points], dtype=np.float64))
            weights.append(-area if i else area)
            centres.append(centre)
    total = sum(weights)
    if total <= 0:  # no area: a line drawn as a polygon
        weights, total = [1.0] * len(centres), len(centres)
    x, y = np.average(centres, axis=0, weights=np.array(weights) / total)
    return float(y - 0.5), float(x - 0.5)


def _ring(points: np.ndarray) -> tuple[float, np.ndarray]:
    """Area and centre ``(x, y)`` of a ring, by the shoelace formula about its first point (for precision)."""
    local = points - points[0]
    ahead = np.roll(local, -1, axis=0)
    cross = local[:, 0] * ahead[:, 1] - ahead[:, 0] * local[:, 1]
    double = cross.sum()
    if double == 0:
        return 0.0, points.mean(axis=0)
    return abs(double) / 2, points[0] + ((local + ahead) * cross[:, None]).sum(axis=0) / (3 * double)
