"""Step 3: start, pause and stop training; see how it goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QPlainTextEdit,
    QProgressBar,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_mtssl.engine.events import (
    Event,
    Failed,
    Finished,
    LabelsChanged,
    LossNotFinite,
    OutOfMemory,
    Preview,
    Started,
    Stepped,
    Validated,
    WorkerLost,
)
from napari_mtssl.engine.runners import PROCESS, THREAD, check_runner
from napari_mtssl.gui.form import ConfigForm
from napari_mtssl.gui.jobs import ExplainJob, FoldsJob, FoldsScored, PredictJob, Target, TrainRequest, Waiting
from napari_mtssl.gui.notify import guarded, show_info, show_warning
from napari_mtssl.gui.panels.folds import FoldsBox
from napari_mtssl.gui.plots import Curves
from napari_mtssl.gui.rows import Calmly, button, heading, note, row
from napari_mtssl.gui.training import Runner, State, duration
from napari_mtssl.gui.workspace import Workspace, WorkspaceError
from napari_mtssl.methods import method_names

if TYPE_CHECKING:
    from pydantic import BaseModel

    from napari_mtssl.study import Study

PRESETS = {"robust": "Robust (ours)", "paper": "Paper (as published)"}
DEVICES = {
    "auto": "Automatic",
    "cpu": "Processor (CPU)",
    "cuda": "NVIDIA graphics (CUDA)",
    "mps": "Apple graphics (MPS)",
}
RUNNERS = {THREAD: "This program", PROCESS: "A process of its own"}
NEW = "New network"
LOG_LINES = 2000
HIDDEN = ("preset", "steps")


class TrainPanel(QWidget):
    """Settings, Start/Pause/Stop, progress, curves, log; prediction with an existing run.

    Signals
    -------
    about_to_run
        A job is about to start: say what the user sees through `Runner.look`.
    """

    about_to_run = Signal()

    def __init__(self, workspace: Workspace, runner: Runner, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workspace = workspace
        self._runner = runner
        self.viewport: Any = lambda: None  # set by the dock: what the user sees
        self._clock = 0.0
        self._config: BaseModel | None = None
        self._to_predict, self._predicted_images = 1, set[int]()
        self.timings: dict[str, float] = {}  # seconds from the press of Train, for the benchmark
        self._build()
        self._draw = Calmly(self._draw_curves, 500, self)
        workspace.study_changed.connect(self.refresh)
        workspace.task_changed.connect(self._task_chosen)
        runner.event.connect(self.on_event)
        runner.state_changed.connect(self._show_state)
        runner.ended.connect(self._ended)
        self.refresh()
        self._task_chosen()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        form = QFormLayout()
        self.method = note()
        self.preset = _choice(PRESETS, "Where the settings come from")
        self.preset.currentIndexChanged.connect(self._preset_chosen)
        self.steps = QSpinBox()
        self.steps.setRange(1, 1_000_000)
        self.steps.setValue(1500)
        self.steps.setToolTip(
            "Optimiser updates. In live mode: of the first round, before it waits for new labels."
        )
        self.device = _choice(DEVICES, "Where the network is trained")
        self.where = _choice(
            RUNNERS,
            "A process of its own gives memory back when it ends, and the window survives its crash. "
            "For a Dask cluster type its address, tcp://HOST:PORT; it must see the study where it is here.",
        )
        self.where.setEditable(True)
        self.where.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.mode = _choice(
            {True: "Live: go on with every new label", False: "Update once, then predict"},
            "Live takes in new and corrected labels while it trains and afterwards, until you press Stop.",
        )
        self.network = _choice({NEW: NEW}, "Begin anew, or go on with a network trained before")
        for label, widget in (
            ("Method", self.method),
            ("Mode", self.mode),
            ("Network", self.network),
            ("Preset", self.preset),
            ("Steps", self.steps),
            ("Runs on", self.device),
            ("Runs in", self.where),
        ):
            form.addRow(label, widget)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        layout.addLayout(form)
        self.advanced = QCollapsible("Advanced settings")
        self.advanced_note = note("The settings appear as soon as the network library is loaded.")
        self.form = ConfigForm(hidden=HIDDEN)
        self.advanced.toggled.connect(self._show_form)
        self.advanced.addWidget(self.advanced_note)
        self.advanced.addWidget(self.form)
        layout.addWidget(self.advanced)

        self.start_button = button("Train", self.start, "Learn from the labels of all images used to train")
        self.pause_button = button("Pause", self.pause, "Wait, and give the processor back")
        self.stop_button = button("Stop", self.stop, "Stop after the current step; what was learnt is kept")
        layout.addWidget(row(self.start_button, self.pause_button, self.stop_button, None))
        self.progress = QProgressBar()
        self.progress.setTextVisible(True)
        self.state = note()
        layout.addWidget(self.progress)
        layout.addWidget(self.state)
        self.error = note()
        self.error_button = button("Show the log", self._show_log)
        self.error_row = row(self.error, self.error_button)
        self.error_row.hide()
        layout.addWidget(self.error_row)

        self.losses = Curves("Loss", "The curve of the loss appears here while training.")
        self.scores = Curves(
            "Held-out scores",
            "Held-out scores appear here: let an image with labels be used to validate (step 1).",
        )
        self.weights = note()
        self.balance = Curves("Weights of the tasks", "", quiet=True)
        self.norms = Curves("Gradient norms", "", quiet=True)
        for curves in (self.losses, self.scores, self.balance, self.norms):
            layout.addWidget(curves)
        layout.addWidget(self.weights)

        layout.addWidget(heading("Predict with a trained network"))
        self.run_choice = _choice({}, "A network trained in this study")
        self.run_choice.setMinimumWidth(160)
        self.predict_button = button(
            "Predict",
            self.predict,
            "The visible part first, where 'Runs in' says; Stop cancels and keeps what is done",
        )
        self.predict_all_button = button(
            "Predict all images", self.predict_all, "One after the other, the one on screen first"
        )
        layout.addWidget(row(self.run_choice, self.predict_button, None))
        layout.addWidget(row(self.predict_all_button, None))
        self.folds = FoldsBox(self.cross_validate)
        layout.addWidget(self.folds)
        self.log_section = QCollapsible("Log")
        self.log = QPlainTextEdit()
        self.log.setReadOnly(True)
        self.log.setMaximumBlockCount(LOG_LINES)
        self.log.setMinimumHeight(140)
        self.log_section.addWidget(self.log)
        layout.addWidget(self.log_section)
        layout.addStretch()

    # -- settings ------------------------------------------------------------------------------------------

    def library_ready(self) -> None:
        """Read the presets; called when the network library is loaded."""
        self.advanced_note.hide()
        self._preset_chosen()
        # One after the other, so that none of it is felt.
        QTimer.singleShot(100, self.losses.prepare)
        QTimer.singleShot(300, self.scores.prepare)

    def _installed(self) -> bool:
        return self._workspace.task.method in method_names()

    def _task_chosen(self) -> None:
        """Show the settings of the method that learns what is labelled now."""
        task = self._workspace.task
        known = self._installed()
        self.folds.setVisible(task.method == FoldsBox.METHOD)
        self.method.setText(task.method if known else f"⚠ No installed package has the method {task.method}.")
        self.form.clear()
        self._config = None
        self.refresh()
        self._preset_chosen()

    def _preset_chosen(self) -> None:
        if not self.advanced_note.isHidden():
            return
        from napari_mtssl.methods import get_method

        if not self._installed():
            return
        chosen = get_method(self._workspace.task.method)
        self.method.setText(chosen.title)
        preset = self.preset.currentData()
        self._config = chosen.configure(preset if preset in chosen.presets else next(iter(chosen.presets)))
        self.steps.setValue(self._config.steps)
        if self.advanced.isExpanded() or self.form.fields:
            self._show_form()

    def _show_form(self) -> None:
        """Make the form when it is first looked at: fifty fields would be felt at any other time."""
        if self._config is not None:
            self.form.show_config(self._config)

    def refresh(self) -> None:
        """Show the study's runs and what can be pressed."""
        study = self._workspace.study
        method = self._workspace.task.method
        found = reversed(study.runs()) if study is not None else []
        runs = [run.name for run in found if run.method == method]
        runs = [name for name in runs if any((study.path / "runs" / name).glob("*.safetensors"))]
        for box, first in ((self.network, [NEW]), (self.run_choice, [])):
            chosen = box.currentText()
            box.clear()
            box.addItems(first + [f"Go on with {name}" if first else name for name in runs])
            box.setCurrentIndex(max(box.findText(chosen), 0))
        self._runs = runs
        self._show_state()

    # -- buttons -------------------------------------------------------------------------------------------

    @guarded
    def start(self) -> None:
        """Start training with the settings shown."""
        study = self._need_study()
        if study.read_only:
            raise WorkspaceError(
                "This study is read-only: training needs a folder it can write to. Copy the study elsewhere."
            )
        resume = self._runs[self.network.currentIndex() - 1] if self.network.currentIndex() > 0 else None
        request = TrainRequest(
            study.path,
            self._workspace.task.method,
            self.preset.currentData(),
            self.device.currentData(),
            self.form.overrides() if resume is None else {},
            resume,
            self.steps.value(),
            bool(self.mode.currentData()),
            self.runner_name(),
        )
        self._clock, self.timings = time.perf_counter(), {}
        self.error_row.hide()
        self.losses.clear()
        self.scores.clear()
        self.balance.clear()
        self.norms.clear()
        self.weights.clear()
        self.progress.setRange(0, 0)
        self.say("Training starts.")
        self._runner.train(request, self.viewport())

    def runner_name(self) -> str:
        """Say where training runs, as chosen or typed: thread, process, or an address."""
        text = self.where.currentText().strip()
        return next((name for name, said in RUNNERS.items() if said == text), None) or check_runner(text)

    @guarded
    def pause(self) -> None:
        """Pause, or go on."""
        if self._runner.state is State.PAUSED:
            self._runner.resume()
        else:
            self._runner.pause()
            self.state.setText("Pausing after the current step …")

    @guarded
    def stop(self) -> None:
        """Stop what is running."""
        self._runner.stop()

    @guarded
    def predict(self) -> None:
        """Predict the image on screen with the chosen run."""
        study = self._need_study()
        if self._workspace.image is None:
            raise WorkspaceError("Show an image first (step 1).")
        self._predict(study, [self._workspace.image.id])

    @guarded
    def predict_all(self) -> None:
        """Predict every image of the study with the chosen run."""
        study = self._need_study()
        here = self._workspace.image.id if self._workspace.image is not None else None
        self._predict(study, sorted((image.id for image in study.images()), key=lambda i: (i != here, i)))

    def _predict(self, study: Study, image_ids: list[int]) -> None:
        if not self._runs:
            raise WorkspaceError("Nothing is trained yet: press Train first.")
        seen = self.viewport()
        view = seen[1] if seen else None
        here = self._workspace.image.id if self._workspace.image is not None else None
        run, device = self.run_choice.currentText(), self.device.currentData()
        where = self.runner_name()
        targets = [Target(run, i, view if i == here else None, device, None, where) for i in image_ids]
        self.error_row.hide()
        self.progress.setRange(0, 0)
        self._to_predict, self._predicted_images = len(targets), set()
        self._runner.predict(PredictJob(study.path, *targets))

    @guarded
    def explain(self, kind: str, name: str, how: str) -> None:
        """Show where in the image on screen the chosen run sees a class."""
        study, image = self._need_study(), self._workspace.need_image()
        if self._runner.busy:
            raise WorkspaceError("Something runs already: press Stop first, or wait until it is done.")
        if not self._runs:
            raise WorkspaceError("Nothing is trained yet: press Train first.")
        target = Target(self.run_choice.currentText(), image.id, None, self.device.currentData())
        self.error_row.hide()
        self._to_predict = 1
        self._runner.predict(ExplainJob(study.path, target, kind, name, how))

    @guarded
    def cross_validate(self) -> None:
        """Train and score fold after fold, by patient, with the settings shown."""
        study = self._need_study()
        overrides = {**self.form.overrides(), "steps": self.steps.value()}
        self.error_row.hide()
        self.progress.setRange(0, 0)
        self.say("Cross-validation starts.")
        count, preset, device = self.folds.count.value(), self.preset.currentData(), self.device.currentData()
        self._runner.cross_validate(FoldsJob(study.path, count, preset, device, overrides))

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
            Preview: self._predicted,
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
        self.say(
            f"Training on {event.device}: {event.n_labelled:,} labelled "
            f"and {event.n_unlabelled:,} unlabelled places."
        )

    def _stepped(self, event: Stepped) -> None:
        self._since_start("first_step_s")
        self.progress.setRange(0, event.total_steps)
        self.progress.setValue(event.step)
        self.progress.setFormat(
            f"step {event.step:,} of {event.total_steps:,}  ·  {duration(event.seconds_left)} left"
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
        self.say(
            "Held out: " + ", ".join(f"{k.replace('_', ' ')} {v:.3f}" for k, v in event.scores.items()) + best
        )
        self._draw()

    def _labels_changed(self, event: LabelsChanged) -> None:
        counts = f"{event.added} new, {event.changed} changed, {event.removed} removed"
        text = f"Labels taken in: {counts}; {event.n_labelled:,} in all."
        self.say(text)
        show_info(text)

    def _warned(self, event: LossNotFinite | OutOfMemory | WorkerLost) -> None:
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

    def _waiting(self, event: Waiting) -> None:
        self.progress.setFormat("up to date")
        self.say("Up to date. Training goes on when labels change.")
        self.refresh()

    def _folds_scored(self, event: FoldsScored) -> None:
        self.progress.setRange(0, event.total)
        self.progress.setValue(event.done)
        self.progress.setFormat(f"fold {min(event.done + 1, event.total)} of {event.total}")
        self.folds.show_scores(event)
        if event.done == event.total:
            self.say(f"Cross-validated: tables and curves are in {event.report.parent}.")

    def _finished(self, event: Finished) -> None:
        self.say(
            f"{'Stopped' if event.stopped else 'Finished'} at step {event.step:,}: {event.run_dir.name}."
        )

    def _failed(self, event: Failed) -> None:
        self.say(event.detail.rstrip() or event.reason)
        self.error.setText(f"⚠ {event.reason}")
        self.error_row.show()
        show_warning(event.reason)

    def _ended(self) -> None:
        if self.progress.maximum() == 0:
            self.progress.setRange(0, 1)
        self.refresh()

    def _draw_curves(self) -> None:
        for curves in (self.losses, self.scores, self.balance, self.norms):
            curves.draw()

    # -- showing -------------------------------------------------------------------------------------------

    def _show_state(self) -> None:
        busy, state = self._runner.busy, self._runner.state
        open_ = self._workspace.study is not None
        self.start_button.setEnabled(open_ and not busy and self._installed())
        for widget in (self.predict_button, self.predict_all_button):
            widget.setEnabled(open_ and not busy and bool(self._runs))
        self.folds.setEnabled(open_ and not busy)
        self.pause_button.setEnabled(busy and state in (State.TRAINING, State.PAUSED))
        self.pause_button.setText("Go on" if state is State.PAUSED else "Pause")
        self.stop_button.setEnabled(busy and state is not State.STOPPING)
        for widget in (self.mode, self.network, self.preset, self.steps, self.device, self.where, self.form):
            widget.setEnabled(not busy)
        self.state.setText(state.value + (" (live)" if self._runner.live and state is State.TRAINING else ""))

    def showEvent(self, event: QShowEvent) -> None:
        """Draw what came while the panel was hidden."""
        super().showEvent(event)
        self._draw()

    def _show_log(self) -> None:
        self.log_section.expand(animate=False)
        self.log.verticalScrollBar().setValue(self.log.verticalScrollBar().maximum())

    def say(self, text: str) -> None:
        """Add to the log."""
        self.log.appendPlainText(f"{time.strftime('%H:%M:%S')}  {text}")

    def _need_study(self) -> Study:
        if self._workspace.study is None:
            raise WorkspaceError("Open a study first (step 1).")
        return self._workspace.study


def _choice(options: dict[Any, str], tip: str) -> QComboBox:
    box = QComboBox()
    for key, text in options.items():
        box.addItem(text, key)
    box.setToolTip(tip)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    return box
