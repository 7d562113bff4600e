"""A window that shows a report: text, tables and pictures of a Markdown file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices, QImage
from qtpy.QtWidgets import QDialog, QTextBrowser, QVBoxLayout, QWidget

from napari_mtssl.gui.rows import button, row

SIZE = (820, 720)
MARGIN = 60  # pixels beside a picture
IMAGE = 2  # Qt's QTextDocument.ImageResource, which is a number to one binding and none to the other


class Pages(QTextBrowser):
    """Shows Markdown; pictures are made to fit."""

    def __init__(self, folder: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._folder = folder
        self.setOpenLinks(False)

    def loadResource(self, kind: int, url: QUrl) -> Any:
        """Read a picture beside the report."""
        if kind != IMAGE:
            return super().loadResource(kind, url)
        picture = QImage(str(self._folder / url.path()))
        wide = SIZE[0] - MARGIN
        if picture.width() > wide:
            picture = picture.scaledToWidth(wide, Qt.TransformationMode.SmoothTransformation)
        return picture


class ReportWindow(QDialog):
    """A report, and a button that opens the folder where it lies with its tables and pictures.

    Parameters
    ----------
    path : Path
        Of the Markdown file.
    parent : QWidget, optional
    """

    def __init__(self, path: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(f"{path.name} of {path.parents[1].stem}")
        self.resize(*SIZE)
        self._folder = path.parent
        layout = QVBoxLayout(self)
        self.pages = Pages(path.parent)
        self.pages.setMarkdown(path.read_text(encoding="utf-8"))
        layout.addWidget(self.pages)
        self.folder_button = button(
            "Open its folder", self._open_folder, f"Tables and pictures, to take along: {path.parent}"
        )
        layout.addWidget(row(self.folder_button, None))

    def _open_folder(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._folder)))
