"""What coarse classes mean: mean and spread of each exact class's share, as numbers and as a curve."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHeaderView, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.panels.looking import LookDialog
from napari_mtssl.gui.rows import button, note, row
from napari_mtssl.gui.tasks import BLOCK, MASK
from napari_mtssl.gui.workspace import Workspace, WorkspaceError

CLASS, EXACT, MEAN, SPREAD, SOURCE = range(5)
LEAST = 0.03  # no coarse class is surer than that
HEIGHT = 130


class StatisticsEditor(QWidget):
    """Table of means and spreads in per cent, and the distributions they stand for."""

    def __init__(self, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workspace = workspace
        self._plot: Any = None
        self._open = False
        self._measured: dict[tuple[str, str, str], str] = {}  # what to say of a class and its mean
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(
            note(
                "How much of a block of each coarse class is of each exact class: the mean and the spread "
                "(standard deviation) over blocks, in per cent. Ten blocks looked at are enough."
            )
        )
        self.table = QTableWidget(0, 5)
        self.table.setHorizontalHeaderLabels(["Block", "Exact", "Mean %", "Spread %", "From"])
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.horizontalHeader().setSectionResizeMode(CLASS, QHeaderView.ResizeMode.Stretch)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(22)
        self.table.setMinimumHeight(150)
        self.table.cellChanged.connect(self._edited)
        self.table.currentCellChanged.connect(lambda *_: self._draw())
        layout.addWidget(self.table)
        self.floored = note()
        self.floored.hide()
        layout.addWidget(self.floored)
        self._place = QVBoxLayout()
        layout.addLayout(self._place)
        self.defaults_button = button(
            "From the names", self.use_defaults, "Classes called like 20-30 say their share themselves"
        )
        self.measure_button = button(
            "Measure", self.measure, "From the blocks whose pixels you painted, drawn towards the defaults"
        )
        self.look_button = button(
            "Look at blocks …",
            self.look,
            "Twelve blocks of the selected class: say by eye how much of each is of the exact class",
        )
        layout.addWidget(row(self.defaults_button, self.look_button, self.measure_button, None))
        for signal in (workspace.study_changed, workspace.classes_changed, workspace.task_changed):
            signal.connect(self.refresh)

    def show_now(self, opened: bool = True) -> None:
        """Show the table when the section is opened."""
        self._open = opened
        self.refresh()

    def _pairs(self) -> pd.DataFrame:
        """Every coarse class with every exact class but the background, and what is known of it."""
        blocks = [item.name for item in self._workspace.classes(BLOCK)]
        exact = [item.name for item in self._workspace.classes(MASK) if not item.background]
        pairs = pd.DataFrame(
            [(b, e) for b in blocks for e in exact], columns=["block_class", "mask_class"], dtype=str
        )
        known = self._workspace.need_study().statistics()
        return pairs.merge(known, how="left", on=["block_class", "mask_class"])

    def _with_names(self, pairs: pd.DataFrame) -> pd.DataFrame:
        """Fill in what training takes where nothing is said: what a class's name says."""
        if "torch" not in sys.modules or not pairs["mean"].isna().any():
            return pairs  # what is loaded in a moment is not waited for
        from napari_mtssl.methods.superres.statistics import default_statistics

        exact = [item.name for item in self._workspace.classes(MASK)]
        named = default_statistics(pairs["block_class"].unique().tolist(), exact)
        named = pairs[["block_class", "mask_class"]].merge(named, how="left")
        empty = pairs["mean"].isna() & named["mean"].notna()
        return pairs.mask(empty, named.assign(source="name"))

    def refresh(self) -> None:
        """Show what the study says."""
        if not self._open or self._workspace.study is None or BLOCK not in self._workspace.kinds():
            return
        pairs = self._with_names(self._pairs())
        colours = self._workspace.colours(BLOCK)
        self.table.blockSignals(True)
        self.table.setRowCount(len(pairs))
        for at, line in enumerate(pairs.itertuples()):
            mean = "" if pd.isna(line.mean) else f"{100 * line.mean:.4g}"
            spread = "" if pd.isna(line.spread) else f"{100 * line.spread:.3g}"
            source = line.source if isinstance(line.source, str) else "–"
            for column, text in enumerate((line.block_class, line.mask_class, mean, spread, source)):
                item = QTableWidgetItem(text)
                if column not in (MEAN, SPREAD):
                    item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
                self.table.setItem(at, column, item)
            self.table.item(at, CLASS).setData(Qt.ItemDataRole.UserRole, colours.get(line.block_class))
            if source == "measured":
                self.table.item(at, MEAN).setToolTip(
                    self._measured.get((line.block_class, line.mask_class, mean), "")
                )
        self.table.blockSignals(False)
        sure = pairs.loc[pairs["spread"] < LEAST - 1e-9, "block_class"].unique()
        self.floored.setText(
            f"A spread below {100 * LEAST:g} % counts as {100 * LEAST:g} %: {', '.join(sure)}."
        )
        self.floored.setVisible(len(sure) > 0)
        self._draw()

    # -- editing -------------------------------------------------------------------------------------------

    def _edited(self, at: int, column: int) -> None:
        self._change(at, column)
        self.refresh()  # also when the change was refused

    @guarded
    def _change(self, at: int, column: int) -> None:
        if column not in (MEAN, SPREAD):
            return
        text = self.table.item(at, column).text().strip().rstrip("%")
        try:
            value = float(text) / 100
        except ValueError:
            raise WorkspaceError(f"'{text}' is no number: write per cent, for example 25.") from None
        if not 0 <= value <= 1:
            raise WorkspaceError("A share is between 0 and 100 per cent.")
        if column == SPREAD and value < LEAST:
            show_info(f"A spread below {100 * LEAST:g} % counts as {100 * LEAST:g} %: no class is surer.")
            value = LEAST
        pairs = self._pairs()
        if pd.isna(pairs.loc[at, "mean"]):  # what the name says is shown, and kept beside what is typed
            pairs.loc[at, ["mean", "spread"]] = self._with_names(pairs).loc[at, ["mean", "spread"]]
        if column == SPREAD and pd.isna(pairs.loc[at, "mean"]):
            raise WorkspaceError("Type the mean first: a spread alone says nothing.")
        pairs.loc[at, ["mean", "spread"][column - MEAN]] = value
        pairs.loc[at, "source"] = "expert"
        if column == MEAN and pd.isna(pairs.loc[at, "spread"]):
            pairs.loc[at, "spread"] = 0.1
        self.save(pairs)

    def save(self, pairs: pd.DataFrame) -> None:
        """Write means and spreads of exact classes; the background gets what is left."""
        known = pairs.dropna(subset=["mean", "spread"])
        background = next((c.name for c in self._workspace.classes(MASK) if c.background), None)
        lines = [known]
        exact = pairs["mask_class"].nunique()
        if background is not None:
            for name, group in known.groupby("block_class", sort=False):
                if len(group) < exact:
                    continue  # nobody has said all: what is left is not background alone
                left = 1 - group["mean"].sum()
                if left < -1e-6:
                    raise WorkspaceError(f"The shares of '{name}' add up to more than 100 per cent.")
                spread = float(np.sqrt((group["spread"] ** 2).sum()))
                rest = (name, background, max(left, 0.0), min(spread, 1.0), group["source"].iloc[0])
                lines.append(pd.DataFrame([rest], columns=known.columns))
        self._workspace.need_study().set_statistics(pd.concat(lines, ignore_index=True))
        self._workspace.blocks_changed.emit()

    @guarded
    def use_defaults(self) -> None:
        """Take the statistics that the names of the classes say."""
        from napari_mtssl.methods.superres.statistics import default_statistics

        study = self._workspace.need_study()
        exact = [item.name for item in study.classes(MASK)]
        table = default_statistics([item.name for item in study.classes(BLOCK)], exact)
        if not len(table):
            raise WorkspaceError(
                "The names say no share: call a class 20-30, or type means here. There is a default for one "
                "exact class only."
            )
        known = study.statistics()
        others = known[~known["block_class"].isin(table["block_class"])]
        study.set_statistics(pd.concat([others, table], ignore_index=True))
        self.refresh()

    @guarded
    def look(self) -> None:
        """Show blocks of the selected class, and take mean and spread from what the user says of them."""
        at = max(self.table.currentRow(), 0)
        pairs = self._pairs()
        if not len(pairs):
            raise WorkspaceError("Add a coarse and an exact class first.")
        line = pairs.iloc[at]
        found = LookDialog.ask(self._workspace, line["block_class"], line["mask_class"], self)
        if found is None:
            return
        pairs.loc[at, ["mean", "spread"]] = found
        pairs.loc[at, "source"] = "expert"
        self.save(pairs)
        self.refresh()

    @guarded
    def measure(self) -> None:
        """Measure the statistics in blocks whose pixels are painted."""
        from napari_mtssl.methods.superres.coarse import painted_shares
        from napari_mtssl.methods.superres.statistics import default_statistics, measured_statistics

        study = self._workspace.need_study()
        exact = [item.name for item in study.classes(MASK)]
        shares = painted_shares(study, exact)
        if not shares:
            raise WorkspaceError(
                "No block with a class is painted: paint all pixels of a few blocks first (Exact classes)."
            )
        prior = default_statistics(list(shares), exact)
        table = measured_statistics(shares, exact, prior if len(prior) else None)
        known = study.statistics()
        others = known[~known["block_class"].isin(table["block_class"])]
        study.set_statistics(pd.concat([others, table[known.columns]], ignore_index=True))
        lines = []
        for line in table[table["mask_class"] != exact[0]].itertuples():
            said = f"{line.low:.0%} to {line.high:.0%}, {line.blocks} block{'' if line.blocks == 1 else 's'}"
            of = f" {line.mask_class}" if len(exact) > 2 else ""
            lines.append(f"{line.block_class}: {line.mean:.0%}{of} ({said})")
            key = (line.block_class, line.mask_class, f"{100 * line.mean:.4g}")
            self._measured[key] = f"95 % interval of the mean: {said}"
        self.refresh()
        show_info("Measured, with 95 % intervals: " + "; ".join(lines))

    # -- drawing -------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        """Draw each class's distribution of the share: the chosen one thick."""
        if not self._open or self._workspace.study is None:
            return
        if self._plot is None:
            import pyqtgraph

            self._plot = pyqtgraph.PlotWidget(background=None, enableMenu=False)
            self._plot.setFixedHeight(HEIGHT)
            self._plot.hideButtons()
            self._plot.setMouseEnabled(x=False, y=False)
            self._plot.setXRange(0, 100, padding=0.01)
            self._plot.hideAxis("left")
            self._plot.setLabel("bottom", "share of a block, per cent")
            axis = self._plot.getAxis("bottom")
            axis.setPen(self.palette().text().color())
            axis.setTextPen(self.palette().text().color())
            self._place.addWidget(self._plot)
        self._plot.clear()
        for at in range(self.table.rowCount()):
            mean, spread = (self.table.item(at, column) for column in (MEAN, SPREAD))
            if mean is None or spread is None or not (mean.text() and spread.text()):
                continue
            x, density = shape(float(mean.text()) / 100, float(spread.text()) / 100)
            colour = self.table.item(at, CLASS).data(Qt.ItemDataRole.UserRole)
            width = 3 if at == self.table.currentRow() else 1
            self._plot.plot(100 * x, density, pen={"color": colour, "width": width})


def shape(mean: float, spread: float, points: int = 201) -> tuple[np.ndarray, np.ndarray]:
    """Distribution of a share with a mean and a spread: a normal one, cut off at none and all.

    Returns
    -------
    x, density : ndarray (points,)
        Its height is one at most, so that narrow and wide ones can be seen together.
    """
    x = np.linspace(0, 1, points)
    return x, np.exp(-0.5 * ((x - mean) / max(spread, LEAST)) ** 2)
