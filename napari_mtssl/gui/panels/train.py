"""Step 3: start, pause and stop training; see how it goes; predict with a trained network."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPlainTextEdit, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_mtssl.engine.events import Event, Finished
from napari_mtssl.gui.jobs import (
    ExplainJob,
    FoldsJob,
    FoldsRequest,
    FoldsScored,
    LabelsGone,
    PredictJob,
    Target,
    Waiting,
)
from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.panels.folds import FoldsBox
from napari_mtssl.gui.panels.train_progress import TrainProgress
from napari_mtssl.gui.panels.train_settings import TrainSettings, choice, fill
from napari_mtssl.gui.rows import button, heading, row
from napari_mtssl.gui.training import Runner, State
from napari_mtssl.gui.workspace import Workspace, WorkspaceError

if TYPE_CHECKING:
    from napari_mtssl.study import Study

Answer = TypeVar("Answer")
LOG_LINES = 2000
PAUSE = "Wait, and give the processor back"
GO_ON = "Go on with the next step, where training was paused"


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
        self._trained = ""  # the network that the training under way makes
        self.viewport: Any = lambda: None  # set by the dock: what the user sees
        self._build()
        workspace.study_changed.connect(self._study_changed)
        workspace.task_changed.connect(self._task_chosen)
        runner.event.connect(self.on_event)
        runner.state_changed.connect(self._show_state)
        runner.ended.connect(self._ended)
        self.refresh()
        self._task_chosen()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        self.settings = shown = TrainSettings(self._workspace)
        self.method, self.mode, self.network, self.preset = (
            shown.method,
            shown.mode,
            shown.network,
            shown.preset,
        )
        self.steps, self.device, self.where = shown.steps, shown.device, shown.where
        self.advanced, self.advanced_note, self.form = shown.advanced, shown.advanced_note, shown.form
        layout.addWidget(self.settings)
        self.start_button = button("Train", self.start, "Learn from the labels of all images used to train")
        self.pause_button = button("Pause", self.pause, PAUSE)
        self.stop_button = button("Stop", self.stop, "Stop after the current step; what was learnt is kept")
        # above the fifty advanced settings, so that it is in sight when they are open
        self.settings.put_before_advanced(row(self.start_button, self.pause_button, self.stop_button, None))
        self.shown = TrainProgress(self._workspace, self._runner, self.say, self._show_log)
        self.progress, self.state, self.losses = self.shown.progress, self.shown.state, self.shown.losses
        layout.addWidget(self.shown)
        layout.addWidget(heading("Predict with a trained network"))
        self.run_choice = choice({}, "A network trained in this study")
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
        layout.addStretch(1)

    # -- settings ------------------------------------------------------------------------------------------

    def library_ready(self) -> None:
        """Read the presets; called when the network library is loaded."""
        self.settings.library_ready()
        self.shown.prepare()

    @property
    def timings(self) -> dict[str, float]:
        """Seconds from the press of Train to what was seen first."""
        return self.shown.timings

    def _study_changed(self) -> None:
        self._trained = ""
        self.shown.clear()
        self.folds.clear()
        self.settings.forget()
        self.refresh()

    def _task_chosen(self) -> None:
        self.folds.setVisible(self._workspace.task.method == FoldsBox.METHOD)
        self.settings.show_task()
        self.refresh()

    def refresh(self) -> None:
        """Show the study's runs and what can be pressed."""
        self.settings.refresh()
        fill(self.run_choice, self.settings.runs)
        self._show_state()

    # -- buttons -------------------------------------------------------------------------------------------

    @guarded
    def start(self) -> None:
        """Start training with the settings shown."""
        study = self._need_writable()
        request = self._refusing(lambda: self.settings.request(study))
        self._refusing(lambda: self.settings.check(study))
        self._trained = ""
        self.shown.begin_training()
        self.say("Training starts.")
        self._runner.train(request, self.viewport())

    def _refusing(self, ask: Callable[[], Answer]) -> Answer:
        """Ask for something; a mistake in it is shown where training would be, too."""
        try:
            return ask()
        except ValueError as error:
            self.shown.refuse(str(error))
            raise

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
        if not self.settings.runs:
            raise WorkspaceError("Nothing is trained yet: press Train first.")
        seen = self.viewport()
        view = seen[1] if seen else None
        here = self._workspace.image.id if self._workspace.image is not None else None
        run, device = self.run_choice.currentText(), self.device.currentData()
        where = self.settings.runner_name()
        targets = [Target(run, i, view if i == here else None, device, None, where) for i in image_ids]
        self.shown.begin_predicting(len(targets))
        self._runner.predict(PredictJob(study.path, *targets))

    @guarded
    def explain(self, kind: str, name: str, how: str) -> None:
        """Show where in the image on screen a class is seen: by what trains, or else by the chosen run."""
        study, image = self._need_study(), self._workspace.need_image()
        if self._runner.training:
            self._runner.see((kind, name, how))
            show_info(f"The layer Saliency shows where {name} is seen, from the next look at this image on.")
            return
        if self._runner.busy:
            raise WorkspaceError("Something runs already: press Stop first, or wait until it is done.")
        if not self.settings.runs:
            raise WorkspaceError("Nothing is trained yet: press Train first.")
        target = Target(self.run_choice.currentText(), image.id, None, self.device.currentData())
        self.shown.begin_predicting(1)
        self._runner.see((kind, name, how))  # Predict shows the same, later
        self._runner.predict(ExplainJob(study.path, target, kind, name, how))

    @guarded
    def cross_validate(self) -> None:
        """Train and score fold after fold, by patient, with the settings shown."""
        study = self._need_writable()
        runner = self._refusing(self.settings.runner_name)
        overrides = {**self.form.overrides(), "steps": self.steps.value()}
        self.shown.begin()
        self.say("Cross-validation starts.")
        self.folds.clear()
        if "://" in runner:  # nothing else is to be seen until its workers have loaded what they need
            self.folds.scores.setText(f"Looking for the cluster at {runner} …")
        asked = FoldsRequest(
            study.path,
            self.folds.count.value(),
            self.preset.currentData(),
            self.device.currentData(),
            overrides,
            self.folds.validate.isChecked(),
            self.folds.compare.isChecked(),
            runner,
        )
        self._runner.cross_validate(FoldsJob(asked))

    # -- events --------------------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """Take in what changes more than the progress."""
        if isinstance(event, Finished):
            self._trained = event.run_dir.name if event.step else ""  # of no step nothing is kept
        elif isinstance(event, (Waiting, LabelsGone)):
            self.refresh()
        elif isinstance(event, FoldsScored):
            self.folds.show_scores(event)

    def _ended(self) -> None:
        self.shown.ended()
        self.folds.ended()
        self.refresh()
        if self._trained:
            self.settings.go_on_with(self._trained)
            self.run_choice.setCurrentIndex(max(self.run_choice.findText(self._trained), 0))
            self._trained = ""

    # -- showing -------------------------------------------------------------------------------------------

    def _show_state(self) -> None:
        busy, state = self._runner.busy, self._runner.state
        open_ = self._workspace.study is not None
        self.start_button.setEnabled(open_ and not busy and self.settings.installed())
        for widget in (self.predict_button, self.predict_all_button):
            widget.setEnabled(open_ and not busy and bool(self.settings.runs))
        self.folds.set_ready(open_ and not busy)
        self.pause_button.setEnabled(busy and state in (State.TRAINING, State.PAUSED))
        self.pause_button.setText("Go on" if state is State.PAUSED else "Pause")
        self.pause_button.setToolTip(GO_ON if state is State.PAUSED else PAUSE)
        self.stop_button.setEnabled(busy and state is not State.STOPPING)
        for widget in self.settings.widgets:
            widget.setEnabled(not busy)
        self.shown.show_state()

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

    def _need_writable(self) -> Study:
        study = self._need_study()
        if study.read_only:
            raise WorkspaceError(
                "This study is read-only: training needs a folder it can write to. Copy the study elsewhere."
            )
        return study
