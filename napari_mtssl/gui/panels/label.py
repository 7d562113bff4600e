"""Step 2: one page for what is labelled; undo and redo, and where to look next, for all."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.panels.classes import COLOUR, KEY, NAME
from napari_mtssl.gui.panels.label_blocks import BlocksPage
from napari_mtssl.gui.panels.label_cells import BY_HAND, CellsPage
from napari_mtssl.gui.panels.label_images import ImagesPage
from napari_mtssl.gui.rows import button, heading, row
from napari_mtssl.gui.tasks import BLOCK, CELL
from napari_mtssl.gui.workspace import Workspace

__all__ = ["BY_HAND", "COLOUR", "KEY", "NAME", "LabelPanel"]


class LabelPanel(QWidget):
    """The page of the task, and what every task has.

    Signals
    -------
    show_layers
        The user wants the layers back.
    show_keys
        The user wants the table of keys.
    """

    show_layers = Signal()
    show_keys = Signal()

    def __init__(
        self, workspace: Workspace, suggest: Callable[[], None], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._workspace = workspace
        self._suggest = suggest
        self._build()
        for signal in (
            workspace.study_changed,
            workspace.classes_changed,
            workspace.cells_changed,
            workspace.blocks_changed,
            workspace.mask_changed,
            workspace.image_classes_changed,
            workspace.image_changed,
        ):
            signal.connect(self._show_state)
        workspace.task_changed.connect(self._show_page)
        self._show_page()
        self._show_state()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        self.cells = CellsPage(self._workspace)
        self.blocks = BlocksPage(self._workspace)
        self.images = ImagesPage(self._workspace)
        for page in (self.cells, self.blocks, self.images):
            layout.addWidget(page)
        self.table, self.add_button = self.cells.classes.table, self.cells.classes.add_button
        self.remove_button = self.cells.classes.remove_button
        layout.addWidget(heading("Go on with"))
        self.undo_button = button("Undo", self.undo, "Ctrl+Z; also after closing and opening the study")
        self.redo_button = button("Redo", self.redo, "Ctrl+Shift+Z")
        self.previous_button = button("◀ Image", lambda: self.step_image(-1), "Page Up")
        self.next_button = button("Image ▶", lambda: self.step_image(1), "Page Down")
        self.suggest_button = button(
            "Next suggested place",
            self.next_place,
            "G. The most uncertain prediction; a typical place while there are few labels",
        )
        layout.addWidget(
            row(self.undo_button, self.redo_button, None, self.previous_button, self.next_button)
        )
        show = button(
            "Show layers", self.show_layers.emit, "Bring back the plugin's layers if one was removed"
        )
        layout.addWidget(
            row(self.suggest_button, None, show, button("Keys", self.show_keys.emit, "All keys"))
        )
        layout.addStretch(1)

    # -- showing -------------------------------------------------------------------------------------------

    def _show_page(self) -> None:
        task = self._workspace.task
        self.cells.setVisible(CELL in task.kinds)
        self.blocks.setVisible(BLOCK in task.kinds)
        self.images.setVisible(task.heads)
        self.suggest_button.setVisible(not task.heads)

    def _show_state(self) -> None:
        study, image = self._workspace.study, self._workspace.image
        self.undo_button.setEnabled(study is not None and study.can_undo)
        self.redo_button.setEnabled(study is not None and study.can_redo)
        for widget in (self.suggest_button, self.previous_button, self.next_button):
            widget.setEnabled(image is not None)

    # -- doing ---------------------------------------------------------------------------------------------

    @guarded
    def undo(self) -> None:
        """Take back the last edit."""
        show_info(self._workspace.undo() or "There is nothing to undo.")

    @guarded
    def redo(self) -> None:
        """Do the last undone edit again."""
        show_info(self._workspace.redo() or "There is nothing to redo.")

    @guarded
    def next_place(self) -> None:
        """Go to the next suggested place, or image."""
        if self._workspace.task.heads:
            self.images.next_uncertain()
        else:
            self._suggest()

    @guarded
    def step_image(self, step: int) -> None:
        """Show the next or previous image."""
        self._workspace.step_image(step)

    @property
    def click_mode(self) -> Signal:
        """Emitted when the user wants to click cells (True) or to select them (False)."""
        return self.cells.click_mode

    @property
    def import_layer(self) -> Signal:
        """Emitted when the user wants the selected napari layer as labels."""
        return self.cells.import_layer

    def import_csv(self) -> None:
        """Ask for a CSV file and add its cells."""
        self.cells.import_csv()

    def import_geojson(self) -> None:
        """Ask for a GeoJSON file and add its cells to the image on screen."""
        self.cells.import_geojson()

    def shutdown(self) -> None:
        """End what runs for the pages."""
        self.images.shutdown()
