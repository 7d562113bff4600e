"""What the program says of the image on screen, on its way to the layers: collected, and drawn calmly."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from qtpy.QtCore import QObject, QTimer

from napari_mtssl.engine.events import Event, Preview, PseudoLabels, Started
from napari_mtssl.gui.crowd import Crowd
from napari_mtssl.gui.layers import PSEUDO, StudyLayers
from napari_mtssl.gui.notify import guarded
from napari_mtssl.gui.rasters import RasterLayers
from napari_mtssl.gui.rows import Calmly
from napari_mtssl.gui.tasks import CELL
from napari_mtssl.gui.workspace import Workspace

if TYPE_CHECKING:
    import napari

Place = tuple[float, float]
CALM_MS = 200  # between two drawings
MOVING_SECONDS = 1.0  # the same while the view moves: its frames come first


class Stream(QObject):
    """Takes events, keeps what they predict, and has it drawn at most five times a second.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layers : StudyLayers
    rasters : RasterLayers
    focus : callable
        Tells the place of the prediction in focus, or None.

    Attributes
    ----------
    refills : int
        How often predictions were drawn anew.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        layers: StudyLayers,
        rasters: RasterLayers,
        focus: Callable[[], Place | None],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._layers, self._rasters, self._focus = layers, rasters, focus
        self._workspace: Workspace = layers.workspace
        self.crowd = Crowd(viewer, layers, self)
        self.refills = 0
        self._maps: list[tuple[tuple[int, int, int, int], np.ndarray, int]] = []
        self._tiles: list[Preview] = []
        self._pseudo: pd.DataFrame | None = None
        self._pending: tuple[int, pd.DataFrame] | None = None
        self._shown_at = -MOVING_SECONDS
        self.refill = Calmly(self._show, CALM_MS, self)
        self._wait_timer = QTimer(self)
        self._wait_timer.setSingleShot(True)
        self._wait_timer.timeout.connect(self.refill)
        self._draw_timer = QTimer(self)
        self._draw_timer.setSingleShot(True)
        self._draw_timer.timeout.connect(self._draw)
        self._workspace.predictions_changed.connect(self.refill)
        self._workspace.cells_changed.connect(self.refill)

    def close(self) -> None:
        """Draw no more."""
        self.refill.stop()
        self._wait_timer.stop()
        self._draw_timer.stop()
        self.crowd.close()

    def forget(self) -> None:
        """Another image is on screen: what is not drawn yet was of the one before."""
        self._maps.clear()
        self._tiles.clear()

    def on_event(self, event: Event) -> None:
        """Take in what an event predicts."""
        image = self._workspace.image
        if image is None:
            return
        if isinstance(event, Started):
            self._pseudo = None
        elif isinstance(event, Preview):
            if len(event.prediction.image):
                self._workspace.image_predicted.emit()
            if event.image_id == image.id:
                self._take(event)
        elif isinstance(event, PseudoLabels):
            self._pseudo = event.frame
            self.refill()

    def _take(self, event: Preview) -> None:
        said = event.prediction
        if CELL in self._workspace.task.kinds:
            if "uncertainty" in said.pictures:
                self._maps.append((event.box, said.pictures["uncertainty"], round(event.scale[0])))
            self._workspace.show_predictions(event.box, said.cells)
        else:
            self._tiles.append(event)
            self.refill()

    @guarded
    def _show(self) -> None:
        """Work out what is left to review; it is drawn in a turn of its own, so that each turn is short."""
        now = perf_counter()
        if self.crowd.moving and now - self._shown_at < MOVING_SECONDS:
            self._wait_timer.start(CALM_MS)
            return
        self._shown_at = now
        if self._workspace.image is not None:
            self._pending = (self._workspace.image.id, self._workspace.pending())
            self._draw_timer.start(0)

    @guarded
    def _draw(self) -> None:
        image = self._workspace.image
        if image is None or self._pending is None or image.id != self._pending[0]:
            return
        self.refills += 1
        if CELL in self._workspace.task.kinds:
            self._draw_cells()
        tiles, self._tiles = self._tiles, []
        for event in tiles:
            if event.image_id == image.id:
                self._rasters.tile(event)
        if tiles:
            self._workspace.rasters_drawn.emit()

    def _draw_cells(self) -> None:
        focus = self._focus()
        self.crowd.show(self._pending[1], focus)
        self.show_focus()
        maps, self._maps = self._maps, []
        for box, values, stride in maps:
            self._layers.fill_uncertainty(box, values, stride)
        if self._pseudo is not None and "row" in self._pseudo:
            frame, self._pseudo = self._pseudo, None
            self._layers.fill(PSEUDO, frame[frame["image_id"] == self._workspace.image.id])

    def show_focus(self) -> None:
        """Have the ring around the prediction in focus, if one is."""
        focus = self._focus()
        if focus is None:
            self._layers.ring.hide()
        else:
            self._layers.ring.show(*focus)

    def now(self) -> None:
        """Draw at once instead of soon."""
        self.refill.stop()
        self._shown_at = -MOVING_SECONDS
        self._show()
        self._draw()
