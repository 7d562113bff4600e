"""The window's side of long work: starts jobs, hears their events, knows what is going on."""

from __future__ import annotations

import sys
import time
from enum import Enum
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_mtssl.engine.events import Event, Failed, Finished, Paused, Resumed, Started, Stepped
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.gui import worker
from napari_mtssl.gui.block_jobs import GuessJob
from napari_mtssl.gui.jobs import (
    ExplainJob,
    FoldsJob,
    LabelsGone,
    PredictJob,
    TrainJob,
    TrainRequest,
    Waiting,
)

if TYPE_CHECKING:
    from napari_mtssl.engine.control import Control

    Job = TrainJob | PredictJob | ExplainJob | FoldsJob | GuessJob

SWITCH_SECONDS = 0.0003  # the window paints through dozens of calls, and waits so long for each of them


class State(Enum):
    """What goes on, in words for the status line."""

    IDLE = "Not training"
    STARTING = "Starting: reading labels and images …"
    TRAINING = "Training"
    PREDICTING = "Predicting the image"
    VALIDATING = "Cross-validating"
    GUESSING = "Guessing blocks"
    PAUSED = "Paused"
    WAITING = "Up to date: waiting for labels"
    LACKING = "Waiting for labels: there are not enough"
    STOPPING = "Stopping …"


class Runner(QObject):
    """At most one long job at a time.

    Signals
    -------
    event : engine Event
        In order, on the main thread.
    state_changed
        `state` is another.
    ended
        The job's thread has nothing more to say.
    """

    event = Signal(object)
    state_changed = Signal()
    ended = Signal()

    def __init__(self, options: TrainOptions | None = None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.options = options or TrainOptions()
        self.state = State.IDLE
        self.failure: Failed | None = None
        self.live: bool | None = False
        self.sight: tuple[str, str, str] | None = None  # the saliency that was asked for last
        self._control: Control | None = None
        self._worker: Any = None
        self._usual_switch: float | None = None
        self._dropped = False

    @property
    def busy(self) -> bool:
        """Whether a job runs."""
        return self._worker is not None

    @property
    def training(self) -> bool:
        """Whether the job that runs is a training."""
        return self.busy and self.live is not None

    def train(self, request: TrainRequest, viewport: Any = None) -> None:
        """Start training."""
        self.live = request.live
        self._start(TrainJob(request, self.options), State.STARTING, viewport)

    def predict(self, job: PredictJob | ExplainJob) -> None:
        """Start predicting an image."""
        self.live = None
        self._start(job, State.PREDICTING, None)

    def cross_validate(self, job: FoldsJob) -> None:
        """Start training and scoring fold after fold."""
        self.live = None
        self._start(job, State.VALIDATING, None)

    def guess(self, job: GuessJob) -> None:
        """Start guessing the class of blocks."""
        self.live = None
        self._start(job, State.GUESSING, None)

    def _start(self, job: Job, state: State, viewport: Any) -> None:
        if self.busy:
            raise RuntimeError("a job is running already")
        self.failure = None
        self._control = job.control
        self._control.viewport, self._control.sight = viewport, self.sight
        self._give_way(True)
        self._worker = worker.start(
            job.events, on_event=self._on_event, on_end=self._on_end, ask_to_end=job.control.stop
        )
        self._set(state)

    def pause(self) -> None:
        """Ask for a pause after the current step."""
        if self._control is not None:
            self._control.pause()

    def resume(self) -> None:
        """End the pause."""
        if self._control is not None:
            self._control.resume()

    def stop(self) -> None:
        """Ask the job to end after the current step or tile; the weights are kept."""
        if self._control is not None:
            self._control.stop()
            self._set(State.STOPPING)

    def drop(self) -> None:
        """Stop, and tell nobody what the job says until it has ended: it is of a study that was closed."""
        self._dropped = self.busy
        self.stop()

    def look(self, viewport: Any) -> None:
        """Say what the user sees: ``(image_id, box)``; that part is predicted first."""
        if self._control is not None:
            self._control.viewport = viewport

    def see(self, sight: tuple[str, str, str]) -> None:
        """Say of which class (kind, name, way) the saliency is to be shown from now on."""
        self.sight = sight
        if self._control is not None:
            self._control.sight = sight

    def close(self, milliseconds: int = 5000) -> None:
        """Stop and wait; nothing more is said."""
        self.blockSignals(True)
        self.stop()
        if self.busy:
            worker.wait_for_all(milliseconds)
        self._worker = self._control = None
        self._give_way(False)

    def _on_event(self, event: Event | worker.Broken) -> None:
        if isinstance(event, worker.Broken):
            event = Failed(0, event.reason, event.detail)
        if isinstance(event, Failed):
            self.failure = event
        state = next((to for kind, to in _STATES.items() if isinstance(event, kind)), None)
        if isinstance(event, Finished) and not event.stopped:
            state = State.PREDICTING
        if state is not None and self.state is not State.STOPPING:
            self._set(state)
        if not self._dropped:
            self.event.emit(event)

    def _on_end(self) -> None:
        self._worker = self._control = None
        self._dropped = False
        self._give_way(False)
        self._set(State.IDLE)
        self.ended.emit()

    def _give_way(self, on: bool) -> None:
        """Have the interpreter pass from the job's thread to the window's sooner than the usual 5 ms."""
        if on and self._usual_switch is None:
            self._usual_switch = sys.getswitchinterval()
            sys.setswitchinterval(min(SWITCH_SECONDS, self._usual_switch))
        elif not on and self._usual_switch is not None:
            sys.setswitchinterval(self._usual_switch)
            self._usual_switch = None

    def _set(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self.state_changed.emit()


_STATES = {
    Started: State.TRAINING,
    Stepped: State.TRAINING,
    Resumed: State.TRAINING,
    Paused: State.PAUSED,
    Waiting: State.WAITING,
    LabelsGone: State.LACKING,
}


def duration(seconds: float) -> str:
    """``45 s``, ``2 min 5 s``, ``1 h 3 min``."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def stamp() -> str:
    """Time of day for the log."""
    return time.strftime("%H:%M:%S")
