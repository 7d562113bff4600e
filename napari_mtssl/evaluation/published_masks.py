"""Masks as public sets have them: of one bit, coloured, with opacity, soft edges, or smaller than images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.images import Image
from napari_mtssl.study.files import read_array
from napari_mtssl.study.records import StudyError


def mask_values(path: Path) -> np.ndarray:
    """Pixels of a mask (height, width), whole numbers; of a coloured one the brightest colour.

    Raises
    ------
    DataError
        If it cannot be read, or is no mask.
    """
    try:
        values = read_array(path, "a mask")
    except StudyError as error:
        raise DataError(str(error)) from error
    if values.ndim == 3 and values.shape[2] <= 4:
        values = values[..., : 3 if values.shape[2] > 2 else 1].max(axis=2)  # without opacity
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        raise DataError(f"{path} is no mask: a mask has one whole number for each pixel.")
    return values


def inside(values: np.ndarray) -> np.ndarray:
    """Where a mask covers: its brighter half (edges may be soft), or all but 0 where it holds small numbers.

    `study.mask_files.import_mask` tells the two apart by 255, which masks with lossy compression may miss.
    """
    half = np.iinfo(values.dtype).max // 2
    return values > (half if values.max() > half else 0)


def check_proportions(path: Path, values: np.ndarray, image: Image) -> None:
    """Refuse a mask that has not the proportions of its image; public masks may be smaller.

    Raises
    ------
    DataError
    """
    rows, cols = values.shape
    if abs(rows - cols * image.height / image.width) > 1:
        raise DataError(
            f"{path} has {rows} x {cols} pixels and its image {image.height} x {image.width}; a mask "
            "must have the size of its image, or at least its proportions."
        )


def check_some(masks: Iterable[np.ndarray], folder: Path) -> None:
    """Refuse masks that are all empty.

    Raises
    ------
    DataError
    """
    if not any(mask.any() for mask in masks):
        raise DataError(f"All masks in {folder} are empty; in a mask, 0 is outside and other values inside.")
