"""Prediction of a slide of a study, as the window wants it: what is seen first, shown as it comes, resumable.

The tiles that are done are kept beside the run, so that a prediction that was interrupted, however it ended,
goes on. Another state of the run begins anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from napari_mtssl.engine.dense import Box
from napari_mtssl.engine.events import Preview
from napari_mtssl.engine.slide_prediction import (
    Executor,
    SlidePlan,
    SlideStore,
    looked_over,
    plan_slide,
    predict_slide,
)
from napari_mtssl.engine.slide_prediction_store import OtherPredictionError
from napari_mtssl.engine.tile_output import TileOutput, unpacked
from napari_mtssl.images import Image
from napari_mtssl.methods.base import Method
from napari_mtssl.methods.prediction import Prediction


def slide_previews(
    method: Method,
    image: Image,
    image_id: int,
    folder: Path,
    keep: Callable[[Preview], None],
    *,
    um_per_px: float | None = None,
    view: Box | Callable[[], Box | None] | None = None,
    tile: int = 512,
    step: int = 0,
    cancelled: Callable[[], bool] | None = None,
    workers: Callable[[SlidePlan], Executor | None] = lambda plan: None,
) -> Iterator[Preview]:
    """Predict the tiles of a slide that have tissue and are not done.

    Parameters
    ----------
    method : Method
        One that predicts tiles.
    image : Image
    image_id : int
    folder : Path
        Where it is kept which tiles are done.
    keep : callable
        Writes a tile where it is wanted, before it counts as done. After a kill it may get one tile twice.
    um_per_px : float, optional
        Pixel size that the method learnt.
    view : tuple of int, or callable that gives one, optional
        What the user sees, level-0 pixels: predicted first.
    tile : int
    step : int
        Of the training, for the events.
    cancelled : callable, optional
        Asked before each tile.
    workers : callable, optional
        From the plan to who predicts; by default, and if it gives None, this thread.

    Yields
    ------
    Preview
        Of pixels' classes it says 0 or 1.

    Raises
    ------
    ImageError, SlideError
        If the slide cannot be read, or the folder cannot be written.
    """
    plan = plan_slide(method, image, um_per_px=um_per_px, tile=tile)
    store = _store_of(folder, plan, method.vocabulary.get("cell", ()))
    total = len(plan.tiles)

    def preview(number: int, output: TileOutput, done: int) -> Preview:
        box, scale = _place_of(method, plan, number)
        return Preview(step, image_id, box, prediction_of(method, output), scale, done, total)

    try:
        plan = looked_over(method, plan, store)
        for result in predict_slide(
            method,
            plan,
            store,
            view=view,
            executor=workers(plan),
            cancelled=cancelled,
            on_tile=lambda number, output: keep(preview(number, output, 0)),
        ):
            yield preview(result.number, result.output, result.done)
    finally:
        store.close()


def _store_of(folder: Path, plan: SlidePlan, classes: Sequence[str]) -> SlideStore:
    """Open the store of a slide; one of the run as it was before, the program's own, is made anew."""
    try:
        return SlideStore(folder, plan.identity, classes)
    except OtherPredictionError:
        shutil.rmtree(folder, ignore_errors=True)
        return SlideStore(folder, plan.identity, classes)


def _place_of(method: Method, plan: SlidePlan, number: int) -> tuple[Box, tuple[float, float]]:
    """Box of a tile in level-0 pixels, and how many of these an element of its grids has."""
    rows, cols = plan.view.scale
    row0, col0, row1, col1 = plan.tiles[number]
    box = (round(row0 * rows), round(col0 * cols), round(row1 * rows), round(col1 * cols))
    return box, (method.geometry.stride * rows, method.geometry.stride * cols)


def prediction_of(method: Method, output: TileOutput) -> Prediction:
    """Give what was kept of a tile the form of a prediction."""
    mask = None
    if output.mask is not None:
        codes = np.arange(1, len(method.vocabulary["mask"]) + 1)
        mask = (output.mask[None] == codes[:, None, None]).astype(np.float32)
    pictures = {name: values.astype(np.float32) for name, values in output.pictures.items()}
    return Prediction(unpacked(output.cells, method.vocabulary.get("cell", ())), mask, pictures)
