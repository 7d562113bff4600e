"""Free regions, each with one coarse class: shapes that the user draws, and what the study keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from napari_mtssl.gui.layers import StudyLayers
from napari_mtssl.gui.notify import in_words, show_info, show_warning
from napari_mtssl.gui.quick import calm
from napari_mtssl.gui.rasters import PAINT
from napari_mtssl.gui.tasks import BLOCK
from napari_mtssl.gui.workspace import Workspace, WorkspaceError

if TYPE_CHECKING:
    import pandas as pd
    from napari.layers import Layer, Shapes

    from napari_mtssl.study import Study

REGIONS = "Regions"
OPACITY = 0.4
MOST = 2000  # shapes that napari draws without being felt
AREAS = ("polygon", "rectangle", "ellipse")
ROUND = 48  # corners that an ellipse becomes


class RegionShapes:
    """Two-way bond between a Shapes layer and the free regions of the image on screen.

    The study is the truth: what is drawn, moved or deleted is saved at once, as one edit; if that fails the
    layer is filled from the study again. `ids` runs parallel to the layer's shapes. The layer is made when
    the image has regions, or when the user takes a tool for them.
    """

    def __init__(self, layers: StudyLayers) -> None:
        self.viewer, self.layers = layers.viewer, layers
        self.workspace: Workspace = layers.workspace
        self.layer: Shapes | None = None
        self.ids: list[int] = []
        self.added: Callable[[str, Layer], None] = lambda name, layer: None
        self._own = False
        self._box: tuple[float, ...] | None = None  # whose regions are shown, if there are too many
        self._shown: tuple[Any, ...] | None = None  # None: the layer shows something else than the study
        self._signals = (self.workspace.blocks_changed, self.workspace.classes_changed)
        for signal in self._signals:
            signal.connect(self._changed)
        self.workspace.active_changed.connect(self._choose)

    def close(self) -> None:
        """Follow layer and workspace no more."""
        self._unfollow()
        for signal in self._signals:
            signal.disconnect(self._changed)
        self.workspace.active_changed.disconnect(self._choose)

    # -- the layer -----------------------------------------------------------------------------------------

    def show(self, *, make: bool = False) -> Shapes | None:
        """Show the regions of the image on screen.

        Parameters
        ----------
        make : bool
            Make the layer although there is no region yet.
        """
        record = self.workspace.image
        if record is None or BLOCK not in self.workspace.kinds():
            self.remove()
            return None
        regions = self._wanted()
        if len(regions) > MOST:
            if self.layer is not None or make:
                show_info(f"{len(regions):,} regions are in view, too many to draw: come closer. They count.")
            self.remove()
            return None
        if self.layer is None:
            if not (make or len(regions)):
                return None
            self._add()
        self._fill(regions)
        return self.layer

    def follow(self) -> None:
        """Of very many regions, show those that are in view now."""
        view = self.layers.viewport()
        if self._box is None or view is None or self.selected():
            return
        strays = view[0] < self._box[0] or view[1] < self._box[1]
        strays = strays or view[2] > self._box[2] or view[3] > self._box[3]
        if strays or self._box[2] - self._box[0] > 4 * (view[2] - view[0]):  # or has come closer
            self.show()

    def _wanted(self) -> pd.DataFrame:
        """Give the regions to show: all, or if there are very many those in and around the view."""
        study, record = self.workspace.need_study(), self.workspace.need_image()
        regions, view = study.regions(record.id), self.layers.viewport()
        self._box = None
        if len(regions) > MOST and view is not None:
            high, wide = view[2] - view[0], view[3] - view[1]
            self._box = (view[0] - high / 2, view[1] - wide / 2, view[2] + high / 2, view[3] + wide / 2)
            regions = study.regions(record.id, box=self._box)
        return regions

    def take(self, mode: str) -> None:
        """Take one of napari's tools for shapes."""
        layer = self.show(make=True)
        if layer is None:
            return
        layer.visible = True
        self.viewer.layers.selection.active = layer
        layer.mode = mode
        self._choose()

    def forget(self, layer: Layer) -> str | None:
        """Note that the user removed `layer`; return its name if it was ours."""
        if self.layer is None or layer != self.layer:
            return None
        self._unfollow()
        return REGIONS

    def leave(self, of: str) -> None:
        """Leave the layer in the viewer, as nobody else has what it shows any more."""
        layer = self.layer
        self._unfollow()
        if layer is not None:
            layer.name, layer.metadata = f"{REGIONS} {of}", {}

    def remove(self) -> None:
        """Take the layer out of the viewer; the study keeps the regions."""
        layer = self.layer
        self._unfollow()
        if layer is not None and layer in self.viewer.layers:
            with self.layers.busy():
                self.viewer.layers.remove(layer)

    def selected(self) -> list[int]:
        """Ids of the selected regions."""
        if self.layer is None or self.layer.mode not in ("select", "direct"):
            return []
        return [self.ids[at] for at in sorted(self.layer.selected_data) if at < len(self.ids)]

    def _add(self) -> None:
        active = self.viewer.layers.selection.active
        record = self.workspace.need_image()
        world, units = self.layers.world
        with self.layers.busy():
            self.layer = self.viewer.add_shapes(
                name=REGIONS,
                ndim=2,
                scale=world,
                units=units,
                opacity=OPACITY,
                edge_width=max(record.height, record.width) / 400,
                metadata={"mtssl": REGIONS},
            )
            calm(self.layer)
            over = [layer for layer in self.viewer.layers if layer.name == PAINT]
            if over:  # a correction lies over everything
                below = self.viewer.layers.index(over[0])
                self.viewer.layers.move(self.viewer.layers.index(self.layer), below)
            if active is not None:
                self.viewer.layers.selection.active = active
        self.layer.events.data.connect(self._edited)
        self.added(REGIONS, self.layer)

    def _unfollow(self) -> None:
        if self.layer is not None:
            self.layer.events.data.disconnect(self._edited)
        self.layer, self.ids, self._shown = None, [], None

    def _fill(self, regions: pd.DataFrame) -> None:
        """Show these regions, unless they are shown already."""
        layer, colours = self.layer, self.workspace.colours(BLOCK)
        said = self._said(regions)
        if self._shown == said and len(layer.data) == len(regions):
            self._choose()
            return
        chosen, mode = set(self.selected()), layer.mode
        with self.layers.busy():
            layer.scale, layer.units = self.layers.world
            layer.mode = "pan_zoom"  # ends what is being drawn
            layer.selected_data = set()
            layer.data = [(polygon, "polygon") for polygon in regions["polygon"]]
            if len(regions):
                inside = [colours[name] for name in regions["class"]]
                layer.face_color = layer.edge_color = inside
            self.ids = [int(number) for number in regions["id"]]
            layer.mode = mode
            layer.selected_data = {at for at, number in enumerate(self.ids) if number in chosen}
        self._shown = said
        self._choose()

    def _said(self, regions: pd.DataFrame) -> tuple[Any, ...]:
        """Tell what can be seen of regions."""
        colours = self.workspace.colours(BLOCK)
        lines = [
            (number, polygon.tobytes(), name, colours.get(name))
            for number, polygon, name in regions.itertuples(index=False)
        ]
        return (self.workspace.need_image().id, *lines)

    # -- from the layer to the study -----------------------------------------------------------------------

    def _edited(self, event: Any) -> None:
        action = str(getattr(event.action, "value", event.action))
        handler = {"added": self._drawn, "changed": self._moved, "removed": self._deleted}.get(action)
        if handler is None or self.layers.is_busy or self.layer is None:
            return
        self._own, agree = True, False
        try:
            agree = handler(event)
        except Exception as error:
            sentence = in_words(error)
            if sentence is None:
                raise
            show_warning(f"This region was not saved. {sentence}")
        finally:
            self._own = False
        if agree:
            study, record = self.workspace.need_study(), self.workspace.need_image()
            self._shown = self._said(study.regions(record.id, box=self._box))
        else:
            self._shown = None
            QTimer.singleShot(0, self._changed)  # napari has not finished with this shape yet

    def _drawn(self, event: Any) -> bool:
        """Add what is new; False if the layer does not show it as it was kept."""
        data, kinds, agree = self.layer.data, self.layer.shape_type, True
        for at in range(len(self.ids), len(data)):
            name = self.workspace.active_of(BLOCK)
            if not name:
                raise WorkspaceError("Add a class of blocks first: it is what a region gets.")
            if kinds[at] not in AREAS:
                raise WorkspaceError("A line has no inside: draw a polygon.")
            corners = around(data[at]) if kinds[at] == "ellipse" else np.array(data[at], float)
            made: list[int] = []

            def add(study: Study, image_id: int, corners: np.ndarray = corners, name: str = name) -> None:
                made.append(study.add_region(image_id, corners, name))  # noqa: B023 (called at once)

            self.workspace.region_changed(add)
            self.ids += made
            agree = agree and kinds[at] == "polygon"
        return agree

    def _moved(self, event: Any) -> bool:
        moved = [int(at) for at in event.data_indices if int(at) < len(self.ids)]
        data = self.layer.data

        def move(study: Study, image_id: int) -> None:
            known = {
                number: polygon for number, polygon, _ in study.regions(image_id).itertuples(index=False)
            }
            with study.edit("Changed a region" if len(moved) == 1 else f"Changed {len(moved)} regions"):
                for at in moved:
                    corners = np.array(data[at], float)
                    if not np.array_equal(corners, known[self.ids[at]]):  # a click alone moves nothing
                        study.set_region_polygon(self.ids[at], corners)

        self.workspace.region_changed(move)
        return True

    def _deleted(self, event: Any) -> bool:
        gone = {int(at) for at in event.data_indices if int(at) < len(self.ids)}
        numbers = [self.ids[at] for at in sorted(gone)]
        self.ids = [number for at, number in enumerate(self.ids) if at not in gone]
        if numbers:
            self.workspace.region_changed(lambda study, image_id: study.delete_regions(numbers))
        return True

    def give_class(self, name: str) -> bool:
        """Give the selected regions a class; False if none is selected."""
        numbers = self.selected()
        if numbers:
            self.workspace.region_changed(lambda study, image_id: study.set_region_class(numbers, name))
        return bool(numbers)

    # -- from the study to the layer -----------------------------------------------------------------------

    def _changed(self) -> None:
        if self._own or self.workspace.study is None or self.workspace.image is None:
            return
        self.show()

    def _choose(self) -> None:
        """Draw with the colour of the active class."""
        if self.layer is None or self.workspace.study is None:
            return
        colour = self.workspace.colours(BLOCK).get(self.workspace.active_of(BLOCK))
        if colour is not None and not self.selected():
            with self.layers.busy():
                if len(self.layer.data) == len(self.ids):  # else one is being drawn: it gets the colour
                    self.layer.selected_data = set()
                self.layer.current_face_color = self.layer.current_edge_color = colour


def around(box: np.ndarray) -> np.ndarray:
    """Corners (N, 2) of the ellipse in a box whose four corners (4, 2) are given."""
    middle = box.mean(axis=0)
    one, other = (box[1] - box[0]) / 2, (box[3] - box[0]) / 2
    turn = 2 * np.pi * np.arange(ROUND)[:, None] / ROUND
    return np.asarray(middle + np.cos(turn) * one + np.sin(turn) * other)
