"""The row of tools for a layer that is painted: napari's own modes, one press away."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QHBoxLayout, QSpinBox, QWidget

from napari_mtssl.gui.rows import button

MODES = {
    "paint": ("Brush", "Paint with the active class; the layer's controls set the size too"),
    "polygon": ("Polygon", "Click corners; a double click closes it"),
    "fill": ("Fill", "Fill an area of one class"),
    "erase": ("Erase", "Take back what is painted here"),
    "pan_zoom": ("Move", "Move and zoom the view"),
    "add_polygon": ("Corners", "Click corners of a region; a double click or Esc closes it"),
    "add_polygon_lasso": ("Freehand", "Draw around a region with the mouse button down"),
    "select": ("Choose", "Click a region: a class's key gives it that class, Delete removes it"),
    "direct": ("Bend", "Drag the corners of a region"),
}
PAINTING = ("paint", "polygon", "fill", "erase", "pan_zoom")


class PaintTools(QWidget):
    """Buttons for the modes of a layer, and the size of its brush.

    Parameters
    ----------
    choose : callable
        Called with the mode and the size of the brush (level-0 pixels, or blocks).
    size : int or None
        Of the brush at first; None for a layer without one.
    modes : tuple of str
        Which of napari's modes are offered.
    """

    def __init__(
        self,
        choose: Callable[[str, int], None],
        size: int | None,
        modes: tuple[str, ...] = PAINTING,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._choose = choose
        self._mode = "paint"
        self._own = False  # the user chose the size
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        self.buttons = {}
        for mode in modes:
            text, tip = MODES[mode]
            self.buttons[mode] = button(text, lambda _=False, m=mode: self._pressed(m), tip)
            self.buttons[mode].setCheckable(True)
            layout.addWidget(self.buttons[mode])
        self.size = QSpinBox()
        self.size.setRange(1, 500)
        self.size.setMinimumWidth(72)  # three digits and the two signs
        self.size.setValue(size or 1)
        self.size.setToolTip("Size of the brush")
        self.size.valueChanged.connect(self._sized)
        if size is not None:
            layout.addWidget(self.size)
        layout.addStretch()

    def show_mode(self, mode: str) -> None:
        """Show which mode is on; any other text: none."""
        for name, tool in self.buttons.items():
            tool.setChecked(name == mode)

    def suggest_size(self, pixels: int) -> None:
        """Have a brush that suits an image, unless the user chose a size."""
        if not self._own:
            self.size.blockSignals(True)
            self.size.setValue(pixels)
            self.size.blockSignals(False)

    def _sized(self) -> None:
        self._own = True
        self._choose(self._mode, self.size.value())

    def _pressed(self, mode: str) -> None:
        self._mode = mode
        self._choose(mode, self.size.value())
