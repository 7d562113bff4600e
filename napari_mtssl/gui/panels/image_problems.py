"""Step 1, below the images: what is wrong with them, and buttons that mend it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox, QVBoxLayout, QWidget

from napari_mtssl.gui.notify import guarded
from napari_mtssl.gui.rows import button, note, row
from napari_mtssl.gui.workspace import Workspace, WorkspaceError
from napari_mtssl.study.addresses import check_url, fingerprint, is_url

if TYPE_CHECKING:
    from napari_mtssl.study import ImageProblem


class ImageProblems(QWidget):
    """Images that are not where they were or not what they were, and groups whose images part.

    Parameters
    ----------
    workspace : Workspace
    """

    def __init__(self, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workspace = workspace
        self._at_servers: list[ImageProblem] = []  # what servers said when the study was opened
        self.shown = QVBoxLayout(self)
        self.shown.setContentsMargins(0, 0, 0, 0)
        workspace.study_changed.connect(self._ask_servers)

    def refresh(self) -> None:
        """Show what is wrong now."""
        study = self._workspace.study
        while self.shown.count():
            self.shown.takeAt(0).widget().deleteLater()
        if study is None:
            return
        here = {image.id for image in study.images()}
        self._at_servers = [problem for problem in self._at_servers if problem.image.id in here]
        for problem in [*study.problems(), *self._at_servers]:
            self._show_problem(problem)
        for group, splits in study.parted_groups().items():
            self.shown.addWidget(note(f"⚠ {parted(group, splits)}"))

    def _show_problem(self, problem: ImageProblem) -> None:
        find = button("Find it …", self._relocate, "Choose the file this image moved to")
        find.setProperty("image", problem.image.id)
        find.setProperty("kind", problem.kind)
        if problem.kind == "changed":
            find.setText("Accept as it is …")
            find.setToolTip("Keep the labels although the image changed")
        elif problem.image.url is not None:
            find.setText("Other address …")
            find.setToolTip("Say at which URL this image is now")
        box = QWidget()
        inner = QVBoxLayout(box)
        inner.setContentsMargins(0, 4, 0, 0)
        inner.addWidget(note(f"⚠ {problem.message}"))
        inner.addWidget(row(find, None))
        self.shown.addWidget(box)

    @guarded
    def _relocate(self) -> None:
        sender, study = self.sender(), self._workspace.need_study()
        image, changed = study.image(sender.property("image")), sender.property("kind") == "changed"
        asked = f"Where is {image.name} now?"
        path: str
        if changed:
            path = image.location
        elif image.url is not None:
            path = ask_url(self, asked, image.url)
        elif image.path.suffix.lower() == ".zarr":
            path = QFileDialog.getExistingDirectory(self, asked, str(image.path.parent))
        else:
            path, _ = QFileDialog.getOpenFileName(self, asked, str(image.path.parent))
        if not path:
            return
        if changed:
            answer = QMessageBox.question(
                self, "Changed image", f"Do the labels of {image.path.name} still lie in the right places?"
            )
            if answer != QMessageBox.StandardButton.Yes:
                return
        url = check_url(path) if is_url(path) else None
        known = None if url is None else self._workspace.waited(url, partial(fingerprint, url))
        study.relocate_image(image.id, path, accept_changed=changed, fingerprint=known)
        self._at_servers = [p for p in self._at_servers if p.image.id != image.id]
        self._workspace.select_image(image.id)
        self._workspace.images_changed.emit()

    def _ask_servers(self) -> None:
        """Look in the background whether images at addresses are there, and are what they were."""
        study, self._at_servers = self._workspace.study, []
        if study is None or not any(image.url for image in study.images()):
            return
        from napari.qt.threading import create_worker

        path = study.path

        from napari_mtssl.study import Study

        def look() -> list[ImageProblem]:
            with Study.open(path) as again:
                return [p for p in again.problems(ask_servers=True) if p.image.url is not None]

        worker = create_worker(look, _start_thread=False)
        worker.returned.connect(lambda found: self._servers_answered(path, found))
        worker.start()

    def _servers_answered(self, path: Path, found: list[ImageProblem]) -> None:
        if self._workspace.study is not None and self._workspace.study.path == path:
            self._at_servers = found
            self.refresh()


def parted(group: str, splits: tuple[str, ...]) -> str:
    """Say that images of one group part, and how to put them together."""
    used = " and ".join({"validation": "validate"}.get(split, split) for split in splits)
    return (
        f"The group '{group}' has images used to {used}: a network would be scored on a patient it learnt "
        "from. Choose in 'Used to' of one of them, and the others follow."
    )


def ask_url(parent: QWidget, title: str, before: str) -> str:
    """Ask for an address; empty if nobody says one.

    Raises
    ------
    WorkspaceError
        If it is none.
    """
    url, good = QInputDialog.getText(parent, title, "URL of an OME-Zarr image (NAME.zarr)", text=before)
    url = url.strip()
    if not good or url == before:
        return ""
    if "://" not in url:
        raise WorkspaceError(f"'{url}' is no address: write it with its beginning, as https://.")
    return url
