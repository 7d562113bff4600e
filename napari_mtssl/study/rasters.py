"""Predicted masks, in ``rasters.zarr`` beside the study's database: the program's own, made again when lost.

Each image has an OME-Zarr group ``predictions/ID``: one level of 8-bit probabilities, (class, row, column).
"""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mtssl.study.records import ImageRecord, StudyError

if TYPE_CHECKING:
    import zarr

FOLDER = "rasters.zarr"
_CHUNK = 256
_OURS = "napari_mtssl"  # our own entry in the attributes of a group

# Ways in which damaged Zarr folders fail; errors of Zarr and of JSON are ValueErrors.
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RuntimeError)
_ERRORS = (OSError, *_DAMAGED)


class LostRasterWarning(RuntimeWarning):
    """A predicted mask could not be read; it is made again by the next prediction."""


@dataclass(frozen=True)
class MaskPrediction:
    """Probabilities of mask classes, predicted for an image.

    Attributes
    ----------
    array : LazyArray (K, rows, cols) uint8
        255 is a probability of one. An element where all classes are 0 has not been predicted yet.
    classes : tuple of str
        Of the first axis.
    scale : tuple of float
        Level-0 pixels (rows, columns) to an element.
    run : str
        Name of the run that predicts.
    """

    array: LazyArray
    classes: tuple[str, ...]
    scale: tuple[float, float]
    run: str

    def read(self, box: tuple[int, int, int, int] | None = None) -> np.ndarray:
        """Read probabilities.

        Parameters
        ----------
        box : tuple of int, optional
            ``(row0, col0, row1, col1)``, half open, level-0 pixels: the elements that it touches. By default
            all.

        Returns
        -------
        ndarray float32 (K, rows, cols)

        Raises
        ------
        StudyError
            If they cannot be read.
        """
        if box is None:
            return self.array[:].astype(np.float32) / 255
        rows, cols = (
            slice(max(0, math.floor(a / s)), max(0, math.ceil(b / s)))
            for a, b, s in zip(box[:2], box[2:], self.scale, strict=True)
        )
        return self.array[:, rows, cols].astype(np.float32) / 255


class LazyArray:
    """An array on disk: what is asked for is read, and nothing else."""

    def __init__(self, array: zarr.Array, name: str) -> None:
        self._array = array
        self._name = name
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.chunks: tuple[int, ...] = tuple(array.chunks)
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a part.

        Raises
        ------
        StudyError
            If it is damaged.
        """
        try:
            return np.asarray(self._array[key])
        except _ERRORS as error:
            raise StudyError(_lost(self._name, error)) from error

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)

    def __len__(self) -> int:
        return self.shape[0]


def write_mask(
    study: Path,
    image: ImageRecord,
    run: str,
    box: Sequence[float],
    probs: np.ndarray,
    scale: tuple[float, float],
    classes: Sequence[tuple[str, int]],
) -> None:
    """Write the probabilities of a box.

    What another run, or one of another scale or other classes, predicted for the image goes.

    Parameters
    ----------
    study : Path
        Folder of the study.
    image : ImageRecord
    run : str
    box : sequence of float
        ``(row0, col0, ...)``: the level-0 pixel that `probs` begins at.
    probs : ndarray (K, h, w)
        From 0 to 1.
    scale : tuple of float
        Level-0 pixels (rows, columns) to an element.
    classes : sequence of (name, code)

    Raises
    ------
    StudyError
        If it cannot be written.
    """
    place = round(box[0] / scale[0]), round(box[1] / scale[1])
    root = study / FOLDER
    try:
        try:
            _write(_array_for(root, image, run, scale, classes), place, probs)
        except _DAMAGED as error:  # what lies there already, in the same chunk
            warnings.warn(_lost(image.name, error), LostRasterWarning, stacklevel=3)
            drop_mask(study, image.id)
            _write(_array_for(root, image, run, scale, classes), place, probs)
    except OSError as error:
        raise StudyError(
            f"The predicted mask of {image.name} cannot be kept in {root}: {error.strerror or error}."
        ) from error


def _write(array: zarr.Array, place: tuple[int, int], probs: np.ndarray) -> None:
    """Write what lies within the array of a part that begins at an element of it."""
    row, col = place
    part = probs[:, max(0, -row) : array.shape[1] - row, max(0, -col) : array.shape[2] - col]
    if part.size:
        row, col = max(0, row), max(0, col)
        part = np.clip(np.nan_to_num(part), 0, 1)
        values = np.rint(part * 255).astype(np.uint8)
        # of two that are nearly the same, the first would become the most probable one
        top = part.argmax(0)
        lost = (values.argmax(0) != top) & (part.max(0) > 0)
        values[top[lost], *np.nonzero(lost)] = values.max(0)[lost] + 1
        array[:, row : row + part.shape[1], col : col + part.shape[2]] = values


def read_mask(study: Path, image: ImageRecord, names: dict[int, str]) -> MaskPrediction | None:
    """Open the predicted mask of an image.

    Parameters
    ----------
    study : Path
        Folder of the study.
    image : ImageRecord
    names : dict of int to str
        The names that classes have now, by code.

    Returns
    -------
    MaskPrediction or None
        None if there is none, or one of its classes was removed (until that is undone), or (with a
        `LostRasterWarning`) if it is damaged.
    """
    group = study / FOLDER / "predictions" / str(image.id)
    if not group.exists():
        return None
    try:
        array, said = _opened(group)
        if any(code not in names for _, code in said["classes"]):
            return None
        classes = tuple(names[code] for _, code in said["classes"])
        return MaskPrediction(LazyArray(array, image.name), classes, tuple(said["scale"]), said["run"])
    except _ERRORS as error:
        warnings.warn(_lost(image.name, error), LostRasterWarning, stacklevel=3)
        return None


def drop_mask(study: Path, image_id: int) -> None:
    """Forget the predicted mask of an image."""
    shutil.rmtree(study / FOLDER / "predictions" / str(image_id), ignore_errors=True)


def _array_for(
    root: Path,
    image: ImageRecord,
    run: str,
    scale: tuple[float, float],
    classes: Sequence[tuple[str, int]],
) -> zarr.Array:
    """Open the image's array if it is of this run, scale and classes; else make a new one."""
    import zarr

    group = root / "predictions" / str(image.id)
    wanted = {"run": run, "scale": list(scale), "classes": [list(pair) for pair in classes]}
    old = None
    if group.exists():
        try:
            array, old = _opened(group)
            if {key: old[key] for key in wanted} == wanted:
                return array
        except _ERRORS:  # it is the program's own: made again, and whoever reads it was told
            shutil.rmtree(group, ignore_errors=True)
    # A new name each time: who still reads the old array finds nothing there, and never other shapes.
    level = str(int(old["level"]) + 1 if old else 0)
    _ensure_groups(root)
    made = zarr.create_group(group, zarr_format=3) if old is None else zarr.open_group(group, mode="r+")
    size = [math.ceil(n / s - 1e-6) for n, s in zip((image.height, image.width), scale, strict=True)]
    array = made.create_array(
        level,
        shape=(len(classes), *size),
        chunks=(len(classes), min(_CHUNK, size[0]), min(_CHUNK, size[1])),
        dtype="uint8",
        fill_value=0,
    )
    made.attrs.update({"ome": _ome(image, level, scale), _OURS: {**wanted, "level": level}})
    if old is not None:
        shutil.rmtree(group / str(old["level"]), ignore_errors=True)
    return array


def _ensure_groups(root: Path) -> None:
    """Make the groups above an image's, or make them anew where they are damaged."""
    import zarr

    for folder in (root, root / "predictions"):
        try:
            zarr.open_group(folder, mode="a", zarr_format=3)
        except _ERRORS:
            if not folder.is_dir():
                folder.unlink()  # something else lies in its place
            else:
                (folder / "zarr.json").unlink(missing_ok=True)
            zarr.open_group(folder, mode="a", zarr_format=3)


def _opened(group: Path) -> tuple[zarr.Array, dict[str, Any]]:
    """Open an image's array and what is said about it; one of `_errors` if it is damaged."""
    import zarr

    opened = zarr.open_group(group, mode="r+" if os.access(group, os.W_OK) else "r")
    said = dict(opened.attrs)[_OURS]
    if not isinstance(said, dict):
        raise TypeError("no description")
    array = opened[str(said["level"])]
    if not isinstance(array, zarr.Array) or array.ndim != 3 or array.shape[0] != len(said["classes"]):
        raise ValueError("no array of this many classes")
    if len(said["scale"]) != 2 or not all(s > 0 for s in said["scale"]) or not isinstance(said["run"], str):
        raise ValueError("no scale, or no run")
    if array.dtype != np.uint8 or not all(isinstance(code, int) for _, code in said["classes"]):
        raise ValueError("no 8-bit array of classes")
    return array, said


def _ome(image: ImageRecord, level: str, scale: tuple[float, float]) -> dict[str, Any]:
    """Metadata by which other programs lay the array over the image."""
    pixel = image.pixel_size_um or 1.0
    unit = {"unit": "micrometer"} if image.pixel_size_um else {}
    axes = [{"name": "c", "type": "channel"}, *({"name": a, "type": "space", **unit} for a in "yx")]
    steps = [1.0, *(s * pixel for s in scale)]
    first = [0.0, *((s - 1) / 2 * pixel for s in scale)]  # centre of the first element
    transforms = [{"type": "scale", "scale": steps}, {"type": "translation", "translation": first}]
    datasets = [{"path": level, "coordinateTransformations": transforms}]
    return {"version": "0.5", "multiscales": [{"name": image.name, "axes": axes, "datasets": datasets}]}


def _lost(name: str, error: Exception) -> str:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return f"The predicted mask of {name} cannot be read ({reason}): predict again to make it anew."
