"""What is known of every pixel of an image, painted or predicted, at once or in squares."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from napari_mtssl.study.rasters import MaskPrediction
from napari_mtssl.study.records import MASK, CellClass, StudyError
from napari_mtssl.study.study import Study

TILE = 2048  # pixels of a mask that is read in squares
HELD = 64_000_000  # pixels of an image whose mask is held as a whole to be exported


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


def holds_predictions(study: Study, image_id: int) -> bool:
    """Whether an export with predictions would hold pixels that nobody has painted."""
    if _prediction(study, image_id, True) is None:
        return False
    image = study.image(image_id)
    return any(
        not study.mask(
            image_id, (row, col, min(row + TILE, image.height), min(col + TILE, image.width))
        ).all()
        for row in range(0, image.height, TILE)
        for col in range(0, image.width, TILE)
    )


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
