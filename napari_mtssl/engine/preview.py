"""Predictions while training goes on: what the user looks at first, a tile at a time, between steps."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from napari_mtssl.engine.control import Sight
from napari_mtssl.engine.dense import Box, boxes, predict_part, scale_of
from napari_mtssl.engine.devices import free_memory, is_out_of_memory
from napari_mtssl.engine.events import OutOfMemory, Preview
from napari_mtssl.images import Image
from napari_mtssl.methods.base import Method
from napari_mtssl.methods.prediction import Prediction
from napari_mtssl.study import StudyError

SMALLEST_TILE = 64


def sighted(method: Method, image: Image, prediction: Prediction, sight: Sight | None) -> Prediction:
    """Show where a method sees the class that was asked for, if it knows the class and can say so.

    Parameters
    ----------
    method : Method
    image : Image
    prediction : Prediction
        Of the whole image.
    sight : tuple of str or None
        ``(kind, class, way)``.
    """
    explain = getattr(method, "explain", None)
    if sight is None or explain is None or sight[1] not in method.vocabulary.get(sight[0], ()):
        return prediction
    picture = explain(image, *sight)
    grids = [*prediction.pictures.values(), *([] if prediction.mask is None else prediction.mask)]
    if any(grid.shape != picture.shape for grid in grids):
        return prediction  # one scale holds for all that is told at once
    return replace(prediction, pictures={**prediction.pictures, "saliency": picture})


class Previewer:
    """Predict the visible part again and again, and the rest of that image once per sweep.

    Parameters
    ----------
    method : Method
        Its teacher predicts.
    images : callable
        Opens the image of an id.
    seconds : float
        The visible part is predicted anew this often.
    share : float
        At most this part of the time goes to previews, the rest to training.
    tile : int, optional
        Side in pixels; by default 512 on a graphics card and 256 elsewhere, where a tile must not delay a
        stop.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self,
        method: Method,
        images: Callable[[int], Image],
        *,
        seconds: float = 5.0,
        share: float = 1 / 3,
        tile: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._method = method
        self._images = images
        self._seconds = seconds
        self._per_second = share / (1 - share)
        self._tile = tile or (512 if method.device.type == "cuda" else 256)
        self._clock = clock
        self._credit = 0.0
        self._credited = clock()
        self._due = self._credited + seconds
        self._planned: tuple[int, Box] | None = None
        self._visible: deque[Box] = deque()
        self._sweep: dict[Box, None] = {}  # an ordered set: what this sweep has still to do
        self._total = 0
        self._owed = 0  # tiles outside the view that come before the view is predicted again
        self._sight: Sight | None = None
        self._learnt: int | None = None  # the step whose weights the tiles of the plan show

    def next_tile(
        self, step: int, viewport: tuple[int, Box] | None, sight: Sight | None = None
    ) -> Preview | OutOfMemory | None:
        """Predict one tile if one is due and training has had its share of the time.

        While the step stays the same (a pause), nothing is predicted twice: what is left of the image, and
        what the user turns to or asks for.

        Parameters
        ----------
        step : int
            That the weights have come to.
        viewport : tuple, optional
            ``(image_id, box)`` that the user sees; None: nobody looks, nothing is predicted.
        sight : tuple of str, optional
            ``(kind, class, way)`` of the saliency that the user wants to see.

        Raises
        ------
        ImageError
            If the image cannot be read.
        torch.OutOfMemoryError
            If not even the smallest tile fits into memory.
        """
        now = self._clock()
        # the cap lets no long wait turn into a long burst of tiles
        self._credit = min(self._credit + (now - self._credited) * self._per_second, 0.5)
        self._credited = now
        if viewport is None or self._credit < 0:
            return None
        if sight != self._sight:
            self._sight, self._due, self._learnt = sight, now, None
            self._visible.clear()
            self._owed = 0
        try:
            self._plan(step, viewport, now)
            if self._planned is None or not (self._visible or self._sweep):
                return None
            event = self._predict(step, self._planned[0])
        except StudyError:  # the image was taken out of the study; the window shows another one soon
            self._planned = self._learnt = None
            self._due, self._owed = now, 0
            self._visible.clear()
            self._sweep.clear()
            return None
        self._credited = self._clock()
        self._credit -= self._credited - now
        return event

    def _plan(self, step: int, viewport: tuple[int, Box], now: float) -> None:
        """Decide what to predict next when the time has come or the user looks elsewhere."""
        image_id, view = viewport
        moved = self._planned is not None and viewport != self._planned
        elsewhere = self._planned is not None and image_id != self._planned[0]
        if moved:
            self._due = min(self._due, now + 1.0)  # soon, but not at every pixel of a drag
        if not elsewhere and (now < self._due or ((self._visible or self._owed) and not moved)):
            return
        if step == self._learnt and not elsewhere and not (moved and self._sweep):
            return
        image = self._images(image_id)
        order = boxes(self._method, image, self._tile, view)
        if not self._sweep or elsewhere:
            self._sweep = dict.fromkeys(order)
            self._total = len(order)
        elif moved:
            self._sweep = {box: None for box in order if box in self._sweep}
        row0, col0, row1, col1 = view
        self._visible = deque(b for b in order if b[0] < row1 and b[2] > row0 and b[1] < col1 and b[3] > col0)
        # on a slow computer the view alone would take all the time there is
        self._owed = min(len(self._visible), sum(box not in self._visible for box in self._sweep))
        self._planned, self._learnt = viewport, step
        self._due = now + self._seconds

    def _predict(self, step: int, image_id: int) -> Preview | OutOfMemory:
        if self._visible:
            box = self._visible.popleft()
        else:
            box = next(iter(self._sweep))
            self._owed = max(0, self._owed - 1)
        self._sweep.pop(box, None)
        try:
            image = self._images(image_id)
            prediction, _ = predict_part(self._method, image, box)
            prediction = sighted(self._method, image, prediction, self._sight)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or self._tile // 2 < SMALLEST_TILE:
                raise
        else:
            done = self._total - len(self._sweep)
            return Preview(
                step,
                image_id,
                box,
                prediction,
                scale_of(self._method, image, prediction),
                done=done,
                total=self._total,
            )
        free_memory(self._method.device)
        self._tile //= 2
        self._visible.clear()
        self._sweep.clear()
        self._owed = 0
        self._planned, self._due = None, self._clock()
        batch = self._method.config.batch_size
        message = f"A preview did not fit into memory; its tiles are {self._tile} pixels wide from now on."
        return OutOfMemory(step, batch, batch, message)
