"""Step 4 for masks and images: areas, predicted classes to accept, scores, export."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from qtpy.QtCore import QItemSelectionModel, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QComboBox,
    QFileDialog,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_mtssl.gui.exporting import LARGE, OUTLINED, ask_where, export
from napari_mtssl.gui.list_keys import ListKeys
from napari_mtssl.gui.measuring import area_lines, report
from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.rasters import RasterLayers
from napari_mtssl.gui.rows import Calmly, button, heading, note, row, swatch
from napari_mtssl.gui.tasks import MASK, ORIGIN
from napari_mtssl.gui.workspace import Workspace, WorkspaceError
from napari_mtssl.study.records import plural

if TYPE_CHECKING:
    from napari_mtssl.study import ImageRecord, Study

WAYS = ("gradient", "smooth-gradient", "grad-cam")
ID = Qt.ItemDataRole.UserRole
NARROW = (2, 3)  # columns of the list of images that are as wide as what they hold
ROOM = 20  # letters of a class's name


class MaskReview(QWidget):
    """Areas of the predicted mask, the list of images with their predicted classes, export.

    Signals
    -------
    use_predicted
        The user wants the predicted mask as a label.
    explain : str, str, str
        The user wants to see where a head's class is seen, and in which way.
    """

    use_predicted = Signal()
    explain = Signal(str, str, str)

    def __init__(self, workspace: Workspace, rasters: RasterLayers, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workspace, self._rasters = workspace, rasters
        self._loading = False
        self._build()
        self.reload = Calmly(self._load, 500, self)
        for signal in (
            workspace.study_changed,
            workspace.image_changed,
            workspace.task_changed,
            workspace.rasters_drawn,
            workspace.image_predicted,
            workspace.image_classes_changed,
            workspace.mask_changed,
        ):
            signal.connect(self.reload)

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.title = heading("Areas of this image: painted, else predicted")
        self.title.setWordWrap(True)
        layout.addWidget(self.title)
        self.areas = _table(("Class", "Area", "Share"))
        self.areas.setFixedHeight(120)
        layout.addWidget(self.areas)
        self.use_button = button(
            "Use predicted mask",
            self.use_predicted.emit,
            "P. Becomes a label where nothing is painted; correct it then, training learns from it",
        )
        layout.addWidget(row(self.use_button, None))
        self.images_box = QWidget()
        box = QVBoxLayout(self.images_box)
        box.setContentsMargins(0, 0, 0, 0)
        box.addWidget(heading("Images, the most doubtful first"))
        self.images = _table(("Image", "Classes", "Doubt", "Mask"))
        self.images.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Interactive)
        self.images.setMinimumHeight(200)
        self.images.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.images.cellClicked.connect(self._clicked)
        self.images.currentCellChanged.connect(self._walked)
        box.addWidget(self.images)
        self.accept_button = button(
            "✓ Accept classes",
            self.accept,
            "Y. What is predicted for the selected images becomes their class",
        )
        box.addWidget(row(self.accept_button, None))
        box.addWidget(note("To correct a class, click it in step 2 or press its key on the image."))
        self.seen_class, self.seen_how = QComboBox(), QComboBox()
        for choice in (self.seen_class, self.seen_how):
            choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.seen_how.addItems(WAYS)
        self.seen_how.setMinimumContentsLength(max(map(len, WAYS)))
        self.seen_how.setToolTip("The paper's is the gradient; Grad-CAM is coarser and calmer")
        self.seen_button = button(
            "Show",
            self._explain,
            "Where in this image the network sees the class: the layer Saliency; also while it trains. "
            "Of a slide it is that of the reduced picture; Predict shows the gradient, whatever is chosen",
        )
        self.seen_rows = [
            row("Where is", self.seen_class, None),
            row("seen by", self.seen_how, self.seen_button, None),
        ]
        for each in self.seen_rows:
            box.addWidget(each)
        layout.addWidget(self.images_box)
        layout.addWidget(heading("Export"))
        self.png_button = button(
            "Masks as PNG …",
            self.export_png,
            "One PNG for each image with a mask, and a table of what its values mean",
        )
        self.geojson_button = button(
            "GeoJSON for QuPath …", self.export_geojson, "Outlines of this image's mask, with classes"
        )
        self.csv_button = button("Areas and classes as CSV …", self.export_csv, "One line for each image")
        layout.addWidget(row(self.png_button, self.geojson_button, None))
        self.zarr_button = button("OME-Zarr …", self.export_zarr, "This image's mask as OME-Zarr labels")
        layout.addWidget(row(self.csv_button, self.zarr_button, None))

    # -- showing -------------------------------------------------------------------------------------------

    def _load(self) -> None:
        workspace = self._workspace
        if workspace.study is None or MASK not in workspace.kinds() or not self.isVisibleTo(self.window()):
            return
        image = workspace.image
        areas = self._rasters.areas() if image is not None else {}
        lines = area_lines(areas, image.pixel_size_um if image is not None else None)
        colours = workspace.colours(MASK)
        self.areas.setRowCount(len(lines))
        for at, line in enumerate(lines):
            for column, text in enumerate(line):
                self.areas.setItem(at, column, QTableWidgetItem(text))
            self.areas.item(at, 0).setIcon(swatch(colours[line[0]]))
        self.use_button.setEnabled(self._rasters.predicted is not None)
        self.images_box.setVisible(workspace.task.heads)
        for each in self.seen_rows:
            each.setVisible(workspace.task.explains)
        if workspace.task.heads:
            self._show_classes()
            self._show_images(workspace.image_table())

    def _show_classes(self) -> None:
        heads = [kind for kind in self._workspace.heads() if kind != ORIGIN]  # that is not learnt
        names = [(kind, name) for kind in heads for name in self._workspace.colours(kind)]
        if [self.seen_class.itemData(at) for at in range(self.seen_class.count())] == names:
            return
        self.seen_class.clear()
        for kind, name in names:
            self.seen_class.addItem(name, (kind, name))
            self.seen_class.setItemData(self.seen_class.count() - 1, name, Qt.ItemDataRole.ToolTipRole)
        # long names as far as there is room in the dock; the rest of them is in the tooltip
        self.seen_class.setMinimumContentsLength(min(max([8, *(len(name) for _, name in names)]), ROOM))

    @guarded
    def _explain(self) -> None:
        if self.seen_class.currentData() is None:
            raise WorkspaceError("Add a class of images first (step 2).")
        self.explain.emit(*self.seen_class.currentData(), self.seen_how.currentText())

    def _show_images(self, table: pd.DataFrame) -> None:
        table = table.sort_values("doubt", ascending=False, kind="stable", na_position="last")
        names = {image.id: image.path.stem for image in self._workspace.need_study().images()}
        chosen, image = set(self._selected()), self._workspace.image
        if image is not None and (len(chosen) < 2 or image.id not in chosen):
            chosen = {image.id}  # one is always that on screen; several were selected by the user
        self._loading = True
        self._fit_names(names.values())
        self.images.setRowCount(len(table))
        self.images.clearSelection()
        header = self.images.horizontalHeader()
        for column in NARROW:  # each item would have its column measured anew: a millisecond
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
        for at, line in enumerate(table.itertuples()):
            doubt = "" if pd.isna(line.doubt) else f"{line.doubt:.0%}"
            for column, text in enumerate(
                (names[line.image_id], self._short(line.said), doubt, "✓" if line.painted else "")
            ):
                item = QTableWidgetItem(text)
                if column == 0:
                    item.setData(ID, line.image_id)
                if column < 2:
                    item.setToolTip((text, line.said)[column])
                self.images.setItem(at, column, item)
        for column in NARROW:
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self._fit_heights()
        for at, image_id in enumerate(table["image_id"]):
            if image_id in chosen:
                for column in range(self.images.columnCount()):
                    self.images.item(at, column).setSelected(True)
                if image is not None and image_id == image.id:
                    keep = QItemSelectionModel.SelectionFlag.NoUpdate
                    self.images.setCurrentCell(at, 0, keep)
                    self.images.scrollToItem(self.images.item(at, 0))
        self._loading = False

    def _fit_names(self, names: Iterable[str]) -> None:
        """Give long names of files at most two fifths of the list: the classes are what is judged."""
        widest = max((self.images.fontMetrics().horizontalAdvance(name) for name in names), default=0)
        self.images.setColumnWidth(0, min(max(widest + 12, 56), self.images.viewport().width() * 2 // 5))

    def _short(self, said: str) -> str:
        """Leave the kinds out of what is said of an image: the classes tell which kind they are of."""
        for kind in self._workspace.heads():
            said = said.replace(f"{kind}: ", "")
        return said

    def _fit_heights(self) -> None:
        """Let classes that are too long for one line go on in the next."""
        metrics, room = self.images.fontMetrics(), self.images.columnWidth(1)
        usual = self.images.verticalHeader().defaultSectionSize()
        for at in range(self.images.rowCount()):
            if metrics.horizontalAdvance(self.images.item(at, 1).text()) + 10 > room:
                self.images.resizeRowToContents(at)
            elif self.images.rowHeight(at) != usual:
                self.images.setRowHeight(at, usual)

    def showEvent(self, event: object) -> None:
        """Show what changed while hidden."""
        super().showEvent(event)
        self.reload()

    def enter(self) -> None:
        """Have the list take keys: the image on screen is selected there, so that one sees what Y accepts."""
        self.reload()
        self.reload.now()
        workspace = self._workspace
        if workspace.task.heads:
            self.images.setFocus()
            asked = [kind for kind in workspace.heads() if kind != ORIGIN and workspace.classes(kind)]
            if asked and workspace.kind not in asked:
                workspace.set_kind(asked[0])  # a digit corrects what the list shows

    def watch_keys(self, keys: ListKeys) -> None:
        """Have the list do what keys do on the layers."""
        keys.watch(self.images, walk=True)

    # -- doing ---------------------------------------------------------------------------------------------

    def _selected(self) -> list[int]:
        rows = sorted({index.row() for index in self.images.selectedIndexes()})
        return [self.images.item(at, 0).data(ID) for at in rows if self.images.item(at, 0) is not None]

    @guarded
    def _clicked(self, at: int, column: int) -> None:
        image_id = self.images.item(at, 0).data(ID)
        if self._workspace.image is None or self._workspace.image.id != image_id:
            self._workspace.select_image(image_id)

    def _walked(self, at: int, column: int) -> None:
        """Show the image that the arrow keys came to."""
        by_key = QApplication.mouseButtons() == Qt.MouseButton.NoButton and self.images.hasFocus()
        if at >= 0 and by_key and not self._loading and len(self._selected()) < 2:
            self._clicked(at, column)

    @guarded
    def accept(self) -> None:
        """Give the image on screen, or those selected in the list with it, the classes predicted for them."""
        study, image = self._workspace.need_study(), self._workspace.need_image()
        ids = self._selected() if self.images.isVisibleTo(self.window()) else []
        if image.id not in ids:  # nobody sees a list of another step, or what it was when it was left
            ids = [image.id]
        said = study.image_predictions()
        best = said.sort_values("probability").groupby(["image_id", "kind"], sort=False).tail(1)
        best = best.rename(columns={"class": "name"})
        given = set(study.image_classes()[["image_id", "kind"]].itertuples(index=False, name=None))
        count = 0
        with study.edit("Accepted predicted classes"):
            for line in best[best["image_id"].isin(ids)].itertuples():
                if (line.image_id, line.kind) not in given:
                    share = min(line.probability, 1.0)
                    study.set_image_class(
                        line.image_id, line.kind, line.name, source="model", confidence=share
                    )
                    count += 1
        if not count:
            raise WorkspaceError("Nothing is predicted for these images that they do not have already.")
        self._workspace.image_classes_changed.emit()
        of = image.path.name if len(ids) == 1 else plural(len(ids), "image")
        show_info(f"{plural(count, 'predicted class')} of {of} accepted; one Undo takes all back.")

    # -- export --------------------------------------------------------------------------------------------

    @guarded
    def export_png(self) -> None:
        """Ask for a folder, and write every mask there, with what is predicted where nobody painted."""
        study = self._workspace.need_study()
        folder = QFileDialog.getExistingDirectory(self, "Folder for the masks")
        if folder:

            def write(study: Study, image_id: int, path: Path) -> str:
                from napari_mtssl.study.mask_files import export_masks

                count = len(export_masks(study, path, predictions=True))
                return f"{count} mask{'' if count == 1 else 's'} in {path}."

            export(study, self._largest(), Path(folder), write, LARGE)

    @guarded
    def export_zarr(self) -> None:
        """Ask where, and write the mask of this image as OME-Zarr labels."""
        study, image = self._workspace.need_study(), self._workspace.need_image()
        path = ask_where(self, "Export as OME-Zarr", f"{image.path.stem}.ome.zarr", "OME-Zarr (*.zarr)")
        if path is not None:

            def write(study: Study, image_id: int, path: Path) -> str:
                from napari_mtssl.study.mask_zarr import export_mask_zarr

                return f"{export_mask_zarr(study, image_id, path, predictions=True)}"

            export(study, image, path, write, LARGE)

    @guarded
    def export_geojson(self) -> None:
        """Ask where, and write the outlines of this image's mask."""
        study, image = self._workspace.need_study(), self._workspace.need_image()
        path = ask_where(self, "Export for QuPath", f"{image.path.stem}-mask.geojson", "GeoJSON (*.geojson)")
        if path is not None:

            def write(study: Study, image_id: int, path: Path) -> str:
                from napari_mtssl.study.polygon_files import export_mask_geojson

                count = export_mask_geojson(study, image_id, path, predictions=True)
                return f"{plural(count, 'outline')} in {path}. Drop it onto the image in QuPath."

            export(study, image, path, write, OUTLINED)

    @guarded
    def export_csv(self) -> None:
        """Ask where, and write areas and classes of all images."""
        study = self._workspace.need_study()
        path = ask_where(self, "Export as CSV", f"{study.name}-images.csv", "CSV (*.csv)")
        if path is not None:
            heads = self._workspace.heads()

            def write(study: Study, image_id: int, path: Path) -> str:
                study.check_no_image(path)
                report(study, heads).to_csv(path, index=False, float_format="%.6g")
                return f"{path}"

            export(study, self._largest(), path, write, LARGE)

    def _largest(self) -> ImageRecord:
        """Return the image that decides whether an export of all is felt."""
        self._workspace.need_image()
        images = self._workspace.need_study().images()
        return max(images, key=lambda image: image.height * image.width)


def _table(columns: tuple[str, ...]) -> QTableWidget:
    table = QTableWidget(0, len(columns))
    table.setHorizontalHeaderLabels(list(columns))
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.verticalHeader().hide()
    table.verticalHeader().setDefaultSectionSize(22)
    table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    table.horizontalHeader().setSectionResizeMode(min(1, len(columns) - 1), QHeaderView.ResizeMode.Stretch)
    return table
