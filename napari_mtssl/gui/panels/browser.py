"""All images of the study as small pictures: what is labelled, what is in doubt; a click shows one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtGui import QColor, QIcon, QImage, QPainter, QPixmap
from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QListView,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_mtssl.gui.notify import guarded
from napari_mtssl.gui.rows import Calmly, row, true_icon
from napari_mtssl.gui.thumbnails import SIDE, Thumbnails
from napari_mtssl.gui.workspace import Workspace

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent, QShowEvent

    from napari_mtssl.study import ImageRecord

LISTED, UNLABELLED, BY_DOUBT = "as listed", "unlabelled first", "by doubt"
ID = Qt.ItemDataRole.UserRole
BAR = 9  # pixels of the strip that shows an image's classes


class ImageBrowser(QWidget):
    """Thumbnails with the colours of each image's classes; a dot where the mask is painted.

    Parameters
    ----------
    workspace : Workspace
    thumbnails : Thumbnails
    height : int
        Of the list, pixels; 0: as high as there is room.
    """

    def __init__(
        self, workspace: Workspace, thumbnails: Thumbnails, height: int = 200, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._workspace, self._thumbnails = workspace, thumbnails
        self._records: dict[int, ImageRecord] = {}
        self._loading = False
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.order = QComboBox()
        self.order.setToolTip(
            "By a question: images of one answer beside each other, predicted where you gave none. "
            "By doubt: those that the network is least sure of first"
        )
        self.order.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self._offer_orders()
        self.order.currentIndexChanged.connect(self.refresh)
        layout.addWidget(row("Images", self.order, None))
        self.list = QListWidget()
        self.list.setViewMode(QListView.ViewMode.IconMode)
        self.list.setResizeMode(QListView.ResizeMode.Adjust)
        self.list.setMovement(QListView.Movement.Static)
        self.list.setUniformItemSizes(True)
        self.list.setIconSize(QSize(SIDE, SIDE))
        self.list.setGridSize(QSize(SIDE + 10, SIDE + 24))
        self.list.setWordWrap(False)
        if height:
            self.list.setFixedHeight(height)
        self.list.itemClicked.connect(self._clicked)
        self.list.currentItemChanged.connect(self._walked)
        self.list.verticalScrollBar().valueChanged.connect(self._ask)
        layout.addWidget(self.list)
        self._reload = Calmly(self._load, 300, self)
        self._asking = QTimer(self)
        self._asking.setSingleShot(True)
        self._asking.timeout.connect(self._want_visible)
        self._signals = (
            workspace.study_changed,
            workspace.images_changed,
            workspace.task_changed,
            workspace.classes_changed,
            workspace.image_classes_changed,
            workspace.mask_changed,
        )
        for signal in self._signals:
            signal.connect(self._reload)
        workspace.image_changed.connect(self._mark)
        workspace.image_predicted.connect(self._reload)
        thumbnails.made.connect(self._made)

    def refresh(self) -> None:
        """Show the images anew."""
        self._reload()

    def sort_by(self, head: str) -> None:
        """Put images of one class of a head beside each other."""
        self._offer_orders()
        self.order.setCurrentIndex(max(self.order.findData(head), 0))

    def _offer_orders(self) -> None:
        """Have one order for each head; what was chosen stays so."""
        heads = self._workspace.heads() if self._workspace.study is not None else []
        wanted = {LISTED: "", UNLABELLED: "", **{f"by {head}": head for head in heads}, BY_DOUBT: ""}
        if [self.order.itemText(at) for at in range(self.order.count())] == list(wanted):
            return
        chosen = self.order.currentText()
        self.order.blockSignals(True)
        self.order.clear()
        for text, head in wanted.items():
            self.order.addItem(text, head)
        self.order.setCurrentIndex(max(self.order.findText(chosen), 0))
        self.order.blockSignals(False)

    def stop(self) -> None:
        """Listen no more."""
        self._reload.stop()
        self._asking.stop()
        for signal in self._signals:
            signal.disconnect(self._reload)
        self._workspace.image_changed.disconnect(self._mark)
        self._workspace.image_predicted.disconnect(self._reload)

    def _load(self) -> None:
        workspace = self._workspace
        if not self.isVisibleTo(self.window()) or workspace.study is None or not workspace.heads():
            return
        self._offer_orders()
        table = workspace.image_table()
        self._records = {record.id: record for record in workspace.study.images()}
        table = self._sorted(table)
        self._loading = True
        self.list.clear()
        for line in table.itertuples():
            record = self._records[line.image_id]
            item = QListWidgetItem(self._icon(record.id, line), record.path.stem)
            item.setData(ID, record.id)
            doubt = "" if pd.isna(line.doubt) else f"\nin doubt: {line.doubt:.0%}"
            item.setToolTip(f"{record.path.name}\n{line.said}{doubt}")
            item.setSizeHint(QSize(SIDE + 8, SIDE + 22))
            self.list.addItem(item)
        self._mark()
        self._loading = False
        self._ask()

    def _sorted(self, table: pd.DataFrame) -> pd.DataFrame:
        order = self.order.currentText()
        if order == BY_DOUBT:
            return table.sort_values("doubt", ascending=False, kind="stable", na_position="last")
        if order == UNLABELLED:
            return table.sort_values("labelled", kind="stable")
        head = self.order.currentData()
        if head in self._workspace.heads():
            # in the order of the table of classes, which is that of the keys
            place = {name: at for at, name in enumerate(self._workspace.colours(head))}
            return table.sort_values(
                f"of_{head}", kind="stable", na_position="last", key=lambda names: names.map(place)
            )
        return table

    def _icon(self, image_id: int, line: object) -> QIcon:
        pixmap = QPixmap(SIDE, SIDE)
        pixmap.fill(QColor(0, 0, 0, 0))
        painter = QPainter(pixmap)
        picture = self._thumbnails.pictures.get(image_id)
        if picture is not None:
            height, width = picture.shape[:2]
            shown = QImage(picture.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
            painter.drawImage((SIDE - width) // 2, (SIDE - height) // 2, shown)
        else:
            painter.fillRect(4, 4, SIDE - 8, SIDE - 8, QColor(128, 128, 128, 60))
        wide = SIDE // max(len(line.colours), 1)
        for at, (colour, sure) in enumerate(line.colours):
            if colour is not None:
                # A class the user gave fills its strip; a predicted one half of it.
                painter.fillRect(at * wide, SIDE - (BAR if sure else BAR // 2), wide - 1, BAR, QColor(colour))
        if line.painted:
            painter.setBrush(QColor("#30d060"))
            painter.drawEllipse(3, 3, 9, 9)
        painter.end()
        return true_icon(pixmap)

    def _made(self, image_id: int, picture: object) -> None:
        for at in range(self.list.count()):
            item = self.list.item(at)
            if item.data(ID) == image_id:
                line = next(self._workspace.image_table([image_id]).itertuples(), None)
                if line is not None:  # an image that was just taken out still has its place in the list
                    item.setIcon(self._icon(image_id, line))
                return

    def _ask(self) -> None:
        self._asking.start(50)

    def _want_visible(self) -> None:
        """Ask for the pictures in sight."""
        area = self.list.viewport().rect()
        seen = []
        for at in range(self.list.count()):
            item = self.list.item(at)
            if self.list.visualItemRect(item).intersects(area):
                seen.append(self._records[item.data(ID)])
        self._thumbnails.want(seen)

    def _mark(self) -> None:
        image = self._workspace.image
        for at in range(self.list.count()):
            item = self.list.item(at)
            if image is not None and item.data(ID) == image.id:
                self.list.setCurrentItem(item)
                self.list.scrollToItem(item)
                return

    @guarded
    def _clicked(self, item: QListWidgetItem) -> None:
        if self._workspace.image is None or self._workspace.image.id != item.data(ID):
            self._workspace.select_image(item.data(ID))

    def _walked(self, item: QListWidgetItem | None, _before: QListWidgetItem | None) -> None:
        """Show the image that the arrow keys came to."""
        by_key = QApplication.mouseButtons() == Qt.MouseButton.NoButton and self.list.hasFocus()
        if item is not None and by_key and not self._loading:
            self._clicked(item)

    def showEvent(self, event: QShowEvent) -> None:
        """Show what changed while hidden."""
        super().showEvent(event)
        self._reload()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """More pictures may be in sight."""
        super().resizeEvent(event)
        self._ask()
