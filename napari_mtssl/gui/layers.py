"""The plugin's layers in the viewer: one of each kind, made when needed, never more.

The annotation layer belongs to the user and shows the study; the others belong to the program and are
replaced. All functions here run on the main thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_mtssl.gui.background import read_in_background
from napari_mtssl.gui.predictions import near
from napari_mtssl.gui.quick import calm, heard, held, put, quiet, with_classes
from napari_mtssl.gui.ring import FOCUS, FocusRing
from napari_mtssl.gui.tasks import CELL
from napari_mtssl.gui.workspace import RESERVED_COLOUR, Workspace

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Layer, Points

LABELS, PREDICTIONS, PSEUDO, UNCERTAINTY = "Labels", "Predictions", "Pseudo-labels", "Uncertainty"
STYLES: dict[str, dict[str, Any]] = {
    # half a white border: from far away the whole ones of many labels ran into one white blob
    LABELS: {"size": 9, "symbol": "disc", "border_color": "#ffffff80", "border_width": 0.15, "opacity": 0.9},
    PREDICTIONS: {"size": 15, "symbol": "disc", "border_width": 0.2, "opacity": 1.0},
    PSEUDO: {"size": 6, "symbol": "square", "border_width": 0, "opacity": 0.6, "visible": False},
}
LEAST = {LABELS: 5, PREDICTIONS: 4, PSEUDO: 3}  # pixels on the screen: seen from far above, too
LIGHTS = {UNCERTAINTY: "magma", "Saliency": "inferno", "Probability": "viridis"}
DYES = {UNCERTAINTY: "#c2187e", "Saliency": "#e03000", "Probability": "#1f8a5f"}
BRIGHT = 0.5  # of white: a brighter image is dyed
USUAL_STRIDE = 4
LARGE = 20_000**2  # pixels of an image whose map of uncertainty is made only when there is one
MANY = 2000  # points whose soft edges cost more than they show: a third of the time of a frame
RINGS = (PREDICTIONS,)  # the cell stays visible inside
FEATURES: dict[str, list[str]] = {
    LABELS: ["class", "source"],
    PREDICTIONS: ["class", "confidence", "uncertainty"],
    PSEUDO: ["class", "confidence"],
}


class StudyLayers:
    """Makes, finds, fills and removes the plugin's layers.

    Attributes
    ----------
    image : Image or None
    points : dict of str to Points
        By kind; a kind is missing until it is made or after the user removed it.
    """

    def __init__(self, viewer: napari.viewer.Viewer, workspace: Workspace) -> None:
        self.viewer = viewer
        self.workspace = workspace
        self.image: Image | None = None
        self.uncertainty: Image | None = None
        self.points: dict[str, Points] = {}
        self.made: Callable[[str, Points], None] = lambda kind, layer: None  # hears of every new points layer
        self._recoloured: list[tuple[str, str]] = []
        self._marked = np.zeros((0, 2))
        self.ring = FocusRing(self)
        self._busy = False

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Mark what happens inside as done by the program, not by the user."""
        before, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = before

    @property
    def is_busy(self) -> bool:
        """Whether the program itself is adding or removing layers."""
        return self._busy

    # -- making and removing -------------------------------------------------------------------------------

    def show_image(self) -> None:
        """Show the workspace's image, under the other layers, in place of the one before."""
        with self.busy():
            self._remove(self.uncertainty)
            self.uncertainty = None
            self.ring.hide()
            record = self.workspace.image
            found = self._find_image()
            if found is None and self.image is not None and self._reuse_image():
                found = self.image
            if self.image is not None and self.image != found:
                self._remove(self.image)
            self.image = None
            if record is None:
                return
            self.image = found if found is not None else self._add_image()
            if found is not None:  # it may have got another pixel size
                found.scale, found.units = self._scale, self._units
            read_in_background(self.image.multiscale)
            if self.image.multiscale and record.pixel_size_um:
                # On slides only: with the bar every frame of a zoom is painted twice.
                self.viewer.canvas.overlays.scale_bar.visible = True
            calm(self.image)
            held(self.image)
            if CELL in self.workspace.task.kinds:
                self._show_points(record)
            else:
                for layer in self.points.values():
                    self._remove(layer)
                self.points = {}
            # filled later: points of the image before would widen the view
            for kind, layer in self.points.items():
                nothing = pd.DataFrame({name: np.zeros(0) for name in FEATURES[kind]})
                put(layer, np.zeros((0, 2)), with_classes(nothing, self._cycle))
            self.viewer.reset_view()

    def _show_points(self, record: Any) -> None:
        if record.height * record.width < LARGE:
            # Before training, not in the midst of it: a new layer takes a tenth of a second.
            self._make_uncertainty(USUAL_STRIDE)
        for kind in (PSEUDO, PREDICTIONS, LABELS):
            self.make(kind)
        for layer in self.points.values():
            layer.scale, layer.units = self._scale, self._units
        self.viewer.layers.selection.active = self.points[LABELS]

    def _reuse_image(self) -> bool:
        """Give the layer of the image before this one's pixels, if it is of the same sort: it is quicker."""
        pixels, layer = self.workspace.pixels, self.image
        same = not layer.multiscale and len(pixels.levels) == 1 and layer.rgb == (pixels.channels == 3)
        if not same or layer not in self.viewer.layers or layer.dtype != pixels.dtype:
            return False
        layer.data = np.asarray(pixels.levels[0])
        layer.name, layer.metadata = self.workspace.image.path.name, {"mtssl_image": self._image_key}
        layer.scale, layer.units = self._scale, self._units
        if pixels.shown is not None:
            layer.contrast_limits = pixels.shown
        elif not layer.rgb:
            layer.reset_contrast_limits()
        return True

    @property
    def world(self) -> tuple[tuple[float, float], tuple[str, str]]:
        """World units per level-0 pixel of the image on screen, and their names."""
        return self._scale, self._units

    def make(self, kind: str) -> Points:
        """Return the points layer of a kind; add it if there is none."""
        if kind in self.points:
            return self.points[kind]
        with self.busy():
            frame = pd.DataFrame({name: np.zeros(0) for name in FEATURES[kind]})
            layer = self.viewer.add_points(
                np.zeros((0, 2)),
                name=kind,
                features=with_classes(frame, self._cycle),
                **_coloured(kind, self._cycle),
                scale=self._scale,
                units=self._units,
                metadata={"mtssl": kind},
                canvas_size_limits=(LEAST[kind], 10_000),
                **STYLES[kind],
            )
            if kind in RINGS:
                layer.border_color_mode = "cycle"
            else:
                layer.face_color_mode = "cycle"
            calm(layer)
            quiet(layer)
            held(layer)
        self.points[kind] = layer
        self.made(kind, layer)
        return layer

    def forget(self, layer: Layer) -> str | None:
        """Note that the user removed `layer`; return its kind if it was ours."""
        for kind, ours in list(self.points.items()):
            if ours == layer:
                del self.points[kind]
                return kind
        if self.uncertainty is not None and self.uncertainty == layer:
            self.uncertainty = None
            return UNCERTAINTY
        if self.image is not None and self.image == layer:
            self.image = None
            return "image"
        return FOCUS if self.ring.forget(layer) else None

    def leave_labels(self, name: str) -> None:
        """Leave the labels to the user under this name, on their image: nobody else has them any more.

        With the image taken from under points, napari may also crash when it paints its next notification.
        """
        if (labels := self.points.pop(LABELS, None)) is not None:
            labels.name = name
        self.image = None

    def remove_all(self, *, image: bool = True) -> None:
        """Take the plugin's layers out of the viewer; what they show stays in the study."""
        with self.busy():
            for layer in (*self.points.values(), self.uncertainty, self.image if image else None):
                self._remove(layer)
            self.ring.remove()
        self.points, self.uncertainty, self.image = {}, None, None

    def _remove(self, layer: Layer | None) -> None:
        if layer is not None and layer in self.viewer.layers:
            self.viewer.layers.remove(layer)

    def _find_image(self) -> Image | None:
        """Find an image layer that already shows the workspace's image (a sample, a dropped study)."""
        shown = (layer for layer in self.viewer.layers if "mtssl_image" in layer.metadata)
        return next((layer for layer in shown if layer.metadata["mtssl_image"] == self._image_key), None)

    def _add_image(self) -> Image:
        pixels = self.workspace.pixels
        levels = pixels.levels
        layer = self.viewer.add_image(
            levels if len(levels) > 1 else levels[0],
            multiscale=len(levels) > 1,
            rgb=pixels.channels == 3,
            contrast_limits=pixels.shown,
            name=self.workspace.image.path.name,
            scale=self._scale,
            units=self._units,
            metadata={"mtssl_image": self._image_key},
        )
        self.viewer.layers.move(self.viewer.layers.index(layer), 0)
        return layer

    # -- filling -------------------------------------------------------------------------------------------

    def fill(self, kind: str, frame: pd.DataFrame) -> None:
        """Show `frame` (``row, col, class, ...``) in the layer of a kind; nothing if the user removed it."""
        layer = self.points.get(kind)
        if layer is None:
            return
        features, places = (
            with_classes(frame[FEATURES[kind]], self._cycle),
            frame[["row", "col"]].to_numpy(float),
        )
        if np.array_equal(layer.data, places) and layer.features.equals(features):
            return  # a frame of the canvas costs more: with 20,000 labels 80 ms without a graphics card
        soft = 1 if len(frame) < MANY else 0
        with self.busy():
            if layer.antialiasing != soft:
                layer.antialiasing = soft
            put(layer, places, features)
        if kind == PREDICTIONS:
            self.mark(self._marked)

    def recolour(self) -> None:
        """Take over added, renamed or recoloured classes."""
        cycle = self._cycle
        if list(cycle.items()) == self._recoloured:
            return  # after every undo it is asked for, and with 20,000 labels it takes 60 ms
        self._recoloured = list(cycle.items())
        for kind, layer in self.points.items():
            with self.busy():
                setattr(layer, "border_color_cycle" if kind in RINGS else "face_color_cycle", cycle)
                layer.features = with_classes(layer.features, cycle)
                layer.refresh_colors()

    def fill_uncertainty(self, box: tuple[int, int, int, int], values: np.ndarray, stride: int) -> None:
        """Write one tile of the uncertainty map: values in [0, 1], one every `stride` pixels."""
        record = self.workspace.image
        if record is None or self.image is None:
            return
        if self.uncertainty is None or self.uncertainty.metadata["stride"] != stride:
            self._make_uncertainty(stride)
        whole = self.uncertainty.data
        row, col = box[0] // stride, box[1] // stride
        part = values[: whole.shape[0] - row, : whole.shape[1] - col]
        whole[row : row + part.shape[0], col : col + part.shape[1]] = part
        if self.uncertainty.visible:
            self.uncertainty.refresh(extent=False)

    def _make_uncertainty(self, stride: int) -> None:
        record = self.workspace.image
        shape = (-(-record.height // stride), -(-record.width // stride))
        with self.busy():
            self._remove(self.uncertainty)
            active = self.viewer.layers.selection.active
            self.uncertainty = self.viewer.add_image(
                np.zeros(shape, np.float32),
                name=UNCERTAINTY,
                **self.over_image(UNCERTAINTY),
                contrast_limits=(0, 1),
                visible=False,
                scale=[stride * s for s in self._scale],
                translate=[(stride - 1) / 2 * s for s in self._scale],
                units=self._units,
                metadata={"mtssl": UNCERTAINTY, "stride": stride},
            )
            calm(self.uncertainty)
            self.viewer.layers.move(self.viewer.layers.index(self.uncertainty), 1)
            self.viewer.layers.selection.active = active

    def over_image(self, name: str) -> dict[str, Any]:
        """Say how a map is laid over the image: as light on a dark one, as dye on a bright one."""
        from napari.utils.colormaps import Colormap

        if self._is_bright():
            dye = Colormap(["#ffffff", DYES[name]], name=f"{name.lower()} on bright")
            return {"colormap": dye, "blending": "multiplicative"}
        return {"colormap": LIGHTS[name], "blending": "additive", "opacity": 0.6}

    def _is_bright(self) -> bool:
        """Whether the image is stained tissue on white, where added light would not be seen."""
        pixels = self.workspace.pixels
        if not np.issubdtype(pixels.dtype, np.integer):
            return False
        level = pixels.levels[-1]
        # The middle is enough, and never much to read.
        rows, cols = (slice(max(side // 2 - 512, 0), side // 2 + 512) for side in level.shape[:2])
        return bool(np.asarray(level[rows, cols]).mean() > BRIGHT * np.iinfo(pixels.dtype).max)

    # -- where one looks -----------------------------------------------------------------------------------

    def look_at(self, row: float, col: float) -> None:
        """Centre the camera on a place and come close enough to judge a cell."""
        if self.image is None:
            return
        self.viewer.scene.camera.center = tuple(p * s for p, s in zip((row, col), self._scale, strict=True))
        self.viewer.scene.camera.zoom = max(self.viewer.scene.camera.zoom, 3.0 / self._scale[0])

    def mark(self, places: np.ndarray) -> None:
        """Have napari select the predictions at places (N, 2), now and whenever they are drawn anew."""
        self._marked = places
        if (layer := self.points.get(PREDICTIONS)) is None:
            return
        rows = {int(row) for row in near(layer.data, places)}
        if rows != set(layer.selected_data):
            with self.busy(), heard(layer):
                layer.selected_data = rows

    def viewport(self) -> tuple[int, int, int, int] | None:
        """Return the visible part of the image as ``(row0, col0, row1, col1)`` in level-0 pixels."""
        record = self.workspace.image
        if self.image is None or record is None:
            return None
        corners = np.asarray(self.image.corner_pixels, float)[:, :2]
        if self.image.multiscale:
            corners = corners * np.asarray(self.image.downsample_factors)[self.image.data_level][:2]
        low = np.clip(corners[0], 0, None).astype(int)
        high = np.minimum(corners[1] + 1, (record.height, record.width)).astype(int)
        return (int(low[0]), int(low[1]), int(high[0]), int(high[1])) if (high > low).all() else None

    # -- private -------------------------------------------------------------------------------------------

    @property
    def _image_key(self) -> tuple[str, int]:
        return image_key(self.workspace.study.path, self.workspace.image.id)

    @property
    def _scale(self) -> tuple[float, float]:
        return scale_of(self.workspace.image)[0]

    @property
    def _units(self) -> tuple[str, str]:
        return scale_of(self.workspace.image)[1]

    @property
    def _cycle(self) -> Mapping[str, str]:
        return self.workspace.colours(CELL) or {"": RESERVED_COLOUR}


def _coloured(kind: str, cycle: Mapping[str, str]) -> dict[str, Any]:
    """Colours by class, as a ring around the cell or as a disc on it."""
    if kind in RINGS:
        return {"border_color": "class", "border_color_cycle": cycle, "face_color": "transparent"}
    return {"face_color": "class", "face_color_cycle": cycle}


def image_key(study_path: Any, image_id: int) -> tuple[str, int]:
    """Return what an image layer carries in its metadata so that the dock knows whose it is."""
    return (str(study_path), image_id)


def scale_of(record: Any) -> tuple[tuple[float, float], tuple[str, str]]:
    """World units per pixel and their names: micrometres where the image knows its pixel size."""
    size = record.pixel_size_um if record is not None else None
    return ((size, size), ("um", "um")) if size else ((1.0, 1.0), ("pixel", "pixel"))
