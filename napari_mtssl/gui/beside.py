"""The pictures that a scanner puts beside a slide: thumbnail, label and macro.

A label has the patient's name or number on it, and a macro often shows the label: these are read only when
somebody presses their button. They are shown in a window of their own, never as layers, so that they get
into no screenshot of the canvas and no saved layer; nothing of ours writes them to a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QDialog, QLabel, QVBoxLayout, QWidget

from napari_mtssl.gui.notify import show_info, told
from napari_mtssl.gui.rows import button, heading, note

if TYPE_CHECKING:
    from napari_mtssl.images import Image

HARMLESS = ("thumbnail",)  # shown at once: the slide itself, small
SIDE = 420  # pixels of a picture on screen, at most


class BesideDialog(QDialog):
    """What lies beside one slide.

    Parameters
    ----------
    image : Image
    parent : QWidget, optional

    Attributes
    ----------
    pictures : dict of str to QLabel
        Empty until they are asked for.
    """

    def __init__(self, image: Image, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(f"Beside {image.path.name}")
        self._image = image
        self.pictures: dict[str, QLabel] = {}
        self.buttons = {}
        layout = QVBoxLayout(self)
        for name in sorted(image.associated, key=lambda name: (name not in HARMLESS, name)):
            layout.addWidget(heading(name.capitalize()))
            self.pictures[name] = QLabel()
            if name in HARMLESS:
                self.show_picture(name)
            else:
                self.buttons[name] = button(
                    "Show it", lambda _=False, name=name: self.show_picture(name), "It is kept nowhere"
                )
                layout.addWidget(note("<small>It may show who the patient is.</small>"))
                layout.addWidget(self.buttons[name])
            layout.addWidget(self.pictures[name])

    def show_picture(self, name: str) -> None:
        """Read a picture and show it; one that cannot be decoded is told."""
        with told():
            self.pictures[name].setPixmap(pixmap(self._image.associated[name]()))
            if name in self.buttons:
                self.buttons[name].hide()


def pixmap(pixels: np.ndarray) -> QPixmap:
    """Make a picture of pixels (h, w, 3) uint8, reduced to what fits."""
    pixels = np.ascontiguousarray(pixels[..., :3], np.uint8)
    high, wide = pixels.shape[:2]
    whole = QPixmap.fromImage(QImage(pixels.data, wide, high, 3 * wide, QImage.Format.Format_RGB888))
    if max(high, wide) <= SIDE:
        return whole
    smooth = Qt.TransformationMode.SmoothTransformation
    return whole.scaled(SIDE, SIDE, Qt.AspectRatioMode.KeepAspectRatio, smooth)


def show_pictures(image: Image, parent: QWidget | None = None) -> BesideDialog | None:
    """Show what lies beside a slide; say so if nothing does."""
    if not image.associated:
        show_info(f"Nothing lies beside {image.path.name}: its file has no label, macro or thumbnail.")
        return None
    dialog = BesideDialog(image, parent)
    dialog.open()
    return dialog


def show_beside() -> BesideDialog | None:
    """Show what lies beside the slide on the dock's screen."""
    from napari_mtssl.gui.samples import open_dock

    dock = open_dock()
    if dock is None or dock.workspace.image is None:
        show_info("Open a study with a slide first.")
        return None
    with told():
        return show_pictures(dock.workspace.pixels, dock)
    return None
