"""The annotation layer and the study say the same: every click, move and deletion is saved at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mtssl.gui.layers import LABELS, StudyLayers
from napari_mtssl.gui.notify import in_words, show_info, show_warning
from napari_mtssl.gui.quick import heard
from napari_mtssl.gui.tasks import CELL
from napari_mtssl.gui.workspace import Workspace

if TYPE_CHECKING:
    from napari.layers import Points

SAME_CELL = 4.0  # a click this close (level-0 pixels) to a label means that label


class Annotations:
    """Two-way bond between the annotation layer and the study.

    The study is the truth: whenever the two disagree, or saving fails, the layer is filled from the study
    again. `ids` runs parallel to the layer's rows, because rows can only be appended, moved or removed.
    """

    def __init__(self, layers: StudyLayers, workspace: Workspace) -> None:
        self.layers = layers
        self.workspace = workspace
        self.layer: Points | None = None
        self.ids: list[int] = []
        self._own = False
        workspace.cells_changed.connect(self._cells_changed)
        workspace.active_changed.connect(self._active_changed)

    def attach(self) -> None:
        """Follow the annotation layer that is in the viewer now, and fill it."""
        layer = self.layers.points[LABELS]
        if self.layer is None or self.layer != layer:
            self.detach()
            self.layer = layer
            layer.events.data.connect(self._edited)
        self.load()

    def detach(self) -> None:
        """Stop following."""
        if self.layer is not None:
            self.layer.events.data.disconnect(self._edited)
        self.layer, self.ids = None, []

    def close(self) -> None:
        """Stop following the layer and the workspace."""
        self.detach()
        self.workspace.cells_changed.disconnect(self._cells_changed)
        self.workspace.active_changed.disconnect(self._active_changed)

    def load(self) -> None:
        """Fill the layer from the study."""
        if self.layer is None or self.workspace.image is None:
            return
        cells, chosen = self.workspace.cells(), set(self.selected())
        self.ids = [int(i) for i in cells["id"]]
        self.layers.fill(LABELS, cells)
        if chosen:
            with self.layers.busy(), heard(self.layer):
                self.layer.selected_data = {row for row, cell in enumerate(self.ids) if cell in chosen}
        self._active_changed()

    def selected(self) -> list[int]:
        """Ids of the selected labels."""
        if self.layer is None:
            return []
        return [self.ids[i] for i in sorted(self.layer.selected_data) if i < len(self.ids)]

    # -- from the layer to the study -----------------------------------------------------------------------

    def _edited(self, event: Any) -> None:
        action = str(getattr(event.action, "value", event.action))
        if action == "adding":
            self._active_changed()  # napari takes the class of the label that was selected last
        handler = {"added": self._added, "changed": self._moved, "removed": self._removed}.get(action)
        if handler is None or self.layers.is_busy or self.layer is None:
            return
        self._own = True
        try:
            handler([int(i) % max(len(self.layer.data), 1) for i in event.data_indices], event)
            agree = len(self.ids) == len(self.layer.data)
        except Exception as error:
            sentence = in_words(error)
            if sentence is None:
                raise
            show_warning(f"This edit was not saved. {sentence}")
            agree = False
        finally:
            self._own = False
        if not agree:
            self._reload_quietly()

    def _added(self, rows: list[int], event: Any) -> None:
        for row in rows:
            place = np.asarray(self.layer.data[row], float)
            near = self._label_at(place)
            if near is not None:
                # A second label on the same cell would contradict the first: the click names it anew.
                if self.layer.features["class"].iloc[near] != self.workspace.active_of(CELL):
                    self.workspace.set_class([self.ids[near]], self.workspace.active_of(CELL))
                else:
                    show_info(f"This cell is already labelled {self.workspace.active_of(CELL)}.")
            else:
                self.ids.append(self.workspace.add_cell(float(place[0]), float(place[1])))

    def _moved(self, rows: list[int], event: Any) -> None:
        data = self.layer.data
        self.workspace.move_cells([(self.ids[i], float(data[i, 0]), float(data[i, 1])) for i in rows])
        if len(rows) == 1:
            self._warn_of_double(rows[0])

    def _warn_of_double(self, at: int) -> None:
        """Say that a label was put onto another one, of another class: a network would learn both."""
        classes = self.layer.features["class"].to_numpy()
        distance = np.hypot(*(self.layer.data - self.layer.data[at]).T)
        for other in np.flatnonzero((distance <= SAME_CELL) & (classes != classes[at])):
            show_warning(
                f"There is a label {classes[other]} at this place, too: delete one, if they mean one cell."
            )

    def _removed(self, rows: list[int], event: Any) -> None:
        # Rows are given as they were before the removal, so they must not be wrapped to the new length.
        gone = {int(i) for i in event.data_indices}
        self.workspace.delete_cells([self.ids[i] for i in sorted(gone)])
        self.ids = [cell for i, cell in enumerate(self.ids) if i not in gone]

    def _label_at(self, place: np.ndarray) -> int | None:
        """Row of a stored label within `SAME_CELL` of the place."""
        stored = self.layer.data[: len(self.ids)]
        if not len(stored):
            return None
        distance = np.hypot(stored[:, 0] - place[0], stored[:, 1] - place[1])
        nearest = int(distance.argmin())
        return nearest if distance[nearest] <= SAME_CELL else None

    def _reload_quietly(self) -> None:
        try:
            self.load()
        except Exception as error:
            if in_words(error) is None:
                raise

    # -- from the study to the layer -----------------------------------------------------------------------

    def _cells_changed(self) -> None:
        if not self._own:
            self.load()

    def _active_changed(self) -> None:
        if self.layer is not None and self.workspace.active_of(CELL):
            with self.layers.busy():
                self.layer.feature_defaults = {"class": self.workspace.active_of(CELL), "source": "human"}
