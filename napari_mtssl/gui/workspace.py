"""What is open: one study, one image, one class. Panels and layers listen to it, not to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from psygnal import Signal

from napari_mtssl.gui.predictions import PredictionStore, Wanted, as_cells, read
from napari_mtssl.gui.tasks import BLOCK, CELL, CELLS, MASK, Task, kinds_of, task_of

if TYPE_CHECKING:
    from napari_mtssl.images import Image
    from napari_mtssl.study import CellClass, ImageRecord, Study

RESERVED_COLOUR = "#808080"


class Workspace:
    """The open study and the place in it. Knows no Qt; every change goes out as one signal.

    Attributes
    ----------
    study : Study or None
    image : ImageRecord or None
        The image on screen.
    task : Task
        What is labelled.
    kind : str
        Kind of classes that the keys choose from: ``cell``, ``block``, ``mask`` or a head of whole images.
    active : str
        Name of the class, of that kind, that the next click gets.
    predictions : PredictionStore
        The program's cells of the image on screen.
    """

    study_changed = Signal()
    images_changed = Signal()
    image_changed = Signal()
    classes_changed = Signal()
    cells_changed = Signal()
    predictions_changed = Signal()
    active_changed = Signal()
    task_changed = Signal()
    blocks_changed = Signal()
    mask_changed = Signal()
    image_classes_changed = Signal()
    image_predicted = Signal()  # of any image
    rasters_drawn = Signal()
    went = Signal(float, float)  # look at this place (row, col) of the image on screen

    def __init__(self) -> None:
        from napari_mtssl.images import ImagePool

        self.pool = ImagePool()
        self.study: Study | None = None
        self.image: ImageRecord | None = None
        self.task: Task = CELLS
        self.kind = CELL
        self._active: dict[str, str] = {}
        self.predictions = PredictionStore()
        self._cells: tuple[tuple[int, int], pd.DataFrame] | None = None
        self.seen: list[tuple[float, float]] = []
        # runs what may wait for a server, and says for which; the dock's keeps the window alive meanwhile
        self.patiently: Callable[[Callable[[], Any], str], Any] = lambda work, _: work()
        self.asked_size: set[int] = set()  # slides whose pixel size the user was asked for

    # -- the study -----------------------------------------------------------------------------------------

    def create(self, path: Path, template: str = "") -> None:
        """Make a new study at `path`, with the classes of a template if one is named, and open it."""
        from napari_mtssl.study import Study
        from napari_mtssl.study.templates import use_template

        study = Study.create(path)
        if template:
            use_template(study, template)
        self._use(study)

    def open(self, path: Path) -> None:
        """Open the study at `path`; the one that was open is closed."""
        from napari_mtssl.study import Study

        self._use(Study.open(path))

    def _use(self, study: Study) -> None:
        self.close()
        self.study = study
        images = study.images()
        self.task = task_of(study)
        self.kind = self.kinds()[0]
        self._active = {}
        self.study_changed.emit()
        self.task_changed.emit()
        if images:
            self.select_image(images[0].id)

    def close(self) -> None:
        """Close the study, if one is open."""
        study, self.study, self.image, self._active = self.study, None, None, {}
        self.predictions = PredictionStore()
        self._cells = None
        self.seen = []
        self.asked_size = set()
        if study is not None:
            self.study_changed.emit()
            study.close()

    @property
    def on_disk(self) -> bool:
        """Whether the open study's folder is still there."""
        return self.study is not None and (Path(self.study.path) / "study.sqlite").exists()

    # -- images --------------------------------------------------------------------------------------------

    def add_images(self, paths: Sequence[Path | str], split: str = "train") -> list[ImageRecord]:
        """Register image files or URLs, as one edit; the first new one is shown if none was.

        Raises
        ------
        ImageError
            Of the first file that cannot be read; the others are in the study then. Or the user gave up
            waiting for them.
        """
        from napari_mtssl.gui.adding import add_files

        records, unread = add_files(self.need_study(), paths, split, self.patiently)
        if records:
            self.images_changed.emit()
            if self.image is None:
                self.select_any([record.id for record in records])
        if unread is not None:
            raise unread
        return records

    def select_image(self, image_id: int) -> None:
        """Show another image; raises ImageError, and changes nothing, if its file cannot be read."""
        study = self.need_study()
        record = study.image(image_id)
        # a damaged file opens, and fails only when it is decoded
        self.waited(record.url, lambda: self.pool(record).read(0, 0, 1, 1))
        if self.study is not study:
            return
        self.image = record
        self.seen = []
        self._read_predictions(Wanted())
        self.image_changed.emit()

    def waited(self, url: str | None, work: Callable[[], Any]) -> Any:
        """Do what may have to wait for the server of an address."""
        from napari_mtssl.study.addresses import shown

        return work() if url is None else self.patiently(work, f"Reading {shown(url)} …")

    def select_any(self, image_ids: Sequence[int]) -> None:
        """Show the first of these images that can be read.

        Raises
        ------
        ImageError
            Of the first file that cannot be read: nobody gets stuck at it, and nobody misses it.
        """
        from napari_mtssl.images import ImageError

        unread: ImageError | None = None
        for image_id in image_ids:
            try:
                self.select_image(image_id)
                break
            except ImageError as error:
                unread = unread or error
        if unread is not None:
            raise unread

    def step_image(self, step: int) -> None:
        """Show the next (1) or the previous (-1) image that can be read of the list, round and round."""
        images = self.need_study().images()
        if not images:
            raise WorkspaceError("There is no image in this study yet. Add one under 1 Study.")
        ids = [image.id for image in images]
        at = ids.index(self.image.id) if self.image is not None and self.image.id in ids else -step
        order = [ids[(at + step * far) % len(ids)] for far in range(1, len(ids) + 1)]
        self.select_any(order)

    def refresh_image(self) -> None:
        """Read the current image again, after its path, split or group changed, or it was removed."""
        from napari_mtssl.images import ImageError

        before = self.image
        if self.study is not None and before is not None:
            ids = {image.id: image for image in self.study.images()}
            self.image = ids.get(before.id)
        self.images_changed.emit()
        if self.study is not None and self.image is None and (images := self.study.images()):
            # what was on screen is gone, or there is one again: an empty window would look like a loss
            at = 0 if before is None else before.id
            with suppress(ImageError):  # step 1 names those that cannot be read
                self.select_any([image.id for image in sorted(images, key=lambda image: abs(image.id - at))])
        elif self.image is None or self.image.pixel_size_um != before.pixel_size_um:
            self.image_changed.emit()

    @property
    def pixels(self) -> Image:
        """The image on screen."""
        if self.image is None:
            raise WorkspaceError("No image is open. Add one under 1 Study.")
        return self.pool(self.image)

    # -- classes -------------------------------------------------------------------------------------------

    def set_task(self, task: Task) -> None:
        """Label something else in the same study."""
        if task != self.task:
            self.task = task
            self.kind = self.kinds()[0]
            self.task_changed.emit()
            self.active_changed.emit()

    def kinds(self) -> list[str]:
        """Kinds of classes that are labelled, the first by default."""
        return kinds_of(self.task, self.study)

    def heads(self) -> list[str]:
        """Kinds of classes that whole images get."""
        return [kind for kind in self.kinds() if kind not in (CELL, BLOCK, MASK)]

    def set_kind(self, kind: str) -> None:
        """Have the keys choose from the classes of another kind."""
        if kind != self.kind:
            self.kind = kind
            self.active_changed.emit()

    def classes(self, kind: str | None = None) -> list[CellClass]:
        """All classes of a kind, by default of the one that is labelled now; background first."""
        return self.study.classes(kind or self.kind) if self.study is not None else []

    def colours(self, kind: str | None = None) -> dict[str, str]:
        """Class name to ``#rrggbb``."""
        return {item.name: item.colour for item in self.classes(kind)}

    @property
    def active(self) -> str:
        """Name of the class that the next click gets."""
        return self.active_of(self.kind)

    def active_of(self, kind: str) -> str:
        """Name of the class of a kind that the next click gets; empty if the kind has no class."""
        if self._active.get(kind) not in self.colours(kind):
            self._active[kind] = self._first_class(kind)
        return self._active[kind]

    def set_active(self, name: str, kind: str | None = None) -> None:
        """Label with class `name` from now on."""
        before = (self.kind, self.active)
        self.kind = kind or self.kind
        self._active[self.kind] = name
        if (self.kind, self.active) != before:
            self.active_changed.emit()

    def classes_edited(self) -> None:
        """Say that classes were added, changed or removed; the active class stays valid."""
        if self.study is not None and self.image is not None:
            self._read_predictions(Wanted())  # a renamed class has its new name there
        if self.study is not None and self.kind not in self.kinds():
            self.kind = self.kinds()[0]
        self.classes_changed.emit()
        self.cells_changed.emit()
        self.active_changed.emit()

    def class_of_key(self, key: str, kind: str | None = None) -> str | None:
        """Name of the class that key "1" to "9", or "0", stands for."""
        return next((item.name for item in self.classes(kind) if item.key == key), None)

    def _first_class(self, kind: str) -> str:
        classes = self.classes(kind)
        return next((c.name for c in classes if not c.background), classes[0].name if classes else "")

    # -- cells ---------------------------------------------------------------------------------------------

    def add_cell(self, row: float, col: float) -> int:
        """Label the place with the active class; on disk when this returns."""
        study, image = self.need_study(), self.need_image()
        cell = study.add_cell(image.id, row, col, self.active_of(CELL))
        self.cells_changed.emit()
        return cell

    def move_cells(self, moves: Sequence[tuple[int, float, float]]) -> None:
        """Move cells ``(id, row, col)``."""
        study = self.need_study()
        with study.edit(f"Moved {len(moves)} cells" if len(moves) > 1 else "Moved a cell"):
            for cell, row, col in moves:
                study.move_cell(cell, row, col)
        self.cells_changed.emit()

    def set_class(self, cells: Sequence[int], name: str) -> None:
        """Give cells another class."""
        self.need_study().set_class(list(cells), name)
        self.cells_changed.emit()

    def delete_cells(self, cells: Sequence[int]) -> None:
        """Delete cells; undo brings them back."""
        self.need_study().delete_cells(list(cells))
        self.cells_changed.emit()

    def undo(self) -> str | None:
        """Take back the last edit; say which."""
        return self._after_history(self.need_study().undo())

    def redo(self) -> str | None:
        """Do the last undone edit again; say which."""
        return self._after_history(self.need_study().redo())

    def _after_history(self, sentence: str | None) -> str | None:
        if sentence is not None:
            self.everything_changed()
        return sentence

    def everything_changed(self) -> None:
        """Say that anything in the study may be another: after undo, redo or an import."""
        self.refresh_image()  # first: it may be gone
        self.classes_edited()
        for signal in (self.blocks_changed, self.mask_changed, self.image_classes_changed):
            signal.emit()

    def cells(self) -> pd.DataFrame:
        """Cells of the image on screen."""
        study, image = self.need_study(), self.need_image()
        key = (image.id, study.change_counter())
        if self._cells is None or self._cells[0] != key:
            self._cells = (key, study.cells(image.id))
        return self._cells[1]

    # -- blocks, masks, images -----------------------------------------------------------------------------

    def set_blocks(self, blocks: Mapping[tuple[int, int], str | None]) -> None:
        """Give blocks of the image on screen a class, or none, as one edit."""
        study, image = self.need_study(), self.need_image()
        try:
            study.set_blocks(image.id, dict(blocks))
        finally:
            self.blocks_changed.emit()

    def region_changed(self, change: Callable[[Study, int], None]) -> None:
        """Change free regions of the image on screen: `change` gets the study and the image's id."""
        study, image = self.need_study(), self.need_image()
        try:
            change(study, image.id)
        finally:
            self.blocks_changed.emit()

    def paint(self, row0: int, col0: int, patch: np.ndarray, where: np.ndarray) -> None:
        """Paint a part of the exact mask of the image on screen, as one edit."""
        study, image = self.need_study(), self.need_image()
        study.paint_mask(image.id, row0, col0, patch, where=where)
        self.mask_changed.emit()

    def set_image_class(self, kind: str, name: str | None, image_id: int | None = None) -> None:
        """Give an image, by default the one on screen, a class of a head, or none."""
        study = self.need_study()
        study.set_image_class(self.need_image().id if image_id is None else image_id, kind, name)
        self.image_classes_changed.emit()

    def painted(self) -> dict[str, int]:
        """Pixels of the image on screen that are painted, by exact class."""
        if self.study is None or self.image is None:
            return {}
        counts = self.study.painted_pixels(self.image.id)
        return {item.name: counts.get(item.code, 0) for item in self.classes(MASK)}

    def image_table(self, ids: Sequence[int] | None = None) -> pd.DataFrame:
        """Return what is said of each image as a whole, see `napari_mtssl.gui.image_table`."""
        from napari_mtssl.gui.image_table import image_table

        return image_table(self.need_study(), self.heads(), ids)

    # -- review --------------------------------------------------------------------------------------------

    def pending(self) -> pd.DataFrame:
        """Predictions of the image on screen that nobody has settled."""
        if self.study is None or self.image is None:
            return self.predictions.frame
        settled = self.cells()[["row", "col"]].to_numpy(float)
        return self.predictions.pending(settled)

    def want(self, wanted: Wanted) -> None:
        """See that the predictions that the review asks for are held, where not all are."""
        store = self.predictions
        if self.study is None or self.image is None or store.complete:
            return
        if wanted == store.wanted and (len(self.pending()) or not len(store)):
            return
        self._read_predictions(wanted)
        self.predictions_changed.emit()

    def _read_predictions(self, wanted: Wanted) -> None:
        settled = self.cells()[["row", "col"]].to_numpy(float)
        self.predictions = read(self.need_study(), self.need_image().id, wanted, settled)

    def settle(self, frame: pd.DataFrame, verdict: str, name: str | None = None) -> None:
        """Turn predictions into cells, as one edit.

        Parameters
        ----------
        frame : DataFrame
            Rows of `pending`.
        verdict : {'accepted', 'corrected', 'rejected'}
        name : str, optional
            The class that a corrected prediction gets.
        """
        study, image = self.need_study(), self.need_image()
        background = next(c.name for c in study.classes(CELL) if c.background)
        chosen = {"accepted": frame["class"], "corrected": name, "rejected": background}[verdict]
        cells = as_cells(frame, image.id, verdict, chosen)
        study.add_cells(
            cells, what=f"{verdict.title()} {len(cells):,} prediction{'' if len(cells) == 1 else 's'}"
        )
        self.cells_changed.emit()

    def show_predictions(self, box: tuple[int, int, int, int], frame: pd.DataFrame) -> None:
        """Take in a newly predicted tile of the image on screen."""
        self.predictions.replace(box, frame)
        self.predictions_changed.emit()

    # -- guards --------------------------------------------------------------------------------------------

    def need_study(self) -> Study:
        """Return the open study; without one, say what to do."""
        if self.study is None:
            raise WorkspaceError("No study is open. Make or open one under 1 Study.")
        return self.study

    def need_image(self) -> ImageRecord:
        """Return the image on screen; without one, say what to do."""
        if self.image is None:
            raise WorkspaceError("No image is open. Add one under 1 Study.")
        return self.image


class WorkspaceError(ValueError):
    """The action needs something to be opened first; the message says what."""
