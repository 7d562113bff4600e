"""The list of predictions: a virtual model, so that 100,000 rows cost nothing until they are looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt

from napari_mtssl.gui.predictions import empty, near
from napari_mtssl.gui.rows import swatch

HEADERS = ("Class", "Sure", "Doubt", "Row", "Col")  # short, so that long names of classes have room
TIPS = ("", "Confidence: how probable the class is", "Uncertainty: 0 none, 1 the most", "", "")
FIELDS = ("class", "confidence", "uncertainty", "row", "col")


class PredictionModel(QAbstractTableModel):
    """Pending predictions, filtered and sorted."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._all = empty()
        self._order = np.zeros(0, dtype=int)
        self._colours: Mapping[str, str] = {}
        self._icons: dict[str, object] = {}
        self.only_class: str | None = None
        self.least, self.most = 0.0, 1.0
        self.box: tuple[float, ...] | None = None
        self._sorted = (1, Qt.SortOrder.DescendingOrder)

    # -- what is shown -------------------------------------------------------------------------------------

    def set_frame(self, frame: pd.DataFrame, colours: Mapping[str, str]) -> None:
        """Show other predictions."""
        if dict(colours) != self._colours:
            self._colours, self._icons = dict(colours), {}
        self.rearrange(frame.reset_index(drop=True))

    def rearrange(self, frame: pd.DataFrame | None = None) -> None:
        """Filter and sort anew, after the filter was changed; or other predictions, if a frame is given."""
        self.beginResetModel()  # who keeps the selection reads the rows now: they are still the old ones
        if frame is not None:
            self._all = frame
        confidence = self._all["confidence"].to_numpy(float)
        keep = (confidence >= self.least) & (confidence <= self.most)
        if self.only_class is not None:
            keep &= self._all["class"].to_numpy() == self.only_class
        if self.box is not None:
            row, col = self._all["row"].to_numpy(float), self._all["col"].to_numpy(float)
            row0, col0, row1, col1 = self.box
            keep &= (row >= row0) & (col >= col0) & (row < row1) & (col < col1)
        rows = np.flatnonzero(keep)
        column, direction = self._sorted
        values = self._all[FIELDS[column]].to_numpy()[rows]
        order = np.argsort(
            values.astype(str) if FIELDS[column] == "class" else values.astype(float), kind="stable"
        )
        self._order = rows[order[::-1] if direction == Qt.SortOrder.DescendingOrder else order]
        self.endResetModel()

    def rows(self, positions: Iterable[int]) -> pd.DataFrame:
        """Return the predictions at these positions of the list."""
        return self._all.iloc[self._order[list(positions)]]

    def shown(self) -> pd.DataFrame:
        """Return all predictions that pass the filter."""
        return self._all.iloc[self._order]

    def drop(self, index: pd.Index) -> None:
        """Take out predictions that were just settled, without asking the study again."""
        self.rearrange(self._all.drop(index).reset_index(drop=True))

    def positions_near(self, places: np.ndarray) -> np.ndarray:
        """Return the positions in the list of the predictions at places (N, 2), also after a refinement."""
        return near(self._all[["row", "col"]].to_numpy(float)[self._order], places)

    # -- Qt ------------------------------------------------------------------------------------------------

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of predictions that pass the filter."""
        return 0 if parent is not None and parent.isValid() else len(self._order)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of columns."""
        return len(HEADERS)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> str | None:
        """Return a column's name."""
        if role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal:
            return HEADERS[section]
        if role == Qt.ItemDataRole.ToolTipRole and orientation == Qt.Orientation.Horizontal:
            return TIPS[section]
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return one cell of the list."""
        field = FIELDS[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            value = self._all[field].iat[self._order[index.row()]]
            if field == "class":
                return str(value)
            return f"{value:.0f}" if field in ("row", "col") else f"{value:.2f}"
        if role == Qt.ItemDataRole.ToolTipRole and field == "class":
            return str(self._all["class"].iat[self._order[index.row()]])
        if role == Qt.ItemDataRole.DecorationRole and field == "class":
            name = self._all["class"].iat[self._order[index.row()]]
            if name not in self._icons:
                self._icons[name] = swatch(self._colours.get(name, "#808080"))
            return self._icons[name]
        return None

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column."""
        self._sorted = (column, order)
        self.rearrange()
