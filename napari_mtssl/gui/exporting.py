"""Exports ask where to; those that take long run in a thread, with a bar in napari's activity dock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_mtssl.gui.notify import in_words, show_info, show_warning

if TYPE_CHECKING:
    from napari_mtssl.study import ImageRecord, Study

LARGE = 64_000_000  # pixels of an image whose export would be felt
OUTLINED = 2_000_000  # of one whose outlines are; those of a network that has hardly learnt are very many


def ask_where(parent: QWidget, title: str, name: str, wanted: str) -> Path | None:
    """Ask for the file to write; None if the user thought better of it.

    A name without an ending gets that of `name`, or other programs would not know the file.
    """
    said, _ = QFileDialog.getSaveFileName(parent, title, name, wanted)
    path = Path(said)
    if not said or path.suffix:
        return path if said else None
    path = path.with_name(path.name + Path(name).suffix)
    question = f"There is a file {path.name} already. Replace it?"
    if path.exists() and QMessageBox.question(parent, title, question) != QMessageBox.StandardButton.Yes:
        return None
    return path


def export(
    study: Study,
    image: ImageRecord,
    path: Path,
    write: Callable[[Study, int, Path], str],
    large: int = LARGE,
) -> Any | None:
    """Write something of one image, and say what.

    Parameters
    ----------
    study : Study
    image : ImageRecord
    path : Path
    write : callable
        Gets the study, through a connection of its own where it runs in a thread, the image's id and the
        path, and says in words what it wrote.
    large : int
        Pixels of an image above which it runs in a thread.

    Returns
    -------
    WorkerBase or None
        What runs; None if it is done already.
    """
    if image.height * image.width <= large:
        show_info(f"Written: {write(study, image.id, path)}")
        return None
    from napari.qt.threading import create_worker
    from napari.utils import progress

    bar = progress(total=0, desc=f"Writing {path.name}")

    def work() -> tuple[str, bool]:
        from napari_mtssl.study import Study

        try:
            with Study.open(study.path) as own:
                return f"Written: {write(own, image.id, path)}", True
        except Exception as error:
            sentence = in_words(error)
            if sentence is None:  # a defect: napari shows it with its traceback
                raise
            return sentence, False

    worker = create_worker(work, _start_thread=False)
    worker.returned.connect(lambda said: (show_info if said[1] else show_warning)(said[0]))
    worker.finished.connect(bar.close)
    worker.start()
    show_info(f"{image.path.name} is large: {path.name} is written in the background.")
    return worker
