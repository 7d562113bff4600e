"""Predicted masks and image classes between the study and the window, in the form they are streamed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_mtssl.engine.events import Preview
from napari_mtssl.methods.prediction import Prediction

if TYPE_CHECKING:
    from napari_mtssl.study import ImageRecord, Study

MOST = 256_000_000  # probabilities that are read at once


def stored_mask(study: Study, record: ImageRecord) -> tuple[Preview, tuple[str, ...]] | None:
    """Return what the last run said of the pixels of an image, and the classes it knew; None if nothing."""
    found = study.mask_prediction(record.id)
    if found is None or np.prod(found.array.shape, dtype=float) > MOST:
        return None
    box = (0, 0, record.height, record.width)
    return Preview(0, record.id, box, Prediction(mask=found.read()), found.scale), found.classes


def keep(study: Study, run: str, event: Preview) -> None:
    """Write a predicted tile, or a whole image, to the study; called in the thread that predicts.

    The box of cells is shifted by half a pixel: pixel r covers [r - 0.5, r + 0.5), and a cell belongs to the
    tile of its pixel.
    """
    said = event.prediction
    if said.mask is not None:
        classes = [item.name for item in study.classes("mask")][: len(said.mask)]
        study.set_mask_prediction(event.image_id, run, event.box, said.mask, event.scale, classes)
    if len(said.image):
        study.set_image_prediction(event.image_id, run, said.image)
    if len(said.cells) or (said.mask is None and not len(said.image)):
        box = tuple(edge - 0.5 for edge in event.box)
        study.set_predictions(event.image_id, run, said.cells, box=box)
