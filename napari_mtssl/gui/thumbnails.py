"""Small pictures of images, made in a thread, the wanted ones first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_mtssl.gui import worker

if TYPE_CHECKING:
    from napari_mtssl.study import ImageRecord

SIDE = 72


class Thumbnails(QObject):
    """Makes thumbnails and keeps them; forgets them with the study.

    Signals
    -------
    made : int, ndarray
        Image id, and uint8 (h, w, 3).
    """

    made = Signal(int, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.pictures: dict[int, np.ndarray] = {}
        self._wanted: list[ImageRecord] = []
        self._asked: set[int] = set()
        self._study = 0  # counts studies: a picture that comes late is of an image of another one
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._worker: worker.AskingWorker | None = None

    def want(self, records: list[ImageRecord]) -> None:
        """Ask for thumbnails; those asked for last come first."""
        new = [record for record in records if record.id not in self._asked]
        if not new:
            return
        self._asked |= {record.id for record in new}
        with self._lock:
            self._wanted[:0] = new
        if self._worker is None:
            self._stop.clear()
            self._worker = worker.start(
                self._work, on_event=self._on_made, on_end=self._on_end, ask_to_end=self._stop.set
            )

    def clear(self) -> None:
        """Forget all: another study."""
        with self._lock:
            self._wanted.clear()
            self._study += 1
        self._asked.clear()
        self.pictures.clear()

    def close(self) -> None:
        """End the thread soon; nothing more is said."""
        self.blockSignals(True)
        self._stop.set()
        self.clear()

    def _work(self) -> Iterator[tuple[int, int, np.ndarray]]:
        from napari_mtssl.images import ImageError, ImagePool

        pool = ImagePool(max_images=2, max_bytes=1 << 27)
        while not self._stop.is_set():
            with self._lock:
                record, study = self._wanted.pop(0) if self._wanted else None, self._study
            if record is None:
                return
            try:
                yield study, record.id, thumbnail(pool(record))
            except ImageError:
                continue  # shown without a picture; step 1 says what is wrong with it

    def _on_made(self, made: object) -> None:
        if isinstance(made, tuple) and made[0] == self._study:
            self.pictures[made[1]] = made[2]
            self.made.emit(*made[1:])

    def _on_end(self) -> None:
        self._worker = None
        with self._lock:
            left, self._wanted = self._wanted, []
        if left and not self._stop.is_set():
            self._asked -= {record.id for record in left}
            self.want(left)


def thumbnail(image: object) -> np.ndarray:
    """Return an image at most `SIDE` pixels a side, uint8 (h, w, 3), its contrast stretched if it is grey."""
    factor = SIDE / max(image.height, image.width)
    shape = max(1, round(image.height * factor)), max(1, round(image.width * factor))
    pixels = np.asarray(image.resized(*shape), np.float32)
    if pixels.ndim == 2 or pixels.shape[-1] == 1:
        low, high = np.percentile(pixels, (1, 99))
        pixels = np.clip((pixels - low) / max(high - low, 1e-6), 0, 1)
        pixels = np.repeat(pixels.reshape(*shape, 1), 3, axis=-1)
    return np.ascontiguousarray((pixels.clip(0, 1) * 255).astype(np.uint8))
