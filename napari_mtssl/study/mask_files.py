"""Masks as label images: one file, or a folder of PNG files, in which OME-Zarr labels may lie, too."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_mtssl.study.files import read_array, umask
from napari_mtssl.study.mask_pixels import holds_predictions, mask_values
from napari_mtssl.study.mask_tables import (
    CLASSES_FILE,
    check_ours,
    note_masks,
    predicted_in,
    read_classes,
    write_classes,
)
from napari_mtssl.study.merge import ImportReport, only_predictions
from napari_mtssl.study.merge_labels import joined, merge_mask
from napari_mtssl.study.names import ImageNames, names_of
from napari_mtssl.study.records import (
    BACKGROUND,
    GIVEN,
    PREDICTED,
    ImageRecord,
    Source,
    StudyError,
)
from napari_mtssl.study.study import Study

MOST = 500_000_000  # pixels of an image whose mask is written as one PNG
ZARR = ".zarr"
STACKED = (".tif", ".tiff", ".npy")
_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".npy", ".jpg", ".jpeg")


def export_masks(
    study: Study,
    folder: Path | str,
    image_ids: Sequence[int] | None = None,
    *,
    predictions: bool = False,
) -> list[Path]:
    """Export masks as a folder of PNG files, with ``classes.csv`` to say what their values are.

    Value 0 is background, 1 and up are the classes, 255 is where nobody said anything. If some hold
    predictions, ``masks.csv`` says which, so that they come back as nobody's labels.

    Parameters
    ----------
    study : Study
    folder : path
        Made if it is missing.
    image_ids : sequence of int, optional
        By default all images that have a mask.
    predictions : bool
        Also what is predicted of pixels that nobody painted.

    Returns
    -------
    list of Path
        A file ``STEM.png`` for each image; ``FOLDER_STEM.png`` where others have the same stem.

    Raises
    ------
    StudyError
        If there is nothing to export, a file cannot be written, or one of the user's would be replaced: an
        image of the study, or a table of another kind.
    """
    folder = Path(folder)
    ids = list(image_ids) if image_ids is not None else _with_mask(study, predictions)
    if not ids:
        raise StudyError(f"The study '{study.name}' has no masks to export.")
    names = names_of(study.images())
    paths, labels = [folder / f"{names[image_id]}.png" for image_id in ids], {}
    for path in paths:  # before anything is written
        study.check_no_image(path)
    check_ours(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for image_id, path in zip(ids, paths, strict=True):
            image = study.image(image_id)
            if image.height * image.width > MOST:
                raise StudyError(
                    f"{image.name} is too large for one PNG: export its mask as OME-Zarr or GeoJSON."
                )
            values, classes, unsaid = mask_values(study, image_id, predictions=predictions)
            _write_png(path, values)
            guessed = predictions and holds_predictions(study, image_id)
            labels[path.name] = PREDICTED if guessed else GIVEN
    except OSError as error:
        raise StudyError(f"{folder} cannot be written: {error.strerror or error}.") from error
    write_classes(folder, classes, unsaid)
    note_masks(folder, labels)
    return paths


def import_masks(
    study: Study,
    folder: Path | str,
    classes: Mapping[int, str] | str | None = None,
    *,
    predictions: bool = False,
) -> ImportReport:
    """Import a folder of masks whose names are those of the study's images.

    Parameters
    ----------
    study : Study
    folder : path
        Of PNG, TIFF, BMP or ``.npy`` files, or OME-Zarr labels. A file belongs to the image of the same stem,
        see `ImageNames.owner`; a TIFF of several pages or a ``.npy`` may be of a stack, with a page for each
        plane. Of others, the report tells the names.
    classes : mapping of int to str, or str, optional
        See `import_mask`. By default what ``classes.csv`` in the folder says (``value,class``, and if wanted
        ``colour``), and OME-Zarr labels themselves.
    predictions : bool
        Take masks that hold predictions which nobody reviewed as labels, too; else they are left out, and the
        report says how many.

    Raises
    ------
    StudyError
        If no file fits, one may be of several images or has not the size of its image, a value has no class,
        or there are only predictions that are left out. Then nothing was imported.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StudyError(f"There is no folder {folder}.")
    masks, strange = _masks_in(study, folder)
    guessed = set() if predictions else _predicted(folder, list(masks))
    if guessed and len(guessed) == len(masks):
        raise only_predictions(folder, len(guessed))
    masks = {path: images for path, images in masks.items() if path not in guessed}
    named = classes
    unsaid: int | None = None
    colours: dict[str, str] = {}
    if named is None and any(path.suffix.lower() != ZARR for path in masks):
        named, colours, unsaid = read_classes(folder / CLASSES_FILE)
    from napari_mtssl.study.mask_zarr import import_mask_zarr  # which needs this module

    reports = []
    with study.edit(f"Imported masks from {folder.name}"):
        for path, images in masks.items():
            for source, image in _sources(path, images):
                if path.suffix.lower() == ZARR:
                    found = import_mask_zarr(study, path, image.id, classes, predictions=True)
                else:
                    assert named is not None
                    found = import_mask(
                        study, source, image.id, named, unsaid=unsaid, colours=colours, predictions=True
                    )
                reports.append(found)
    return replace(joined(reports), skipped=len(guessed), predicted=len(guessed), strange=strange)


def _sources(
    path: Path, images: ImageRecord | Mapping[int, ImageRecord]
) -> Iterator[tuple[Path | np.ndarray, ImageRecord]]:
    """Give what is imported for each image of a file: the file, or of a stack a page for each plane."""
    if not isinstance(images, Mapping):
        yield path, images
        return
    pages = read_array(path, "a mask")
    if pages.ndim != 3 or len(pages) <= max(images):
        raise StudyError(
            f"{path.name} has the shape {pages.shape}, but the stack of its name {max(images) + 1} planes or "
            "more; a mask of a stack has a page for each plane."
        )
    for number, image in images.items():
        yield pages[number], image


def _masks_in(
    study: Study, folder: Path
) -> tuple[dict[Path, ImageRecord | Mapping[int, ImageRecord]], tuple[str, ...]]:
    """Masks in a folder, each with its image or the planes of its stack, and files that fit none.

    Raises
    ------
    StudyError
        If there are no masks.
    """
    known, strange = ImageNames(study.images()), []
    masks: dict[Path, ImageRecord | Mapping[int, ImageRecord]] = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in (*_SUFFIXES, ZARR)):
        image = known.owner(path)
        planes = known.planes(path) if image is None and path.suffix.lower() in STACKED else {}
        if planes:
            masks[path] = planes
        elif image is None:
            strange.append(path.name)
        elif path.absolute() != image.path:
            other = next((there for there, owner in masks.items() if owner == image), None)
            if other is not None:
                raise StudyError(f"{other.name} and {path.name} are both a mask of {image.name}: keep one.")
            masks[path] = image
    if not masks:
        raise StudyError(
            f"No file in {folder} belongs to an image of the study '{study.name}': "
            "a mask has the name of its image."
        )
    return masks, tuple(strange)


def _predicted(folder: Path, masks: Sequence[Path]) -> set[Path]:
    """Find the masks in a folder that hold predictions which nobody has reviewed."""
    from napari_mtssl.study.mask_zarr import are_predicted

    named = predicted_in(folder)
    return {
        path for path in masks if path.name in named or (path.suffix.lower() == ZARR and are_predicted(path))
    }


def import_mask(
    study: Study,
    source: np.ndarray | Path | str,
    image_id: int,
    classes: Mapping[int, str] | str,
    *,
    unsaid: int | None = None,
    colours: Mapping[str, str] | None = None,
    predictions: bool = False,
) -> ImportReport:
    """Import the mask of one image.

    Parameters
    ----------
    study : Study
    source : ndarray of int (height, width), or path
    image_id : int
    classes : mapping of int to str, or str
        Class of each value. A single name is that of everything which is not background: every value but 0,
        or, of an 8-bit mask that reaches 255, every value above 127 (soft edges).
    unsaid : int, optional
        The value of pixels of which nothing is said. Without one, or if none has it, the mask is complete.
    colours : mapping of str to str, optional
        Class name to ``#rrggbb`` for classes that are made.
    predictions : bool
        Take a file that holds predictions which nobody reviewed, too, as the network's.

    Raises
    ------
    StudyError
        If the size is not that of the image, a value has no class, or it holds predictions that are not
        taken. Then nothing was imported.
    """
    what, guessed = "a mask", False
    if isinstance(source, np.ndarray):
        values = source
    else:
        path = Path(source)
        what, guessed = path.name, path.name in predicted_in(path.parent)
        if guessed and not predictions:
            raise only_predictions(path, 1)
        values = read_array(path, "a mask", indexed=True)
    if values.ndim == 3 and values.shape[2] in (3, 4) and (values[..., :1] == values[..., :3]).all():
        values = values[..., 0]  # grey, saved as colour
    if values.ndim != 2 or not (values.dtype == bool or np.issubdtype(values.dtype, np.integer)):
        raise StudyError(f"{what} is no mask: a mask has one whole number for each pixel.")
    if isinstance(classes, str):
        values, classes = by_one_class(values, classes)
    who: Source = "model" if guessed else "human"
    what = f"Imported {what}"
    return merge_mask(study, image_id, values, classes, what, unsaid=unsaid, colours=colours, source=who)


def by_one_class(values: np.ndarray, name: str) -> tuple[np.ndarray, dict[int, str]]:
    """Values 0 and 1, and their classes, of a mask that one class is painted in; see `import_mask`."""
    soft = values.dtype == np.uint8 and values.max() == 255
    return ((values > 127) if soft else (values != 0)).astype(np.uint8), {0: BACKGROUND, 1: name}


def _with_mask(study: Study, predictions: bool) -> list[int]:
    painted = set(study.masked_images())
    return [
        image.id
        for image in study.images()
        if image.id in painted or (predictions and study.mask_prediction(image.id) is not None)
    ]


def _write_png(path: Path, values: np.ndarray) -> None:
    import imageio.v3

    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".png", dir=path.parent)
    try:
        os.close(handle)
        imageio.v3.imwrite(name, values)
        os.chmod(name, 0o666 & ~umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
