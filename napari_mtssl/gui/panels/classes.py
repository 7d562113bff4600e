"""The table of classes of one kind: colour, name, key and counts; add, change, remove."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHeaderView,
    QInputDialog,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_mtssl.gui.notify import guarded
from napari_mtssl.gui.rows import button, row, swatch
from napari_mtssl.gui.tasks import BLOCK
from napari_mtssl.gui.workspace import Workspace, WorkspaceError
from napari_mtssl.study.records import plural

COLOUR, NAME, KEY, FIRST = range(4)
NO_KEY = "–"
Counts = Callable[[], Mapping[str, Sequence[object]]]
LABELLED = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
BACKGROUND_TIPS = {
    "cell": "Everything that is no cell of interest; every study has it",
    "mask": "Every pixel of no other class",
}


class ClassTable(QWidget):
    """Classes of one kind; a click chooses the class to label with.

    Parameters
    ----------
    workspace : Workspace
    kind : str
    columns : mapping of str to str
        Headings of the counts, and what they mean.
    counts : callable
        Returns for each class what stands in these columns.
    what : str
        Asked for when a class is added.
    chosen : callable, optional
        Called with a class's name when the user clicks it: the image on screen gets it.
    here : callable, optional
        Which class the image on screen has; that one is marked then, not the one that was clicked last.
    """

    def __init__(
        self,
        workspace: Workspace,
        kind: str,
        columns: Mapping[str, str],
        counts: Counts,
        what: str,
        chosen: Callable[[str], None] | None = None,
        here: Callable[[], str] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._workspace, self.kind = workspace, kind
        self._counts, self._what, self._chosen, self._here = counts, what, chosen, here
        self._gave: tuple[int, int] | None = None  # the study before and after the last click gave a class
        self._columns = columns
        self._build()
        for signal in (workspace.study_changed, workspace.classes_changed, workspace.task_changed):
            signal.connect(self.refresh)
        workspace.active_changed.connect(self._mark_active)
        self.refresh()

    def close_table(self) -> None:
        """Listen no more: the head is gone."""
        for signal in (
            self._workspace.study_changed,
            self._workspace.classes_changed,
            self._workspace.task_changed,
        ):
            signal.disconnect(self.refresh)
        self._workspace.active_changed.disconnect(self._mark_active)

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.table = QTableWidget(0, FIRST + len(self._columns))
        self.table.setHorizontalHeaderLabels(["", "Class", "Key", *self._columns])
        for at, tip in enumerate(self._columns.values()):
            self.table.horizontalHeaderItem(FIRST + at).setToolTip(tip)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(24)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        does = "label with it" if self._chosen is None else "give it to this image"
        self.table.setToolTip(f"Click a class to {does}; double-click its name, key or colour to change it")
        self.table.cellClicked.connect(self._clicked)
        self.table.cellDoubleClicked.connect(self._double_clicked)
        self.table.cellChanged.connect(self._edited)
        layout.addWidget(self.table)
        self.add_button = button("Add class …", self.add_class, f"{self._what[0].upper()}{self._what[1:]}")
        which = "the selected class" if self._chosen is None else "a class"
        self.remove_button = button(
            "Remove" if self._chosen is None else "Remove …",
            self.remove_class,
            f"Remove {which}; what has it gets another class of your choice",
        )
        self.buttons = row(self.add_button, self.remove_button, None)
        layout.addWidget(self.buttons)

    # -- showing -------------------------------------------------------------------------------------------

    @property
    def _shown(self) -> bool:
        return self.kind in self._workspace.kinds()

    def refresh(self) -> None:
        """Show the classes."""
        classes = self._workspace.classes(self.kind) if self._shown else []
        self.table.blockSignals(True)
        self.table.setRowCount(len(classes))
        for at, item in enumerate(classes):
            colour = QTableWidgetItem(swatch(item.colour), "")
            colour.setFlags(LABELLED)
            colour.setToolTip("Double-click to choose another colour")
            name = QTableWidgetItem(item.name)
            name.setToolTip(item.note)
            if item.background:
                name.setFlags(name.flags() & ~Qt.ItemFlag.ItemIsEditable)
                name.setToolTip(BACKGROUND_TIPS.get(self.kind, item.note))
            for column, cell in ((COLOUR, colour), (NAME, name), (KEY, QTableWidgetItem(item.key or NO_KEY))):
                self.table.setItem(at, column, cell)
        self.table.blockSignals(False)
        rows = min(max(len(classes), 2), 7)
        self.table.setFixedHeight(30 + 24 * rows)
        self._mark_active()
        self.refresh_counts()

    def refresh_counts(self) -> None:
        """Show how often each class was given."""
        study = self._workspace.study
        for widget in (self.table, self.add_button, self.remove_button):
            widget.setEnabled(study is not None)
        if study is None or not self._shown:
            return
        counts = self._counts()
        self.table.blockSignals(True)
        for at in range(self.table.rowCount()):
            for column, value in enumerate(counts.get(self.table.item(at, NAME).text(), ())):
                item = QTableWidgetItem(f"{value:,}" if isinstance(value, int) else str(value))
                item.setFlags(LABELLED)
                item.setTextAlignment(int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter))
                self.table.setItem(at, FIRST + column, item)
        self.table.blockSignals(False)
        if self._here is not None:
            self._mark_active()

    def _mark_active(self) -> None:
        """Mark the class that the next click gives; of whole images the one that this image has."""
        if not self._shown:
            return
        here = self._workspace.kind == self.kind
        chosen = self._workspace.active_of(self.kind) if self._here is None else self._here()
        if not chosen:
            self.table.setCurrentItem(None)
            self.table.clearSelection()
        for at in range(self.table.rowCount()):
            item = self.table.item(at, NAME)
            active = item.text() == chosen
            font = item.font()
            font.setBold(active and here)
            self.table.blockSignals(True)
            item.setFont(font)
            self.table.blockSignals(False)
            if active:
                self.table.selectRow(at)

    # -- editing -------------------------------------------------------------------------------------------

    @guarded
    def add_class(self) -> None:
        """Ask for a name; colour and key are chosen, and can be changed."""
        study = self._workspace.need_study()
        name, good = QInputDialog.getText(self, "Add class", f"Name of the class: {self._what}")
        if good:
            added = study.add_class(name, kind=self.kind)
            self._workspace.classes_edited()
            self._workspace.set_active(added.name, self.kind)

    @guarded
    def remove_class(self) -> None:
        """Remove the selected class; of whole images ask which, for a click would give it to this one."""
        study, at = self._workspace.need_study(), self.table.currentRow()
        if self._chosen is not None:
            names = [item.name for item in self._workspace.classes(self.kind)]
            name, good = QInputDialog.getItem(
                self, "Remove class", f"Which {self.kind} is not needed?", names, max(at, 0), False
            )
            if not good:
                return
        elif at < 0:
            raise WorkspaceError("Select a class in the list first.")
        else:
            name = self.table.item(at, NAME).text()
        uses = {} if study.class_named(name, self.kind).background else study.class_uses(name, self.kind)
        into = self._heir(name, uses) if uses else None
        if uses and into is None:
            return
        study.remove_class(name, self.kind, into=into)
        self._workspace.everything_changed()

    def _heir(self, name: str, uses: Mapping[str, int]) -> str | None:
        """Ask which class what has this one shall get; None if the user thinks better of it."""
        # The background last: the first is what Return chooses.
        classes = sorted(self._workspace.classes(self.kind), key=lambda item: item.background)
        others = [item.name for item in classes if item.name != name]
        if not others:
            raise WorkspaceError(f"Add another class first, which what is '{name}' now can get.")
        count = " and ".join(plural(n, noun) for noun, n in uses.items())
        ask = f"'{name}' is the class of {count} in the study. Which shall they get? (Undo takes it back.)"
        heir, good = QInputDialog.getItem(self, "Remove class", ask, others, 0, False)
        return heir if good else None

    @guarded
    def _clicked(self, at: int, column: int) -> None:
        name = self.table.item(at, NAME).text()
        self._workspace.set_active(name, self.kind)
        if self._chosen is not None:
            study = self._workspace.need_study()
            before = study.change_counter()
            self._chosen(name)
            self._gave = (before, study.change_counter())

    @guarded
    def _double_clicked(self, at: int, column: int) -> None:
        self._take_back()
        if column == COLOUR:
            item = self._workspace.classes(self.kind)[at]
            colour = QColorDialog.getColor(QColor(item.colour), self, f"Colour of {item.name}")
            if colour.isValid():
                study = self._workspace.need_study()
                study.update_class(item.name, colour=colour.name(), kind=self.kind)
                self._workspace.classes_edited()

    def _take_back(self) -> None:
        """Undo what the first click of a double click gave: the user wants to change the class itself."""
        study, gave = self._workspace.need_study(), self._gave
        self._gave = None
        if gave is not None and gave[0] != gave[1] == study.change_counter():
            study.undo()
            self._workspace.image_classes_changed.emit()

    def _edited(self, at: int, column: int) -> None:
        self._change(at, column)
        self.refresh()  # shows what is stored, also when the change was refused

    @guarded
    def _change(self, at: int, column: int) -> None:
        item, study = self._workspace.classes(self.kind)[at], self._workspace.need_study()
        text = self.table.item(at, column).text().strip()
        was_active, name = self._workspace.active_of(self.kind) == item.name, item.name
        if column == NAME:
            with study.edit(f"Changed the class {item.name}"):
                name = study.update_class(item.name, new_name=text, kind=self.kind).name
                if self.kind == BLOCK:
                    from napari_mtssl.methods.superres.statistics import restate_bin

                    restate_bin(study, name)
        elif column == KEY:
            study.update_class(item.name, key=text, kind=self.kind)
        self._workspace.classes_edited()  # before the next point is of a class that layers do not know yet
        if was_active:
            self._workspace.set_active(name, self.kind)
