"""A million predicted cells of a slide: a map of their density from afar, the cells themselves from near.

Only what is in view is read, by an R-tree, in a thread; while the view moves nothing is.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from napari.utils import Colormap
from qtpy.QtCore import QObject, QTimer, Signal

from napari_mtssl.engine.slide_cells import SlideCells
from napari_mtssl.gui.notify import show_info, told
from napari_mtssl.gui.quick import calm, put, quiet

if TYPE_CHECKING:
    import napari

MOST = 4_000  # points that are drawn
REST_MS = 150  # nothing moved for so long: the view rests
AROUND = 0.25  # of the view, on each side: what a short move brings into sight
# Few cells are blue, many red; none is clear, on bright slides and dark ones.
DYE = Colormap(
    [[0.2, 0.2, 0.9, 0.0], [0.2, 0.2, 0.9, 0.5], [0.6, 0.0, 0.6, 0.8], [0.9, 0.0, 0.1, 0.9]],
    controls=[0.0, 0.1, 0.5, 1.0],
    name="cells",
)
COLOURS = ("#e6194b", "#4363d8", "#3cb44b", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#bfef45", "#fabed4")


class SlideCellLayers(QObject):
    """Two layers, of which one is seen: ``NAME density`` and ``NAME cells``.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    cells : SlideCells
    colours : dict of str to str, optional
        By class.
    parent : QObject, optional

    Attributes
    ----------
    points, density : Points, Image
    shown : pandas.DataFrame
        The cells that are drawn.
    """

    _ready = Signal(object)

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        cells: SlideCells,
        colours: dict[str, str] | None = None,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._cells = viewer, cells
        self._cycle = colours or {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(cells.classes)}
        self._um = cells.pixel_size_um or 1.0
        self._units = ["um" if cells.pixel_size_um else "pixel"] * 2
        self._counts: np.ndarray | None = None
        self._step = 1
        self._read: tuple[float, ...] | None = None  # the box whose cells are drawn, or being read
        self.shown = pd.DataFrame({"row": [], "col": [], "class": [], "confidence": []})
        self.density = None
        self.points = self._add_points()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="slide-cells")
        self._ready.connect(self._arrived)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.timeout.connect(self.look)
        camera = viewer.scene.camera
        camera.events.zoom.connect(self._moved)
        camera.events.center.connect(self._moved)
        viewer.layers.events.removed.connect(self._removed)
        self._submit(lambda: ("density", cells.density()))

    def close(self) -> None:
        """Listen no more; the layers stay as they are."""
        camera = self._viewer.scene.camera
        camera.events.zoom.disconnect(self._moved)
        camera.events.center.disconnect(self._moved)
        self._viewer.layers.events.removed.disconnect(self._removed)
        self._rest.stop()
        self._reader.shutdown(wait=True, cancel_futures=True)
        self._cells.close()

    def look(self) -> None:
        """Draw what fits the view: points if there are few, the map if there are many."""
        view = self.view()
        if view is None or self._counts is None or self.density is None:
            return
        # at full size it is the cells that one wants to see, however dense they are
        near = self._count(view) <= MOST or self._viewer.scene.camera.zoom * self._um >= 1
        if self.density.visible == near:
            self.density.visible = not near
        if self.points.visible != near:
            self.points.visible = near
        if near and not _contains(self._read, view):
            down, right = AROUND * (view[2] - view[0]), AROUND * (view[3] - view[1])
            self._read = box = (view[0] - down, view[1] - right, view[2] + down, view[3] + right)
            self._submit(lambda: ("cells", (box, self._cells.within(box, 2 * MOST))))

    def view(self) -> tuple[float, float, float, float] | None:
        """Return what is seen, ``(row0, col0, row1, col1)`` in level-0 pixels."""
        camera = self._viewer.scene.camera
        try:
            high, wide = self._viewer.canvas.size
        except AttributeError:
            return None
        row, col = (float(at) / self._um for at in camera.center[-2:])
        half_rows, half_cols = (0.5 * side / camera.zoom / self._um for side in (high, wide))
        return row - half_rows, col - half_cols, row + half_rows, col + half_cols

    # -- private -------------------------------------------------------------------------------------------

    def _moved(self) -> None:
        self._rest.start(REST_MS)

    def _removed(self, event: Any) -> None:
        if event.value in (self.points, self.density):
            self.close()

    def _submit(self, work: Any) -> None:
        """Have something read in the thread and handed to `_arrived` in this one."""
        future = self._reader.submit(work)
        future.add_done_callback(lambda done: None if done.cancelled() else self._ready.emit(done))

    def _arrived(self, done: Any) -> None:
        what, found = done.result()
        if what == "density":
            self._counts, self._step = found
            self._add_density()
        elif found[0] == self._read:
            self.shown = found[1]
            names = pd.Categorical(self.shown["class"], categories=list(self._cycle))
            places = self.shown[["row", "col"]].to_numpy(float)
            put(self.points, places, pd.DataFrame({"class": names, "confidence": self.shown["confidence"]}))
        self.look()

    def _count(self, view: tuple[float, float, float, float]) -> float:
        """About how many cells are in view."""
        assert self._counts is not None
        row0, col0, row1, col1 = (int(max(edge, 0) // self._step) for edge in view)
        return float(self._counts[row0 : row1 + 1, col0 : col1 + 1].sum())

    def _add_points(self) -> Any:
        none = pd.DataFrame({"class": pd.Categorical([], categories=list(self._cycle)), "confidence": []})
        layer = self._viewer.add_points(
            np.zeros((0, 2)),
            name=f"{self._cells.folder.stem} cells",
            features=none,
            face_color="class",
            face_color_cycle=self._cycle,
            size=10,
            border_width=0,
            antialiasing=0,
            scale=[self._um] * 2,
            units=self._units,
            metadata={"prediction": str(self._cells.folder)},
        )
        layer.face_color_mode = "cycle"
        calm(layer)
        quiet(layer)
        return layer

    def _add_density(self) -> None:
        counts, step = self._counts, self._step
        active = self._viewer.layers.selection.active
        self.density = self._viewer.add_image(
            counts,
            name=f"{self._cells.folder.stem} density",
            colormap=DYE,
            contrast_limits=(
                0,
                max(float(np.percentile(counts[counts > 0], 99)), 1.0) if counts.any() else 1.0,
            ),
            blending="translucent_no_depth",
            opacity=0.8,
            scale=[step * self._um] * 2,
            translate=[(step - 1) / 2 * self._um] * 2,
            units=self._units,
            metadata={"prediction": str(self._cells.folder)},
        )
        calm(self.density)
        self._viewer.layers.selection.active = active


def _contains(outer: tuple[float, ...] | None, inner: tuple[float, ...]) -> bool:
    """Whether a box lies in another one that is not much larger."""
    if outer is None or (outer[2] - outer[0]) > 4 * (inner[2] - inner[0]):
        return False
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


def show_all() -> SlideCellLayers | None:
    """Show all cells that were predicted on the dock's slide, of which the review may hold some only."""
    from napari_mtssl.gui.samples import open_dock

    dock = open_dock()
    if dock is None:
        return None
    study, record = dock.workspace.study, dock.workspace.image
    folders = [] if study is None or record is None else predicted_folders(study, record.id)
    if not folders:
        show_info("No slide is on screen of which a run has predicted cells.")
        return None
    with told():
        shown = SlideCellLayers(
            dock.viewer, SlideCells(folders[-1]), {item.name: item.colour for item in study.classes()}
        )
        shown.points.metadata["shown"] = shown  # lives as long as its layer
        return shown
    return None


def predicted_folders(study: Any, image_id: int) -> list[Path]:
    """Where runs of a study keep what they predicted of a slide, the newest last."""
    folders = [run.path / "slides" / f"{image_id}.prediction" for run in study.runs()]
    return [folder for folder in folders if (folder / "tiles.sqlite").exists()]


def get_reader(path: str | list[str]) -> Any:
    """Return a reader if `path` is the folder of one prediction of a slide."""
    one = path[0] if isinstance(path, list) and len(path) == 1 else path
    if isinstance(one, list) or not (Path(one) / "tiles.sqlite").exists():
        return None
    return read_prediction


def read_prediction(path: str | list[str]) -> list[Any]:
    """Show the cells of a prediction in the current viewer; it adds its layers itself."""
    import napari

    folder = Path(path[0] if isinstance(path, list) else path)
    viewer = napari.current_viewer()
    cells = SlideCells(folder)
    if viewer is None:
        counts, step = cells.density()
        um = cells.pixel_size_um or 1.0
        cells.close()
        return [(counts, {"name": f"{folder.stem} density", "scale": [step * um] * 2}, "image")]
    shown = SlideCellLayers(viewer, cells)
    shown.points.metadata["shown"] = shown  # lives as long as its layer
    return [(None,)]
