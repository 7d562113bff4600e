"""A button that has the low resolution model label the blocks that nobody labelled."""

from __future__ import annotations

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_mtssl.engine.events import Event, Failed
from napari_mtssl.gui.block_jobs import BlocksGuessed, GuessingBlocks, GuessJob
from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.rows import button, note, row
from napari_mtssl.gui.tasks import BLOCK
from napari_mtssl.gui.training import Runner, State
from napari_mtssl.gui.workspace import Workspace, WorkspaceError

STEPS = 400


class GuessBlocks(QWidget):
    """Starts the job, shows how far it is, and says what it did."""

    def __init__(self, workspace: Workspace, runner: Runner, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workspace, self._runner = workspace, runner
        self.steps = STEPS
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.button = button(
            "Guess the other blocks",
            self.guess,
            "A small network learns from the blocks that have a class, and gives the others of the images "
            "used to train the class that it sees: coarse labels for a start. One Undo takes all back.",
        )
        self.said = note()
        self.said.hide()
        layout.addWidget(row(self.button, None))
        layout.addWidget(self.said)
        runner.event.connect(self.on_event)
        runner.ended.connect(self._ended)
        for signal in (workspace.image_changed, workspace.study_changed):
            signal.connect(self._show)
        self._show()

    def _show(self) -> None:
        self.button.setEnabled(self._workspace.image is not None)
        self.said.hide()

    @guarded
    def guess(self) -> None:
        """Begin, or stop."""
        if self._runner.busy and self._runner.state in (State.GUESSING, State.STOPPING):
            self._runner.stop()
            return
        study = self._workspace.need_study()
        if self._runner.busy:
            raise WorkspaceError("Something runs already: press Stop (step 3), or wait until it is done.")
        if study.read_only:
            raise WorkspaceError("This study is read-only: blocks cannot get a class. Copy it elsewhere.")
        ids = [image.id for image in study.images() if image.split == "train"]
        labelled = [len(study.blocks(image_id)) for image_id in ids]
        if len(study.classes(BLOCK)) < 2 or not sum(labelled):
            raise WorkspaceError(
                "Give some blocks of two classes or more a class first: the others are guessed from these."
            )
        self._runner.guess(GuessJob(study.path, ids, self.steps, self._runner.options.threads))
        self.button.setText("Stop guessing")
        self._say("Reading blocks …")

    def _say(self, text: str) -> None:
        self.said.setText(text)
        self.said.show()

    def on_event(self, event: Event) -> None:
        """Show what an event of the job says."""
        if isinstance(event, GuessingBlocks):
            what = "Learning from blocks" if event.done <= self.steps else "Looking at the other blocks"
            self._say(f"{what}: {event.done / max(event.total, 1):.0%}")
        elif isinstance(event, BlocksGuessed):
            if event.blocks:
                images = f"{event.images} image{'' if event.images == 1 else 's'}"
                self._say(f"{event.blocks:,} blocks of {images} got a class. One Undo takes it back.")
                show_info(self.said.text())
            else:
                self._say("Every block of the images used to train has a class already.")
            self._workspace.blocks_changed.emit()
        elif isinstance(event, Failed) and self._runner.state is State.GUESSING:
            self._say(f"⚠ {event.reason}")

    def _ended(self) -> None:
        if self.button.text() != "Guess the other blocks":
            self.button.setText("Guess the other blocks")
            if self.said.text().endswith(("%", "…")):
                self._say("Stopped: no block was changed.")
