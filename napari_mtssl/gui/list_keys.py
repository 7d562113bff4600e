"""Keys of the layers in lists of images, which would look for a name that begins with the letter instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QWidget

from napari_mtssl.gui.shortcuts import SHORTCUTS, ShortcutSpec

SCOPE = "images"
TURNING = ("PageUp", "PageDown")  # a list moves by these itself
ARROWS = {Qt.Key.Key_Left: "Left", Qt.Key.Key_Right: "Right"}


class ListKeys(QObject):
    """Does in lists what keys do on the layers.

    Parameters
    ----------
    actions : mapping of str to callable
        By the names that `shortcuts` uses.
    """

    def __init__(self, actions: Mapping[str, Callable[..., Any]], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._actions = actions
        self._specs = {
            key: spec for spec in SHORTCUTS if SCOPE in spec.scopes for key in spec.keys if key not in TURNING
        }
        self._walked: set[QWidget] = set()

    def watch(self, widget: QWidget, *, walk: bool = False) -> None:
        """Listen to the keys pressed in a list; with `walk` arrows to the sides go from image to image."""
        widget.installEventFilter(self)
        if walk:
            self._walked.add(widget)

    def eventFilter(self, widget: QWidget, event: QEvent) -> bool:
        """Take the keys that mean something on the layers."""
        asked = event.type() == QEvent.Type.ShortcutOverride
        if not asked and event.type() != QEvent.Type.KeyPress:
            return False
        spec = self._spec(widget, event)
        if spec is None:
            return False
        if asked:  # or a menu of the window would take it
            event.accept()
        elif spec.argument is None:
            self._actions[spec.action]()
        else:
            self._actions[spec.action](spec.argument, SCOPE)
        return True

    def _spec(self, widget: QWidget, event: QKeyEvent) -> ShortcutSpec | None:
        name = ARROWS.get(event.key()) if widget in self._walked else None
        if name is None and Qt.Key.Key_0 <= event.key() <= Qt.Key.Key_Z:
            name = chr(event.key())
        if name is None:
            return None
        held = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
        for modifier, word in (
            (Qt.KeyboardModifier.ShiftModifier, "Shift"),
            (Qt.KeyboardModifier.ControlModifier, "Control"),
        ):
            if held & modifier:
                name, held = f"{word}-{name}", held & ~modifier
        return self._specs.get(name) if held == Qt.KeyboardModifier.NoModifier else None
