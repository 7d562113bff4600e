"""Step 2 for tissue: a grid, coarse classes of its blocks, what they mean, and corrections on the mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.panels.bins import Bins, BinsDialog
from napari_mtssl.gui.panels.classes import ClassTable
from napari_mtssl.gui.panels.exports import ExportButton, block_exports
from napari_mtssl.gui.panels.grid import GridBox
from napari_mtssl.gui.panels.imports import ImportButton, block_imports
from napari_mtssl.gui.panels.statistics import StatisticsEditor
from napari_mtssl.gui.panels.tools import PaintTools
from napari_mtssl.gui.rows import Calmly, button, heading, note, row
from napari_mtssl.gui.tasks import BLOCK, MASK, REGION
from napari_mtssl.gui.workspace import Workspace, WorkspaceError
from napari_mtssl.study.records import plural

if TYPE_CHECKING:
    from napari_mtssl.study import Study


class BlocksPage(QWidget):
    """Grid, classes of blocks, their statistics, exact classes.

    Signals
    -------
    tool : str, str, int
        The user takes a tool: kind of what is painted, napari's mode, size of the brush.
    """

    tool = Signal(str, str, int)

    def __init__(self, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workspace = workspace
        self._build()
        for signal in (workspace.study_changed, workspace.image_changed, workspace.task_changed):
            signal.connect(self._show_tools)
        self._recount = Calmly(self._count, 300, self)
        for signal in (workspace.blocks_changed, workspace.mask_changed, workspace.image_changed):
            signal.connect(self._recount)
        self._show_tools()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(heading("Grid"))
        self.grid = GridBox(self._workspace)
        self.lay_button, self.hint = self.grid.lay_button, self.grid.hint
        layout.addWidget(self.grid)
        self.import_button = ImportButton(self._workspace, block_imports(self._workspace, self))
        self.export_button = ExportButton(self._workspace, block_exports())
        layout.addWidget(row(heading("Coarse classes"), None, self.import_button, self.export_button))
        self.classes = ClassTable(
            self._workspace,
            BLOCK,
            {"Given": "Blocks and free regions of this image that have the class"},
            self._block_counts,
            "what a block shows, for example 20-30 (per cent of tumour), or stroma",
        )
        layout.addWidget(self.classes)
        self.bins_button = button(
            "Bins of a share …",
            self.add_bins,
            "Classes such as 0-20, 20-30, ... 95-100 per cent of an exact class, ready to train",
        )
        self.classes.buttons.layout().insertWidget(2, self.bins_button)
        self.block_tools = PaintTools(
            lambda mode, size: self.tool.emit(BLOCK, mode, size),
            1,
            ("paint", "polygon", "fill", "erase", "pan_zoom"),
        )
        layout.addWidget(self.block_tools)
        self.region_tools = PaintTools(
            lambda mode, size: self.tool.emit(REGION, mode, size),
            None,
            ("add_polygon", "add_polygon_lasso", "select", "direct"),
        )
        self.region_tools.setToolTip("A region of any shape that gets one coarse class; it lies over blocks")
        self.regions_row = row("Regions", self.region_tools)
        layout.addWidget(self.regions_row)
        self.below_tools = QVBoxLayout()
        layout.addLayout(self.below_tools)

        self.statistics_section = QCollapsible("What the coarse classes mean")
        self.statistics = StatisticsEditor(self._workspace)
        self.statistics_section.addWidget(self.statistics)
        self.statistics_section.toggled.connect(self.statistics.show_now)
        layout.addWidget(self.statistics_section)

        layout.addWidget(heading("Exact classes"))
        self.exact = ClassTable(
            self._workspace,
            MASK,
            {"Painted": "Pixels of this image that you painted"},
            self._pixel_counts,
            "what the outlines are of, for example tumour",
        )
        layout.addWidget(self.exact)
        layout.addWidget(
            note("Painting is not needed. Where the prediction is wrong, paint what is right: it is learnt.")
        )
        self.mask_tools = PaintTools(lambda mode, size: self.tool.emit(MASK, mode, size), 15)
        layout.addWidget(self.mask_tools)

    # -- showing -------------------------------------------------------------------------------------------

    def _count(self) -> None:
        if self._workspace.study is not None and self.isVisibleTo(self.window()):
            self.classes.refresh_counts()
            self.exact.refresh_counts()

    def _block_counts(self) -> Mapping[str, Sequence[object]]:
        names = self._workspace.colours(BLOCK)
        if self._workspace.image is None:
            return dict.fromkeys(names, (0,))
        study, image = self._workspace.need_study(), self._workspace.image
        given = pd.concat([study.blocks(image.id)["class"], study.regions(image.id)["class"]])
        counts = given.value_counts()
        return {name: (int(counts.get(name, 0)),) for name in names}

    def _pixel_counts(self) -> Mapping[str, Sequence[object]]:
        counts = self._workspace.painted()
        return {item.name: (counts.get(item.name, 0),) for item in self._workspace.classes(MASK)}

    def _show_tools(self) -> None:
        for widget in (self.block_tools, self.regions_row, self.mask_tools):
            widget.setEnabled(self._workspace.image is not None)

    # -- doing ---------------------------------------------------------------------------------------------

    @guarded
    def add_bins(self) -> None:
        """Ask for bins, and add their classes, an exact class if there is none, and their statistics."""
        study = self._workspace.need_study()
        exact = [item.name for item in study.classes(MASK) if not item.background]
        bins = BinsDialog.ask("Bins of a share", exact, parent=self)
        if bins is not None:
            show_info(self._add(study, bins))
            self._workspace.classes_edited()

    def _add(self, study: Study, bins: Bins) -> str:
        from napari_mtssl.methods.superres.statistics import explain_bins

        have, names, known = set(self._workspace.colours(BLOCK)), bins.names, study.statistics()
        new = [name for name in names if name not in have]
        known = known[known["block_class"].isin(names)]
        rest = [item.name for item in study.classes(MASK) if item.background]
        mine, other = known["mask_class"] == bins.exact, ~known["mask_class"].isin([bins.exact, *rest])
        if other.any() and not mine.any() and not new:
            raise WorkspaceError(
                f"These classes mean the per cent of {known['mask_class'][other].iloc[0]} in a block: say "
                f"below how much of it is {bins.exact}, or choose other bins."
            )
        if not new:
            raise WorkspaceError(f"These classes are there already: the per cent of {bins.exact} in a block.")
        with study.edit(f"Added {len(names)} bins"):
            if bins.exact not in self._workspace.colours(MASK):
                study.add_class(bins.exact, kind=MASK)
            for at, name in enumerate(names):
                if name in new:
                    study.add_class(name, kind=BLOCK, colour=ramp(at / max(len(names) - 1, 1)))
            others = explain_bins(study, bins.exact)
        said = f"{plural(len(new), 'class')} {'was' if len(new) == 1 else 'were'} added"
        said += f": the per cent of {bins.exact} in a block."
        if others:
            said += f" Say below how much of a block is {' and '.join(others)}."
        return f"{said} One Undo takes all back."


def ramp(share: float) -> str:
    """Colour of a share between none (blue) and all (red)."""
    low, middle, high = (0.23, 0.30, 0.75), (0.95, 0.90, 0.55), (0.71, 0.02, 0.15)
    a, b, t = (low, middle, 2 * share) if share < 0.5 else (middle, high, 2 * share - 1)
    return "#" + "".join(f"{round(255 * (x + (y - x) * t)):02x}" for x, y in zip(a, b, strict=True))
