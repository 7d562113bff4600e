"""Layers that the user paints and the study say the same: every stroke is saved at once, as one edit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_mtssl.gui.notify import in_words, show_warning
from napari_mtssl.gui.rasters import BLOCKS, PAINT, RasterLayers
from napari_mtssl.gui.tasks import BLOCK, MASK
from napari_mtssl.gui.workspace import Workspace, WorkspaceError

if TYPE_CHECKING:
    from napari.layers import Labels
    from psygnal import SignalInstance


KEPT = ("opacity", "blending", "contour", "brush_size", "visible")  # of a layer that is made anew


class Painting(ABC):
    """Two-way bond between a Labels layer and the study.

    The study is the truth: what a stroke changed is found by comparing with what was last known of it, is
    saved, and if that fails the layer is filled from the study again.
    """

    name: str
    kind: str

    def __init__(self, rasters: RasterLayers, workspace: Workspace) -> None:
        self.rasters = rasters
        self.workspace = workspace
        self.layer: Labels | None = None
        self._known: np.ndarray | None = None
        self._own = False
        self._early = False  # a stroke was announced before its pixels were there
        self._drawing: dict[str, Any] | None = (
            None  # how the layer looked that was left with the polygon tool
        )
        self._changed_signal().connect(self._study_changed)
        workspace.active_changed.connect(self._choose)
        workspace.classes_changed.connect(self._choose)

    def attach(self) -> None:
        """Follow the layer that is in the viewer now."""
        layer = self.rasters.found.get(self.name)
        if layer is not self.layer:
            self.detach()
            self.layer = layer
            if layer is not None:
                layer.events.paint.connect(self._painted)
                layer.events.labels_update.connect(self._updated)
                self._take_polygon_again(layer)
        self._known = None if layer is None else np.array(layer.data)
        self._choose()

    def leave_polygon(self) -> None:
        """Have the layer made anew if a polygon may be open in it.

        napari keeps the corners that were clicked on one image and would close them over the next one; in its
        public interface nothing but a new layer forgets them.
        """
        if self.layer is not None and self.layer.mode == "polygon":
            self._drawing = {name: getattr(self.layer, name) for name in KEPT}
            self._drawing["active"] = self.rasters.viewer.layers.selection.active == self.layer
            self.rasters.remove(self.name)

    def _take_polygon_again(self, layer: Labels) -> None:
        said, self._drawing = self._drawing, None
        if said is None:
            return
        if said.pop("active"):
            self.rasters.viewer.layers.selection.active = layer
        for name, value in said.items():
            setattr(layer, name, value)
        layer.mode = "polygon"

    def detach(self) -> None:
        """Stop following."""
        if self.layer is not None:
            self.layer.events.paint.disconnect(self._painted)
            self.layer.events.labels_update.disconnect(self._updated)
        self.layer, self._known = None, None

    def close(self) -> None:
        """Stop following the layer and the workspace."""
        self.detach()
        self._changed_signal().disconnect(self._study_changed)
        self.workspace.active_changed.disconnect(self._choose)
        self.workspace.classes_changed.disconnect(self._choose)

    def load(self) -> None:
        """Fill the layer from the study."""
        if self.workspace.image is not None and self.kind in self.workspace.kinds():
            self._fill()
            self.attach()

    def follow(self) -> None:  # noqa: B027 - most layers hold all of an image
        """Have the layer hold what is in view now."""

    @abstractmethod
    def _changed_signal(self) -> SignalInstance: ...

    @abstractmethod
    def _fill(self) -> None: ...

    @abstractmethod
    def _save(self, data: np.ndarray, changed: np.ndarray) -> None: ...

    def _updated(self, event: Any) -> None:
        # napari says "painted" before a polygon or a fill is in the data, but after a stroke of the brush.
        if self._early:
            self._painted(event)

    def _painted(self, event: Any) -> None:
        if self.layer is None or self._known is None or self.rasters.layers.is_busy:
            return
        data = np.asarray(self.layer.data)
        changed = data != self._known
        self._early = not changed.any()
        if self._early:
            return
        self._own = True
        try:
            self._save(data, changed)
            np.copyto(self._known, data, where=changed)
            return
        except Exception as error:
            sentence = in_words(error)
            if sentence is None:
                raise
            show_warning(f"This was not saved. {sentence}")
        finally:
            self._own = False
        np.copyto(data, self._known, where=changed)  # the layer's own array
        self.layer.refresh()

    def _study_changed(self) -> None:
        if not self._own:
            self.load()

    def _choose(self) -> None:
        """Have the brush paint with the active class."""
        if self.layer is None or self.workspace.study is None:
            return
        name = self.workspace.active_of(self.kind)
        code = next((item.code for item in self.workspace.classes(self.kind) if item.name == name), 0)
        if code and self.layer.selected_label != code:
            self.layer.selected_label = code


class BlockPainting(Painting):
    """Blocks of the grid, one element each."""

    name, kind = BLOCKS, BLOCK

    def _changed_signal(self) -> SignalInstance:
        return self.workspace.blocks_changed

    def _fill(self) -> None:
        self.rasters.fill_blocks()

    def _save(self, data: np.ndarray, changed: np.ndarray) -> None:
        names = {item.code: item.name for item in self.workspace.classes(BLOCK)} | {0: None}
        i0, j0 = self.rasters.origin
        blocks = {}
        for i, j in zip(*np.nonzero(changed), strict=True):
            code = int(data[i, j])
            if code not in names:
                raise WorkspaceError(f"No class has the label {code}: choose a class in step 2.")
            blocks[(int(i) + i0, int(j) + j0)] = names[code]
        self.workspace.set_blocks(blocks)


class MaskPainting(Painting):
    """The exact mask, one element for each pixel."""

    name, kind = PAINT, MASK

    def _changed_signal(self) -> SignalInstance:
        return self.workspace.mask_changed

    def _fill(self) -> None:
        self.rasters.fill_mask()

    def _save(self, data: np.ndarray, changed: np.ndarray) -> None:
        rows, cols = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        box = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
        corner = (0, 0) if self.rasters.mask_part is None else self.rasters.mask_part[1][:2]
        self.workspace.paint(int(rows[0]) + corner[0], int(cols[0]) + corner[1], data[box], changed[box])

    def follow(self) -> None:
        """Have the layer hold what is in view now, of an image that is too large to be held whole."""
        drawing = QApplication.mouseButtons() != Qt.MouseButton.NoButton
        if not drawing and self.rasters.mask_strays():
            self.load()
