"""Step 3 for specimens: cross-validation by patient from a button, and its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from qtpy.QtWidgets import QCheckBox, QSpinBox, QVBoxLayout, QWidget

from napari_mtssl.gui.jobs import FoldsScored
from napari_mtssl.gui.notify import guarded
from napari_mtssl.gui.report import ReportWindow
from napari_mtssl.gui.rows import button, heading, note, row

FIRST = ("mask dice", "mask accuracy", "mask iou")  # of the scores, shown in this order; then heads
NOTHING = "A patient is the group of an image (step 1)."


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
        self.window_: ReportWindow | None = None
        self._shown: FoldsScored | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        title = heading("How good is it? Cross-validation by patient")
        title.setWordWrap(True)
        layout.addWidget(title)
        self.count = QSpinBox()
        self.count.setRange(2, 20)
        self.count.setValue(5)
        self.count.setToolTip("Each fold is scored by a network that never saw its patients")
        self.button = button(
            "Cross-validate",
            start,
            "Train on all patients but a fold of them, score on these, and so on: with the settings above, "
            "where 'Runs in' says, on every labelled image. Stop keeps the folds that are done",
        )
        self.validate = QCheckBox("Choose weights on held-out patients")
        self.validate.setChecked(True)
        self.validate.setToolTip(
            "A fifth of the patients to learn from is held out of each training; the weights that are best "
            "on them are scored. Needs some patients more; without it, the last weights are scored"
        )
        self.compare = QCheckBox("Compare with other balances of the tasks")
        self.compare.setToolTip(
            "Also with equal weights, with the mask's weight tuned on held-out patients, and with a network "
            "for each task alone: about eight times as long"
        )
        self.open_button = button(
            "Open the report", self._open, "Tables, confusion matrices, ROC and loss curves, in a window"
        )
        self.open_button.hide()
        self._options = (self.count, self.button, self.validate, self.compare)
        layout.addWidget(row(self.count, "folds", self.button, None))
        layout.addWidget(self.validate)
        layout.addWidget(self.compare)
        layout.addWidget(row(self.open_button, None))  # beside the other it would make the dock wider
        self.scores = note(NOTHING)
        layout.addWidget(self.scores)

    def set_ready(self, ready: bool) -> None:
        """Whether a cross-validation can be started; a report that is there can always be opened."""
        for widget in self._options:
            widget.setEnabled(ready)

    def clear(self) -> None:
        """Forget the scores: another cross-validation, or another study."""
        self.report = None
        self.open_button.hide()
        self._shown = None
        self.scores.setText(NOTHING)

    def show_scores(self, event: FoldsScored) -> None:
        """Show means and spreads over the folds that are done."""
        self.report = event.report or self.report
        self.open_button.setVisible(self.report is not None)
        self._show(event, event.at)

    def ended(self) -> None:
        """Say no longer what is at work: it was stopped, or failed."""
        if self._shown is not None:
            self._show(self._shown, "")
        else:
            self.scores.setText(NOTHING)

    def _show(self, event: FoldsScored, at: str) -> None:
        self._shown = event
        work = f" Now: {at}." if at else ""
        said = f"{event.done} of {event.total} trainings are done.{work}"
        if event.scores:
            said += " Mean and spread over folds, with the settings above:"
        self.scores.setText(f"{said}{scores_table(event.scores)}{comparison(event)}")

    @guarded
    def _open(self) -> None:
        if self.report is not None:
            self.window_ = ReportWindow(self.report, self)
            self.window_.show()


def scores_table(scores: Mapping[str, tuple[float, float]]) -> str:
    """Write scores, those of the mask first."""
    named = {name.replace("_", " "): value for name, value in scores.items()}
    order = sorted(named, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    lines = "".join(
        f"<tr><td>{name}&nbsp;&nbsp;</td><td><b>{named[name][0]:.3f}</b></td>"
        f"<td>&nbsp;{'' if named[name][1] != named[name][1] else f'± {named[name][1]:.3f}'}</td></tr>"
        for name in order
    )
    return f"<table>{lines}</table>"


def comparison(event: FoldsScored) -> str:
    """Write what other balances of the tasks reach, in few columns; the report has the others."""
    if not event.others:
        return ""
    compared = {"settings above": event.scores, **event.others}
    names = [name for name in event.scores if name == "mask_dice" or name.endswith("_accuracy")]
    names = [name for name in names if name != "mask_accuracy" or "mask_dice" not in names]
    head = "".join(f"<td align=right>&nbsp;&nbsp;{name.split('_')[0]}</td>" for name in names)
    lines = ""
    for title, scores in compared.items():
        values = (f"{scores[name][0]:.3f}" if name in scores else "" for name in names)
        lines += f"<tr><td>{title}</td>" + "".join(f"<td align=right>&nbsp;&nbsp;{v}</td>" for v in values)
        lines += "</tr>"
    said = "<br>Compared (Dice of the mask, accuracy of the classes):"
    return f"{said}<table><tr><td></td>{head}</tr>{lines}</table>"
