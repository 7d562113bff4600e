"""The dock: four steps, one workspace, the plugin's layers. Composes and connects, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import QMainWindow, QMessageBox, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.gui import worker
from napari_mtssl.gui.actions import Actions
from napari_mtssl.gui.annotations import Annotations
from napari_mtssl.gui.class_overlay import ClassOverlay
from napari_mtssl.gui.layers import LABELS, PREDICTIONS, StudyLayers
from napari_mtssl.gui.list_keys import ListKeys
from napari_mtssl.gui.modes import Modes
from napari_mtssl.gui.notify import guarded, show_info, show_warning, told
from napari_mtssl.gui.painting import BlockPainting, MaskPainting
from napari_mtssl.gui.panels.guess import GuessBlocks
from napari_mtssl.gui.panels.label import LabelPanel
from napari_mtssl.gui.panels.review import ReviewPanel
from napari_mtssl.gui.panels.review_masks import MaskReview
from napari_mtssl.gui.panels.study import StudyPanel
from napari_mtssl.gui.panels.train import TrainPanel
from napari_mtssl.gui.patience import patiently
from napari_mtssl.gui.picking import Picking
from napari_mtssl.gui.preload import preload
from napari_mtssl.gui.rasters import BLOCKS, PAINT, SALIENCY, RasterLayers
from napari_mtssl.gui.regions import REGIONS, RegionShapes
from napari_mtssl.gui.removed import BACK, REMOVED
from napari_mtssl.gui.shortcuts import Bindings, Scope, help_table
from napari_mtssl.gui.status import StatusLine
from napari_mtssl.gui.stream import Stream
from napari_mtssl.gui.tasks import BLOCK, CELL, MASK
from napari_mtssl.gui.training import Runner
from napari_mtssl.gui.watch import Watch
from napari_mtssl.gui.workspace import Workspace

if TYPE_CHECKING:
    import napari

WIDTH, WIDEST = 392, 600  # pixels of the dock at least, with a usual and a very large font
PRELOAD_AFTER = 1500  # ms: the window is drawn and the user reads it
REVIEW = 3  # the tab


class Dock(QWidget):
    """Semi-supervised labelling of cells, tissue and images in four steps.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    options : TrainOptions, optional
        Rhythm of training.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer, options: TrainOptions | None = None) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.workspace = Workspace()
        self.workspace.patiently = partial(patiently, parent=self)
        self.runner = Runner(options, self)
        self.layers = StudyLayers(napari_viewer, self.workspace)
        self.rasters = RasterLayers(napari_viewer, self.layers)
        self.regions = RegionShapes(self.layers)
        self.annotations = Annotations(self.layers, self.workspace)
        self.paintings = [kind(self.rasters, self.workspace) for kind in (BlockPainting, MaskPainting)]
        self.overlay = ClassOverlay(napari_viewer, self.workspace)
        self.stream = Stream(napari_viewer, self.layers, self.rasters, self._in_focus, self)
        self.crowd = self.stream.crowd
        self.deeds = Actions(self)
        self.watch = Watch(self)
        self.bindings = Bindings(self.deeds.table())
        self.rasters.added = self.regions.added = self._bind_raster
        self._closed = False
        self._watched: QWidget | None = None
        self._build()
        self._connect()
        self._adopt_existing()

    def _build(self) -> None:
        self.study_panel = StudyPanel(self.viewer, self.workspace)
        self.label_panel = LabelPanel(self.workspace, self.deeds.go_to_suggestion)
        self.label_panel.blocks.below_tools.addWidget(GuessBlocks(self.workspace, self.runner))
        self.train_panel = TrainPanel(self.workspace, self.runner)
        self.review_panel = ReviewPanel(self.workspace)
        self.mask_review = MaskReview(self.workspace, self.rasters)
        self.review_panel.put_before_scores(self.mask_review)
        self.picking = Picking(self.layers, self.stream, self.review_panel)
        self.modes = Modes(self.viewer, self.label_panel)
        self.train_panel.viewport = self.seen
        self.tabs = QTabWidget()
        for title, panel in (
            ("1 Study", self.study_panel),
            ("2 Label", self.label_panel),
            ("3 Train", self.train_panel),
            ("4 Review", self.review_panel),
        ):
            area = QScrollArea()
            area.setWidgetResizable(True)
            area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
            area.setFrameShape(QScrollArea.Shape.NoFrame)
            area.setWidget(panel)
            self.tabs.addTab(area, title)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addWidget(self.tabs)
        layout.addWidget(StatusLine(self.workspace, self.runner, self.crowd))
        widest = max(self.tabs.widget(at).widget().minimumSizeHint().width() for at in range(4))
        self.setMinimumWidth(WIDTH if widest <= WIDTH else min(widest + 20, WIDEST))  # of a large font

    def _connect(self) -> None:
        workspace = self.workspace
        workspace.image_changed.connect(self._image_changed)
        workspace.study_changed.connect(self._study_changed)
        workspace.task_changed.connect(self._task_changed)
        workspace.classes_changed.connect(self._recolour)
        workspace.went.connect(self.layers.look_at)
        self.runner.event.connect(self.stream.on_event)
        self.runner.event.connect(self.review_panel.on_event)
        self.label_panel.click_mode.connect(self.set_click_mode)
        self.label_panel.click_mode.connect(self.modes.show)
        for slot in (self.layers.ring.allow, self.show_layers):
            self.label_panel.show_layers.connect(slot)
        self.label_panel.import_layer.connect(self.import_layer)
        self.label_panel.show_keys.connect(self.show_keys)
        for page in (self.label_panel.blocks, self.label_panel.images):
            page.tool.connect(self.deeds.take_tool)
            page.tool.connect(self.modes.show)
        keys = ListKeys(self.deeds.table(), self)
        for page in (self.label_panel.images, self.mask_review):
            page.use_predicted.connect(self.deeds.use_predicted)
            page.watch_keys(keys)
        self.mask_review.explain.connect(self._explain)
        self.review_panel.add_missed.connect(self.deeds.add_missed)
        self.tabs.currentChanged.connect(self._step_opened)
        self.viewer.layers.selection.events.active.connect(self._active_layer)
        self.viewer.layers.events.removed.connect(self._layer_removed)
        self.viewer.layers.events.inserted.connect(self._layer_inserted)
        self._preload_timer = self._later(self._preload)
        self._preload_timer.start(PRELOAD_AFTER)
        self._adopt_timer = self._later(self._adopt_existing)
        self._watch_timer = self._later(self._watch_window)

    def _later(self, slot: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.timeout.connect(slot)
        return timer

    # -- study and image -----------------------------------------------------------------------------------

    def open_study(self, path: Path) -> None:
        """Open a study, as the Open button does; a mistake ends in a message."""
        with told():
            self.study_panel.open_path(Path(path))
            self.tabs.setCurrentIndex(1 if self.workspace.image is not None else 0)

    def _study_changed(self) -> None:
        if self._closed:
            return
        self.runner.sight = None
        if self.runner.busy:
            self.runner.drop()
            if self.workspace.study is not None:  # without one, its folder is gone, which is said elsewhere
                show_info("What ran was stopped, for another study was opened; what was learnt is kept.")
        if self.workspace.study is None:
            self.let_go()
            self._remove_layers()
        elif self.workspace.image is None:
            self.tabs.setCurrentIndex(0)

    def _image_changed(self) -> None:
        self.stream.forget()
        self.show_layers()
        self.watch.look()

    def _task_changed(self) -> None:
        if self.workspace.image is not None:
            self.stream.forget()
            self.show_layers()
        self.review_panel.show_task()

    def _remove_layers(self, *, image: bool = True) -> None:
        self.rasters.remove_all()
        self.regions.remove()
        self.layers.remove_all(image=image)

    def let_go(self) -> None:
        """Follow no layer any more."""
        self.bindings.release()
        self.annotations.detach()
        for painting in self.paintings:
            painting.leave_polygon()
            painting.detach()

    @guarded
    def show_layers(self) -> None:
        """Make the layers that are missing, and fill all from the study."""
        self.let_go()
        if self.workspace.image is None:
            self._remove_layers()
            return
        # drawn once all are there: napari warns of layers of which some have the units of the image before
        with self.viewer.layers.batched_update():
            self.layers.show_image()
            self.rasters.show()
            self.regions.show()
        for painting in self.paintings:
            painting.attach()
        if CELL in self.workspace.task.kinds:
            self.annotations.attach()
        self._bind()
        self.draw_now()

    def _bind(self) -> None:
        """Have the keys work on the layers there are."""
        self.bindings.release()
        for name, layer in self.layers.points.items():
            if name in (LABELS, PREDICTIONS):
                self.bindings.bind(layer, "labels" if name == LABELS else "predictions")
        task = self.workspace.task
        if self.layers.image is not None:  # a digit is a class there, too, and no mode of napari's
            scope: Scope = "labels" if CELL in task.kinds else "images" if task.heads else "masks"
            self.bindings.bind(self.layers.image, scope)
        if CELL in task.kinds:
            return
        for name, layer in self.rasters.found.items():
            self._bind_raster(name, layer)
        if self.regions.layer is not None:
            self._bind_raster(REGIONS, self.regions.layer)

    def _bind_raster(self, name: str, layer: Any) -> None:
        scopes: dict[str, Scope] = {BLOCKS: "blocks", REGIONS: "regions"}
        self.bindings.bind(layer, scopes.get(name, "images" if self.workspace.task.heads else "masks"))

    def _recolour(self) -> None:
        self.layers.recolour()
        if self.workspace.image is not None and MASK in self.workspace.kinds():
            if PAINT not in self.rasters.found and self.rasters.mask_strays():
                self.show_layers()  # there was no class to paint before
            self.rasters.recolour()

    def _active_layer(self, event: Any) -> None:
        """Have the keys choose from the classes of the layer that the user took."""
        kind = {BLOCKS: BLOCK, REGIONS: BLOCK, PAINT: MASK}.get(
            event.value.name if event.value is not None else ""
        )
        if kind in self.workspace.kinds() and not self.layers.is_busy and not self._closed:
            self.workspace.set_kind(kind)

    def _layer_removed(self, event: Any) -> None:
        if self.layers.is_busy or self._closed:
            return
        parts = (self.layers, self.rasters, self.regions)
        kind = next(filter(None, (part.forget(event.value) for part in parts)), None)
        if kind == LABELS:
            self.annotations.detach()
        for painting in self.paintings:
            if painting.name == kind:
                painting.detach()
        if kind in REMOVED:
            self.bindings.release(event.value)
            show_info(f"{REMOVED[kind]} {BACK}")

    def _layer_inserted(self, event: Any) -> None:
        if not self.layers.is_busy and not self._closed and "mtssl_image" in event.value.metadata:
            # Later: other listeners (the canvas) have not heard of this layer yet.
            self._adopt_timer.start(0)

    def _adopt_existing(self) -> None:
        for layer in list(self.viewer.layers):
            self._adopt(layer)

    def _adopt(self, layer: Any) -> None:
        """Open the study that a layer (a sample, a dropped study) says it belongs to."""
        key = layer.metadata.get("mtssl_image")
        if key is None or (self.workspace.study is not None and str(self.workspace.study.path) == key[0]):
            return
        with told():
            self.study_panel.open_path(Path(key[0]))
            if self.workspace.image is None or self.workspace.image.id != key[1]:
                self.workspace.select_image(key[1])
            self.tabs.setCurrentIndex(1)

    def seen(self) -> Any:
        """Image and box that the user sees."""
        image, box = self.workspace.image, self.layers.viewport()
        return (image.id, box) if image is not None and box is not None else None

    # -- predictions ---------------------------------------------------------------------------------------

    @property
    def refills(self) -> int:
        """How often predictions were drawn anew, for the benchmark."""
        return self.stream.refills

    def draw_now(self) -> None:
        """Show the predictions at once instead of soon."""
        self.stream.now()

    def _explain(self, kind: str, name: str, how: str) -> None:
        self.rasters.reveal(SALIENCY)
        self.train_panel.explain(kind, name, how)

    def _in_focus(self) -> tuple[float, float] | None:
        return self.review_panel.current() if self.tabs.currentIndex() == REVIEW else None

    def _step_opened(self, at: int) -> None:
        if at != REVIEW:
            self.review_panel.leave()
            self.layers.ring.hide()
        elif CELL in self.workspace.task.kinds:
            self.review_panel.enter()
        else:
            self.mask_review.enter()

    # -- modes and keys ------------------------------------------------------------------------------------

    def set_click_mode(self, clicking: bool) -> None:
        """Make the annotation layer active, to click cells or to select labels."""
        self.deeds.set_click_mode(clicking)

    def show_keys(self) -> None:
        """Show all keys."""
        box = QMessageBox(self)
        box.setWindowTitle("Keys")
        box.setText(help_table())
        box.open()

    @guarded
    def import_layer(self) -> None:
        """Take the points, or the objects of a Labels layer, that the user selected in napari as labels."""
        from napari_mtssl.gui.importing import import_layer

        text = import_layer(self.workspace, self.viewer.layers.selection.active, self.layers.image)
        self.workspace.classes_edited()
        show_info(text)

    # -- beginning and end ---------------------------------------------------------------------------------

    def _preload(self) -> None:
        if not self._closed:
            worker.start(preload, on_event=self._loaded, on_end=self._preloaded, ask_to_end=_nothing)

    def _loaded(self, what: Any) -> None:
        if isinstance(what, worker.Broken):
            show_warning(f"The network library could not be loaded. {what.reason}")

    def _preloaded(self) -> None:
        if not self._closed:
            self.train_panel.library_ready()

    def event(self, event: QEvent) -> bool:
        """Notice being put into a window and being taken out of it (the dock's close button)."""
        if not getattr(self, "_closed", True):
            if event.type() == QEvent.Type.ParentChange and self.parent() is None:
                self.shutdown(window_closes=False)
            elif event.type() in (QEvent.Type.ParentChange, QEvent.Type.Show):
                self._watch_timer.start(0)  # the dock around it is put into the window only after this
        return super().event(event)

    def _watch_window(self) -> None:
        window = self.window()
        if window is self or window is self._watched:
            return
        if self._watched is not None:
            self._watched.removeEventFilter(self)
        self._watched = window
        window.installEventFilter(self)

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        """Notice that napari's window closes.

        A person who closes it may be asked and say no, and only then is it hidden; a program is not asked.
        """
        leaves = event.type() in (QEvent.Type.Close, QEvent.Type.Hide) and not event.spontaneous()
        if leaves and isinstance(watched, QMainWindow):
            self.shutdown(window_closes=True)
        return super().eventFilter(watched, event)

    def shutdown(self, *, window_closes: bool) -> None:
        """Stop what runs, close the study, and leave no key, timer or connection behind."""
        if self._closed:
            return
        self._closed = True
        if self._watched is not None:
            self._watched.removeEventFilter(self)
            self._watched = None
        self.watch.stop()
        self._preload_timer.stop()
        self._adopt_timer.stop()
        self._watch_timer.stop()
        self.stream.close()
        self.review_panel.reload.stop()
        self.mask_review.reload.stop()
        self.label_panel.shutdown()
        was_training = self.runner.busy
        self.runner.close()
        self.viewer.layers.events.removed.disconnect(self._layer_removed)
        self.viewer.layers.events.inserted.disconnect(self._layer_inserted)
        self.viewer.layers.selection.events.active.disconnect(self._active_layer)
        self.bindings.release()
        self.annotations.close()
        for painting in self.paintings:
            painting.close()
        self.overlay.close()
        self.modes.close()
        if not window_closes:
            self._remove_layers(image=False)
        self.rasters.close()
        self.regions.close()
        self.workspace.close()
        if was_training:
            show_info("Training was stopped; what was learnt is kept in the study.")


def _nothing() -> None:
    """Do nothing: loading a library cannot be interrupted, and takes seconds."""
