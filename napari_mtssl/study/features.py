"""GeoJSON as QuPath reads and writes it, object by object: what cells, blocks, regions and masks share.

QuPath counts ``(x, y)`` from the upper left corner of the first pixel; this program counts ``(row, column)``
from its centre. So ``row = y - 0.5`` and ``col = x - 0.5``. The sums are done in decimals, on the shortest
digits that name a position, so that a place that goes out and comes back is the same to the last bit.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from pathlib import Path
from typing import Any, TypeVar

from napari_mtssl.study.files import read_text, written_whole
from napari_mtssl.study.records import StudyError, plural

_HALF = Decimal("0.5")
_EXACT = Context(prec=800)  # digits: more than the sum of one half and any float has
_UNREADABLE = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError)
T = TypeVar("T")


@dataclass(frozen=True)
class Feature:
    """An object to write.

    Attributes
    ----------
    name : str
        What tells it from the others of its image.
    geometry : str
        JSON.
    class_name : str
    metadata : mapping of str to str
        What else is said.
    object_type : str
        ``annotation`` or ``detection``.
    measurements : mapping of str to float, optional
    """

    name: str
    geometry: str
    class_name: str
    metadata: Mapping[str, str]
    object_type: str = "annotation"
    measurements: Mapping[str, float] | None = None


def write_features(path: Path, features: Iterable[Feature], colours: Mapping[str, str], image: str) -> int:
    """Write objects; the file is replaced whole, or left as it was.

    Parameters
    ----------
    path : Path
    features : iterable of Feature
        Written as they come: there may be more than fit into memory.
    colours : mapping of str to str
        Class name to ``#rrggbb``.
    image : str
        What tells the image from others: a checksum, or a name. Objects are named after it.

    Returns
    -------
    int
        How many were written.

    Raises
    ------
    StudyError
        If the file cannot be written.
    """
    count = 0
    with written_whole(path) as stream:
        stream.write('{"type": "FeatureCollection", "features": [')
        for feature in features:
            properties: dict[str, Any] = {
                "objectType": feature.object_type,
                "classification": {"name": feature.class_name, "color": _rgb(colours[feature.class_name])},
                "metadata": feature.metadata,
            }
            if feature.measurements:
                properties["measurements"] = feature.measurements
            stream.write(
                f'{"," if count else ""}\n{{"type": "Feature", "id": "{_object_name(image, feature.name)}", '
                f'"geometry": {feature.geometry}, '
                f'"properties": {json.dumps(properties, ensure_ascii=False)}}}'
            )
            count += 1
        stream.write("\n]}\n")
    return count


def read_features(path: Path, read: Callable[[dict[str, Any]], T], *, exact: bool = True) -> Iterator[T]:
    """Read a file object by object.

    Parameters
    ----------
    path : Path
        A FeatureCollection, a list of features, or a single feature; children within parents count too.
    read : callable
        Makes of a feature what is wanted; its errors say which object is at fault.
    exact : bool
        Numbers as `Decimal`, to the last bit, at ten times the time.

    Raises
    ------
    StudyError
        If the file, or an object, is no GeoJSON.
    """
    try:
        root = json.loads(read_text(path), parse_float=Decimal if exact else float)
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{path.name} is no GeoJSON: {error}.") from error
    for number, feature in enumerate(_features_in(root, path), start=1):
        try:
            found = read(feature)
        except _UNREADABLE as error:
            raise StudyError(
                f"Object {number} of {path.name} cannot be read as GeoJSON: {error!r}."
            ) from error
        yield found


def nothing_in(path: Path, what: str, skipped: int, lacking: str) -> StudyError:
    """Make the error of a file without anything to import."""
    reason = f"of its {plural(skipped, 'object')} none has {lacking}." if skipped else "it is empty."
    return StudyError(f"{path.name} has no {what} to import: {reason}")


def _rgb(colour: str) -> list[int]:
    """Turn ``#rrggbb`` into three numbers, as QuPath writes colours."""
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _object_name(image: str, name: str) -> uuid.UUID:
    """Name of an object that is the same in every export: QuPath then knows it again."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{image} {name}")


def image_position(value: float) -> str:
    """Position of QuPath, from the edge of the first pixel, of one of ours, from its centre."""
    return format(_EXACT.add(Decimal(repr(value)), _HALF), "f")


def pixel_position(point: Sequence[Any]) -> tuple[float, float]:
    """Our (row, col), from the centre of the first pixel, of QuPath's (x, y) from its edge."""
    x, y = point[:2]
    return float(_EXACT.subtract(Decimal(y), _HALF)), float(_EXACT.subtract(Decimal(x), _HALF))


def _features_in(root: Any, path: Path) -> Iterator[dict[str, Any]]:
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
            yield from _features_in(children, path)


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
