"""Step 1, its lower half: the images of the study, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFileDialog,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_mtssl.gui import pixel_sizes
from napari_mtssl.gui.beside import show_pictures
from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.panels.groups import GroupButton
from napari_mtssl.gui.panels.image_problems import ImageProblems, ask_url
from napari_mtssl.gui.rows import button, heading, row
from napari_mtssl.gui.workspace import Workspace, WorkspaceError
from napari_mtssl.study.records import plural

if TYPE_CHECKING:
    import napari
    from qtpy.QtGui import QDropEvent

    from napari_mtssl.study import ImageRecord

SPLITS = {"train": "train", "validation": "validate", "test": "test"}
SPLIT_TIP = (
    "Train: the network learns from its labels. Validate: they are held out to choose the best weights. "
    "Test: never looked at while training. All images of a group follow. Several are set at once "
    "if they are selected, with Shift or Ctrl."
)


class ImagesBox(QWidget):
    """The images with group and split, buttons that add and remove them, and what is wrong with them.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    workspace : Workspace
    folder : callable
        Where dialogs begin.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        workspace: Workspace,
        folder: Callable[[], Path],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._workspace, self._last_folder = viewer, workspace, folder
        self._shown: list[ImageRecord] = []
        self._build()
        workspace.study_changed.connect(self.refresh)
        workspace.images_changed.connect(self.refresh)
        workspace.image_changed.connect(self._mark_current)
        # Soon, not now: whoever opens or adds an image goes on first.
        self._ask_timer = QTimer(self)
        self._ask_timer.setSingleShot(True)
        self._ask_timer.timeout.connect(self._ask_sizes)
        workspace.images_changed.connect(self._ask_soon)
        workspace.study_changed.connect(self._ask_soon)
        self.refresh()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(heading("Images"))
        self.table = QTableWidget(0, 3)
        self.table.setHorizontalHeaderLabels(["Image", "Group", "Used to"])
        self.table.horizontalHeaderItem(1).setToolTip(
            "What must stay together: a patient, a specimen, a slide"
        )
        self.table.horizontalHeaderItem(2).setToolTip(SPLIT_TIP)
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.verticalHeader().hide()
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setMinimumHeight(240)
        self.table.cellClicked.connect(self._clicked)
        self.table.cellChanged.connect(self._edited)
        layout.addWidget(self.table)
        self.add_button = button(
            "Add files …",
            self.add_files,
            "PNG, JPEG, TIFF, OME-TIFF, DICOM, slides; they stay where they are. Or drop them here",
        )
        self.folder_button = button(
            "Add folder …",
            self.add_folder,
            "An OME-Zarr image (NAME.zarr), which is a folder; of any other folder all images in it",
        )
        self.add_layer_button = button(
            "Add viewer's image", self.add_layer, "Add the file of the image layer selected in napari"
        )
        self.url_button = button(
            "Add address …",
            self.add_url,
            "An OME-Zarr image at a URL (https://, s3:// and so on); it stays where it is",
        )
        self.remove_button = button(
            "Remove",
            self.remove,
            "Take the selected images and their labels out of the study (undo brings them back)",
        )
        self.size_button = button(
            "Pixel size …",
            self.set_size,
            "Say how wide a pixel of the selected image is (Undo takes it back)",
        )
        layout.addWidget(row(self.add_button, self.folder_button, self.url_button, None))
        layout.addWidget(row(self.add_layer_button, None))
        self.beside_button = button(
            "Beside it …",
            self.show_beside,
            "Label, macro and thumbnail of the slide on screen; a label is read only when you ask for it",
        )
        self.group_button = GroupButton(self._workspace, self.selected)
        layout.addWidget(
            row(self.group_button, self.size_button, self.beside_button, self.remove_button, None)
        )
        self.problems = ImageProblems(self._workspace)
        layout.addWidget(self.problems)

    # -- adding and removing -------------------------------------------------------------------------------

    @guarded
    def add_files(self) -> None:
        """Ask for image files and add them."""
        self._need_study()
        from napari_mtssl.images import SUFFIXES

        wanted = " ".join(f"*{s}" for s in sorted(SUFFIXES) if "zarr" not in s)
        paths, _ = QFileDialog.getOpenFileNames(
            self, "Add images", str(self._last_folder()), f"Images ({wanted});;All files (*)"
        )
        self.add(Path(p) for p in paths)

    @guarded
    def add_folder(self) -> None:
        """Ask for a folder: an OME-Zarr image, or one with images in it."""
        self._need_study()
        path = QFileDialog.getExistingDirectory(
            self, "Add an OME-Zarr image, or all images of a folder", str(self._last_folder())
        )
        if path:
            self.add([Path(path)])

    @guarded
    def add_url(self) -> None:
        """Ask for the address of an OME-Zarr image and add it."""
        self._need_study()
        if url := ask_url(self, "Add an image at an address", "https://"):
            self.add([url])

    def add(self, paths: Iterable[Path | str]) -> None:
        """Add images, OME-Zarr folders, URLs, and the images in other folders; say how many, if several.

        Raises
        ------
        ImageError, WorkspaceError
            If one cannot be read, a folder has no images, or no study is open.
        """
        from napari_mtssl.images import image_files

        files = image_files(paths)
        if not files:
            return
        self._need_study()
        study = self._workspace.need_study()
        before = len(study.images())
        records = self._workspace.add_images(files)
        now = len(study.images())
        if len(files) > 1 or now > before + 1:
            show_info(f"{now - before:,} images were added; the study has {now:,} now.")
        elif now == before:
            show_info(f"{records[0].path.name} is in the study already.")
            self._workspace.select_image(records[0].id)

    @guarded
    def add_layer(self) -> None:
        """Add the file behind napari's selected image layer."""
        self._need_study()
        from napari.layers import Image

        layers = [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Image) and "mtssl" not in layer.metadata
        ]
        active = self._viewer.layers.selection.active
        layer = active if active in layers else (layers[-1] if layers else None)
        if layer is None:
            raise WorkspaceError(
                "There is no image layer in the viewer: open an image first, or use 'Add files'."
            )
        if layer.source.path is None:
            raise WorkspaceError(
                f"The layer '{layer.name}' comes from no file: save it with File > Save Selected Layers, "
                "then add that file."
            )
        before = {image.id for image in self._workspace.study.images()}
        record = self._workspace.add_images([layer.source.path])[0]
        if record.id in before:
            show_info(f"{record.path.name} is in the study already.")
        if self._workspace.image is None or self._workspace.image.id != record.id:
            self._workspace.select_image(record.id)

    @guarded
    def remove(self) -> None:
        """Take the selected images out of the study, in one edit."""
        self._need_study()
        ids, study = self.selected(), self._workspace.study
        if not ids:
            raise WorkspaceError("Select an image in the list first.")
        with study.edit(f"Removed {plural(len(ids), 'image')}") if len(ids) > 1 else nullcontext():
            for image_id in ids:
                study.remove_image(image_id)
        self._workspace.refresh_image()
        self._workspace.cells_changed.emit()
        what = (
            "The image and its labels were" if len(ids) == 1 else f"{len(ids)} images and their labels were"
        )
        show_info(f"{what} taken out; Undo (step 2) brings them back.")

    @guarded
    def set_size(self) -> None:
        """Ask how wide a pixel of the selected image is."""
        self._need_study()
        image_id = self._selected()
        if image_id is None:
            raise WorkspaceError("Select an image in the list first.")
        pixel_sizes.ask(self._workspace, [self._workspace.study.image(image_id)], self)

    @guarded
    def show_beside(self) -> None:
        """Show the pictures beside the slide on screen."""
        show_pictures(self._workspace.pixels, self)

    def _ask_soon(self) -> None:
        if self._workspace.study is not None:
            self._ask_timer.start(0)

    @guarded
    def _ask_sizes(self) -> None:
        pixel_sizes.ask_once(self._workspace, self)

    def _fill_row(self, at: int, image: ImageRecord) -> None:
        name = QTableWidgetItem(image.path.name)
        size = f", {image.pixel_size_um:g} µm per pixel" if image.pixel_size_um else ", pixel size unknown"
        name.setToolTip(f"{image.location}\n{image.width} × {image.height} pixels{size}")
        name.setData(Qt.ItemDataRole.UserRole, image.id)
        name.setFlags(name.flags() & ~Qt.ItemFlag.ItemIsEditable)
        self.table.setItem(at, 0, name)
        self.table.setItem(at, 1, QTableWidgetItem(image.group))
        box = self.table.cellWidget(at, 2) or self._split_box(at)
        box.setCurrentIndex(list(SPLITS).index(image.split))
        box.setProperty("image", image.id)

    def _split_box(self, at: int) -> QComboBox:
        box = QComboBox()
        for key, text in SPLITS.items():
            box.addItem(text, key)
        box.setToolTip(SPLIT_TIP)
        box.activated.connect(self._split_chosen)
        self.table.setCellWidget(at, 2, box)
        return box

    @guarded
    def _split_chosen(self) -> None:
        box, study = self.sender(), self._workspace.study
        self._shown = []  # what is refused is to be shown as it was
        chosen, split = box.property("image"), box.currentData()
        ids = self.selected()
        asked = set(ids) if chosen in ids and len(ids) > 1 else {chosen}  # several: it is said of all
        groups = {study.image(image_id).group for image_id in asked} - {""}
        whole = asked | {image.id for image in study.images() if image.group in groups}
        with study.edit(f"Put {plural(len(whole), 'image')} into {split}"):
            for image_id in whole:
                study.set_split(image_id, split)
        if len(whole) > 1:
            self._workspace.images_changed.emit()
        if whole > asked:
            show_info(
                f"{plural(len(whole) - len(asked), 'other image')} of the same group now used to "
                f"{SPLITS[split]}, too: images of one group (patient) never part. One Undo takes it back."
            )
        self._workspace.refresh_image()
        self._workspace.cells_changed.emit()

    @guarded
    def _edited(self, at: int, column: int) -> None:
        if column == 1:
            self._shown = []  # what is refused is to be shown as it was
            image_id = self.table.item(at, 0).data(Qt.ItemDataRole.UserRole)
            self._workspace.study.set_group(image_id, self.table.item(at, 1).text().strip())
            self._workspace.refresh_image()
            self.problems.refresh()

    @guarded
    def _clicked(self, at: int, column: int) -> None:
        image_id = self.table.item(at, 0).data(Qt.ItemDataRole.UserRole)
        current = self._workspace.image
        if len(self.selected()) > 1:  # several are selected, to say something of all of them
            return
        if column == 0 and (current is None or current.id != image_id):
            try:
                self._workspace.select_image(image_id)
            finally:
                self._mark_current()

    def selected(self) -> list[int]:
        """Ids of the images selected in the list."""
        rows = sorted({index.row() for index in self.table.selectedIndexes()})
        return [self.table.item(at, 0).data(Qt.ItemDataRole.UserRole) for at in rows]

    def _selected(self) -> int | None:
        at = self.table.currentRow()
        return self.table.item(at, 0).data(Qt.ItemDataRole.UserRole) if at >= 0 else None

    def _mark_current(self) -> None:
        current = self._workspace.image
        for at in range(self.table.rowCount()):
            item = self.table.item(at, 0)
            here = current is not None and item.data(Qt.ItemDataRole.UserRole) == current.id
            font = item.font()
            font.setBold(here)
            self.table.blockSignals(True)
            item.setFont(font)
            self.table.blockSignals(False)
            if here and len(self.selected()) < 2:  # what the user selected stays
                self.table.setCurrentItem(item)

    # -- showing -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the study's images and what is wrong with them."""
        study = self._workspace.study
        images = study.images() if study is not None else []
        self.table.blockSignals(True)
        self.table.setRowCount(len(images))
        for at, image in enumerate(images):
            if at >= len(self._shown) or self._shown[at] != image:
                self._fill_row(at, image)
        self._shown = images
        self.table.blockSignals(False)
        for widget in (
            self.add_button,
            self.folder_button,
            self.url_button,
            self.add_layer_button,
            self.remove_button,
            self.size_button,
            self.beside_button,
            self.group_button,
            self.table,
        ):
            widget.setEnabled(study is not None)
        self._mark_current()
        self.problems.refresh()

    def _need_study(self) -> None:
        if self._workspace.study is None:
            raise WorkspaceError("Make or open a study first: New … or Open …")


def dropped(event: QDropEvent) -> list[Path]:
    """Files and folders of this computer that are dragged."""
    return [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
