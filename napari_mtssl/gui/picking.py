"""The program's points under the mouse: a click focuses a prediction, an edit is a verdict or refused."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_mtssl.gui.layers import LABELS, PREDICTIONS, PSEUDO, StudyLayers
from napari_mtssl.gui.notify import show_info, show_warning
from napari_mtssl.gui.predictions import near
from napari_mtssl.gui.quick import heard, put
from napari_mtssl.gui.stream import Stream
from napari_mtssl.gui.tasks import CELL

if TYPE_CHECKING:
    from napari.layers import Points

    from napari_mtssl.gui.panels.review import ReviewPanel

REACH = 6.0  # pixels on the screen: so far from its middle a prediction is meant, however small it is drawn
HIDDEN = "This prediction is not in the list of step 4: choose all classes there, and confidence 0 to 1."
MOVED = "A prediction cannot be moved: accept it (Y), then move the label ('Select and move' in step 2)."
NOT_YOURS = "Pseudo-labels are the program's and cannot be edited: click cells in the layer Labels."
NO_LABELS = "Nothing was labelled: the layer Labels is gone. 'Show layers' (step 2) brings it back."


class Picking:
    """Keeps what napari has selected among the predictions, and what the review's keys act on, the same.

    An edit of the program's points is taken back at once, and what it means is done instead: a point added to
    the predictions is added to the labels, predictions that are deleted are rejected.

    Parameters
    ----------
    layers : StudyLayers
    stream : Stream
    review : ReviewPanel
    """

    def __init__(self, layers: StudyLayers, stream: Stream, review: ReviewPanel) -> None:
        self._layers, self._stream, self._review = layers, stream, review
        self._picks = False
        self._before: tuple[np.ndarray, pd.DataFrame] | None = None  # an edit, while napari makes it
        layers.made = self._follow
        review.chosen.connect(self._chosen)
        review.focused.connect(self._focused)

    def _follow(self, kind: str, layer: Points) -> None:
        """Listen to a new layer; it goes with its layer."""
        if kind in (PREDICTIONS, PSEUDO):
            layer.events.data.connect(partial(self._edited, kind, layer))
        if kind == PREDICTIONS:
            layer.selected_data.events.items_changed.connect(self._selected)
        if kind != PSEUDO:
            layer.mouse_drag_callbacks.append(self._clicked)

    # -- what is in focus ----------------------------------------------------------------------------------

    def _focused(self, row: float, col: float) -> None:
        """Go to the prediction that the list has in focus."""
        self._layers.look_at(row, col)
        if (layer := self._layers.points.get(PREDICTIONS)) is not None:
            with heard(layer):
                # The layer whose keys settle predictions; napari marks points of the active layer only.
                self._layers.viewer.layers.selection.active = layer
        self._stream.crowd.focus(row, col)
        self._chosen()

    def _chosen(self) -> None:
        if self._picks:
            return
        self._layers.mark(self._review.places())
        self._stream.show_focus()

    def _selected(self) -> None:
        """Have the keys act on what the user selected in the layer."""
        layer = self._layers.points.get(PREDICTIONS)
        if layer is None or self._layers.is_busy or layer.mode == "add":
            return  # in add mode napari selects what was added
        if self._before is not None and len(self._before[0]) != len(layer.data):
            return  # in the midst of an edit
        rows = sorted(layer.selected_data)
        if rows == near(layer.data, self._review.places()).tolist():
            return  # the mark of what is chosen: it is heard of late, when the program is not busy any more
        if rows or layer.mode == "select":
            self._pick(layer.data[rows])

    def _clicked(self, layer: Points, event: Any) -> Iterator[None]:
        """Bring the prediction under a click into focus, in the mode in which napari selects nothing."""
        yield
        moved = False
        while event.type == "mouse_move":
            moved = True
            yield
        predictions = self._layers.points.get(PREDICTIONS)
        if moved or event.button != 1 or layer.mode != "pan_zoom" or predictions is None:
            return
        if not predictions.visible or not len(predictions.data):
            return
        away = np.hypot(*(predictions.data - layer.world_to_data(event.position)[-2:]).T)
        zoom = self._layers.viewer.scene.camera.zoom * layer.scale[-1]  # pixels on the screen per pixel
        if away.min() <= max(float(predictions.size[0]) / 2, REACH / zoom):
            self._pick(predictions.data[[away.argmin()]])

    def _pick(self, places: np.ndarray) -> None:
        self._picks = True
        try:
            if self._review.choose(places) < len(places):
                show_info(HIDDEN)
        finally:
            self._picks = False
        if (focus := self._review.current()) is not None:
            self._stream.crowd.keep(*focus)
        self._chosen()

    # -- edits ---------------------------------------------------------------------------------------------

    def _edited(self, kind: str, layer: Points, event: Any) -> None:
        """Take back an edit of the user, and do what it means; what the program draws is not heard here."""
        action = str(getattr(event.action, "value", event.action))
        if action in ("adding", "changing", "removing"):
            self._before = np.array(layer.data), layer.features.copy()
            return
        if self._before is None or self._layers.is_busy:
            return
        rows, after, before = list(event.data_indices), np.array(layer.data), self._before[0]
        with self._layers.busy():
            put(layer, *self._before)
        self._before = None
        self._chosen()
        self._stream.refill()  # others may have come while it was dragged
        if kind == PSEUDO:
            show_warning(NOT_YOURS)
        elif action == "added":
            self._label(after[rows])
        elif action == "removed":
            if self._review.choose(before[rows]):
                self._review.reject()
            else:
                show_info(HIDDEN)
        else:
            show_warning(MOVED)

    def _label(self, places: np.ndarray) -> None:
        """Label what was added to the predictions, as a click on the layer of the labels does."""
        labels = self._layers.points.get(LABELS)
        if labels is None:
            show_warning(NO_LABELS)
            return
        name = self._layers.workspace.active_of(CELL)
        show_info(f"Labelled as {name}: what is added to the predictions becomes a label.")
        labels.add(places)
