"""Live curves of losses and held-out scores; pyqtgraph is imported when the first curve is shown."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

COLOURS = ("#4ea1d3", "#f2a154", "#7fc97f", "#e57399", "#b39ddb", "#d4c95a", "#8dd3c7", "#c0c0c0")


HEIGHT = 160


class Curves(QWidget):
    """Named curves over training steps with a legend below; x is shared by all.

    Parameters
    ----------
    title : str
    placeholder : str
        Shown until there is a value.
    quiet : bool
        Take no room until there is a value.
    """

    MAX_POINTS = 2000

    def __init__(
        self, title: str, placeholder: str, *, quiet: bool = False, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.title = title
        self.data: dict[str, tuple[list[float], list[float]]] = {}
        self._plot = None
        self._curves: dict[str, object] = {}
        self._dirty = False
        self._placeholder = QLabel(placeholder)
        self._placeholder.setWordWrap(True)
        self._legend = QLabel()  # below the plot, where it hides no curve
        self._legend.setWordWrap(True)
        self._legend.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._placeholder)
        layout.addWidget(self._legend)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        self._quiet = quiet
        if quiet:
            self.hide()

    def clear(self) -> None:
        """Forget all curves (a new run)."""
        self.data.clear()
        if self._quiet:
            self.hide()
        if self._plot is not None:
            self._plot.clear()
            self._plot.hide()
            self._curves.clear()
            self._legend.hide()
            self._placeholder.setVisible(not self._quiet)

    def say(self, placeholder: str) -> None:
        """Show another text until there is a value."""
        self._placeholder.setText(placeholder)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append one value to each named curve; drawn by `draw`."""
        for name, value in values.items():
            steps, line = self.data.setdefault(name, ([], []))
            steps.append(float(step))
            line.append(float(value))
            if len(steps) > self.MAX_POINTS:
                # Every second point of the older half goes: recent detail stays.
                half = len(steps) // 2
                steps[:half], line[:half] = steps[:half:2], line[:half:2]
        self._dirty = True
        if self._quiet and self.isHidden() and self.data:
            self.show()

    def prepare(self) -> None:
        """Make the empty plot ahead of time, when nothing is going on: it takes a tenth of a second."""
        if self._plot is None:
            self._make_plot()
            self._plot.hide()
            self._placeholder.show()

    def draw(self) -> None:
        """Show what was added since the last time; does nothing while hidden."""
        if not self._dirty or not self.isVisible() or not self.data:
            return
        self._dirty = False
        self.prepare()
        self._placeholder.hide()
        self._plot.show()
        for name, (steps, line) in self.data.items():
            if name not in self._curves:
                colour = COLOURS[len(self._curves) % len(COLOURS)]
                self._curves[name] = self._plot.plot(pen={"color": colour, "width": 2})
                self._show_legend()
            self._curves[name].setData(steps, line, symbol="o" if len(steps) < 3 else None, symbolSize=5)

    def _make_plot(self) -> None:
        import pyqtgraph

        colour = self.palette().text().color()
        self._plot = pyqtgraph.PlotWidget(background=None, enableMenu=False)
        self._plot.setFixedHeight(HEIGHT)
        self._plot.hideButtons()
        self._plot.setMouseEnabled(x=False, y=False)
        self._plot.setTitle(self.title, color=colour, size="9pt")
        for side in ("left", "bottom"):
            axis = self._plot.getAxis(side)
            axis.setPen(colour)
            axis.setTextPen(colour)
        self.layout().insertWidget(0, self._plot)

    def _show_legend(self) -> None:
        names = [
            f'<span style="color: {COLOURS[at % len(COLOURS)]}">━</span>&nbsp;{name.replace("_", "&nbsp;")}'
            for at, name in enumerate(self._curves)
        ]
        self._legend.setText(f"<small>{'&nbsp; '.join(names)}</small>")
        self._legend.show()
