"""Waiting with a window that lives: what may take long runs in a thread, and can be given up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QProgressDialog, QWidget

from napari_mtssl.images import ImageError

T = TypeVar("T")

QUICK = 0.3  # seconds in which a usual answer is there: no dialog flashes up
LOOK = 30  # ms


def patiently(work: Callable[[], T], text: str, parent: QWidget | None = None) -> T:
    """Give what `work` returns or raises; meanwhile say what is waited for, and let the user give up.

    Parameters
    ----------
    work : callable
        Touches no layer, no widget and not the window's study: it runs in a thread.
    text : str
        What is waited for.
    parent : QWidget, optional
        Whose window cannot be used meanwhile; it is still drawn.

    Raises
    ------
    ImageError
        If the user gave up; the thread ends by itself, as when its server has had its time.
    """
    answers: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="patience")
    thread.start()
    thread.join(QUICK)
    if thread.is_alive():
        _wait(thread, text, parent)
    if errors:
        raise errors[0]
    if not answers:
        raise ImageError(f"{text.rstrip(' .…')} was given up.")
    return answers[0]


def _wait(thread: threading.Thread, text: str, parent: QWidget | None) -> None:
    dialog = QProgressDialog(text, "Give up", 0, 0, parent)
    dialog.setWindowTitle("Waiting")
    dialog.setWindowModality(Qt.WindowModality.ApplicationModal)
    timer = QTimer(dialog)
    timer.timeout.connect(lambda: None if thread.is_alive() else dialog.accept())
    timer.start(LOOK)
    dialog.exec()
    timer.stop()
    dialog.deleteLater()
