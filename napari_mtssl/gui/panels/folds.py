"""Step 3 for specimens: cross-validation by patient from a button, and its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QSpinBox, QVBoxLayout, QWidget

from napari_mtssl.gui.jobs import FoldsScored
from napari_mtssl.gui.rows import button, heading, note, row


class FoldsBox(QWidget):
    """How many folds, the button, the scores so far, and the folder of the report.

    Parameters
    ----------
    start : callable
        Called when the button is pressed.
    """

    METHOD = "joint-unet"

    def __init__(self, start: Callable[[], None], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.report: Path | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(heading("How good is it? Cross-validation by patient"))
        self.count = QSpinBox()
        self.count.setRange(2, 20)
        self.count.setValue(5)
        self.button = button(
            "Cross-validate",
            start,
            "Train on all patients but a fold of them, score on these, and so on; with the settings above, "
            "on every labelled image. Stop keeps the folds that are done",
        )
        self.open_button = button("Open the report", self._open, "Tables, ROC and loss curves")
        self.open_button.hide()
        layout.addWidget(row(self.count, "folds", self.button, self.open_button, None))
        self.scores = note("A patient is the group of an image (step 1).")
        layout.addWidget(self.scores)

    def show_scores(self, event: FoldsScored) -> None:
        """Show means and spreads over the folds that are done."""
        self.report = event.report
        self.open_button.setVisible(event.done == event.total)
        lines = "".join(
            f"<tr><td>{name.replace('_', ' ')}&nbsp;&nbsp;</td><td><b>{mean:.3f}</b></td>"
            f"<td>&nbsp;{'' if spread != spread else f'± {spread:.3f}'}</td></tr>"
            for name, (mean, spread) in event.scores.items()
        )
        said = f"{event.done} of {event.total} folds, mean and spread:" if event.done else "The first fold …"
        self.scores.setText(f"{said}<table>{lines}</table>")

    def _open(self) -> None:
        if self.report is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.report.parent)))
