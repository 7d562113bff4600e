"""Looking at some blocks of a coarse class: how much of each is of an exact class, by eye."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QGridLayout, QLabel, QSpinBox, QVBoxLayout, QWidget

from napari_mtssl.gui.rows import note
from napari_mtssl.gui.workspace import Workspace, WorkspaceError

if TYPE_CHECKING:
    from napari_mtssl.images import Image
    from napari_mtssl.study import Study

MOST, COLUMNS = 12, 4
SIDE = 120  # of a picture
SILENT = -1  # nobody has judged this block


class LookDialog(QDialog):
    """Pictures of blocks, a per cent below each, and what follows from them.

    Parameters
    ----------
    block_class, exact : str
    pictures : list of (str, ndarray uint8 (h, w, 3))
        Name of the image, and the block.
    """

    def __init__(
        self,
        block_class: str,
        exact: str,
        pictures: list[tuple[str, np.ndarray]],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Blocks of the class {block_class}")
        self._names = block_class, exact
        layout = QVBoxLayout(self)
        layout.addWidget(
            note(f"How much of each block is {exact}? In per cent, by eye; leave out what is unclear.")
        )
        grid = QGridLayout()
        layout.addLayout(grid)
        self.shares: list[QSpinBox] = []
        for at, (name, pixels) in enumerate(pictures):
            picture = QLabel()
            picture.setPixmap(pixmap(pixels))
            picture.setToolTip(name)
            picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
            share = QSpinBox()
            share.setRange(SILENT, 100)
            share.setSpecialValueText("–")
            share.setValue(SILENT)
            share.setSuffix(" %")
            share.setSingleStep(5)
            share.valueChanged.connect(self._show)
            self.shares.append(share)
            grid.addWidget(picture, 2 * (at // COLUMNS), at % COLUMNS)
            grid.addWidget(share, 2 * (at // COLUMNS) + 1, at % COLUMNS)
        self.said = note()
        layout.addWidget(self.said)
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        layout.addWidget(self.buttons)
        self._show()

    def estimate(self) -> tuple[float, float, float, float] | None:
        """Mean and spread, and the 95 % interval of the mean, all from 0 to 1; None if nothing was judged."""
        from napari_mtssl.methods.superres.statistics import default_statistics, measured_statistics

        given = np.array([box.value() for box in self.shares if box.value() != SILENT]) / 100
        if not len(given):
            return None
        name, exact = self._names
        both = ["the rest", exact]
        prior = default_statistics([name], both)
        table = measured_statistics({name: np.stack([1 - given, given], 1)}, both, prior)
        line = table.iloc[1]
        return float(line["mean"]), float(line["spread"]), float(line["low"]), float(line["high"])

    def _show(self) -> None:
        found = self.estimate()
        self.buttons.button(QDialogButtonBox.StandardButton.Ok).setEnabled(found is not None)
        if found is None:
            self.said.setText("Ten blocks are enough.")
            return
        mean, spread, low, high = found
        count = sum(box.value() != SILENT for box in self.shares)
        self.said.setText(
            f"Mean {mean:.0%} ({low:.0%} to {high:.0%}), spread {spread:.0%}, from {count} "
            f"block{'' if count == 1 else 's'} and a default that is worth two."
        )

    @classmethod
    def ask(
        cls, workspace: Workspace, block_class: str, exact: str, parent: QWidget | None = None
    ) -> tuple[float, float] | None:
        """Show blocks and ask; return mean and spread, or None if the user thinks better of it.

        Raises
        ------
        WorkspaceError
            If no block has the class.
        """
        pictures = some_blocks(workspace, block_class)
        if not pictures:
            raise WorkspaceError(
                f"No block of a grid has the class {block_class} yet (regions are not looked at): paint some."
            )
        dialog = cls(block_class, exact, pictures, parent)
        found = dialog.estimate() if dialog.exec() else None
        return None if found is None else found[:2]


def some_blocks(workspace: Workspace, block_class: str) -> list[tuple[str, np.ndarray]]:
    """Pictures of at most twelve blocks of a class, drawn from all images, the same ones each time."""
    study = workspace.need_study()
    places = _places(study, block_class)
    chosen = np.random.default_rng(0).permutation(len(places))[:MOST]
    found = []
    for at in sorted(chosen.tolist()):
        line = places.iloc[at]
        record, grid = study.image(int(line["image_id"])), study.grid(int(line["image_id"]))
        assert grid is not None
        image = workspace.pool(record)
        row0, col0, row1, col1 = (round(edge) for edge in grid.edges(int(line["i"]), int(line["j"])))
        row0, col0, row1, col1 = max(row0, 0), max(col0, 0), min(row1, record.height), min(col1, record.width)
        pixels = image.read(row0, col0, max(row1 - row0, 1), max(col1 - col0, 1))
        found.append((record.path.name, eight_bits(pixels, image)))
    return found


def _places(study: Study, block_class: str) -> pd.DataFrame:
    tables = [study.blocks(i).assign(image_id=i) for i in study.coarse_images()]
    table = pd.concat(tables) if tables else pd.DataFrame(columns=["i", "j", "class", "image_id"])
    return table[table["class"] == block_class]


def eight_bits(pixels: np.ndarray, image: Image) -> np.ndarray:
    """Pixels (h, w, 3) as they are seen: those of dark images of 16 bits as bright as others."""
    if pixels.dtype == np.uint8:
        return pixels
    top = float(np.percentile(image.thumbnail(256), 99.8))
    return np.rint(255 * np.clip(pixels / max(top, 1.0), 0, 1)).astype(np.uint8)


def pixmap(pixels: np.ndarray, side: int = SIDE) -> QPixmap:
    """Make a picture of pixels (h, w, 3), at most `side` wide and high."""
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels).tobytes()
    picture = QPixmap.fromImage(QImage(data, width, height, 3 * width, QImage.Format.Format_RGB888))
    ways = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    return picture.scaled(side, side, *ways)
