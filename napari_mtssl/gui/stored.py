"""Predicted masks and image classes between the study and the window, in the form they are streamed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_mtssl.engine.events import Preview
from napari_mtssl.methods.prediction import Prediction

if TYPE_CHECKING:
    from napari_mtssl.study import ImageRecord, Study

MOST = 256_000_000  # probabilities that are read at once
BAND = 256  # elements high: what is read at once of more than that


def stored_mask(study: Study, record: ImageRecord) -> Preview | None:
    """Return what the last run said of the pixels of an image.

    None if nothing, or so much that it is read in bands, see `StoredBands`.
    """
    found = study.mask_prediction(record.id)
    if found is None or np.prod(found.array.shape, dtype=float) > MOST:
        return None
    box = (0, 0, record.height, record.width)
    said = Prediction(mask=found.read(), classes=found.classes)
    return Preview(0, record.id, box, said, found.scale)


class StoredBands:
    """Reads what the last run said of a large image in the background, band by band.

    Parameters
    ----------
    take : callable
        Gets each band, in the main thread.
    """

    def __init__(self, take: Callable[[Preview], None]) -> None:
        self._take = take
        self._worker: Any | None = None

    def start(self, study: Study, record: ImageRecord, step: Callable[[tuple[float, float]], int]) -> None:
        """Read, if there is much; bands are as high as a multiple of what `step` gives for the scale."""
        from napari.qt.threading import create_worker

        found = study.mask_prediction(record.id)
        if found is None or np.prod(found.array.shape, dtype=float) <= MOST:
            return
        path, every = study.path, step(found.scale)
        worker = create_worker(_bands, path, record, every, _start_thread=False)
        worker.yielded.connect(lambda part: self._take(part) if self._worker is worker else None)
        self._worker = worker
        worker.start()

    def stop(self) -> None:
        """Read no more; what is on its way is not taken."""
        if self._worker is not None:
            self._worker.quit()
            self._worker = None


def _bands(path: Path, record: ImageRecord, every: int) -> Iterator[Preview]:
    from napari_mtssl.study import Study, StudyError

    try:
        with Study.open(path) as own:
            found = own.mask_prediction(record.id)
            if found is None:
                return
            high = every * max(1, BAND // every)
            rows, (down, _) = found.array.shape[1], found.scale
            total = -(-rows // high)
            for number, row0 in enumerate(range(0, rows, high), start=1):
                part = found.array[:, row0 : row0 + high]
                if part.any():
                    box = (row0 * down, 0, min((row0 + high) * down, record.height), record.width)
                    said = Prediction(mask=part.astype(np.float32) / 255, classes=found.classes)
                    yield Preview(0, record.id, box, said, found.scale, number, total)
    except StudyError:  # the study was closed, or a run makes it anew and shows that
        return


def mask_classes_of(run_dir: Path) -> Sequence[str]:
    """Mask classes that a run which has begun learns."""
    import yaml

    with (run_dir / "config.yaml").open(encoding="utf-8") as file:
        return tuple(yaml.safe_load(file)["classes"].get("mask", ()))


def of_today(study: Study, masks: Sequence[str], event: Preview) -> Preview:
    """Name the classes of a predicted mask as they are called now, and leave out those that are gone.

    `masks` are the classes that the network knows.
    """
    said = event.prediction
    if said.mask is None:
        return event
    names = [study.class_now(name, "mask") for name in masks]
    here = [at for at, name in enumerate(names) if name is not None]
    known = tuple(name for name in names if name is not None)
    mask = said.mask if len(known) == len(names) else said.mask[here]
    return replace(event, prediction=replace(said, mask=mask, classes=known))


def keep(study: Study, run: str, masks: Sequence[str], event: Preview) -> None:
    """Write a predicted tile, or a whole image, to the study; called in the thread that predicts.

    Classes are those of today, see `of_today`. The box of cells is shifted by half a pixel: pixel r covers
    [r - 0.5, r + 0.5), and a cell belongs to the tile of its pixel.
    """
    said = of_today(study, masks, event).prediction
    if said.mask is not None:
        study.set_mask_prediction(event.image_id, run, event.box, said.mask, event.scale, said.classes)
    if len(said.image):
        names = [study.class_now(*pair) for pair in zip(said.image["class"], said.image["kind"], strict=True)]
        study.set_image_prediction(event.image_id, run, _of_today(said.image, names))
    if len(said.cells) or (said.mask is None and not len(said.image)):
        box = tuple(edge - 0.5 for edge in event.box)
        now = {name: study.class_now(name) for name in said.cells["class"].unique()}
        cells = _of_today(said.cells, said.cells["class"].map(now))
        study.set_predictions(event.image_id, run, cells, box=box)


def _of_today(said: pd.DataFrame, names: Sequence[str | None]) -> pd.DataFrame:
    """Rows whose class there is still, by its name of today."""
    return said.assign(**{"class": names}).dropna(subset="class")
