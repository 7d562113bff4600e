"""Masks as label images: one file, or a folder of PNG files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from napari_mtssl.study.files import read_array, umask, written_whole
from napari_mtssl.study.merge import ImportReport
from napari_mtssl.study.merge_labels import joined, merge_mask
from napari_mtssl.study.names import ImageNames, names_of
from napari_mtssl.study.rasters import MaskPrediction
from napari_mtssl.study.records import BACKGROUND, MASK, CellClass, StudyError, check_colour
from napari_mtssl.study.study import Study
from napari_mtssl.study.tables import floats, read_table

CLASSES_FILE = "classes.csv"
TILE = 2048  # pixels of a mask that is read in squares
HELD = 64_000_000  # pixels of an image whose mask is held as a whole to be exported
MOST = 500_000_000  # pixels of an image whose mask is written as one PNG
_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".npy", ".jpg", ".jpeg")


def mask_codes(study: Study, image_id: int, *, predictions: bool = False) -> np.ndarray:
    """Code of every pixel's class; 0 where nothing is known.

    Parameters
    ----------
    study : Study
    image_id : int
    predictions : bool
        Take what is predicted where nobody has painted.

    Returns
    -------
    ndarray uint16 (height, width)
        Of a complete mask, what is not painted is background.

    Raises
    ------
    StudyError
        If nothing is known of the image.
    """
    state = study.mask_state(image_id)
    found = _prediction(study, image_id, predictions)
    codes = study.mask(image_id)
    if state.complete:
        codes[codes == 0] = next((c.code for c in study.classes(MASK) if c.background), 0)
    if found is not None:
        known = {c.name: c.code for c in study.classes(MASK)}
        order = np.array([known.get(name, 0) for name in found.classes], np.uint16)
        for row0 in range(0, len(codes), 512):
            band = codes[row0 : row0 + 512]
            best, certain = _best(found, (row0, row0 + len(band)), band.shape[1])
            free = (band == 0) & certain
            band[free] = order[best[free]]
    return codes


def _best(found: MaskPrediction, rows: tuple[int, int], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Most probable class (its index) of pixels of whole rows, and where there is a prediction."""
    from scipy.ndimage import map_coordinates

    scale_r, scale_c = found.scale
    down = (np.arange(*rows) + 0.5) / scale_r - 0.5
    right = (np.arange(width) + 0.5) / scale_c - 0.5
    first = max(0, int(np.floor(down[0])) - 1)
    part = found.array[:, first : int(np.ceil(down[-1])) + 2].astype(np.float32)
    if part.shape[1] == 0:
        return np.zeros((len(down), width), int), np.zeros((len(down), width), bool)
    if found.scale == (1.0, 1.0):
        probs = part[:, rows[0] - first : rows[1] - first, :width]
    else:
        places = np.meshgrid(down - first, right, indexing="ij")
        probs = np.stack([map_coordinates(p, places, order=1, mode="nearest") for p in part])
    return probs.argmax(axis=0), np.asarray(probs.any(axis=0))


def mask_tiles(
    study: Study, image_id: int, *, predictions: bool = False, side: int = TILE
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Codes as `mask_codes` gives them, in squares, for images that are too large to be held.

    Yields
    ------
    row0, col0 : int
        Upper left corner, level-0 pixels.
    codes : ndarray uint16
        At most `side` pixels high and wide. What is predicted at another scale is taken from the nearest
        element.

    Raises
    ------
    StudyError
        If nothing is known of the image.
    """
    image, state = study.image(image_id), study.mask_state(image_id)
    found = _prediction(study, image_id, predictions)
    known = {c.name: c.code for c in study.classes(MASK)}
    background = next((c.code for c in study.classes(MASK) if c.background), 0)
    for row0 in range(0, image.height, side):
        for col0 in range(0, image.width, side):
            box = (row0, col0, min(row0 + side, image.height), min(col0 + side, image.width))
            codes = study.mask(image_id, box)
            if state.complete:
                codes[codes == 0] = background
            elif found is not None:
                _fill(codes, box, found, np.array([known.get(name, 0) for name in found.classes], np.uint16))
            yield row0, col0, codes


def mask_parts(
    study: Study, image_id: int, *, predictions: bool = False
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Codes of an image as every export has them: in one part if it can be held, else in squares.

    Yields
    ------
    As `mask_tiles`; what is predicted at another scale is interpolated in an image that can be held.
    """
    image = study.image(image_id)
    if image.height * image.width > HELD:
        yield from mask_tiles(study, image.id, predictions=predictions)
    else:
        yield 0, 0, mask_codes(study, image.id, predictions=predictions)


def _fill(
    codes: np.ndarray, box: tuple[int, int, int, int], found: MaskPrediction, order: np.ndarray
) -> None:
    """Take what is predicted where nobody has painted, from the nearest elements."""
    first = [int(edge / scale) for edge, scale in zip(box[:2], found.scale, strict=True)]
    rows, cols = (
        np.minimum(((np.arange(low, high) + 0.5) / scale).astype(int), size - 1) - begin
        for low, high, scale, size, begin in zip(
            box[:2], box[2:], found.scale, found.array.shape[1:], first, strict=True
        )
    )
    part = found.array[:, first[0] : first[0] + rows[-1] + 1, first[1] : first[1] + cols[-1] + 1]
    if part.any():
        best = np.where(part.any(0), order[part.argmax(0)], 0)[np.ix_(rows, cols)]
        np.copyto(codes, best.astype(np.uint16), where=codes == 0)


def _prediction(study: Study, image_id: int, predictions: bool) -> MaskPrediction | None:
    """Return what is predicted, if that is wanted; StudyError if nothing is known of the image at all."""
    state = study.mask_state(image_id)
    found = study.mask_prediction(image_id) if predictions and not state.complete else None
    if not (state.painted or state.complete or found):
        raise StudyError(
            f"There is no mask of {study.image(image_id).name}: nothing is painted"
            + (", and nothing predicted." if predictions else ".")
        )
    return found


def value_tables(study: Study) -> tuple[np.ndarray, dict[int, CellClass], int]:
    """Small value of each code: 0 background, 1 and up the classes in their order.

    Returns
    -------
    table : ndarray (65536,) of 8 bits, or 16 with more than 254 classes
    classes : dict of value to class
    unsaid : int
        The largest value of the type: where nothing is known.
    """
    classes = sorted(study.classes(MASK), key=lambda c: not c.background)
    kind = np.uint8 if len(classes) < 255 else np.uint16
    unsaid = int(np.iinfo(kind).max)
    table = np.full(2**16, unsaid, kind)
    for value, found in enumerate(classes):
        table[found.code] = value
    return table, dict(enumerate(classes)), unsaid


def mask_values(
    study: Study, image_id: int, *, predictions: bool = False
) -> tuple[np.ndarray, dict[int, CellClass], int]:
    """Mask of an image with small values: 0 background, 1 and up the classes in their order.

    Returns
    -------
    values : ndarray (height, width) of 8 bits, or 16 with more than 254 classes
    classes : dict of value to class
    unsaid : int
        The largest value of the type: where nothing is known.
    """
    codes = mask_codes(study, image_id, predictions=predictions)
    table, classes, unsaid = value_tables(study)
    return table[codes], classes, unsaid


def export_masks(
    study: Study,
    folder: Path | str,
    image_ids: Sequence[int] | None = None,
    *,
    predictions: bool = False,
) -> list[Path]:
    """Export masks as a folder of PNG files, with ``classes.csv`` to say what their values are.

    Value 0 is background, 1 and up are the classes, 255 is where nobody said anything.

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
        If there is nothing to export, or a file cannot be written.
    """
    folder = Path(folder)
    ids = list(image_ids) if image_ids is not None else _with_mask(study, predictions)
    if not ids:
        raise StudyError(f"The study '{study.name}' has no masks to export.")
    names = names_of(study.images())
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for image_id in ids:
            image = study.image(image_id)
            if image.height * image.width > MOST:
                raise StudyError(
                    f"{image.name} is too large for one PNG: export its mask as OME-Zarr or GeoJSON."
                )
            values, classes, unsaid = mask_values(study, image_id, predictions=predictions)
            paths.append(folder / f"{names[image_id]}.png")
            _write_png(paths[-1], values)
    except OSError as error:
        raise StudyError(f"{folder} cannot be written: {error.strerror or error}.") from error
    rows = [(value, c.name, c.colour) for value, c in classes.items()]
    with written_whole(folder / CLASSES_FILE) as stream:
        table = pd.DataFrame([*rows, (unsaid, "", "")], columns=["value", "class", "colour"])
        table.to_csv(stream, index=False, lineterminator="\n")
    return paths


def import_masks(
    study: Study,
    folder: Path | str,
    classes: Mapping[int, str] | str | None = None,
) -> ImportReport:
    """Import a folder of label images whose names are those of the study's images.

    Parameters
    ----------
    study : Study
    folder : path
        Of PNG, TIFF, BMP or ``.npy`` files. A file belongs to the image of the same stem, see
        `ImageNames.owner`. Others are ignored.
    classes : mapping of int to str, or str, optional
        See `import_mask`. By default what ``classes.csv`` in the folder says (``value,class``, and if wanted
        ``colour``).

    Raises
    ------
    StudyError
        If no file fits, one may be of several images or has not the size of its image, or a value has no
        class. Then nothing was imported.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise StudyError(f"There is no folder {folder}.")
    known, pairs = ImageNames(study.images()), []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES):
        image = known.owner(path)
        if image is not None and path.absolute() != image.path:
            pairs.append((path, image))
    if not pairs:
        raise StudyError(
            f"No file in {folder} belongs to an image of the study '{study.name}': "
            "a mask has the name of its image."
        )
    unsaid: int | None = None
    colours: dict[str, str] = {}
    if classes is None:
        classes, colours, unsaid = _read_classes(folder / CLASSES_FILE)
    what = f"Imported masks from {folder.name}"
    with study.edit(what):
        return joined(
            [
                import_mask(study, path, image.id, classes, unsaid=unsaid, colours=colours)
                for path, image in pairs
            ]
        )


def import_mask(
    study: Study,
    source: np.ndarray | Path | str,
    image_id: int,
    classes: Mapping[int, str] | str,
    *,
    unsaid: int | None = None,
    colours: Mapping[str, str] | None = None,
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

    Raises
    ------
    StudyError
        If the size is not that of the image, or a value has no class. Then nothing was imported.
    """
    what = "a mask" if isinstance(source, np.ndarray) else Path(source).name
    values = source if isinstance(source, np.ndarray) else read_array(Path(source), "a mask")
    if values.ndim == 3 and values.shape[2] in (3, 4) and (values[..., :1] == values[..., :3]).all():
        values = values[..., 0]  # grey, saved as colour
    if values.ndim != 2 or not (values.dtype == bool or np.issubdtype(values.dtype, np.integer)):
        raise StudyError(f"{what} is no mask: a mask has one whole number for each pixel.")
    if isinstance(classes, str):
        soft = values.dtype == np.uint8 and values.max() == 255
        values = (values > (127 if soft else 0)).astype(np.uint8)
        classes = {0: BACKGROUND, 1: classes}
    return merge_mask(study, image_id, values, classes, f"Imported {what}", unsaid=unsaid, colours=colours)


def _with_mask(study: Study, predictions: bool) -> list[int]:
    painted = set(study.masked_images())
    return [
        image.id
        for image in study.images()
        if image.id in painted or (predictions and study.mask_prediction(image.id) is not None)
    ]


def _read_classes(path: Path) -> tuple[dict[int, str], dict[str, str], int | None]:
    """Class of each value, colour of each class, and the value that says nothing."""
    if not path.exists():
        raise StudyError(
            f"There is no {path.name} in {path.parent} to say which value is which class: add one with the "
            "columns value,class, or say the class."
        )
    table = read_table(path, ["value", "class"], "classes", filled=False)
    values = [int(value) for value in floats(table["value"], path)]
    classes = {v: name for v, name in zip(values, table["class"], strict=True) if name}
    unsaid = next((v for v, name in zip(values, table["class"], strict=True) if not name), None)
    colours = {}
    if "colour" in table:
        pairs = zip(table["class"], table["colour"], strict=True)
        colours = {name: check_colour(colour) for name, colour in pairs if name and colour}
    return classes, colours, unsaid


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
