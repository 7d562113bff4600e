"""Step 2 for images as wholes (lungs, specimens): browse, paint masks, give classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QCheckBox, QComboBox, QDialog, QInputDialog, QLabel, QSlider, QVBoxLayout, QWidget

from napari_mtssl.gui.image_table import given, mask_doubt
from napari_mtssl.gui.list_keys import ListKeys
from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.panels.browser import ImageBrowser
from napari_mtssl.gui.panels.classes import ClassTable
from napari_mtssl.gui.panels.imports import ImportButton, image_imports
from napari_mtssl.gui.panels.tools import PaintTools
from napari_mtssl.gui.rows import Calmly, button, heading, note, row
from napari_mtssl.gui.tasks import BLOCK, CELL, MASK
from napari_mtssl.gui.threshold import Threshold
from napari_mtssl.gui.thumbnails import Thumbnails
from napari_mtssl.gui.workspace import Workspace, WorkspaceError

KEYS = "&nbsp;&nbsp;<small>keys 1 to 9, 0</small>"


class ImagesPage(QWidget):
    """Browser, mask, and one table of classes for each head.

    Signals
    -------
    tool : str, str, int
        The user takes a tool: kind of what is painted, napari's mode, size of the brush.
    use_predicted
        The user wants the predicted mask as a label.
    """

    tool = Signal(str, str, int)
    use_predicted = Signal()

    def __init__(self, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workspace = workspace
        self.thumbnails = Thumbnails(self)
        self.heads: dict[str, ClassTable] = {}
        self._titles: dict[str, QLabel] = {}
        self._threshold = Threshold(workspace)
        self._sheet: QDialog | None = None
        self._keys: ListKeys | None = None
        self._told_complete = False  # that a filled mask is not yet complete
        self._doubted: set[int] = set()  # shown as the most uncertain one since the study was opened
        self._build()
        workspace.study_changed.connect(self.thumbnails.clear)
        workspace.study_changed.connect(self._forget_doubts)
        for signal in (workspace.study_changed, workspace.classes_changed, workspace.task_changed):
            signal.connect(self._make_heads)
        for signal in (workspace.image_changed, workspace.image_classes_changed, workspace.mask_changed):
            signal.connect(self._show_image)
        self._recount = Calmly(self._count, 300, self)
        for signal in (workspace.image_classes_changed, workspace.mask_changed, workspace.image_changed):
            signal.connect(self._recount)
        workspace.active_changed.connect(self._name_keys)
        self._make_heads()
        self._show_image()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.browser = ImageBrowser(self._workspace, self.thumbnails)
        layout.addWidget(self.browser)
        self.unlabelled_button = button(
            "Next unlabelled", self.next_unlabelled, "U. The next image that lacks a class or a mask"
        )
        self.doubt_button = button(
            "Most uncertain",
            self.next_uncertain,
            "G. The image without a label whose classes, or mask, the network is least sure of",
        )
        self.sheet_button = button(
            "Contact sheet",
            self.show_sheet,
            "All images at once, sorted by the answer to a question, or by doubt",
        )
        layout.addWidget(row(self.unlabelled_button, self.doubt_button, self.sheet_button, None))
        self._mask_title = heading("Mask")
        layout.addWidget(self._mask_title)
        self.mask = ClassTable(
            self._workspace,
            MASK,
            {"Painted": "Pixels of this image that are painted"},
            self._pixel_counts,
            "what is outlined, for example lung",
        )
        layout.addWidget(self.mask)
        self.tools = PaintTools(lambda mode, size: self.tool.emit(MASK, mode, size), 40)
        layout.addWidget(self.tools)
        self.use_button = button(
            "Use predicted mask", self.use_predicted.emit, "P. It becomes this image's mask; correct it then"
        )
        self.complete = QCheckBox("Mask is complete")
        self.complete.setToolTip("C. Everything that is not painted is background")
        self.complete.clicked.connect(self.set_complete)
        layout.addWidget(row(self.use_button, self.complete, None))
        self.fill_button = button(
            "Fill by threshold",
            self.fill_by_threshold,
            "A first mask by brightness, of the active class, where nothing is painted; correct it then",
        )
        self.which = QComboBox()
        self.which.addItems(["bright", "dark"])
        self.level = QSlider(Qt.Orientation.Horizontal)
        self.level.setRange(-90, 90)
        self.level.setToolTip("Left: more of the image, right: less. The last fill is replaced")
        self.level.sliderReleased.connect(self.fill_by_threshold)
        layout.addWidget(row(self.fill_button, self.which, self.level))
        self._heads = QVBoxLayout()
        layout.addLayout(self._heads)
        self.hint = note()
        layout.addWidget(self.hint)
        self.head_button = button(
            "Another question …", self.add_head, "Another kind of class that whole images get, as severity"
        )
        self.import_button = ImportButton(self._workspace, image_imports(self._workspace))
        layout.addWidget(row(self.head_button, None, self.import_button))

    def watch_keys(self, keys: ListKeys) -> None:
        """Have the thumbnails, also those of the contact sheet, do what keys do on the layers."""
        self._keys = keys
        keys.watch(self.browser.list)

    # -- showing -------------------------------------------------------------------------------------------

    def _make_heads(self) -> None:
        """Have one table for each head."""
        wanted = self._workspace.heads() if self._workspace.study is not None else []
        if list(self.heads) == wanted:
            return
        for table in self.heads.values():
            table.close_table()
        while self._heads.count():
            widget = self._heads.takeAt(0).widget()
            widget.hide()
            widget.deleteLater()
        self.heads, self._titles = {}, {MASK: self._mask_title}
        for kind in wanted:
            self._titles[kind] = heading(kind)
            none = button("None", partial(self._give, kind, None), f"Take this image's {kind} away")
            self._heads.addWidget(row(self._titles[kind], None, none))
            self.heads[kind] = ClassTable(
                self._workspace,
                kind,
                {
                    "Images": "Images of the study that have the class",
                    "Here": "This image: yours, or predicted",
                },
                partial(self._image_counts, kind),
                f"a {kind} that an image can have",
                partial(self._give, kind),
                partial(self._here, kind),
            )
            self._heads.addWidget(self.heads[kind])
        self._name_keys()

    def _name_keys(self) -> None:
        """Say at the table whose classes the keys give that they do."""
        for kind, title in self._titles.items():
            name = kind.replace("_", " ").capitalize()
            title.setText(f"<b>{name}</b>{KEYS if kind == self._workspace.kind else ''}")

    def _here(self, kind: str) -> str:
        """Name of the class of a kind that this image has."""
        study, image = self._workspace.study, self._workspace.image
        return "" if study is None or image is None else given(study, image.id, kind)

    def showEvent(self, event: QShowEvent) -> None:
        """Count what changed while hidden, of the image that is on screen now."""
        super().showEvent(event)
        self._count()

    def _count(self) -> None:
        if self._workspace.study is not None and self.isVisibleTo(self.window()):
            for table in (self.mask, *self.heads.values()):
                table.refresh_counts()

    def _pixel_counts(self) -> Mapping[str, Sequence[object]]:
        counts = self._workspace.painted()
        return {item.name: (counts.get(item.name, 0),) for item in self._workspace.classes(MASK)}

    def _image_counts(self, kind: str) -> Mapping[str, Sequence[object]]:
        study, image = self._workspace.need_study(), self._workspace.image
        given = study.image_classes()
        given = given[given["kind"] == kind]
        counts = given["class"].value_counts()
        here = set(given.loc[given["image_id"] == image.id, "class"]) if image is not None else set()
        predicted = {}
        if image is not None:
            said = study.image_predictions(image.id)
            said = said[said["kind"] == kind]
            predicted = dict(zip(said["class"], said["probability"], strict=True))
        table = {}
        for name in self._workspace.colours(kind):
            mark = "●" if name in here else ""
            share = f"{predicted[name]:.0%}" if name in predicted else ""
            table[name] = (int(counts.get(name, 0)), f"{mark} {share}".strip())
        return table

    def _show_image(self) -> None:
        study, image = self._workspace.study, self._workspace.image
        for widget in (
            self.tools,
            self.use_button,
            self.complete,
            self.fill_button,
            self.level,
            self.unlabelled_button,
            self.doubt_button,
            self.sheet_button,
        ):
            widget.setEnabled(image is not None)
        if study is None or image is None:
            self.hint.setText(
                "Open a study first (step 1)." if study is None else "Add images first (step 1)."
            )
            return
        self.tools.suggest_size(max(3, min(image.height, image.width) // 40))
        self.complete.setChecked(study.mask_state(image.id).complete)
        self.hint.setText(
            "Keys 1 to 9, and 0, give the class of the table clicked last, T goes to the next table. "
            "Every class and every stroke is saved at once; masks or classes may be missing."
        )

    # -- doing ---------------------------------------------------------------------------------------------

    @guarded
    def _give(self, kind: str, name: str | None) -> None:
        if self._workspace.image is not None:
            self._workspace.set_image_class(kind, name)

    def give_by_key(self, kind: str, name: str) -> None:
        """Give the image on screen a class, and say so on the canvas."""
        self._workspace.set_active(name, kind)
        self._give(kind, name)

    @guarded
    def fill_by_threshold(self) -> None:
        """Fill what is bright, or dark, with the active mask class; a second try replaces the first."""
        bright = self.which.currentIndex() == 0
        count = self._threshold.fill(bright=bright, shift=self.level.value() / 100)
        if not count:
            show_info("Nothing was filled: move the slider to the left, or choose the other brightness.")
        elif not self.complete.isChecked() and not self._told_complete:
            self._told_complete = True
            show_info(
                "Correct it with Brush and Erase. Then tick 'Mask is complete' (C): without it, nothing says "
                "where the background is."
            )

    @guarded
    def set_complete(self) -> None:
        """Say whether what is not painted is background."""
        study, image = self._workspace.need_study(), self._workspace.need_image()
        try:
            study.set_mask_complete(image.id, self.complete.isChecked())
        finally:  # what is refused is shown as it was
            self._workspace.mask_changed.emit()

    def toggle_complete(self) -> None:
        """Do the same by key."""
        self.complete.setChecked(not self.complete.isChecked())
        self.set_complete()

    @guarded
    def add_head(self) -> None:
        """Ask for another kind of class of whole images."""
        kind, good = QInputDialog.getText(
            self, "Another question", "What is asked of each image, in one word, for example severity:"
        )
        if not good:
            return
        if kind.strip().lower() in (CELL, BLOCK, MASK):
            raise WorkspaceError(f"'{kind.strip()}' is no question of whole images: choose another word.")
        name, good = QInputDialog.getText(self, "Another question", f"First answer to '{kind}':")
        if good:
            self._workspace.need_study().add_class(name, kind=kind.strip().lower())
            self._workspace.classes_edited()

    @guarded
    def next_unlabelled(self) -> None:
        """Show the next image that lacks a class or a mask."""
        table = self._workspace.image_table()
        self._go(
            table.loc[~table["labelled"], "image_id"].tolist(), "Every image has its classes and a mask."
        )

    @guarded
    def next_uncertain(self) -> None:
        """Show the image whose classes or mask the network is least sure of, then the next of these."""
        ids = self._by_doubt()
        if not ids:
            show_info(
                "No image that lacks a class or a mask has a prediction of it: train, then 'Predict all "
                "images' (step 3)."
            )
            return
        if set(ids) <= self._doubted:
            self._doubted.clear()  # all were shown: again from the most uncertain one
        left_over = [image_id for image_id in ids if image_id not in self._doubted]
        try:
            self._workspace.select_any(left_over)
        finally:
            # with it, those before it: they cannot be read
            here = self._workspace.image.id if self._workspace.image is not None else None
            upto = left_over.index(here) + 1 if here in left_over else len(left_over)
            self._doubted.update(left_over[:upto])

    def _by_doubt(self) -> list[int]:
        """Images whose lacking classes or mask are predicted, the most doubtful first."""
        study, table = self._workspace.need_study(), self._workspace.image_table()
        doubts = {}
        for line in table[~table["labelled"]].itertuples():
            said = [np.nan if line.classed else line.doubt]
            said += [] if line.painted else [mask_doubt(study, line.image_id)]
            known = [doubt for doubt in said if not np.isnan(doubt)]
            if known:
                doubts[line.image_id] = max(known)
        return sorted(doubts, key=lambda image_id: -doubts[image_id])

    def _forget_doubts(self) -> None:
        self._doubted.clear()

    def _go(self, ids: list[int], otherwise: str) -> None:
        here = self._workspace.image.id if self._workspace.image is not None else None
        others = [image_id for image_id in ids if image_id != here]
        if not others:
            show_info(otherwise)
            return
        order = [image.id for image in self._workspace.need_study().images()]
        at = order.index(here) + 1 if here in order else 0
        self._workspace.select_any([i for i in order[at:] + order[:at] if i in set(others)])

    def show_sheet(self) -> None:
        """Show all images in a window of their own, sorted by the first question (pattern, diagnosis)."""
        if self._sheet is None:
            self._sheet = QDialog(self)
            self._sheet.setWindowTitle("Contact sheet")
            self._sheet.setWindowFlag(Qt.WindowType.WindowMaximizeButtonHint)
            layout = QVBoxLayout(self._sheet)
            self.sheet = ImageBrowser(self._workspace, self.thumbnails, 0)
            self.sheet.sort_by(next(iter(self._workspace.heads()), ""))
            layout.addWidget(self.sheet)
            if self._keys is not None:
                self._keys.watch(self.sheet.list)
            self._sheet.resize(760, 560)
        self._sheet.show()
        self._sheet.raise_()

    def shutdown(self) -> None:
        """End the thread that makes thumbnails."""
        self.thumbnails.close()
        self._recount.stop()
        self.browser.stop()
        if self._sheet is not None:
            self.sheet.stop()
            self._sheet.close()
