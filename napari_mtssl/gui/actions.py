"""What the keys do, and the tools and modes that buttons and keys share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QMessageBox

from napari_mtssl.gui.layers import LABELS
from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.rasters import BLOCKS, PAINT
from napari_mtssl.gui.suggest import doubtful_pixels, labelled_places, most_uncertain, suggest
from napari_mtssl.gui.tasks import BLOCK, CELL, MASK, REGION
from napari_mtssl.gui.workspace import WorkspaceError

if TYPE_CHECKING:
    from napari_mtssl.gui.dock import Dock
    from napari_mtssl.study import ImageRecord

LAYER_OF = {BLOCK: BLOCKS, MASK: PAINT}


class Actions:
    """Actions on the layers and panels of a dock, by the names that `shortcuts` uses."""

    def __init__(self, dock: Dock) -> None:
        self._dock = dock

    def table(self) -> dict[str, Any]:
        """Functions by the name of their shortcut."""
        dock = self._dock
        return {
            "digit": self.digit,
            "undo": lambda: dock.label_panel.undo(),
            "redo": lambda: dock.label_panel.redo(),
            "delete": self.delete,
            "no_paste": lambda: show_info("Labels cannot be pasted: every one is given by hand."),
            "suggest": lambda: dock.label_panel.next_place(),
            "next_image": lambda: dock.label_panel.step_image(1),
            "previous_image": lambda: dock.label_panel.step_image(-1),
            "accept": lambda: (dock.mask_review if dock.workspace.task.heads else dock.review_panel).accept(),
            "reject": lambda: dock.review_panel.reject(),
            "next_prediction": lambda: dock.review_panel.step(1),
            "previous_prediction": lambda: dock.review_panel.step(-1),
            "add_missed": self.add_missed,
            "unlabelled": lambda: dock.label_panel.images.next_unlabelled(),
            "next_kind": self.next_kind,
            "complete": self.complete,
            "use_predicted": self.use_predicted,
        }

    @guarded
    def digit(self, key: str, scope: str) -> None:
        """Choose the class of a key, or give it to what is selected, or to the image."""
        dock, workspace = self._dock, self._dock.workspace
        name = workspace.class_of_key(key)
        if name is None:
            raise WorkspaceError(f"No class has the key {key}: give one in step 2.")
        if scope == "predictions":
            dock.review_panel.correct(name)
            return
        if workspace.kind in workspace.heads():
            dock.label_panel.images.give_by_key(workspace.kind, name)
            return
        layer = dock.layers.points.get(LABELS)
        if layer is not None and layer.mode == "select" and layer.selected_data:
            workspace.set_class(dock.annotations.selected(), name)
        elif scope != "regions" or not dock.regions.give_class(name):
            workspace.set_active(name)

    def delete(self) -> None:
        """Delete the selected labels."""
        layer = self._dock.layers.points.get(LABELS)
        if layer is not None:
            layer.remove_selected()

    def next_kind(self) -> None:
        """Have the keys choose from the next kind of classes."""
        workspace = self._dock.workspace
        kinds = workspace.kinds()
        workspace.set_kind(kinds[(kinds.index(workspace.kind) + 1) % len(kinds)])
        show_info(f"The keys 1 to 9, and 0, now give: {workspace.kind}.")

    def complete(self) -> None:
        """Say that the mask is complete, or that it is not."""
        if self._dock.workspace.task.heads:
            self._dock.label_panel.images.toggle_complete()

    @guarded
    def use_predicted(self) -> None:
        """Make the predicted mask the image's own; the user corrects it then."""
        dock, workspace = self._dock, self._dock.workspace
        study, record = workspace.need_study(), workspace.need_image()
        codes = dock.rasters.predicted_codes(record)
        if codes is None and dock.rasters.predicted is not None:
            raise WorkspaceError("This image is too large to take its mask over: paint where it is wrong.")
        if codes is None:
            raise WorkspaceError("There is no predicted mask of this image yet: train or predict (step 3).")
        background = next(item.code for item in workspace.classes(MASK) if item.background)
        whole = workspace.task.heads
        state = study.mask_state(record.id)
        if whole and state.complete and state.source == "human" and not self._replaces(record):
            return
        with study.edit(f"Used the predicted mask of {record.path.name}"):
            patch = np.where(codes == background, 0, codes) if whole else codes
            # Exact paint of a person stays: a correction is surer than a prediction.
            where = study.mask(record.id) == 0
            if whole and state.complete:
                where[:] = True
            study.paint_mask(record.id, 0, 0, patch, where=where, source="model")
            if whole:
                study.set_mask_complete(record.id, True)
        workspace.mask_changed.emit()
        self.take_tool(MASK, "paint", None)
        show_info("The predicted mask is this image's mask now: correct it with the brush.")

    def _replaces(self, record: ImageRecord) -> bool:
        """Ask whether a mask that a person called complete is to go."""
        answer = QMessageBox.question(
            self._dock,
            "Use predicted mask",
            f"The mask of {record.path.name} is complete. Replace it by the predicted one? "
            "Undo brings it back.",
        )
        return bool(answer == QMessageBox.StandardButton.Yes)

    def take_tool(self, kind: str, mode: str, size: int | None) -> None:
        """Make a painted layer active, in one of napari's modes."""
        dock = self._dock
        of = BLOCK if kind == REGION else kind
        if not dock.workspace.classes(of):
            show_info("Add a class first: it is what the brush paints.")
            return
        if kind == REGION:
            dock.workspace.set_kind(BLOCK)
            dock.regions.take(mode)
            return
        if LAYER_OF[kind] not in dock.rasters.found:
            dock.show_layers()
        layer = dock.rasters.found.get(LAYER_OF[kind])
        if layer is None:
            show_info(
                "Lay a grid first."
                if kind == BLOCK
                else "Come closer to paint: of a slide, what is in view can be painted."
            )
            return
        dock.workspace.set_kind(kind)
        layer.visible = True
        dock.viewer.layers.selection.active = layer
        layer.mode = mode
        if size is not None:
            layer.brush_size = size
        if kind == MASK and mode in ("paint", "polygon", "fill"):
            self._warn_of_background()

    def _warn_of_background(self) -> None:
        """Say what the brush paints if that is nothing: it may be meant, and looks like a mistake."""
        workspace = self._dock.workspace
        name = workspace.active_of(MASK)
        if any(item.background and item.name == name for item in workspace.classes(MASK)):
            show_info(f"The brush paints {name}: press the key of another class to outline that.")

    def set_click_mode(self, clicking: bool) -> None:
        """Make the annotation layer active, to click cells or to select labels."""
        dock = self._dock
        if LABELS not in dock.layers.points:
            dock.show_layers()
        if LABELS in dock.layers.points:
            layer = dock.layers.points[LABELS]
            layer.visible = True  # or napari would not click in it
            dock.viewer.layers.selection.active = layer
            layer.mode = "add" if clicking else "select"

    @guarded
    def add_missed(self) -> None:
        """Let the user click cells that the network did not find; none of them is background."""
        workspace = self._dock.workspace
        cells = [item.name for item in workspace.classes(CELL) if not item.background]
        if not cells:
            raise WorkspaceError("Add a class of cells first (step 2).")
        before = workspace.active_of(CELL)
        name = before if before in cells else cells[0]
        workspace.set_active(name, CELL)
        self.set_click_mode(True)
        said = f"Click the missed cells: they become {name}."
        if name != before:
            said += f" The active class was {before}, which is no cell; a class's key gives another one."
        show_info(said)

    @guarded
    def go_to_suggestion(self) -> None:
        """Go to the place where a label teaches most."""
        workspace = self._dock.workspace
        held = self._dock.rasters.predicted if MASK in workspace.kinds() else None
        if held is not None:
            names = {item.code: item.name for item in workspace.classes(MASK)}
            place = most_uncertain(
                doubtful_pixels(held, names), np.array(workspace.seen, float).reshape(-1, 2)
            )
        else:
            pending = workspace.pending()
            place = suggest(workspace.pixels, labelled_places(workspace), pending, workspace.seen)
        if place is None:
            show_info("There is no other place to suggest in this image.")
            return
        workspace.seen.append((place.row, place.col))
        workspace.went.emit(place.row, place.col)
        show_info(f"Look here: {place.reason}.")
