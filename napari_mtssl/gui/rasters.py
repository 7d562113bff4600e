"""Layers of pixels: the user's blocks and exact mask, the program's predicted mask and pictures.

Each is made once and gets other data with another image: a new layer takes a tenth of a second.
All functions here run on the main thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mtssl.gui.layers import UNCERTAINTY, StudyLayers
from napari_mtssl.gui.quick import calm
from napari_mtssl.gui.stored import StoredBands, stored_mask
from napari_mtssl.gui.tasks import BLOCK, MASK

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

    from napari_mtssl.engine.events import Preview
    from napari_mtssl.study import CellClass, Grid, ImageRecord

BLOCKS, PAINT, PREDICTED = "Blocks", "Mask", "Predicted mask"
PROBABILITY, SALIENCY = "Probability", "Saliency"
MOST = 64_000_000  # pixels of an image whose mask is held as a whole; of a larger one, what is in view
NEAR = 4_000_000  # pixels in view at which a larger image can be painted
AROUND = 0.25  # of the view, on each side: what a short move brings into sight
HELD = 17_000_000  # elements of a predicted mask on screen; of larger images every second pixel, or fewer
ORDER = (UNCERTAINTY, SALIENCY, PROBABILITY, PREDICTED, BLOCKS, PAINT)  # from below
OPACITY = {BLOCKS: 0.3, PAINT: 0.5, PREDICTED: 0.9}
OUTLINED = 16_000_000  # elements of a predicted mask that are drawn as outlines: napari looks at each
PICTURES = (UNCERTAINTY, SALIENCY, PROBABILITY)
FAINT = 0.35  # of a background's colour


Box = tuple[int, int, int, int]  # (row0, col0, row1, col1), half open, level-0 pixels


@dataclass
class Predicted:
    """What is predicted for the image on screen.

    Attributes
    ----------
    classes : tuple of int
        Codes of the classes that the network knows, background first.
    codes : ndarray uint16 (h, w)
        Code of the most probable class; 0 where nothing is predicted yet.
    probability : ndarray float32 (h, w)
        Of everything that is not background.
    scale : tuple of float
        Level-0 pixels per element.
    """

    classes: tuple[int, ...]
    codes: np.ndarray
    probability: np.ndarray
    scale: tuple[float, float]


class RasterLayers:
    """Makes, fills and removes the layers of pixels.

    Attributes
    ----------
    found : dict of str to Layer
        By name; a layer is missing until it is made or after the user removed it.
    predicted : Predicted or None
    added : callable
        Called with the name and the layer when one was made.
    """

    def __init__(self, viewer: napari.viewer.Viewer, layers: StudyLayers) -> None:
        self.viewer = viewer
        self.layers = layers
        self.workspace = layers.workspace
        self.found: dict[str, Layer] = {}
        self.predicted: Predicted | None = None
        self._bands = StoredBands(self._take_stored)
        self.added: Callable[[str, Layer], None] = lambda name, layer: None
        self.origin = (0, 0)  # block (i, j) of the first element of the layer of blocks
        self.mask_part: tuple[int, Box] | None = None  # image, and the part of its mask that the layer holds

    # -- making and removing -------------------------------------------------------------------------------

    def show(self) -> None:
        """Make the layers of the task, and fill them from the study."""
        self._bands.stop()
        self.predicted = None
        record, kinds = self.workspace.image, self.workspace.kinds()
        if record is None:
            self.remove_all()
            return
        if BLOCK in kinds:
            self.fill_blocks()
        if MASK in kinds:
            self._empty(record)
            self.fill_mask()
            self._load_predicted()
        for name in [name for name in self.found if not self._wanted(name, kinds)]:
            self.remove(name)

    def _empty(self, record: ImageRecord) -> None:
        """Show nothing of what a run said."""
        self._place(PREDICTED, np.zeros((2, 2), np.uint16), (record.height / 2, record.width / 2))
        for name in PICTURES:
            if name in self.found:
                self._place(name, np.zeros((1, 1), np.float32), (record.height, record.width))

    def _wanted(self, name: str, kinds: list[str]) -> bool:
        return BLOCK in kinds if name == BLOCKS else MASK in kinds

    def close(self) -> None:
        """Leave no thread behind."""
        self._bands.stop()

    def forget(self, layer: Layer) -> str | None:
        """Note that the user removed `layer`; return its name if it was ours."""
        for name, ours in list(self.found.items()):
            if ours == layer:
                del self.found[name]
                return name
        return None

    def remove_all(self) -> None:
        """Take the layers out of the viewer; what they show stays in the study."""
        self._bands.stop()
        for layer in self.found.values():
            layer.mode = "pan_zoom"  # of all before the first goes, see `remove`
        for name in list(self.found):
            self.remove(name)
        self.predicted = None

    def remove(self, name: str) -> None:
        """Take a layer out of the viewer; what it shows stays in the study."""
        layer = self.found.pop(name, None)
        with self.layers.busy():
            if layer is not None and layer in self.viewer.layers:
                layer.mode = "pan_zoom"  # napari crashes where it draws a brush's circle without its layer
                self.viewer.layers.remove(layer)

    def leave(self, of: str) -> None:
        """Leave the user's layers in the viewer, as nobody else has what they show any more."""
        for name in (BLOCKS, PAINT):
            if (layer := self.found.pop(name, None)) is not None:
                layer.name, layer.metadata = f"{name} {of}", {}

    def _place(
        self,
        name: str,
        data: np.ndarray,
        scale: tuple[float, float] = (1.0, 1.0),
        corner: tuple[float, float] = (0.0, 0.0),
    ) -> Layer:
        """Put data into the layer of a name; add it if there is none.

        Parameters
        ----------
        scale, corner : tuple of float
            Level-0 pixels per element; the upper left corner, 0.0 being the edge of the first pixel.
        """
        world, units = self.layers.world
        size = [s * w for s, w in zip(scale, world, strict=True)]
        shift = [(c + s / 2 - 0.5) * w for c, s, w in zip(corner, scale, world, strict=True)]
        layer = self.found.get(name)
        with self.layers.busy():
            if layer is None:
                layer = self._add(name, data, size, shift, units)
                self.found[name] = layer
                self.added(name, layer)
            else:
                layer.data = data
                layer.scale, layer.translate, layer.units = size, shift, units
        return layer

    def _add(self, name: str, data: np.ndarray, scale: Any, translate: Any, units: Any) -> Layer:
        active = self.viewer.layers.selection.active
        common = {"name": name, "scale": scale, "translate": translate, "units": units}
        common["metadata"] = {"mtssl": name}
        if name in PICTURES:
            layer = self.viewer.add_image(
                data,
                **self.layers.over_image(name),
                contrast_limits=(0, 1),
                visible=False,
                interpolation2d="linear",
                **common,
            )
        else:
            layer = self.viewer.add_labels(
                data, opacity=OPACITY[name], colormap=self._colormap(name), **common
            )
            layer.brush_size = 1 if name == BLOCKS else 15
            if name == PREDICTED:
                layer.editable = False
                layer.contour = 2
        calm(layer)
        below = [other for other in ORDER[: ORDER.index(name)] if other in self.found]
        under = self.found[below[-1]] if below else self.layers.image
        place = self.viewer.layers.index(under) + 1 if under in self.viewer.layers else 0
        self.viewer.layers.move(self.viewer.layers.index(layer), place)
        if active is not None:
            self.viewer.layers.selection.active = active
        return layer

    # -- colours -------------------------------------------------------------------------------------------

    def recolour(self) -> None:
        """Take over added, renamed, recoloured or removed classes."""
        for name in (BLOCKS, PAINT, PREDICTED):
            if name in self.found:
                with self.layers.busy():
                    self.found[name].colormap = self._colormap(name)
        record, codes = self.workspace.image, {item.code for item in self.mask_classes()}
        if record is None or MASK not in self.workspace.kinds():
            return
        if self.predicted is not None and not codes.issuperset(self.predicted.classes):
            self.predicted = None  # of a class that was removed nothing can be said
            self._empty(record)
        elif self.predicted is None and record.id in {
            image.id for image in self.workspace.need_study().images()
        }:
            self._load_predicted()  # it may be back

    def _colormap(self, name: str) -> Any:
        from napari.utils.colormaps import DirectLabelColormap

        classes = self.workspace.classes(BLOCK if name == BLOCKS else MASK)
        colours: dict[int | None, Any] = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0)}
        for item in classes:
            alpha = 0.0 if item.background and name == PREDICTED else FAINT if item.background else 1.0
            colours[item.code] = (*(int(item.colour[i : i + 2], 16) / 255 for i in (1, 3, 5)), alpha)
        return DirectLabelColormap(color_dict=colours)

    # -- the user's ----------------------------------------------------------------------------------------

    def fill_blocks(self) -> np.ndarray | None:
        """Show the study's blocks; return what the layer holds, None if the image has no grid."""
        study, record = self.workspace.need_study(), self.workspace.need_image()
        grid = study.grid(record.id)
        if grid is None:
            self.remove(BLOCKS)
            return None
        i0, j0, i1, j1 = grid.blocks_over((0, 0, record.height, record.width))
        codes = np.zeros((i1 - i0, j1 - j0), np.uint16)
        blocks = study.blocks(record.id)
        by_name = {item.name: item.code for item in self.workspace.classes(BLOCK)}
        codes[blocks["i"] - i0, blocks["j"] - j0] = [by_name[name] for name in blocks["class"]]
        self.origin = (i0, j0)
        self._put_blocks(codes, grid)
        return codes

    def _put_blocks(self, codes: np.ndarray, grid: Grid) -> None:
        i0, j0 = self.origin
        self._place(BLOCKS, codes, (grid.height, grid.width), grid.edges(i0, j0)[:2])

    def fill_mask(self) -> np.ndarray | None:
        """Show the study's exact mask, of a slide the part in view.

        Returns
        -------
        ndarray or None
            What the layer holds; None if the image is so large that one has to come closer.
        """
        study, record = self.workspace.need_study(), self.workspace.need_image()
        self.mask_part = part = self._mask_part() if self.workspace.classes(MASK) else None
        if part is None:
            self.remove(PAINT)
            return None
        codes = study.mask(record.id, part[1])
        self._place(PAINT, codes, corner=part[1][:2])
        return codes

    def mask_strays(self) -> bool:
        """Whether a slide is seen from so near that it can be painted, and somewhere the layer is not."""
        wanted = MASK in self.workspace.kinds() and self.workspace.classes(MASK)
        return bool(wanted) and self.mask_part != self._mask_part()

    def _mask_part(self) -> tuple[int, Box] | None:
        """Image on screen, and the part of its mask to hold: that which is held, as long as it will do."""
        record, view = self.workspace.image, self.layers.viewport()
        if record is None:
            return None
        if record.height * record.width <= MOST:
            return record.id, (0, 0, record.height, record.width)
        held = self.mask_part if self.mask_part is not None and self.mask_part[0] == record.id else None
        if view is None:
            return held
        high, wide = view[2] - view[0], view[3] - view[1]
        if high * wide > NEAR or (held is not None and _within(view, held[1])):
            return held
        down, right = round(AROUND * high), round(AROUND * wide)
        return record.id, (
            max(view[0] - down, 0),
            max(view[1] - right, 0),
            min(view[2] + down, record.height),
            min(view[3] + right, record.width),
        )

    # -- the program's -------------------------------------------------------------------------------------

    def mask_classes(self) -> list[CellClass]:
        """Exact classes, background first: the order in which methods speak of them."""
        return self.workspace.classes(MASK)

    def tile(self, event: Preview) -> None:
        """Take in a predicted part of the image on screen, or the whole of it."""
        self._bands.stop()  # what was said before is older
        prediction = event.prediction
        self._take_named(event)
        for name, picture in prediction.pictures.items():
            self._take_picture(name.capitalize(), picture, event.box, event.scale)

    def _take_named(self, event: Preview) -> bool:
        """Take in a mask by the names of its classes; not if one of them was taken back meanwhile."""
        by_name = {item.name: item for item in self.mask_classes()}
        said = event.prediction
        classes = [by_name[name] for name in said.classes if name in by_name]
        if said.mask is None or len(classes) != len(said.mask):
            return False
        self._take_mask(said.mask, event.box, event.scale, classes)
        return True

    def _take_mask(
        self,
        probs: np.ndarray,
        box: tuple[int, ...],
        scale: tuple[float, float],
        classes: Sequence[CellClass],
    ) -> None:
        shape, step = self._grid(scale)
        held = self.predicted
        known = tuple(item.code for item in classes)
        if held is None or held.codes.shape != shape or held.classes != known:
            full = tuple(s * step for s in scale)
            held = Predicted(known, np.zeros(shape, np.uint16), np.zeros(shape, np.float32), full)
            self.predicted = held
            if PREDICTED in self.found:
                self._place(PREDICTED, held.codes, held.scale)
                self.found[PREDICTED].contour = 2 if held.codes.size < OUTLINED else 0
            if PROBABILITY in self.found:
                self._place(PROBABILITY, held.probability, held.scale)
        probs = probs[:, ::step, ::step]
        there = probs.max(0) > 0  # where the study holds none yet, all are 0
        codes = np.array(known, np.uint16)
        _write(held.codes, np.where(there, codes[probs.argmax(0)], 0), box, held.scale)
        _write(held.probability, np.where(there, 1 - probs[0], 0), box, held.scale)
        self._make_picture(PROBABILITY, held.probability, held.scale)
        for name in (PREDICTED, PROBABILITY):
            if name in self.found and self.found[name].visible:
                self.found[name].refresh(extent=False)

    def _take_picture(
        self, name: str, picture: np.ndarray, box: tuple[int, ...], scale: tuple[float, float]
    ) -> None:
        shape, step = self._grid(scale)
        full = (scale[0] * step, scale[1] * step)
        layer = self.found.get(name)
        if layer is None or layer.data.shape != shape:
            if layer is None and name not in PICTURES:
                return
            layer = self._place(name, np.zeros(shape, np.float32), full)
        _write(layer.data, picture[::step, ::step], box, full)
        if name == SALIENCY:
            # Gradients have no scale of their own: what is strongest in the image is bright.
            layer.contrast_limits = (0, max(float(np.percentile(layer.data, 99.5)), 1e-12))
        if layer.visible:
            layer.refresh(extent=False)

    def reveal(self, name: str) -> None:
        """See that a picture is visible, now or when it comes."""
        if name not in self.found and self.layers.image is not None:
            self._make_picture(name, np.zeros((1, 1), np.float32), (1.0, 1.0))
        if name in self.found:
            self.found[name].visible = True

    def _make_picture(self, name: str, data: np.ndarray, scale: tuple[float, float]) -> None:
        if name not in self.found:
            self._place(name, data, scale)

    def _grid(self, scale: tuple[float, float]) -> tuple[tuple[int, int], int]:
        """Shape of the layer for what comes at a scale, and how many elements become one."""
        record = self.workspace.need_image()
        height, width = math.ceil(record.height / scale[0] - 1e-6), math.ceil(record.width / scale[1] - 1e-6)
        step = math.ceil(math.sqrt(height * width / HELD))
        return (-(-height // step), -(-width // step)), step

    def _load_predicted(self) -> None:
        """Show what a run said of this image before; of a large one bit by bit."""
        study, record = self.workspace.need_study(), self.workspace.need_image()
        found = stored_mask(study, record)
        if found is not None:
            self._take_stored(found)
        else:
            self._bands.start(study, record, lambda scale: self._grid(scale)[1])

    def _take_stored(self, event: Preview) -> None:
        if self._take_named(event):
            self.workspace.rasters_drawn.emit()

    def predicted_codes(self, record: ImageRecord) -> np.ndarray | None:
        """Codes of the predicted classes, one for each pixel of the image; None if nothing is predicted."""
        held = self.predicted
        if held is None or record.height * record.width > MOST:
            return None
        rows = np.minimum((np.arange(record.height) + 0.5) / held.scale[0], held.codes.shape[0] - 1)
        cols = np.minimum((np.arange(record.width) + 0.5) / held.scale[1], held.codes.shape[1] - 1)
        return held.codes[np.ix_(rows.astype(int), cols.astype(int))]

    def areas(self) -> Mapping[str, int]:
        """Level-0 pixels of each class in the mask that is exported: painted, else predicted.

        Empty where nothing is predicted and no mask is complete. In an image too large to be held, what is
        painted does not count.
        """
        held, record = self.predicted, self.workspace.need_image()
        classes = {item.code: item for item in self.mask_classes()}
        whole, paint = self.predicted_codes(record), self.found.get(PAINT)
        shown = paint is not None and paint.data.shape == (record.height, record.width)
        if shown and self.workspace.need_study().mask_state(record.id).complete:
            background = next(code for code, item in classes.items() if item.background)
            whole = np.full(paint.data.shape, background, np.uint16)
        if whole is not None and shown:
            element, codes = 1.0, np.where(np.asarray(paint.data) > 0, paint.data, whole)
        elif held is not None:
            element, codes = held.scale[0] * held.scale[1], held.codes
        else:
            return {}
        counts = np.bincount(codes.ravel(), minlength=max(classes, default=0) + 1)
        return {item.name: round(counts[code] * element) for code, item in classes.items()}


def _within(inner: Box, outer: Box) -> bool:
    """Whether a box lies in another one."""
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def _write(whole: np.ndarray, part: np.ndarray, box: tuple[int, ...], scale: tuple[float, float]) -> None:
    """Write a part whose upper left corner is that of the box."""
    row, col = round(box[0] / scale[0]), round(box[1] / scale[1])
    part = part[: whole.shape[0] - row, : whole.shape[1] - col]
    whole[row : row + part.shape[0], col : col + part.shape[1]] = part
