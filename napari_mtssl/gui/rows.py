"""Small pieces of Qt that the panels share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QSize, QTimer
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from napari_mtssl.gui.notify import told


def button(text: str, slot: Callable[..., Any], tip: str = "") -> QPushButton:
    """Make a push button; its tool tip says more than its text."""
    made = QPushButton(text)
    made.clicked.connect(slot)
    made.setToolTip(tip)
    return made


def row(*widgets: QWidget | str | None) -> QWidget:
    """Widgets side by side; a string is a label, None takes up the rest."""
    box = QWidget()
    layout = QHBoxLayout(box)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for item in widgets:
        if item is None:
            layout.addStretch()
        else:
            layout.addWidget(QLabel(item) if isinstance(item, str) else item)
    return box


def heading(text: str) -> QLabel:
    """Make a bold line above a group."""
    label = QLabel(f"<b>{text}</b>")
    label.setContentsMargins(0, 6, 0, 0)
    return label


def note(text: str = "") -> QLabel:
    """Make a line of explanation that wraps."""
    label = QLabel(text)
    label.setWordWrap(True)
    return label


def swatch(colour: str, size: int = 14) -> QIcon:
    """Make a square of one colour."""
    pixmap = QPixmap(QSize(size, size))
    pixmap.fill(QColor(colour))
    return true_icon(pixmap)


def true_icon(pixmap: QPixmap) -> QIcon:
    """Make an icon that keeps its colours in a selected row, where Qt would tint them."""
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)
    return icon


class Calmly(QObject):
    """Call a function soon, and at most every `interval` milliseconds, however often it is asked for.

    A function that itself takes long is called less often, so that it never uses more than a fifth of the
    time.
    """

    def __init__(
        self, function: Callable[[], None], interval: int = 200, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._function = function
        self._interval = interval
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._due)
        self._asked = False

    def __call__(self) -> None:
        """Ask for a call."""
        if self._timer.isActive():
            self._asked = True
        else:
            self._asked = True
            self._timer.start(0)

    def now(self) -> None:
        """Call at once if a call was asked for."""
        if self._asked:
            self._timer.stop()
            self._due()

    def stop(self) -> None:
        """Forget what was asked for."""
        self._asked = False
        self._timer.stop()

    def _due(self) -> None:
        if not self._asked:
            return
        self._asked = False
        from time import perf_counter

        begun = perf_counter()
        with told():  # as that the study is gone, which nobody may have noticed yet
            self._function()
        took = (perf_counter() - begun) * 1000
        # Even when nothing new is asked for meanwhile, the pause keeps the next call apart.
        self._timer.start(max(self._interval, int(4 * took)))
