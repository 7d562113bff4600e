"""The line below all steps: the active class, what goes on, and Stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget
from superqt import QElidingLabel

from napari_mtssl.engine.events import Event, Preview, Stepped
from napari_mtssl.gui.block_jobs import GuessingBlocks
from napari_mtssl.gui.crowd import Crowd
from napari_mtssl.gui.image_table import given
from napari_mtssl.gui.rows import button, swatch
from napari_mtssl.gui.training import Runner, State, duration
from napari_mtssl.gui.workspace import Workspace

if TYPE_CHECKING:
    from napari_mtssl.study import Study


class StatusLine(QWidget):
    """Always visible, whichever step is open."""

    def __init__(
        self, workspace: Workspace, runner: Runner, crowd: Crowd, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._workspace = workspace
        self._runner = runner
        self._crowd = crowd
        layout = QHBoxLayout(self)
        layout.setContentsMargins(8, 2, 8, 4)
        # Of a long name the end is cut off, before what goes on is: names have no room of their own here.
        self.icon, self.active, self.drawn, self.state = QLabel(), QElidingLabel(), QLabel(), QLabel()
        self.active.setStyleSheet("font-weight: bold")
        self.drawn.setObjectName("drawn")
        self.drawn.setToolTip(
            "Fewer predictions are drawn while the view moves or new ones come, so that the window stays "
            "quick; the list in step 4 has all of them."
        )
        self.stop = button("■", runner.stop, "Stop")
        self.stop.setFixedWidth(28)
        layout.addWidget(self.icon)
        layout.addWidget(self.active, 1)
        layout.addWidget(self.drawn)
        layout.addWidget(self.state)
        layout.addWidget(self.stop)
        for signal in (
            workspace.active_changed,
            workspace.study_changed,
            workspace.study_changed,
            workspace.classes_changed,
            workspace.image_changed,
            workspace.image_classes_changed,
        ):
            signal.connect(self._show_class)
        runner.state_changed.connect(self._show_state)
        runner.ended.connect(self._show_state)
        runner.event.connect(self._on_event)
        crowd.changed.connect(self._show_drawn)
        self.active.setTextFormat(Qt.TextFormat.PlainText)  # a class may be called "<1 %"
        self._show_class()
        self._show_state()

    def _show_class(self) -> None:
        if self._workspace.study is not None and self._workspace.kind in self._workspace.heads():
            self._show_head(self._workspace.study, self._workspace.kind)
            return
        found = next((c for c in self._workspace.classes() if c.name == self._workspace.active), None)
        if found is None:
            self.icon.clear()
            self.active.setText("")  # its `clear` keeps what is elided
            return
        self.icon.setPixmap(swatch(found.colour).pixmap(14, 14))
        self.active.setText(found.name + (f"  [{found.key}]" if found.key else ""))
        self.active.setToolTip(f"The class that the next click gets: {found.name}")

    def _show_head(self, study: Study, kind: str) -> None:
        """Say what the image is that is on screen, of the question that the keys answer."""
        image = self._workspace.image
        name = "" if image is None else given(study, image.id, kind)
        colour = self._workspace.colours(kind).get(name)
        self.icon.setPixmap(swatch(colour).pixmap(14, 14)) if colour else self.icon.clear()
        self.active.setText(f"{kind}: {name or '–'}")
        self.active.setToolTip("Which class this image was given; keys give another one")

    def _show_drawn(self) -> None:
        drawn, total = self._crowd.drawn, self._crowd.total
        self.drawn.setText(f"<small>{drawn:,} of {total:,} drawn</small>" if drawn < total else "")

    def _show_state(self) -> None:
        self.stop.setVisible(self._runner.busy)
        self.stop.setEnabled(self._runner.state is not State.STOPPING)
        said = self._runner.state.value if self._runner.busy else ""
        self.state.setText(said.partition(":")[0])  # step 3 has room for all of it
        self.state.setToolTip(said)

    def _on_event(self, event: Event) -> None:
        if self._runner.state is State.TRAINING and isinstance(event, Stepped):
            share = event.step / max(event.total_steps, 1)
            self.state.setText(f"{share:.0%} · {duration(event.seconds_left)} left")
        elif isinstance(event, GuessingBlocks):
            self.state.setText(f"Guessing blocks {event.done / max(event.total, 1):.0%}")
        elif self._runner.state is State.PREDICTING and isinstance(event, Preview):
            self.state.setText(f"Predicting {event.done} of {event.total}")
