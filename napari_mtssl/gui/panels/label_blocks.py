"""Step 2 for tissue: a grid, coarse classes of its blocks, what they mean, and corrections on the mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QMessageBox, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.panels.classes import ClassTable
from napari_mtssl.gui.panels.imports import ImportButton, block_imports
from napari_mtssl.gui.panels.statistics import StatisticsEditor
from napari_mtssl.gui.panels.tools import PaintTools
from napari_mtssl.gui.rows import Calmly, button, heading, note, row
from napari_mtssl.gui.tasks import BLOCK, MASK
from napari_mtssl.gui.workspace import Workspace, WorkspaceError

PIXELS, MICRONS = "pixels", "µm"
USUAL = 64.0  # pixels


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
        for signal in (
            workspace.study_changed,
            workspace.image_changed,
            workspace.task_changed,
            workspace.blocks_changed,
        ):
            signal.connect(self._show_grid)
        self._recount = Calmly(self._count, 300, self)
        for signal in (workspace.blocks_changed, workspace.mask_changed, workspace.image_changed):
            signal.connect(self._recount)
        self._show_grid()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(heading("Grid"))
        self.size = QDoubleSpinBox()
        self.size.setRange(1, 100_000)
        self.size.setDecimals(1)
        self.size.setValue(USUAL)
        self.unit = QComboBox()
        self.unit.addItems([PIXELS, MICRONS])
        self.unit.currentTextChanged.connect(self._unit_chosen)
        self.lay_button = button("Lay the grid", self.lay_grid, "Over this image; every block gets a class")
        layout.addWidget(row("Blocks of", self.size, self.unit, self.lay_button, None))
        self.import_button = ImportButton(self._workspace, block_imports())
        self.hint = note()
        layout.addWidget(self.hint)
        layout.addWidget(row(heading("Coarse classes of blocks"), None, self.import_button))
        self.classes = ClassTable(
            self._workspace,
            BLOCK,
            {"Blocks": "Blocks of this image that have the class"},
            self._block_counts,
            "what a block shows, for example 20-30 (per cent of tumour), or stroma",
        )
        layout.addWidget(self.classes)
        self.bins_button = button(
            "Ten bins of the share …",
            self.add_bins,
            "Classes 0-20, 20-30, ... 95-100 per cent of an exact class, with statistics ready to train",
        )
        self.classes.buttons.layout().insertWidget(2, self.bins_button)
        self.block_tools = PaintTools(
            lambda mode, size: self.tool.emit(BLOCK, mode, size),
            1,
            ("paint", "polygon", "fill", "erase", "pan_zoom"),
        )
        layout.addWidget(self.block_tools)

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
        blocks = self._workspace.need_study().blocks(self._workspace.image.id)
        counts = blocks["class"].value_counts()
        return {name: (int(counts.get(name, 0)),) for name in names}

    def _pixel_counts(self) -> Mapping[str, Sequence[object]]:
        counts = self._workspace.painted()
        return {item.name: (counts.get(item.name, 0),) for item in self._workspace.classes(MASK)}

    def _show_grid(self) -> None:
        workspace = self._workspace
        image = workspace.image
        for widget in (self.lay_button, self.block_tools, self.mask_tools):
            widget.setEnabled(image is not None)
        if image is None or BLOCK not in workspace.kinds():
            self.hint.setText("Add an image first (step 1)." if image is None else "")
            return
        self.unit.model().item(1).setEnabled(bool(image.pixel_size_um))
        grid = workspace.need_study().grid(image.id)
        if grid is None:
            self.hint.setText(f"{image.path.name} has no grid yet: choose a size and lay it.")
            return
        if not self.size.hasFocus():
            factor = image.pixel_size_um if self.unit.currentText() == MICRONS else 1
            self.size.setValue(grid.height * (factor or 1))
        size = f"{grid.height:g} × {grid.width:g} pixels"
        if image.pixel_size_um:
            size += f" ({grid.height * image.pixel_size_um:.0f} µm)"
        self.hint.setText(
            f"Blocks of {size}. Paint them with the brush, or press a class's key and paint; "
            "blocks without a class are left out."
        )

    # -- doing ---------------------------------------------------------------------------------------------

    def _unit_chosen(self, unit: str) -> None:
        image = self._workspace.image
        if image is not None and image.pixel_size_um:
            factor = image.pixel_size_um if unit == MICRONS else 1 / image.pixel_size_um
            self.size.setValue(self.size.value() * factor)

    @guarded
    def lay_grid(self) -> None:
        """Lay a grid of the chosen size over the image on screen."""
        from napari_mtssl.study import Grid

        study, image = self._workspace.need_study(), self._workspace.need_image()
        side = self.size.value()
        if self.unit.currentText() == MICRONS:
            if not image.pixel_size_um:
                raise WorkspaceError(f"The pixel size of {image.path.name} is not known: give pixels.")
            side /= image.pixel_size_um
        blocks = study.blocks(image.id)
        grid = Grid(side, side)
        erase = False
        if len(blocks) and study.grid(image.id) != grid:
            answer = QMessageBox.question(
                self,
                "Another grid",
                f"Erase the {len(blocks):,} blocks of {image.path.name} that have a class? "
                "Undo brings them back.",
            )
            if answer != QMessageBox.StandardButton.Yes:
                return
            erase = True
        study.set_grid(image.id, grid, erase=erase)
        self._workspace.blocks_changed.emit()

    @guarded
    def add_bins(self) -> None:
        """Add the paper's ten classes, an exact class if there is none, and their statistics."""
        from napari_mtssl.methods.superres.statistics import bin_names, default_statistics

        study = self._workspace.need_study()
        have = set(self._workspace.colours(BLOCK))
        names = bin_names()
        with study.edit("Added ten bins"):
            if not study.classes(MASK):
                study.add_class("tumour", kind=MASK)
            for at, name in enumerate(names):
                if name not in have:
                    study.add_class(name, kind=BLOCK, colour=ramp(at / (len(names) - 1)))
            exact = [item.name for item in study.classes(MASK)]
            table = default_statistics(names, exact)
            if len(table) and not len(study.statistics()):
                study.set_statistics(table)
        self._workspace.classes_edited()
        show_info("Ten classes were added: the per cent of tumour in a block. One Undo takes all back.")


def ramp(share: float) -> str:
    """Colour of a share between none (blue) and all (red)."""
    low, middle, high = (0.23, 0.30, 0.75), (0.95, 0.90, 0.55), (0.71, 0.02, 0.15)
    a, b, t = (low, middle, 2 * share) if share < 0.5 else (middle, high, 2 * share - 1)
    return "#" + "".join(f"{round(255 * (x + (y - x) * t)):02x}" for x, y in zip(a, b, strict=True))
