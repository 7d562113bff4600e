"""A ring around the cell in focus, black and white: one of them is seen on any image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari.layers import Layer, Points

    from napari_mtssl.gui.layers import StudyLayers

FOCUS = "In focus"
SIZE = 30  # pixels of the image, twice a prediction
LEAST = 26  # pixels on the screen
WIDTHS = (0.16, 0.07)  # of the black ring below, and of the white one upon it


class FocusRing:
    """A layer of the program's own, made when something is in focus for the first time, hidden otherwise."""

    def __init__(self, layers: StudyLayers) -> None:
        self._layers = layers
        self.layer: Points | None = None
        self._refused = False  # the user removed it

    def show(self, row: float, col: float) -> None:
        """Put the ring around a place."""
        if self._refused or self._layers.image is None:
            return
        if self.layer is None:
            self.layer = self._make()
        place = np.array([[row, col]] * 2)
        if not np.array_equal(self.layer.data, place):
            self.layer.scale, self.layer.units = self._layers.world
            self.layer.data = place
        if not self.layer.visible:
            self.layer.visible = True

    def hide(self) -> None:
        """Nothing is in focus."""
        if self.layer is not None:
            self.layer.scale, self.layer.units = self._layers.world  # of another image, maybe
            if self.layer.visible:
                self.layer.visible = False

    def forget(self, layer: Layer) -> bool:
        """Whether the user removed the ring; it does not come back before `allow`."""
        if self.layer is None or self.layer != layer:
            return False
        self.layer, self._refused = None, True
        return True

    def allow(self) -> None:
        """Have it come back, though the user removed it."""
        self._refused = False

    def remove(self) -> None:
        """Take it out of the viewer; it may come again."""
        layer, self.layer, self._refused = self.layer, None, False
        if layer is not None and layer in self._layers.viewer.layers:
            self._layers.viewer.layers.remove(layer)

    def _make(self) -> Points:
        from napari_mtssl.gui.quick import calm, quiet

        viewer = self._layers.viewer
        with self._layers.busy():
            active = viewer.layers.selection.active
            scale, units = self._layers.world
            layer = viewer.add_points(
                np.zeros((2, 2)),
                name=FOCUS,
                size=SIZE,
                symbol="disc",
                face_color="transparent",
                border_color=np.array([[0, 0, 0, 1], [1, 1, 1, 1]], float),
                border_width=np.array(WIDTHS),
                canvas_size_limits=(LEAST, 10_000),
                scale=scale,
                units=units,
                metadata={"mtssl": FOCUS},
            )
            calm(layer)
            quiet(layer)
            viewer.layers.selection.active = active
        return layer
