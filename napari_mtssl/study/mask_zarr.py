"""Masks as OME-Zarr labels, out and in."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_mtssl.study.files import plane
from napari_mtssl.study.mask_files import by_one_class
from napari_mtssl.study.mask_pixels import holds_predictions, mask_parts, value_tables
from napari_mtssl.study.merge import ImportReport, only_predictions
from napari_mtssl.study.merge_labels import merge_mask
from napari_mtssl.study.records import (
    BACKGROUND,
    GIVEN,
    PREDICTED,
    CellClass,
    ImageRecord,
    Source,
    StudyError,
)
from napari_mtssl.study.study import Study

_OURS = "napari_mtssl"  # marks folders that this program made, and may replace
_LABEL = "label"  # beside it: whether they are labels, or hold predictions
_LEAST = 2048  # pixels of the longer side: a larger image gets a level of every second pixel, too
_BAND = 2048  # rows that are reduced at once


def export_mask_zarr(study: Study, image_id: int, path: Path | str, *, predictions: bool = False) -> Path:
    """Export the mask of an image as OME-Zarr labels (0.5): ``labels/mask`` in a folder of its own.

    A large one gets reduced levels, so that other programs can show a slide's.

    Parameters
    ----------
    study : Study
    image_id : int
    path : path
        The folder to make; one that this function made is replaced whole, any other is left as it is.
    predictions : bool
        Also what is predicted of pixels that nobody painted.

    Raises
    ------
    StudyError
        If there is no such image, nothing is painted, or the folder cannot be written.
    """
    study.check_no_image(path)
    import zarr

    image = study.image(image_id)
    table, classes, unsaid = value_tables(study)
    guessed = predictions and holds_predictions(study, image.id)
    ours = {_OURS: "mask", _LABEL: PREDICTED if guessed else GIVEN}
    with _folder_written_whole(Path(path)) as folder:
        root = zarr.create_group(folder, zarr_format=3, attributes={"ome": {"version": "0.5"}, **ours})
        labels = root.create_group("labels", attributes={"ome": {"version": "0.5", "labels": ["mask"]}})
        group = labels.create_group("mask", attributes={"ome": _ome(image, classes, unsaid)})
        array = _level(group, 0, (image.height, image.width), table.dtype)
        for row0, col0, codes in mask_parts(study, image.id, predictions=predictions):
            array[row0 : row0 + codes.shape[0], col0 : col0 + codes.shape[1]] = table[codes]
        for level in range(1, _levels(image)):
            reduced = _level(group, level, tuple(-(-side // 2) for side in array.shape), table.dtype)
            for row0 in range(0, reduced.shape[0], _BAND // 2):
                part = array[2 * row0 : 2 * row0 + _BAND]
                reduced[row0 : row0 + _BAND // 2] = part[::2, ::2]  # labels have no mean
            array = reduced
    return Path(path)


def _level(group: Any, level: int, shape: tuple[int, ...], kind: Any) -> Any:
    chunks = tuple(min(512, side) for side in shape)
    return group.create_array(str(level), shape=shape, chunks=chunks, dtype=kind)


def _levels(image: ImageRecord) -> int:
    """How many levels a mask has: the last one is at most `_LEAST` pixels wide and high."""
    longer, count = max(image.height, image.width), 1
    while longer > _LEAST:
        longer, count = -(-longer // 2), count + 1
    return count


def import_mask_zarr(
    study: Study,
    path: Path | str,
    image_id: int,
    classes: Mapping[int, str] | str | None = None,
    *,
    predictions: bool = False,
) -> ImportReport:
    """Import OME-Zarr labels as the mask of an image.

    Parameters
    ----------
    study : Study
    path : path
        A folder with ``labels``, or one of these labels.
    image_id : int
    classes : mapping of int to str, or str, optional
        See `import_mask`. By default the properties ``class`` (or ``name``) of the labels' own metadata.
    predictions : bool
        Take what was exported with predictions that nobody reviewed, too, as the network's.

    Raises
    ------
    StudyError
        If these are no labels, the size is not that of the image, a value has no class, or they hold
        predictions that are not taken.
    """
    path = Path(path)
    guessed = are_predicted(path)
    if guessed and not predictions:
        raise only_predictions(path, 1)
    who: Source = "model" if guessed else "human"
    values, said = _read_labels_zarr(path)
    colours: dict[str, str] = {}
    unsaid = None
    if classes is None:
        classes = {}
        for item in said.get("properties", []):
            name = item.get("class", item.get("name"))
            if name:
                classes[int(item["label-value"])] = str(name)
            elif item.get("unsaid"):
                unsaid = int(item["label-value"])
        for item in said.get("colors", []):
            name, rgba = classes.get(int(item["label-value"])), item.get("rgba")
            if name and rgba:
                colours[name] = "#" + "".join(f"{int(v):02x}" for v in rgba[:3])
        if not classes:
            raise StudyError(f"{path.name} does not say which classes its labels have: say it.")
        classes.setdefault(0, BACKGROUND)
    if isinstance(classes, str):
        values, classes = by_one_class(values, classes)
    what = f"Imported {path.name}"
    return merge_mask(study, image_id, values, classes, what, unsaid=unsaid, colours=colours, source=who)


def are_predicted(path: Path) -> bool:
    """Whether labels that this program exported hold predictions that nobody had reviewed."""
    return any(_root(folder).get(_LABEL) == PREDICTED for folder in (path, path.parent.parent))


def _root(path: Path) -> dict[str, Any]:
    """Read what this program wrote at the top of a folder; nothing if it did not make it."""
    try:
        found = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        return dict(found) if _OURS in found else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _read_labels_zarr(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Read the first labels in a folder: their first level, and what ``image-label`` says."""
    import zarr
    import zarr.errors

    try:
        group = zarr.open_group(path, mode="r")
        if "labels" in group:
            names = _attributes(group["labels"]).get("labels") or sorted(group["labels"].group_keys())
            group = group["labels"][names[0]]
        said = _attributes(group)
        array = group[said["multiscales"][0]["datasets"][0]["path"]]
        values = np.asarray(array[...])
    except (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise StudyError(f"{path.name} holds no OME-Zarr labels that can be read ({reason}).") from error
    return plane(values), dict(said.get("image-label", {}))


def _attributes(group: Any) -> dict[str, Any]:
    attributes = dict(group.attrs)
    return attributes.get("ome", attributes)  # 0.5 nests what 0.4 keeps at the top


def _ome(image: ImageRecord, classes: Mapping[int, CellClass], unsaid: int) -> dict[str, Any]:
    pixel = image.pixel_size_um or 1.0
    unit = {"unit": "micrometer"} if image.pixel_size_um else {}
    datasets = [
        {
            "path": str(level),  # the upper left one of four pixels: no translation
            "coordinateTransformations": [{"type": "scale", "scale": [pixel * 2**level] * 2}],
        }
        for level in range(_levels(image))
    ]
    colours = [
        {"label-value": value, "rgba": [*bytes.fromhex(c.colour[1:]), 0 if c.background else 255]}
        for value, c in classes.items()
    ]
    properties: list[dict[str, Any]] = [{"label-value": v, "class": c.name} for v, c in classes.items()]
    return {
        "version": "0.5",
        "multiscales": [
            {
                "name": "mask",
                "axes": [{"name": a, "type": "space", **unit} for a in "yx"],
                "datasets": datasets,
            }
        ],
        "image-label": {
            "version": "0.5",
            "colors": colours,
            "properties": [*properties, {"label-value": unsaid, "unsaid": True}],
        },
    }


@contextmanager
def _folder_written_whole(path: Path) -> Iterator[Path]:
    """Make a folder aside that replaces `path`, if that is one of ours, when the block has ended well."""
    if path.exists() and not _root(path):
        raise StudyError(f"There is something else at {path} already: choose another name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            made = aside / path.name
            yield made
            if path.exists():
                path.rename(aside / "old")
            made.rename(path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror or error}.") from error
