"""Step 1: the study and its images."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSettings, Qt
from qtpy.QtWidgets import QComboBox, QFileDialog, QMenu, QPushButton, QVBoxLayout, QWidget

from napari_mtssl.gui.notify import guarded, show_warning
from napari_mtssl.gui.panels.study_images import ImagesBox, dropped
from napari_mtssl.gui.rows import button, note, row
from napari_mtssl.gui.tasks import CELL, TASKS, task_named
from napari_mtssl.gui.workspace import Workspace

if TYPE_CHECKING:
    import napari
    from qtpy.QtGui import QDragEnterEvent, QDropEvent

SUFFIX = ".mtssl"
RECENT = 8


def at_home(path: Path) -> str:
    """Write a path shorter, with ~ for the user's folder."""
    home = Path.home()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else str(path)


class StudyPanel(QWidget):
    """New, open, recent; what is labelled; the images."""

    def __init__(
        self, viewer: napari.viewer.Viewer, workspace: Workspace, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._workspace = workspace
        self._build()
        workspace.study_changed.connect(self.refresh)
        workspace.task_changed.connect(self._show_task)
        self.setAcceptDrops(True)
        self.refresh()
        self._show_task()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        self.name = note()
        layout.addWidget(self.name)
        self.new_button = QPushButton("New …")
        self.new_button.setToolTip("Make a study: a folder that keeps labels, settings and networks")
        self.new_button.setMenu(self._new_menu())
        self.recent = QPushButton("Recent")
        self.recent.setMenu(QMenu(self.recent))
        self.recent.menu().aboutToShow.connect(self._fill_recent)
        layout.addWidget(
            row(
                self.new_button,
                button("Open …", self.open, "Open the folder of a study (NAME.mtssl)"),
                self.recent,
                None,
            )
        )
        self.task = QComboBox()
        for task in TASKS:
            self.task.addItem(task.title, task.name)
            self.task.setItemData(self.task.count() - 1, task.text, Qt.ItemDataRole.ToolTipRole)
        self.task.activated.connect(self._task_chosen)
        self.task_note = note()
        layout.addWidget(row("What do you label?", self.task, None))
        layout.addWidget(self.task_note)
        self.images = ImagesBox(self._viewer, self._workspace, self._last_folder)
        layout.addWidget(self.images)
        layout.addStretch(1)

    # -- the study -----------------------------------------------------------------------------------------

    def _new_menu(self) -> QMenu:
        """Offer the templates of classes to begin with."""
        from napari_mtssl.study.templates import TEMPLATES

        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        for name, template in TEMPLATES.items():
            action = menu.addAction(f"{template.title} …", lambda *_, t=name: self.new(t))
            action.setToolTip(f"Classes to begin with: {template.text}. All can be changed")
        menu.addSeparator()
        menu.addAction("Without classes …", lambda *_: self.new()).setToolTip(
            "Add classes of your own in step 2"
        )
        return menu

    @guarded
    def new(self, template: str = "") -> None:
        """Ask where, and make a study there, perhaps with the classes of a template."""
        path, _ = QFileDialog.getSaveFileName(
            self, "New study", str(self._last_folder() / f"study{SUFFIX}"), f"Study (*{SUFFIX})"
        )
        if path:
            chosen = Path(path)
            self._workspace.create(
                chosen if chosen.suffix == SUFFIX else chosen.with_name(chosen.name + SUFFIX), template
            )
            self._remember(self._workspace.study.path)

    @guarded
    def open(self) -> None:
        """Ask for a study's folder, and open it."""
        path = QFileDialog.getExistingDirectory(
            self, "Open a study (a folder NAME.mtssl)", str(self._last_folder())
        )
        if path:
            self.open_path(Path(path))

    def open_path(self, path: Path) -> None:
        """Open a study and remember it."""
        self._workspace.open(path)
        self._remember(self._workspace.study.path)
        chosen = self._settings().value(f"task/{self._workspace.study.path}")
        if chosen in [task.name for task in TASKS]:
            task, bare = task_named(chosen), self._workspace.study.kinds() == [CELL]
            if bare or (task.heads and self._workspace.task.heads):  # else the classes tell
                self._workspace.set_task(task)
        if self._workspace.study.read_only:
            show_warning(
                "This study cannot be written (read-only folder or file): you can look, but not label."
            )

    def _fill_recent(self) -> None:
        menu = self.recent.menu()
        menu.clear()
        for path in self._recent_paths():
            menu.addAction(f"{path.name}   ({at_home(path.parent)})", lambda p=path: self._open_recent(p))
        if menu.isEmpty():
            menu.addAction("No study yet").setEnabled(False)

    @guarded
    def _open_recent(self, path: Path) -> None:
        self.open_path(path)

    @staticmethod
    def _settings() -> QSettings:
        return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "napari-mtssl", "dock")

    def _recent_paths(self) -> list[Path]:
        stored = self._settings().value("recent", []) or []
        stored = [stored] if isinstance(stored, str) else stored
        return [Path(p) for p in stored if Path(p).is_dir()]

    def _remember(self, path: Path) -> None:
        others = [str(p) for p in self._recent_paths() if p != Path(path)]
        self._settings().setValue("recent", [str(path), *others][:RECENT])

    def _last_folder(self) -> Path:
        return next((p.parent for p in self._recent_paths()), Path.home())

    # -- what is labelled ----------------------------------------------------------------------------------

    def _show_task(self) -> None:
        task = self._workspace.task
        self.task.setCurrentIndex(self.task.findData(task.name))
        self.task_note.setText(f"<small>{task.text}.</small>")

    @guarded
    def _task_chosen(self) -> None:
        self._workspace.set_task(task_named(self.task.currentData()))
        if self._workspace.study is not None:
            self._settings().setValue(f"task/{self._workspace.study.path}", self.task.currentData())

    # -- showing -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the study's name."""
        study = self._workspace.study
        if study is None:
            self.name.setText(
                "<b>No study is open.</b><br>Make one, open one, or try File ▸ Open Sample ▸ napari-mtssl."
            )
        else:
            lock = " (read-only)" if study.read_only else ""
            self.name.setText(
                f"Study <b>{escape(study.name)}</b>{lock}<br><small>{escape(at_home(study.path))}</small>"
            )

    # -- dropped files -------------------------------------------------------------------------------------

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take files and folders."""
        if dropped(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Open a study that is dropped, or add images."""
        paths = dropped(event)
        event.acceptProposedAction()
        self.take(paths)

    @guarded
    def take(self, paths: Sequence[Path]) -> None:
        """Open the study among these paths, if there is one, and add the others as images."""
        studies = [path for path in paths if path.suffix == SUFFIX]
        if studies:
            self.open_path(studies[0])
        self.images.add(path for path in paths if path.suffix != SUFFIX)
