"""How large blocks are, in pixels or micrometres, and laying a grid of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QHBoxLayout, QLabel, QMessageBox, QVBoxLayout, QWidget

from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.rows import button, note, row
from napari_mtssl.gui.tasks import BLOCK
from napari_mtssl.gui.workspace import Workspace, WorkspaceError
from napari_mtssl.study.records import plural

if TYPE_CHECKING:
    from napari_mtssl.study import Grid, ImageRecord

PIXELS, MICRONS = "pixels", "µm"
USUAL = 64.0  # pixels
NARROW = "QDoubleSpinBox { min-width: 46px; max-width: 46px; }"  # napari's own boxes are wider
DECIMALS = {PIXELS: 1, MICRONS: 2}


class BlockSize(QWidget):
    """Height, width and unit of blocks; the width follows the height until it is given itself."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.pixel_size_um: float | None = None
        self._square = True
        self._shown: tuple[float, float] | None = None  # pixels of which the boxes show the rounded size
        self.height_box, self.width_box = (self._spin(tip) for tip in ("down the image", "across the image"))
        self.unit = QComboBox()
        self.unit.addItems([PIXELS, MICRONS])
        self.unit.currentTextChanged.connect(self._unit_chosen)
        self.height_box.valueChanged.connect(self._height_given)
        self.width_box.valueChanged.connect(self._width_given)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (QLabel("Blocks of"), self.height_box, QLabel("×"), self.width_box, self.unit):
            layout.addWidget(widget)
        layout.addStretch()
        self.set_pixel_size(None)

    def _spin(self, tip: str) -> QDoubleSpinBox:
        box = QDoubleSpinBox()
        box.setRange(0.01, 100_000)
        box.setDecimals(1)
        box.setValue(USUAL)
        box.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
        box.setStyleSheet(NARROW)
        box.setToolTip(f"Size of a block {tip}")
        return box

    @property
    def has_focus(self) -> bool:
        """Whether the user types a size now."""
        return self.height_box.hasFocus() or self.width_box.hasFocus()

    def set_pixel_size(self, um: float | None) -> None:
        """Say how large pixels are; micrometres can be chosen only where that is known."""
        self.pixel_size_um = um
        self.unit.model().item(1).setEnabled(bool(um))
        self.unit.setToolTip(
            f"A pixel is {um:g} µm" if um else "How large a pixel is is not known: the image does not say it"
        )
        if not um and self.unit.currentText() == MICRONS:
            self.unit.setCurrentText(PIXELS)

    def sides(self, pixel_size_um: float | None, name: str) -> tuple[float, float]:
        """Height and width in pixels of an image.

        Raises
        ------
        WorkspaceError
            If they are given in micrometres and the image does not say how large its pixels are.
        """
        height, width = self.height_box.value(), self.width_box.value()
        if self.unit.currentText() == PIXELS:
            return self._shown or (height, width)
        if not pixel_size_um:
            raise WorkspaceError(f"The pixel size of {name} is not known: give pixels.")
        if self._shown is not None and self.pixel_size_um:
            height, width = (side * self.pixel_size_um for side in self._shown)
        return height / pixel_size_um, width / pixel_size_um

    def show_sides(self, height: float, width: float) -> None:
        """Show a size that is given in pixels."""
        factor = self.pixel_size_um if self.unit.currentText() == MICRONS and self.pixel_size_um else 1.0
        self._square, self._shown = height == width, (height, width)
        for box, side in ((self.height_box, height), (self.width_box, width)):
            box.blockSignals(True)
            box.setValue(side * factor)
            box.blockSignals(False)

    def _height_given(self, value: float) -> None:
        self._shown = None
        if self._square:
            self.width_box.blockSignals(True)
            self.width_box.setValue(value)
            self.width_box.blockSignals(False)
        self.changed.emit()

    def _width_given(self, value: float) -> None:
        self._shown = None
        self._square = value == self.height_box.value()
        self.changed.emit()

    def _unit_chosen(self, unit: str) -> None:
        um = self.pixel_size_um or 1.0
        factor = um if unit == MICRONS else 1 / um
        for box in (self.height_box, self.width_box):
            box.blockSignals(True)
            value = box.value() * factor
            box.setDecimals(DECIMALS[unit])
            box.setValue(value)
            box.blockSignals(False)
        self.changed.emit()


class GridBox(QWidget):
    """The size of blocks, and buttons that lay a grid of them over the image on screen, or over all."""

    def __init__(self, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workspace = workspace
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.size = BlockSize()
        layout.addWidget(self.size)
        self.lay_button = button("Lay the grid", self.lay_grid, "Over this image; every block gets a class")
        self.all_button = button(
            "On all images",
            self.lay_everywhere,
            "Over every image of the study; one that has blocks of another size keeps them",
        )
        layout.addWidget(row(self.lay_button, self.all_button, None))
        self.hint = note()
        layout.addWidget(self.hint)
        for signal in (
            workspace.study_changed,
            workspace.image_changed,
            workspace.task_changed,
            workspace.blocks_changed,
        ):
            signal.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the grid of the image on screen."""
        workspace = self._workspace
        image = workspace.image
        for widget in (self.lay_button, self.all_button):
            widget.setEnabled(image is not None)
        if image is None or BLOCK not in workspace.kinds():
            self.hint.setText("Add an image first (step 1)." if image is None else "")
            return
        um = image.pixel_size_um
        self.size.set_pixel_size(um)
        grid = workspace.need_study().grid(image.id)
        if grid is None:
            self.hint.setText(f"{image.path.name} has no grid yet: choose a size and lay it.")
            return
        if not self.size.has_focus:
            self.size.show_sides(grid.height, grid.width)
        size = f"{grid.height:.4g} × {grid.width:.4g} pixels"
        if um:
            size += f" ({grid.height * um:.4g} × {grid.width * um:.4g} µm)"
        self.hint.setText(
            f"Blocks of {size}. Paint them with the brush, or press a class's key and paint; "
            "blocks without a class are left out."
        )

    def _grid_for(self, image: ImageRecord) -> Grid:
        from napari_mtssl.study import Grid

        return Grid(*self.size.sides(image.pixel_size_um, image.path.name))

    @guarded
    def lay_grid(self) -> None:
        """Lay a grid of the chosen size over the image on screen."""
        from napari_mtssl.study.blocks import check_grid

        study, image = self._workspace.need_study(), self._workspace.need_image()
        grid = self._grid_for(image)
        check_grid(grid)  # before anything is asked
        blocks = study.blocks(image.id)
        erase = False
        if len(blocks) and study.grid(image.id) != grid:
            answer = QMessageBox.question(
                self,
                "Another grid",
                f"Erase the {plural(len(blocks), 'block')} of {image.path.name} with a class? "
                "Undo brings them back.",
            )
            if answer != QMessageBox.StandardButton.Yes:
                return
            erase = True
        study.set_grid(image.id, grid, erase=erase)
        self._workspace.blocks_changed.emit()

    @guarded
    def lay_everywhere(self) -> None:
        """Lay a grid of the chosen size over every image that has no blocks of another, as one edit."""
        study = self._workspace.need_study()
        kept = []
        with study.edit("Laid a grid over all images"):
            for image in study.images():
                grid = self._grid_for(image)
                if len(study.blocks(image.id)) and study.grid(image.id) != grid:
                    kept.append(image.path.name)
                else:
                    study.set_grid(image.id, grid)
        self._workspace.blocks_changed.emit()
        count = len(study.images()) - len(kept)
        said = f"{count} image{' has' if count == 1 else 's have'} this grid; one Undo takes it back."
        if kept:
            said += f" {', '.join(kept[:3])}{' …' if len(kept) > 3 else ''} kept blocks of another size."
        show_info(said)
