"""Step 4: go through the predictions, settle them, see the scores, export."""

from __future__ import annotations

import math
from time import perf_counter

import numpy as np
import pandas as pd
from qtpy.QtCore import QItemSelection, QItemSelectionModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QHeaderView,
    QMenu,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_mtssl.engine.events import Event, Finished, Validated
from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.panels.export_cells import CellsExport
from napari_mtssl.gui.panels.review_table import PredictionModel
from napari_mtssl.gui.predictions import Wanted
from napari_mtssl.gui.rows import Calmly, button, heading, note, row, swatch
from napari_mtssl.gui.tasks import CELL
from napari_mtssl.gui.workspace import Workspace, WorkspaceError
from napari_mtssl.study.records import plural

EVERY_CLASS = "All classes"
OWN_SECONDS = 2.0  # so long after a step through the list the view moves because of it
NO_SCORES = (
    "No held-out scores since the study was opened: put an image with labels into 'Validate' (step 1), "
    "then train."
)

Box = tuple[int, int, int, int]


class ReviewPanel(QWidget):
    """The list of predictions with filters; accept, correct, reject; export.

    Signals
    -------
    add_missed
        The user wants to click cells that the network missed.
    focused : float, float
        The prediction in focus lies at this row and col: go there.
    chosen
        The keys act on other predictions, see `places`.
    """

    add_missed = Signal()
    focused = Signal(float, float)
    chosen = Signal()

    def __init__(self, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workspace = workspace
        self._own = False
        self._still = False  # the view stays where it is, whatever is selected
        self._kept = np.zeros((0, 2))  # what was selected, the focus first, while the model is rearranged
        self._wants_first = False
        self._view: Box | None = None  # what is seen, and since when the list itself moves it
        self._box: Box | None = None  # what the list is of
        self._moved_at = -np.inf
        self._other: QWidget | None = None
        self.model = PredictionModel(self)
        self._build()
        self.reload = Calmly(self._load, 500, self)
        for signal in (workspace.predictions_changed, workspace.cells_changed, workspace.image_changed):
            signal.connect(self._stale)
        for signal in (workspace.study_changed, workspace.classes_changed):
            signal.connect(self._classes_changed)
        workspace.image_changed.connect(self._image_changed)
        self._classes_changed()

    def _build(self) -> None:
        whole = QVBoxLayout(self)
        self.cells = QWidget()
        whole.addWidget(self.cells)
        layout = QVBoxLayout(self.cells)
        layout.setContentsMargins(0, 0, 0, 0)
        self.progress = note()
        layout.addWidget(self.progress)
        self.only_class = QComboBox()
        self.only_class.currentIndexChanged.connect(self._filter)
        self.least, self.most = _share(0.0), _share(1.0)
        for box in (self.least, self.most):
            box.setToolTip("Confidence from, to")
            box.valueChanged.connect(self._filter)
        layout.addWidget(row(self.only_class, self.least, "to", self.most, None))
        self.in_view = QCheckBox("Only what is in view")
        self.in_view.setToolTip(
            "The list follows when you move the image; going through the list does not change it"
        )
        self.in_view.toggled.connect(self._filter)
        layout.addWidget(self.in_view)
        self.table = QTableView()
        self.table.setModel(self.model)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSortingEnabled(True)
        self.table.sortByColumn(1, Qt.SortOrder.AscendingOrder)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(22)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)  # names of classes may be long
        header.setMinimumSectionSize(36)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        for column, width in enumerate((46, 52, 44, 44), start=1):
            self.table.setColumnWidth(column, width)
        self.table.setMinimumHeight(220)
        self.table.selectionModel().currentRowChanged.connect(self._focus)
        self.table.selectionModel().selectionChanged.connect(lambda *_: self.chosen.emit())
        self.model.modelAboutToBeReset.connect(self._keep)
        self.model.modelReset.connect(self._restore)
        self.table.keyPressEvent = self._key  # the same keys as on the layers
        layout.addWidget(self.table)

        self.accept_button = button("✓ Accept", self.accept, "Y. It becomes a label; training learns from it")
        self.class_button = QPushButton("Change class")
        self.class_button.setToolTip("1 to 9, and 0. It becomes a label of another class")
        self.class_button.setMenu(QMenu(self.class_button))
        self.reject_button = button("✗ Reject", self.reject, "N. It becomes a background label")
        layout.addWidget(row(self.accept_button, self.class_button, self.reject_button, None))
        self.missed_button = button(
            "+ Add missed",
            self.add_missed.emit,
            "M. Click cells the network did not find, with the active class",
        )
        self.accept_all_button = button(
            "", self.accept_all, "Every prediction of the list above becomes a label; one Undo takes all back"
        )
        layout.addWidget(row(self.missed_button, self.accept_all_button, None))

        whole.addWidget(heading("Held-out scores"))
        self.scores = note(NO_SCORES)
        whole.addWidget(self.scores)
        self.cells_export = CellsExport(self._workspace)
        whole.addWidget(self.cells_export)
        whole.addStretch()

    def put_before_scores(self, page: QWidget) -> None:
        """Take in the page that reviews masks and images, shown instead of the one for cells."""
        self._other = page
        self.layout().insertWidget(1, page)
        self.show_task()

    def show_task(self) -> None:
        """Show what reviews the task."""
        cells = CELL in self._workspace.task.kinds
        self.cells.setVisible(cells)
        self.cells_export.setVisible(cells)
        if self._other is not None:
            self._other.setVisible(not cells)

    # -- showing -------------------------------------------------------------------------------------------

    def _stale(self) -> None:
        if not self._own:
            self.reload()

    @guarded
    def _load(self) -> None:
        study = self._workspace.study
        model = self.model
        self._workspace.want(Wanted(model.box, model.only_class, model.least, model.most))
        pending = (
            self._workspace.pending() if study is not None and self._workspace.image is not None else None
        )
        if pending is None:
            pending = self._workspace.predictions.frame
        self.model.set_frame(pending, self._workspace.colours(CELL))
        self._count()
        self._take_first()

    def _count(self) -> None:
        study = self._workspace.study
        reviewed = int(study.counts()["model"].sum()) if study is not None else 0
        store = self._workspace.predictions
        left, total = self.model.rowCount(), len(store)
        if not total and not reviewed:
            self.progress.setText(
                "No predictions yet: train (step 3), and they appear here and on the image."
            )
        else:
            some = "" if store.complete else f", the least sure of {store.total:,}"
            self.progress.setText(
                f"<b>{reviewed:,}</b> reviewed in this study · <b>{left:,}</b> in the list below{some}"
            )
        self.accept_all_button.setText(f"Accept all {left:,} in the list")
        for widget in (self.accept_button, self.class_button, self.reject_button, self.accept_all_button):
            widget.setEnabled(left > 0)
        self.missed_button.setEnabled(self._workspace.image is not None)

    def _classes_changed(self) -> None:
        classes = self._workspace.classes(CELL)
        chosen = self.only_class.currentData()
        self.only_class.blockSignals(True)
        self.only_class.clear()
        self.only_class.addItem(EVERY_CLASS, None)
        menu = self.class_button.menu()
        menu.clear()
        for item in classes:
            self.only_class.addItem(swatch(item.colour), item.name, item.name)
            key = f"   {item.key}" if item.key else ""
            menu.addAction(swatch(item.colour), item.name + key, lambda name=item.name: self.correct(name))
        self.only_class.setCurrentIndex(max(self.only_class.findData(chosen), 0))
        self.only_class.blockSignals(False)
        if self._workspace.study is None:
            self.scores.setText(NO_SCORES)
        self._filter()
        self.reload()

    def _filter(self) -> None:
        self.model.only_class = self.only_class.currentData()
        self.model.least, self.model.most = self.least.value(), self.most.value()
        if self.sender() is self.in_view:
            self._box = self._view
        self.model.box = self._box if self.in_view.isChecked() else None
        self.model.rearrange()
        self._count()
        if not self._workspace.predictions.complete:
            self.reload()  # others are in the study

    def follow(self, view: Box | None) -> None:
        """List what is in view, if that is wanted and the user has moved it."""
        if view == self._view:
            return
        self._view = view
        if perf_counter() - self._moved_at > OWN_SECONDS:
            self._box = view
            if self.in_view.isChecked():
                self._filter()

    def on_event(self, event: Event) -> None:
        """Show held-out scores."""
        if isinstance(event, (Validated, Finished)) and event.scores:
            lines = "".join(
                f"<tr><td>{k.replace('_', ' ')}&nbsp;&nbsp;</td><td><b>{v:.3f}</b></td></tr>"
                for k, v in event.scores.items()
                if not math.isnan(v)  # as of a question whose images all have one answer
            )
            self.scores.setText(
                f"<table>{lines}</table><small>step {event.step:,}, on images used to validate</small>"
            )

    # -- coming here ---------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Bring the first prediction into focus, the least sure one unless the user sorted the list."""
        self._wants_first = True
        self.reload.now()
        self._take_first()
        self.table.setFocus()  # its keys are those of the layers

    def leave(self) -> None:
        """Another step is open: the view stays where it is."""
        self._wants_first = False

    def _image_changed(self) -> None:
        self._select(None)  # the same place of another image is another cell
        self._wants_first = self.isVisible()

    def _take_first(self) -> None:
        if self._wants_first and self.model.rowCount() and self.isVisible():
            self._wants_first = False
            if self.position() is None:
                self._select(0)
            else:
                self.focused.emit(*self.current())

    # -- moving through the list ---------------------------------------------------------------------------

    def position(self) -> int | None:
        """Position of the prediction in focus."""
        selection = self.table.selectionModel()
        at = selection.currentIndex().row()
        # Qt makes the first row current when the list gets the keys, without selecting it: nobody chose that.
        chosen = 0 <= at < self.model.rowCount() and selection.isRowSelected(at, QModelIndex())
        return at if chosen else None

    def current(self) -> tuple[float, float] | None:
        """Place of the prediction in focus."""
        at = self.position()
        return None if at is None else tuple(self.model.rows([at])[["row", "col"]].iloc[0].astype(float))

    def step(self, by: int) -> None:
        """Go to the next or previous prediction."""
        self.reload.now()
        if not self.model.rowCount():
            show_info("There is no prediction to review here.")
            return
        at = self.position()
        self._select(0 if at is None else (at + by) % self.model.rowCount())

    def _select(self, at: int | None) -> None:
        selection = self.table.selectionModel()
        if at is None or not self.model.rowCount():
            selection.clear()
        else:
            index = self.model.index(min(at, self.model.rowCount() - 1), 0)
            both = QItemSelectionModel.SelectionFlag.ClearAndSelect | QItemSelectionModel.SelectionFlag.Rows
            selection.setCurrentIndex(index, both)
            self.table.scrollTo(index)

    def _focus(self, current: QModelIndex, previous: QModelIndex) -> None:
        if not self._still and (place := self.current()) is not None:
            self._moved_at = perf_counter()
            self.focused.emit(*place)

    # -- what the keys act on ------------------------------------------------------------------------------

    def places(self) -> np.ndarray:
        """Places (N, 2), row and col, of the predictions that are selected: the keys act on them."""
        return self.model.rows(self._rows())[["row", "col"]].to_numpy(float)

    def choose(self, places: np.ndarray) -> int:
        """Select the predictions at places (N, 2), leave the view; return how many of them the list has."""
        self.reload.now()
        return self._choose(places)

    def _choose(self, places: np.ndarray) -> int:
        """Select what is at these places; the first one is in focus."""
        rows = self.model.positions_near(places)
        first = self.model.positions_near(places[:1])
        self._still = True
        try:
            self._select(int((first if len(first) else rows)[0]) if len(rows) else None)
            if len(rows) > 1:
                wanted = QItemSelection()
                for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
                    wanted.select(self.model.index(int(run[0]), 0), self.model.index(int(run[-1]), 0))
                flags = QItemSelectionModel.SelectionFlag
                self.table.selectionModel().select(wanted, flags.Select | flags.Rows)
        finally:
            self._still = False
        return len(rows)

    def _rows(self) -> list[int]:
        """Positions in the list of what is selected."""
        ranges = list(self.table.selectionModel().selection())
        rows = {at for part in ranges for at in range(part.top(), part.bottom() + 1)}
        return sorted(at for at in rows if at < self.model.rowCount())

    def _keep(self) -> None:
        """Remember what is selected: Qt forgets it when rows come, go or are sorted anew."""
        self._kept, here = self.places(), self.current()
        if here is not None:
            self._kept = self._kept[np.hypot(*(self._kept - here).T).argsort(kind="stable")]

    def _restore(self) -> None:
        if len(self._kept):
            self._choose(self._kept)
            self.chosen.emit()

    # -- verdicts ------------------------------------------------------------------------------------------

    @guarded
    def accept(self) -> None:
        """Accept what is selected."""
        self._settle("accepted")

    @guarded
    def reject(self) -> None:
        """Reject what is selected."""
        self._settle("rejected")

    @guarded
    def correct(self, name: str) -> None:
        """Give what is selected another class."""
        chosen = self._chosen()
        same = chosen["class"].to_numpy() == name
        self._settle("accepted" if same.all() else "corrected", name)

    def _chosen(self) -> pd.DataFrame:
        self.reload.now()
        rows = self._rows()
        if not rows:
            raise WorkspaceError("Select a prediction first: click it, here or on the image.")
        return self.model.rows(rows)

    def _settle(self, verdict: str, name: str | None = None) -> None:
        chosen = self._chosen()
        at = self._rows()[0]
        self._own = True
        try:
            self._workspace.settle(chosen, verdict, name)
        finally:
            self._own = False
        self.model.drop(chosen.index)
        self._count()
        self._select(at if self.model.rowCount() else None)

    @guarded
    def accept_all(self) -> None:
        """Accept every prediction that passes the filter, as one edit."""
        self.reload.now()
        shown = self.model.shown()
        if not len(shown):
            raise WorkspaceError("The list is empty: lower the confidence or choose all classes.")
        self._workspace.settle(shown, "accepted")
        self.reload.now()
        show_info(f"{plural(len(shown), 'prediction')} accepted; one Undo takes all back.")

    def _key(self, event: QKeyEvent) -> None:
        key, name = event.key(), event.text()
        held = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
        if held != Qt.KeyboardModifier.NoModifier:  # Ctrl+Y is Redo, and no verdict
            QTableView.keyPressEvent(self.table, event)
        elif key == Qt.Key.Key_Y:
            self.accept()
        elif key in (Qt.Key.Key_N, Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.reject()
        elif key == Qt.Key.Key_M:
            self.add_missed.emit()
        elif key in (Qt.Key.Key_Left, Qt.Key.Key_Right):
            self.step(1 if key == Qt.Key.Key_Right else -1)
        elif name and name in "1234567890":
            self.digit(name)
        else:
            QTableView.keyPressEvent(self.table, event)

    @guarded
    def digit(self, key: str) -> None:
        """Give what is selected the class of a key."""
        name = self._workspace.class_of_key(key, CELL)
        if name is None:
            raise WorkspaceError(f"No class has the key {key}: give one in step 2.")
        self.correct(name)


def _share(value: float) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(0.0, 1.0)
    box.setSingleStep(0.05)
    box.setDecimals(2)
    box.setValue(value)
    return box
