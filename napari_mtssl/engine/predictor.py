"""Prediction of images of a study by one run, wherever it is done: one interface, three doors.

In this thread, in a process of its own, or on a cluster: the same previews come, what is seen first, and
stopping and resuming are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from napari_mtssl.engine.checkpoint import find, load, load_method
from napari_mtssl.engine.control import Sight
from napari_mtssl.engine.dense import (
    Box,
    TileResult,
    boxes,
    nothing,
    on_glass,
    predict_box,
    predict_image,
    scale_of,
)
from napari_mtssl.engine.devices import pick_device, training_threads
from napari_mtssl.engine.events import Preview
from napari_mtssl.engine.preview import sighted
from napari_mtssl.engine.runners import THREAD, DaskTiles, TileJob, check_runner, connected, opened, tile_job
from napari_mtssl.engine.slide_prediction import Executor, SlidePlan, digest_of, slicer_of
from napari_mtssl.engine.slide_study import slide_previews
from napari_mtssl.methods.prediction import Prediction

if TYPE_CHECKING:
    from distributed import Client

    from napari_mtssl.images import Image


class Predictor:
    """A run that is ready to predict; a context manager, since workers may belong to it.

    Parameters
    ----------
    run_dir : Path
    runner : str
        ``thread``, ``process``, or the address of a Dask cluster.
    device : str
    threads : int, optional
        Of the processor, in this program.
    cancelled : callable, optional
        Asked before each tile.
    sight : callable, optional
        Gives ``(kind, class, way)`` of the saliency that the user chose, or None; of images seen as wholes.
    batch : int
        Tiles in a task of a process or a cluster: with one, each is there as soon as it is done.

    Attributes
    ----------
    method : Method
    um : float or None
        Micrometres a pixel at which it reads slides.

    Raises
    ------
    RunnerError
        If there is no such runner, or nobody answers there.
    MethodError
        If the run cannot be loaded.
    """

    def __init__(
        self,
        run_dir: Path,
        runner: str = THREAD,
        device: str = "auto",
        threads: int | None = None,
        cancelled: Callable[[], bool] | None = None,
        batch: int = 1,
        sight: Callable[[], Sight | None] | None = None,
    ) -> None:
        self.run_dir, self.runner, self.device = run_dir, check_runner(runner), device
        self._cancelled = cancelled or (lambda: False)
        self._threads, self._batch = threads, batch
        self._sight = sight or (lambda: None)
        self._held = ExitStack()
        self._client: Client | None = None

    def __enter__(self) -> Predictor:
        self._held.enter_context(training_threads(self._threads))
        try:
            here = self.runner == THREAD
            # Where others predict, this program only plans: no memory of its graphics card is taken.
            self.method = load_method(self.run_dir, device=self.device if here else "cpu")
            self.um = self.method.slide_um(load(find(self.run_dir)).meta)
            if not here:
                self._client = self._held.enter_context(connected(self.runner, self._cancelled))
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def previews(
        self,
        image: Image,
        image_id: int,
        folder: Path,
        keep: Callable[[Preview], None],
        *,
        view: Box | Callable[[], Box | None] | None = None,
        step: int = 0,
    ) -> Iterator[Preview]:
        """Predict an image: a slide where it has tissue and is not done, another one whole.

        Parameters
        ----------
        image : Image
        image_id : int
        folder : Path
            Where it is kept which tiles of a slide are done.
        keep : callable
            Writes a part where it is wanted, before it is said.
        view : tuple of int, or callable that gives one, optional
            What the user sees, level-0 pixels: predicted first.
        step : int
            Of the training, for the events.

        Yields
        ------
        Preview
        """
        # of the device that is asked for, wherever this method is: tiles are the same through each door
        tile = 512 if pick_device(self.device).type == "cuda" else 256
        slicer = slicer_of(self.method, image, self.um)
        if slicer is not None:
            yield from slide_previews(
                slicer,
                image,
                image_id,
                folder,
                keep,
                um_per_px=self.um,
                view=view,
                tile=tile,
                step=step,
                cancelled=self._cancelled,
                workers=self.workers,
            )
            if self.method.whole_image and not self._cancelled():
                yield from self._class_of(image, image_id, keep, step)
            return
        seen = view() if callable(view) else view
        for found in self.parts(image, seen, tile):
            told = (found.scale, found.done, found.total)
            said = found.prediction
            if self.method.whole_image and not image.is_slide:
                said = sighted(self.method, image, said, self._sight())
            event = Preview(step, image_id, found.box, said, *told)
            keep(event)
            yield event

    def _class_of(
        self, image: Image, image_id: int, keep: Callable[[Preview], None], step: int
    ) -> Iterator[Preview]:
        """Say what class a slide is of: the answer to all of it, whose mask came in tiles."""
        for found in self.parts(image, None, 0):
            if len(found.prediction.image):
                event = Preview(
                    step, image_id, found.box, Prediction(image=found.prediction.image), found.scale, 1, 1
                )
                keep(event)
                yield event

    def workers(self, plan: SlidePlan) -> Executor | None:
        """Give who predicts the tiles of a slide; None if it is this thread."""
        return None if self._client is None else self._tiles(tile_job(self.run_dir, plan, device=self.device))

    def _tiles(self, job: TileJob, **settings: Any) -> DaskTiles:
        assert self._client is not None
        return DaskTiles(self._client, job, batch=self._batch, cancelled=self._cancelled, **settings)

    def parts(self, image: Image, view: Box | None = None, tile: int = 512) -> Iterator[TileResult]:
        """Predict an image that is no slide, with all probabilities; parts come as they are done."""
        if self._client is None:
            yield from predict_image(self.method, image, view=view, tile=tile, cancelled=self._cancelled)
            return
        parts = boxes(self.method, image, tile, view)
        job = TileJob(
            str(self.run_dir.resolve()),
            image.url or str(image.path.resolve()),
            image.pixel_size_um,
            None,
            digest_of(self.method),
            device=self.device,
        )
        glass = {number for number, box in enumerate(parts) if on_glass(self.method, image, box)}
        wanted = (pair for pair in enumerate(parts) if pair[0] not in glass and not self._cancelled())
        results = self._tiles(job, work=_predict_parts)(wanted)
        empty = (number for number in sorted(glass) if not self._cancelled())
        blank = ((number, nothing(self.method, parts[number])) for number in empty)
        for done, (number, prediction) in enumerate(chain(results, blank), start=1):
            scale = scale_of(self.method, image, prediction)
            yield TileResult(parts[number], prediction, {}, scale, done, len(parts))


def _predict_parts(job: TileJob, batch: list[tuple[int, Box]]) -> list[tuple[int, Prediction]]:
    """Predict parts of an image whole, with all probabilities; runs on a worker."""
    method, image = opened(job)
    return [(number, predict_box(method, image, box)[0]) for number, box in batch]
