"""The buttons of step 2 show which mode is on: that of the layer that the next click goes to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_mtssl.gui.layers import LABELS
from napari_mtssl.gui.rasters import BLOCKS, PAINT
from napari_mtssl.gui.regions import REGIONS

if TYPE_CHECKING:
    import napari

    from napari_mtssl.gui.panels.label import LabelPanel


class Modes:
    """Follows the active layer of a viewer and its mode.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    panel : LabelPanel
        Whose buttons are kept true.
    """

    def __init__(self, viewer: napari.viewer.Viewer, panel: LabelPanel) -> None:
        self._selection = viewer.layers.selection
        self._buttons = {
            LABELS: (panel.cells.show_mode,),
            BLOCKS: (panel.blocks.block_tools.show_mode,),
            REGIONS: (panel.blocks.region_tools.show_mode,),
            PAINT: (panel.blocks.mask_tools.show_mode, panel.images.tools.show_mode),
        }
        self._layer: Any = None
        self._selection.events.active.connect(self._followed)
        self._followed()

    def show(self, *_: Any) -> None:
        """Have the buttons say what is; a click on one may have changed nothing."""
        layer = self._layer
        name = None if layer is None else layer.metadata.get("mtssl")
        for owner, shows in self._buttons.items():
            for show in shows:
                show(str(getattr(layer, "mode", "")) if owner == name else "")

    def close(self) -> None:
        """Listen no more."""
        self._selection.events.active.disconnect(self._followed)
        self._leave()

    def _followed(self, event: Any = None) -> None:
        self._leave()
        self._layer = self._selection.active
        if self._layer is not None and hasattr(self._layer.events, "mode"):
            self._layer.events.mode.connect(self.show)
        self.show()

    def _leave(self) -> None:
        if self._layer is not None and hasattr(self._layer.events, "mode"):
            self._layer.events.mode.disconnect(self.show)
        self._layer = None
