"""How a training goes: a bar, what is going on, the last error, curves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_mtssl.engine.events import (
    ClassesLeftOut,
    Event,
    Failed,
    Finished,
    LabelsChanged,
    LossNotFinite,
    OutOfMemory,
    Paused,
    Preview,
    Started,
    Stepped,
    Validated,
    WorkerLost,
)
from napari_mtssl.gui.jobs import FoldsScored, LabelsGone, NotExplained, Waiting
from napari_mtssl.gui.notify import show_info, show_warning
from napari_mtssl.gui.plots import Curves
from napari_mtssl.gui.rows import Calmly, button, note, row
from napari_mtssl.gui.training import Runner, State, duration
from napari_mtssl.gui.workspace import Workspace

if TYPE_CHECKING:
    from napari_mtssl.study import Study

NOTHING_HELD_OUT = "Held-out scores appear here: let an image with labels be used to validate (step 1)."
APART = "  ·  "  # between how far it is and what only holds while it runs
UP_TO_DATE = "up to date"
LEAST_SHARE = 0.02  # of a cross-validation, before the time left is told


def awaited(study: Study | None) -> str:
    """Say what is missing, or awaited, where held-out scores will be."""
    held_out = study.images("validation") if study is not None else []
    if study is None or not held_out:
        return NOTHING_HELD_OUT
    labels = study.image_classes(split="validation")["image_id"].tolist()
    labels += study.masked_images("validation") + study.cells(split="validation")["image_id"].tolist()
    labels += [image.id for image in held_out if len(study.blocks(image.id))]
    labelled = len(set(labels))
    if not labelled:
        return "No held-out scores: no image used to validate has a label yet. Label some (step 2)."
    images = "1 labelled image" if labelled == 1 else f"{labelled:,} labelled images"
    return f"Scores on {images} used to validate appear here as training goes on."


class TrainProgress(QWidget):
    """Shows the events of the job that runs.

    Parameters
    ----------
    workspace : Workspace
    runner : Runner
    say : callable
        Adds a line to the log.
    show_log : callable
        Called when the user wants to see it.

    Attributes
    ----------
    timings : dict of str to float
        Seconds from the press of Train, for the benchmark.
    """

    def __init__(
        self,
        workspace: Workspace,
        runner: Runner,
        say: Callable[[str], None],
        show_log: Callable[[], None],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._workspace, self._runner, self.say = workspace, runner, say
        self._clock = 0.0
        self._to_predict, self._predicted_images = 1, set[int]()
        self._begun: tuple[float, float] | None = None  # a cross-validation: when, and what was done then
        self._fold = ""  # how far it is
        self.timings: dict[str, float] = {}
        self._build(show_log)
        self._draw = Calmly(self._draw_curves, 500, self)
        runner.event.connect(self.on_event)

    def _build(self, show_log: Callable[[], None]) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.progress = QProgressBar()
        self.progress.setTextVisible(True)
        self.state = note()
        layout.addWidget(self.progress)
        layout.addWidget(self.state)
        self.error = note()
        self.error_button = button("Show the log", show_log)
        self.error_row = row(self.error, self.error_button)
        self.error_row.hide()
        layout.addWidget(self.error_row)

        self.losses = Curves("Loss", "The curve of the loss appears here while training.")
        self.scores = Curves(
            "Held-out scores",
            NOTHING_HELD_OUT,
        )
        self.weights = note()
        self.balance = Curves("Weights of the tasks", "", quiet=True)
        self.norms = Curves("Gradient norms", "", quiet=True)
        for curves in (self.losses, self.scores, self.balance, self.norms):
            layout.addWidget(curves)
        layout.addWidget(self.weights)

    def prepare(self) -> None:
        """Make what takes long to make; one after the other, so that none of it is felt."""
        QTimer.singleShot(100, self.losses.prepare)
        QTimer.singleShot(300, self.scores.prepare)

    def clear(self) -> None:
        """Forget what was trained: another study is open."""
        self.error_row.hide()
        self.progress.setRange(0, 1)
        self.progress.reset()
        self.progress.setFormat("")
        for curves in self._curves:
            curves.clear()
        self.scores.say(awaited(self._workspace.study))
        self.weights.clear()

    def begin(self) -> None:
        """Something else begins: what went wrong before is over."""
        self.error_row.hide()
        self.progress.setRange(0, 0)
        self.progress.setFormat("")
        self._begun, self._fold = None, ""

    def refuse(self, reason: str) -> None:
        """Say why nothing begins."""
        self.say(reason)
        self.error.setText(f"⚠ {reason}")
        self.error_row.show()

    def begin_training(self) -> None:
        """Clear the curves, and start the clock."""
        self._clock, self.timings = time.perf_counter(), {}
        self.begin()
        for curves in self._curves:
            curves.clear()
        self.weights.clear()

    def begin_predicting(self, images: int) -> None:
        """Count so many images."""
        self.begin()
        self._to_predict, self._predicted_images = images, set()

    @property
    def _curves(self) -> tuple[Curves, ...]:
        return (self.losses, self.scores, self.balance, self.norms)

    # -- events --------------------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """Show what an event says."""
        handler = {
            Started: self._started,
            Stepped: self._stepped,
            Validated: self._validated,
            LabelsChanged: self._labels_changed,
            LossNotFinite: self._warned,
            OutOfMemory: self._warned,
            WorkerLost: self._warned,
            ClassesLeftOut: self._warned,
            NotExplained: self._warned,
            LabelsGone: self._labels_gone,
            Preview: self._predicted,
            Paused: self._paused,
            Waiting: self._waiting,
            FoldsScored: self._folds_scored,
            Finished: self._finished,
            Failed: self._failed,
        }.get(type(event))
        if handler is not None:
            handler(event)

    def _since_start(self, what: str) -> None:
        self.timings.setdefault(what, time.perf_counter() - self._clock)

    def _started(self, event: Started) -> None:
        self.progress.setRange(0, event.total_steps)
        self.scores.say(awaited(self._workspace.study))
        noun = self._workspace.task.noun
        others = f" and {event.n_unlabelled:,} unlabelled" if event.n_unlabelled else ""
        self.say(f"Training on {event.device}: {event.n_labelled:,} labelled{others} {noun}.")

    def _stepped(self, event: Stepped) -> None:
        self._since_start("first_step_s")
        self.progress.setRange(0, event.total_steps)
        self.progress.setValue(event.step)
        self.progress.setFormat(
            f"step {event.step:,} of {event.total_steps:,}{APART}{duration(event.seconds_left)} left"
        )
        self.losses.add(event.step, {"total": event.total, **event.losses})
        if event.balance:
            self.balance.add(event.step, event.balance.get("weight", {}))
            self.norms.add(event.step, event.balance.get("norm", {}))
        speed = event.steps_per_second
        parts = ", ".join(f"{name.replace('_', ' ')} {weight:.2g}" for name, weight in event.weights.items())
        self.weights.setText(
            f"<small>{speed:.{1 if speed >= 1 else 2}f} steps/s.  Weights of the losses: {parts}</small>"
        )
        self._draw()

    def _validated(self, event: Validated) -> None:
        # Pixels and shares do not fit one axis; the curve shows shares, the review step shows all.
        self.scores.add(event.step, {k: v for k, v in event.scores.items() if not k.endswith("_px")})
        best = "  (best so far)" if event.best else ""
        known = {k.replace("_", " "): v for k, v in event.scores.items() if not math.isnan(v)}
        self.say("Held out: " + ", ".join(f"{name} {value:.3f}" for name, value in known.items()) + best)
        self._draw()

    def _labels_changed(self, event: LabelsChanged) -> None:
        counts = f"{event.added} new, {event.changed} changed, {event.removed} removed"
        text = f"Labels taken in: {counts}; {event.n_labelled:,} in all."
        self.say(text)
        show_info(text)

    def _warned(
        self, event: LossNotFinite | OutOfMemory | WorkerLost | ClassesLeftOut | NotExplained | LabelsGone
    ) -> None:
        self.say(event.message)
        show_warning(event.message)

    def _predicted(self, event: Preview) -> None:
        self._since_start("first_prediction_s")
        if self._runner.state is State.PREDICTING:
            if self._to_predict > 1:
                self._predicted_images.add(event.image_id)
                self.progress.setRange(0, self._to_predict)
                self.progress.setValue(len(self._predicted_images))
                self.progress.setFormat(f"image {len(self._predicted_images):,} of {self._to_predict:,}")
                return
            self.progress.setRange(0, event.total)
            self.progress.setValue(event.done)
            self.progress.setFormat(f"predicted {event.done} of {event.total} tiles")

    def _paused(self, event: Paused) -> None:
        self.progress.setFormat(f"paused at step {self.progress.value():,} of {self.progress.maximum():,}")

    def _waiting(self, event: Waiting) -> None:
        self.progress.setFormat(UP_TO_DATE)
        self.say("Up to date. Training goes on when labels change.")

    def _labels_gone(self, event: LabelsGone) -> None:
        self.progress.setFormat("waiting for labels")
        self._warned(event)

    def _folds_scored(self, event: FoldsScored) -> None:
        part = event.at_step / event.at_steps if event.at_steps else 0.0
        share = min(event.done + part, event.total) / max(event.total, 1)
        self.progress.setRange(0, 1000)
        self.progress.setValue(round(1000 * share))
        self._fold, left = f"{event.done} of {event.total} trainings done", self._left(share)
        steps = f"{APART}step {event.at_step:,} of {event.at_steps:,}" if event.at_steps else ""
        number = min(event.done + 1, event.total)
        if event.at:
            self.progress.setFormat(f"training {number} of {event.total}{left or steps}")
        else:  # the last word: all are done, or Stop was pressed
            self.progress.setFormat(self._fold)
        if event.report is not None:
            self.say(f"Cross-validated: tables, pictures and report.md are in {event.report.parent}.")

    def _left(self, share: float) -> str:
        """Say how long a cross-validation will take; trainings done before took no time now."""
        now = time.monotonic()
        if self._begun is None:
            self._begun = now, share
        since, before = self._begun
        if share - before < LEAST_SHARE:
            return ""
        return f"{APART}about {duration((now - since) * (1 - share) / (share - before))} left"

    def _finished(self, event: Finished) -> None:
        verb = "stopped" if event.stopped else "done"
        self.progress.setFormat(
            f"{verb} at step {event.step:,} of {max(self.progress.maximum(), event.step):,}"
        )
        if event.step == 0:
            self.say("Stopped before the first step: there is nothing to keep.")
            return
        self.say(
            f"{'Stopped' if event.stopped else 'Finished'} at step {event.step:,}: {event.run_dir.name}."
        )

    def _failed(self, event: Failed) -> None:
        # a traceback is of use to nobody who only has to click a few more places
        self.refuse(event.reason)
        if not event.mendable and event.detail.strip():
            self.say(event.detail.rstrip())
        if event.step and self.progress.maximum() > 0:
            self.progress.setFormat(f"ended at step {event.step:,}")
        elif self._fold:
            self.progress.setFormat(self._fold)
        show_warning(event.reason)

    def ended(self) -> None:
        """Nothing runs any more."""
        if self.progress.maximum() == 0:
            self.progress.setRange(0, 1)
        said = self.progress.format()
        if said == UP_TO_DATE:  # it does not wait for labels any more
            said = "done"
        self.progress.setFormat(said.split(APART)[0])  # no time is left to wait

    def _draw_curves(self) -> None:
        for curves in self._curves:
            curves.draw()

    def show_state(self) -> None:
        """Say what is going on."""
        state = self._runner.state
        self.state.setText(state.value + (" (live)" if self._runner.live and state is State.TRAINING else ""))

    def showEvent(self, event: QShowEvent) -> None:
        """Draw what came while the panel was hidden."""
        super().showEvent(event)
        self._draw()
