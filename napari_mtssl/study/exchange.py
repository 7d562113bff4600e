"""Labels from and to other programs: tables, QuPath, napari's layers, label images.

Every import is one edit, never brings in a label twice, and returns an `ImportReport`. Every export replaces
its file whole or leaves it as it was. This module reads and writes cells, and names what other modules do for
blocks, regions, masks, classes of images and statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_mtssl.study.block_files import (
    export_blocks_csv,
    export_statistics_csv,
    import_blocks_csv,
    import_statistics_csv,
)
from napari_mtssl.study.cell_files import CSV_COLUMNS, export_csv, import_csv
from napari_mtssl.study.files import read_array
from napari_mtssl.study.geojson import export_geojson, import_geojson, write_predictions
from napari_mtssl.study.image_files import export_image_classes, import_image_classes
from napari_mtssl.study.mask_files import export_masks, import_mask, import_masks
from napari_mtssl.study.mask_pixels import mask_codes, mask_values
from napari_mtssl.study.mask_zarr import export_mask_zarr, import_mask_zarr
from napari_mtssl.study.merge import ImportReport, merge_cells
from napari_mtssl.study.merge_study import merge_study
from napari_mtssl.study.polygon_files import (
    export_mask_geojson,
    export_regions_geojson,
    import_mask_geojson,
    import_regions_geojson,
)
from napari_mtssl.study.probability_maps import BIN_EDGES, bin_names, import_probability_map
from napari_mtssl.study.records import Source, StudyError
from napari_mtssl.study.study import Study

_SCATTERED = 4  # areas to an object, above which a label image is none

__all__ = [
    "BIN_EDGES",
    "CSV_COLUMNS",
    "ImportReport",
    "bin_names",
    "export_blocks_csv",
    "export_csv",
    "export_geojson",
    "export_image_classes",
    "export_mask_geojson",
    "export_mask_zarr",
    "export_masks",
    "export_regions_geojson",
    "export_statistics_csv",
    "import_blocks_csv",
    "import_csv",
    "import_geojson",
    "import_image_classes",
    "import_labels",
    "import_mask",
    "import_mask_geojson",
    "import_mask_zarr",
    "import_masks",
    "import_points",
    "import_probability_map",
    "import_regions_geojson",
    "import_statistics_csv",
    "labels_to_frame",
    "mask_codes",
    "mask_values",
    "merge_cells",
    "merge_study",
    "points_to_frame",
    "write_predictions",
]


def import_labels(
    study: Study,
    labels: np.ndarray | Path | str,
    image_id: int,
    classes: str | Mapping[int, str],
    *,
    source: Source = "human",
) -> ImportReport:
    """Import the centroids of a label image (StarDist, Cellpose, a brush).

    Parameters
    ----------
    study : Study
    labels : ndarray of int (height, width), or path
        0 is no object, every other number one. A path to TIFF, PNG or ``.npy``.
    image_id : int
    classes : str or mapping of int to str
        Class of all objects, or of each by its number.
    source : {'human', 'model'}
        Who drew the objects.

    Raises
    ------
    StudyError
        If these are no labels of that image, there are none, one has no class, or numbers are scattered, as
        in a photo.
    """
    image = study.image(image_id)
    what = "a label image"
    if isinstance(labels, str | Path):
        what = Path(labels).name
        labels = read_array(Path(labels), "a label image", indexed=True)
    if labels.shape != (image.height, image.width):
        raise StudyError(
            f"The labels of {what} have the shape {labels.shape}, but {image.name} has "
            f"{image.height} rows and {image.width} columns."
        )
    frame = labels_to_frame(labels, classes).assign(image_id=image.id, source=source)
    _check_objects(what, labels)
    return merge_cells(study, frame, f"Imported {what}")


def import_points(
    study: Study, data: np.ndarray, image_id: int, classes: str | Sequence[str]
) -> ImportReport:
    """Import the points of a napari layer; see `points_to_frame`.

    Raises
    ------
    StudyError
        If data and classes do not fit together, or a point is outside the image.
    """
    frame = points_to_frame(data, classes)
    if frame.empty:
        raise StudyError("The layer has no points.")
    return merge_cells(study, frame.assign(image_id=study.image(image_id).id), "Imported a layer of points")


def points_to_frame(data: np.ndarray, classes: str | Sequence[str]) -> pd.DataFrame:
    """Make a table of a napari layer's points.

    Parameters
    ----------
    data : ndarray (N, D), D >= 2
        Pixels; of more than two dimensions the last two are row and column.
    classes : str or sequence of str
        One class for all, or one for each (as ``layer.features["class"]``).

    Returns
    -------
    DataFrame
        Columns ``row, col, class``.

    Raises
    ------
    StudyError
        If data and classes do not fit together, or a point has no class.
    """
    data = np.asarray(data, dtype=np.float64)
    if data.ndim != 2 or data.shape[1] < 2:
        raise StudyError(f"Points are a table of rows and columns, not of shape {data.shape}.")
    names = [classes] * len(data) if isinstance(classes, str) else list(classes)
    if len(names) != len(data):
        raise StudyError(f"There are {len(data)} points, but {len(names)} classes.")
    without = sum(not isinstance(name, str) or not name for name in names)
    if without:
        raise StudyError(f"{without} of {len(names)} points have no class; give them one first.")
    return pd.DataFrame({"row": data[:, -2], "col": data[:, -1], "class": pd.Series(names, dtype=str)})


def labels_to_frame(labels: np.ndarray, classes: str | Mapping[int, str]) -> pd.DataFrame:
    """Find the centroid of every object of a label image.

    Parameters
    ----------
    labels : ndarray of int (height, width)
        With a single number in it, as of a mask or of a brush, objects are the parts that do not touch.
    classes : str or mapping of int to str

    Returns
    -------
    DataFrame
        Columns ``row, col, class``, in the order of the labels.

    Raises
    ------
    StudyError
        If these are no labels, there are none, or one has no class.
    """
    from scipy import ndimage

    if labels.ndim != 2 or labels.dtype == bool or not np.issubdtype(labels.dtype, np.integer):
        raise StudyError(
            f"Labels are a two-dimensional array of whole numbers, not {labels.ndim}-dimensional "
            f"{labels.dtype}; "
            "number the objects of a mask first (skimage.measure.label)."
        )
    numbers = np.unique(labels)
    numbers = numbers[numbers != 0]
    if len(numbers) == 0:
        raise StudyError("The label image has no objects: it is 0 everywhere.")
    names: list[Any] = [classes] * len(numbers)
    if not isinstance(classes, str):
        names = [classes.get(number) for number in numbers.tolist()]
        if None in names:
            raise StudyError(f"The label {numbers[names.index(None)]} has no class.")
    if len(numbers) == 1:
        labels, parts = ndimage.label(labels, np.ones((3, 3)))
        numbers, names = np.arange(1, parts + 1), names * parts
    # several times as fast as scikit-image's regionprops, which makes an object of each label
    centres = np.array(ndimage.center_of_mass(np.ones(labels.shape, np.uint8), labels, numbers))
    return pd.DataFrame({"row": centres[:, 0], "col": centres[:, 1], "class": pd.Series(names, dtype=str)})


def _check_objects(what: str, labels: np.ndarray) -> None:
    """Refuse photos and maps of classes, whose numbers lie here and there: centroids would be nonsense."""
    from skimage.measure import label

    count = len(np.unique(labels[labels != 0]))
    areas = label(labels, background=0, connectivity=2, return_num=True)[1]
    if count > 1 and areas > _SCATTERED * count + 10:
        raise StudyError(
            f"{what} is no label image: its {count:,} numbers lie in {areas:,} separate areas, and each "
            "object has a number of its own in a label image. A mask of classes is imported as a mask."
        )
