"""Step 2: classes, clicks, undo and redo, and where to look next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QFileDialog,
    QHeaderView,
    QInputDialog,
    QMenu,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.rows import button, heading, note, row, swatch
from napari_mtssl.gui.workspace import Workspace, WorkspaceError

if TYPE_CHECKING:
    from napari_mtssl.study import Study
    from napari_mtssl.study.exchange import ImportReport

COLOUR, NAME, KEY, BY_HAND, FROM_MODEL = range(5)
NO_KEY = "–"


class LabelPanel(QWidget):
    """Classes with colours, keys and counts; editing; navigation; import.

    Signals
    -------
    click_mode : bool
        The user wants to click cells (True) or to select them (False).
    show_layers
        The user wants the layers back.
    import_layer
        The user wants the selected napari layer as labels.
    show_keys
        The user wants the table of keys.
    """

    click_mode = Signal(bool)
    show_layers = Signal()
    import_layer = Signal()
    show_keys = Signal()

    def __init__(
        self, workspace: Workspace, suggest: Callable[[], None], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._workspace = workspace
        self._suggest = suggest
        self._build()
        for signal in (workspace.study_changed, workspace.classes_changed):
            signal.connect(self.refresh)
        workspace.cells_changed.connect(self.refresh_counts)
        workspace.active_changed.connect(self._mark_active)
        workspace.image_changed.connect(self._show_image)
        self.refresh()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.addWidget(heading("Classes"))
        self.table = QTableWidget(0, 5)
        self.table.setHorizontalHeaderLabels(["", "Class", "Key", "Yours", "Reviewed"])
        self.table.horizontalHeaderItem(BY_HAND).setToolTip(
            "Labels clicked or imported by people, in all images"
        )
        self.table.horizontalHeaderItem(FROM_MODEL).setToolTip(
            "Predictions that were accepted, corrected or rejected"
        )
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        self.table.verticalHeader().hide()
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setMinimumHeight(140)
        self.table.setToolTip(
            "Click a class to label with it; double-click its name, key or colour to change it"
        )
        self.table.cellClicked.connect(self._clicked)
        self.table.cellDoubleClicked.connect(self._double_clicked)
        self.table.cellChanged.connect(self._edited)
        layout.addWidget(self.table)
        self.add_button = button("Add class …", self.add_class, "A kind of cell to tell apart")
        self.remove_button = button(
            "Remove", self.remove_class, "Remove the selected class; no label may have it"
        )
        layout.addWidget(row(self.add_button, self.remove_button, None))

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
        layout.addWidget(row(self.click, self.select, None))
        self.undo_button = button("Undo", self.undo, "Ctrl+Z; also after closing and opening the study")
        self.redo_button = button("Redo", self.redo, "Ctrl+Shift+Z")
        layout.addWidget(row(self.undo_button, self.redo_button, None))

        layout.addWidget(heading("Go on with"))
        self.suggest_button = button(
            "Next suggested place",
            self.next_place,
            "G. The most uncertain prediction; a typical place while there are few labels",
        )
        self.previous_button = button("◀ Image", lambda: self.step_image(-1), "Page Up")
        self.next_button = button("Image ▶", lambda: self.step_image(1), "Page Down")
        layout.addWidget(row(self.suggest_button, None, self.previous_button, self.next_button))

        self.import_button = QPushButton("Import labels")
        menu = QMenu(self.import_button)
        menu.addAction("CSV (image, row, col, class) …", self.import_csv)
        menu.addAction("GeoJSON from QuPath, for this image …", self.import_geojson)
        menu.addAction("Selected Points or Labels layer", self.import_layer.emit)
        self.import_button.setMenu(menu)
        layout.addWidget(
            row(
                self.import_button,
                None,
                button(
                    "Show layers", self.show_layers.emit, "Bring back the plugin's layers if one was removed"
                ),
                button("Keys", self.show_keys.emit, "All keys"),
            )
        )
        layout.addStretch()

    # -- showing -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the classes."""
        classes = self._workspace.classes()
        self.table.blockSignals(True)
        self.table.setRowCount(len(classes))
        for at, item in enumerate(classes):
            colour = QTableWidgetItem(swatch(item.colour), "")
            colour.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
            colour.setToolTip("Double-click to choose another colour")
            name = QTableWidgetItem(item.name)
            if item.background:
                name.setFlags(name.flags() & ~Qt.ItemFlag.ItemIsEditable)
                name.setToolTip("Everything that is no cell of interest; every study has it")
            for column, cell in ((COLOUR, colour), (NAME, name), (KEY, QTableWidgetItem(item.key or NO_KEY))):
                self.table.setItem(at, column, cell)
        self.table.blockSignals(False)
        self._mark_active()
        self._show_image()
        self.refresh_counts()

    def refresh_counts(self) -> None:
        """Show how many labels each class has, and what can be undone."""
        study = self._workspace.study
        for widget in (self.table, self.add_button, self.remove_button, self.import_button):
            widget.setEnabled(study is not None)
        self.undo_button.setEnabled(study is not None and study.can_undo)
        self.redo_button.setEnabled(study is not None and study.can_redo)
        if study is None:
            return
        counts = study.counts()
        self.table.blockSignals(True)
        for at in range(self.table.rowCount()):
            name = self.table.item(at, NAME).text()
            if name not in counts.index:
                continue
            for column, kind in ((BY_HAND, "human"), (FROM_MODEL, "model")):
                item = QTableWidgetItem(f"{int(counts.loc[name, kind]):,}")
                item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
                item.setTextAlignment(int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter))
                self.table.setItem(at, column, item)
        self.table.blockSignals(False)

    def _mark_active(self) -> None:
        for at in range(self.table.rowCount()):
            item = self.table.item(at, NAME)
            active = item.text() == self._workspace.active
            font = item.font()
            font.setBold(active)
            self.table.blockSignals(True)
            item.setFont(font)
            self.table.blockSignals(False)
            if active:
                self.table.selectRow(at)
        self._show_image()

    def _show_image(self) -> None:
        study, image = self._workspace.study, self._workspace.image
        for widget in (self.click, self.select, self.suggest_button, self.previous_button, self.next_button):
            widget.setEnabled(image is not None)
        if study is None:
            self.hint.setText("Open a study first (step 1).")
        elif image is None:
            self.hint.setText("Add an image first (step 1).")
        elif len(self._workspace.classes()) < 2:
            self.hint.setText(
                "Add a class for each kind of cell. Background, which is there already, is everything else."
            )
        else:
            self.hint.setText(
                f"Click cells of <b>{image.path.name}</b>: "
                f"each is <b>{self._workspace.active}</b>, and is saved at once."
            )

    # -- classes -------------------------------------------------------------------------------------------

    @guarded
    def add_class(self) -> None:
        """Ask for a name; colour and key are chosen, and can be changed."""
        name, good = QInputDialog.getText(self, "Add class", "Name of the class, for example epithelial:")
        if good:
            added = self._study().add_class(name)
            self._workspace.classes_edited()
            self._workspace.set_active(added.name)

    @guarded
    def remove_class(self) -> None:
        """Remove the selected class."""
        at = self.table.currentRow()
        if at < 0:
            raise WorkspaceError("Select a class in the list first.")
        self._study().remove_class(self.table.item(at, NAME).text())
        self._workspace.classes_edited()

    @guarded
    def _clicked(self, at: int, column: int) -> None:
        self._workspace.set_active(self.table.item(at, NAME).text())

    @guarded
    def _double_clicked(self, at: int, column: int) -> None:
        if column == COLOUR:
            item = self._workspace.classes()[at]
            colour = QColorDialog.getColor(QColor(item.colour), self, f"Colour of {item.name}")
            if colour.isValid():
                self._study().update_class(item.name, colour=colour.name())
                self._workspace.classes_edited()

    def _edited(self, at: int, column: int) -> None:
        self._change(at, column)
        self.refresh()  # shows what is stored, also when the change was refused

    @guarded
    def _change(self, at: int, column: int) -> None:
        item = self._workspace.classes()[at]
        text = self.table.item(at, column).text().strip()
        if column == NAME:
            was_active = self._workspace.active == item.name
            changed = self._study().update_class(item.name, new_name=text)
            if was_active:
                self._workspace.active = changed.name
        elif column == KEY:
            self._study().update_class(item.name, key=text)
        self._workspace.classes_edited()

    # -- labels --------------------------------------------------------------------------------------------

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
        """Go to the next suggested place."""
        self._suggest()

    @guarded
    def step_image(self, step: int) -> None:
        """Show the next or previous image."""
        self._workspace.step_image(step)

    @guarded
    def import_csv(self) -> None:
        """Ask for a CSV file and add its cells."""
        study = self._study()
        path, _ = QFileDialog.getOpenFileName(self, "Import labels", "", "CSV (*.csv)")
        if path:
            from napari_mtssl.study.exchange import import_csv

            self._told(import_csv(study, Path(path)))

    @guarded
    def import_geojson(self) -> None:
        """Ask for a GeoJSON file and add its cells to the image on screen."""
        study = self._study()
        if self._workspace.image is None:
            raise WorkspaceError("Show the image that the file belongs to first.")
        path, _ = QFileDialog.getOpenFileName(self, "Import labels", "", "GeoJSON (*.geojson *.json)")
        if path:
            from napari_mtssl.study.exchange import import_geojson

            self._told(import_geojson(study, Path(path), self._workspace.image.id))

    def _told(self, report: ImportReport) -> None:
        self._workspace.classes_edited()
        show_info(str(report))

    def _study(self) -> Study:
        if self._workspace.study is None:
            raise WorkspaceError("Open a study first (step 1).")
        return self._workspace.study
