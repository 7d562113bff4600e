"""Step 2 for cells: classes, clicks, and what can be imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QMenu, QPushButton, QVBoxLayout, QWidget

from napari_mtssl.gui.importing import import_file
from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.panels.classes import FIRST, ClassTable
from napari_mtssl.gui.rows import button, heading, note, row
from napari_mtssl.gui.tasks import CELL
from napari_mtssl.gui.workspace import Workspace

if TYPE_CHECKING:
    from napari_mtssl.study.exchange import ImportReport

BY_HAND, FROM_MODEL = FIRST, FIRST + 1
COLUMNS = {
    "Yours": "Labels clicked or imported by people, in all images",
    "Reviewed": "Predictions that were accepted, corrected or rejected",
}


class CellsPage(QWidget):
    """Classes of cells with counts; click or select; import.

    Signals
    -------
    click_mode : bool
        The user wants to click cells (True) or to select them (False).
    import_layer
        The user wants the selected napari layer as labels.
    """

    click_mode = Signal(bool)
    import_layer = Signal()

    def __init__(self, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workspace = workspace
        self._build()
        for signal in (
            workspace.study_changed,
            workspace.classes_changed,
            workspace.active_changed,
            workspace.image_changed,
            workspace.task_changed,
        ):
            signal.connect(self._show_hint)
        workspace.cells_changed.connect(self.classes.refresh_counts)
        self._show_hint()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(heading("Classes"))
        what = "a kind of cell to tell apart, for example epithelial"
        self.classes = ClassTable(self._workspace, CELL, COLUMNS, self._counts, what)
        layout.addWidget(self.classes)
        layout.addWidget(heading("Labels"))
        self.hint = note()
        layout.addWidget(self.hint)
        self.click = button(
            "Click cells",
            lambda: self.click_mode.emit(True),
            "Each click on the image labels a cell with the active class",
        )
        self.select = button(
            "Select and move",
            lambda: self.click_mode.emit(False),
            "Select labels, drag them, delete them, give them another class by key",
        )
        for mode in (self.click, self.select):
            mode.setCheckable(True)
        self.import_button = QPushButton("Import labels")
        menu = QMenu(self.import_button)
        menu.addAction("CSV (image, row, col, class) …", self.import_csv)
        menu.addAction("GeoJSON from QuPath, for this image …", self.import_geojson)
        menu.addAction("Selected Points or Labels layer", self.import_layer.emit)
        self.import_button.setMenu(menu)
        layout.addWidget(row(self.click, self.select, None, self.import_button))

    def show_mode(self, mode: str) -> None:
        """Show which of the two modes is on; any other text: neither."""
        self.click.setChecked(mode == "add")
        self.select.setChecked(mode == "select")

    def _counts(self) -> Mapping[str, Sequence[object]]:
        counts = self._workspace.need_study().counts()
        return {name: (int(line["human"]), int(line["model"])) for name, line in counts.iterrows()}

    def _show_hint(self) -> None:
        study, image = self._workspace.study, self._workspace.image
        for widget in (self.click, self.select):
            widget.setEnabled(image is not None)
        self.import_button.setEnabled(study is not None)
        if study is None:
            self.hint.setText("Open a study first (step 1).")
        elif image is None:
            self.hint.setText("Add an image first (step 1).")
        elif len(self._workspace.classes(CELL)) < 2:
            self.hint.setText(
                "Add a class for each kind of cell. Background, which is there already, is everything else."
            )
        else:
            self.hint.setText(
                f"Click cells of <b>{escape(image.path.name)}</b>: "
                f"each is <b>{escape(self._workspace.active_of(CELL))}</b>, and is saved at once."
            )

    # -- import --------------------------------------------------------------------------------------------

    @guarded
    def import_csv(self) -> None:
        """Ask for a CSV file and add its cells."""
        self._workspace.need_study()
        path, _ = QFileDialog.getOpenFileName(self, "Import labels", "", "CSV (*.csv)")
        if path:
            from napari_mtssl.study.exchange import import_csv

            self._told(import_file(self._workspace, Path(path), import_csv))

    @guarded
    def import_geojson(self) -> None:
        """Ask for a GeoJSON file and add its cells to the image on screen."""
        image = self._workspace.need_image()
        path, _ = QFileDialog.getOpenFileName(self, "Import labels", "", "GeoJSON (*.geojson *.json)")
        if path:
            from napari_mtssl.study.exchange import import_geojson

            read = partial(import_geojson, image_id=image.id)
            self._told(import_file(self._workspace, Path(path), read))

    def _told(self, report: ImportReport) -> None:
        self._workspace.classes_edited()
        show_info(str(report))
