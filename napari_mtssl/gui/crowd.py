"""How many predictions are on the canvas: all while nothing moves, fewer where moving them all is slow.

Without a graphics card 5,000 rings take 30 to 45 ms a frame, an image alone 20. The store, the list and the
export always hold every prediction; only the drawing is thinned, and the status line says so.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from qtpy.QtCore import QObject, QTimer, Signal

from napari_mtssl.gui.layers import PREDICTIONS, StudyLayers

if TYPE_CHECKING:
    import napari

MOVING = 1_000  # drawn while the view moves or predictions stream in
RESTING = 6_000  # drawn while nothing happens
REST_MS = 400  # nothing happened for so long: the view rests
SLOW_MS = 25.0  # a frame that takes longer is felt
AROUND = 0.35  # of the view, on each side: what a short move brings into sight
APART_MS = 500  # between two choices while the view moves


class Crowd(QObject):
    """Draws the pending predictions of the image on screen, as many as the computer can move.

    Signals
    -------
    changed
        `drawn` or `total` is another.

    Attributes
    ----------
    drawn, total : int
        Predictions on the canvas, and those there are.
    """

    changed = Signal()

    def __init__(
        self, viewer: napari.viewer.Viewer, layers: StudyLayers, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._layers = layers
        self._frame: pd.DataFrame | None = None
        self._places = np.zeros((0, 2))
        self._rank = np.zeros(0)
        self._focus: tuple[float, float] | None = None
        self._few = False
        self._covers: tuple[float, ...] | None = None  # the part of the image that the few were chosen from
        self._slow_from = np.inf  # so many points made a frame slow
        self._chosen_at = 0.0
        self._moved_at = -np.inf
        self.drawn = self.total = 0
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.timeout.connect(self._rested)
        self._camera = viewer.scene.camera
        self._camera.events.zoom.connect(self._moved)
        self._camera.events.center.connect(self._moved)

    def close(self) -> None:
        """Listen no more."""
        self._rest.stop()
        self._camera.events.zoom.disconnect(self._moved)
        self._camera.events.center.disconnect(self._moved)

    def show(self, frame: pd.DataFrame, focus: tuple[float, float] | None = None) -> None:
        """Draw other predictions (``row, col, class, confidence, uncertainty``); `focus` is always drawn."""
        streams = self._rest.isActive()
        self._frame, self._focus = frame, focus
        self._places = frame[["row", "col"]].to_numpy(float)
        self._rank = rank(self._places)
        self._draw(few=streams and len(frame) >= self._slow_from)
        if self.drawn > MOVING:
            self._time_frame()
        self._rest.start(REST_MS)

    def focus(self, row: float, col: float) -> None:
        """See that the prediction at a place is drawn."""
        self.keep(row, col)
        if self.drawn < self.total:
            self._draw(few=self._few)

    def keep(self, row: float, col: float) -> None:
        """See that the prediction at a place, which is drawn now, stays so."""
        self._focus = (row, col)

    # -- when ----------------------------------------------------------------------------------------------

    @property
    def moving(self) -> bool:
        """Whether the view moved just now."""
        return bool((perf_counter() - self._moved_at) * 1000 < REST_MS)

    def _moved(self) -> None:
        self._moved_at = perf_counter()
        if self.total <= MOVING:
            return
        self._rest.start(REST_MS)
        if not self._few:
            if self.drawn >= self._slow_from:
                self._draw(few=True)
            else:
                self._time_frame()
        elif self._has_left() and (perf_counter() - self._chosen_at) * 1000 > APART_MS:
            self._draw(few=True)

    def _rested(self) -> None:
        if self.drawn < self.total:
            self._draw(few=False)

    def _time_frame(self) -> None:
        """Notice how long the frame takes that is about to be painted: this runs when it is done."""
        begun, count = perf_counter(), self.drawn

        def painted() -> None:
            if (perf_counter() - begun) * 1000 > SLOW_MS:
                self._slow_from = min(self._slow_from, count)

        QTimer.singleShot(0, painted)

    def _has_left(self) -> bool:
        """Whether the user sees what the few were not chosen for, or much less of it."""
        view, covers = self._layers.viewport(), self._covers
        if view is None or covers is None:
            return False
        outside = view[0] < covers[0] or view[1] < covers[1] or view[2] > covers[2] or view[3] > covers[3]
        return outside or 4 * (view[2] - view[0]) < covers[2] - covers[0]

    # -- what ----------------------------------------------------------------------------------------------

    def _draw(self, *, few: bool) -> None:
        if self._frame is None:
            return
        limit = MOVING if few else RESTING
        chosen = self._choose(limit) if len(self._frame) > limit else None
        self._few = few and chosen is not None
        self._chosen_at = perf_counter()
        part = self._frame if chosen is None else self._frame.iloc[chosen]
        self._layers.fill(PREDICTIONS, part)
        before = (self.drawn, self.total)
        self.drawn, self.total = len(part), len(self._frame)
        if (self.drawn, self.total) != before:
            self.changed.emit()

    def _choose(self, limit: int) -> np.ndarray:
        """Positions of the predictions to draw: in and around the view, evenly thinned."""
        view = self._layers.viewport()
        inside = np.arange(len(self._places))
        self._covers = None
        if view is not None:
            down, right = AROUND * (view[2] - view[0]), AROUND * (view[3] - view[1])
            self._covers = (view[0] - down, view[1] - right, view[2] + down, view[3] + right)
            row, col = self._places.T
            low_row, low_col, high_row, high_col = self._covers
            inside = np.flatnonzero((row >= low_row) & (col >= low_col) & (row < high_row) & (col < high_col))
            # What lies beyond the image is nobody's: a move there brings nothing into sight.
            record = self._layers.workspace.image
            edges = (0, 0, record.height, record.width)
            self._covers = tuple(
                -np.inf if at < 2 and side <= edge else np.inf if at > 1 and side >= edge else side
                for at, (side, edge) in enumerate(zip(self._covers, edges, strict=True))
            )
        if len(inside) > limit:
            inside = inside[np.argpartition(self._rank[inside], limit)[:limit]]
        if self._focus is not None:
            inside = np.append(inside, np.hypot(*(self._places - self._focus).T).argmin())
        return np.unique(inside)


def rank(places: np.ndarray) -> np.ndarray:
    """Return a number for each place that looks random and stays the same when the place moves a little.

    Parameters
    ----------
    places : ndarray (N, 2)

    Returns
    -------
    ndarray (N,), uint64
    """
    row, col = (np.round(axis / 8).astype(np.int64).astype(np.uint64) for axis in places.T)
    mixed = row * np.uint64(0x9E3779B97F4A7C15) ^ col * np.uint64(0xC2B2AE3D27D4EB4F)
    return (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
