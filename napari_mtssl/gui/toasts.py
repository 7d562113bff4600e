"""Notifications that can be read: whole sentences, and gone when they were read.

napari shows the first line only, counts four seconds for any text, and forgets to count while its window is
not the active one or another notification came. Whatever of this a version of napari does otherwise is left
as it is.
"""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QThread, QTimer
from qtpy.QtWidgets import QApplication, QDialog, QMainWindow

LEAST_MS, MOST_MS = 3_000, 12_000
READ_MS = 55  # for a character
AFTER_MS = 260  # it has slid in
NEEDED = ("message", "expand", "close_with_fade", "timer")
MARGINS = 28  # above and below the text
OURS = "mtssl_info"


def reading_time(message: str) -> int:
    """Milliseconds that a message stays."""
    return min(max(LEAST_MS, 1_500 + READ_MS * len(message)), MOST_MS)


def tidy(message: str, *, passing: bool) -> None:
    """Show all of the notification that was made just now, for as long as it takes to read.

    Parameters
    ----------
    message : str
    passing : bool
        It may give way to the next one, as the result of an action that was followed by another.
    """
    app = QApplication.instance()
    if app is None or QThread.currentThread() != app.thread():
        return
    shown = [toast for toast in _toasts() if not toast.property("closing")]
    new = next((toast for toast in reversed(shown) if toast.message.text() == message), None)
    if new is None:
        return
    for toast in shown:
        if toast is not new and toast.property(OURS):
            _close(toast)  # they lie on each other
    new.setProperty(OURS, passing)
    new.timer.stop()
    new.timer.setInterval(reading_time(message))
    _later(new, AFTER_MS, _unfold)
    _later(new, reading_time(message), _leave)


def _toasts() -> list[Any]:
    """List napari's notifications, in the order in which they were made."""
    return [
        found
        for window in QApplication.topLevelWidgets()
        if isinstance(window, QMainWindow)
        for found in window.findChildren(QDialog)
        if all(hasattr(found, name) for name in NEEDED)
    ]


def _later(toast: Any, ms: int, what: Any) -> None:
    timer = QTimer(toast)  # goes with it
    timer.setSingleShot(True)
    timer.timeout.connect(lambda: what(toast))
    timer.start(ms)


def _unfold(toast: Any) -> None:
    if not toast.property("expanded") and toast.sizeHint().height() > toast.height():
        toast.expand()
        _later(toast, AFTER_MS, _settle)


def _settle(toast: Any) -> None:
    """Have all lines inside, and the whole of it on the canvas."""
    text = toast.message.sizeHint().height()
    toast.message.setMinimumHeight(text)  # of itself it takes the height of what is elided
    toast.resize(toast.width(), max(toast.height(), text + MARGINS))
    if hasattr(toast, "move_to_bottom_right"):
        toast.move_to_bottom_right()


def _leave(toast: Any) -> None:
    if toast.underMouse():
        _later(toast, LEAST_MS, _leave)
    else:
        _close(toast)


def _close(toast: Any) -> None:
    toast.setProperty("closing", True)
    toast.close_with_fade()
