"""Prediction of whole slides: tile by tile where there is tissue, straight to disk, resumable when killed."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_mtssl.engine.dense import Box, boxes, predict_box, round_up
from napari_mtssl.engine.slide_prediction_store import MASK, SlideError, SlideStore
from napari_mtssl.engine.tile_output import TileOutput, packed
from napari_mtssl.images import Image, ImageError
from napari_mtssl.images.tissue import TissueMask, find_tissue
from napari_mtssl.methods.base import Method

__all__ = ["SlideError", "SlidePlan", "SlideStore", "SlideTile", "TileOutput", "plan_slide", "predict_slide"]

# Pixels of a training image and of a slide that differ less than this are taken as equal.
SAME_SIZE = 0.05
# A tile is not made wider than this for the sake of its halo: what is in memory grows with both.
WIDE = 512


@dataclass(frozen=True)
class SlideTile:
    """A tile that is done and on disk.

    Attributes
    ----------
    number : int
        Of the tile, the same in every attempt.
    box : tuple of float
        ``(row0, col0, row1, col1)``: cells whose centre is in it are this tile's; level-0 pixels.
    output : TileOutput
    done, total : int
        Tiles done, of earlier attempts too, and tiles in all.
    """

    number: int
    box: tuple[float, float, float, float]
    output: TileOutput
    done: int
    total: int


@dataclass(frozen=True)
class SlidePlan:
    """How a slide is cut, the same in every attempt.

    Attributes
    ----------
    view : Image
        The slide with pixels of the size that the method learnt.
    tiles : tuple of Box
        Those with tissue, in pixels of `view`, row by row.
    tile : int
        Side of a tile in pixels of `view`.
    identity : dict
        What the result depends on.
    tissue : TissueMask
        Where it is predicted.
    whole : mapping of str to ndarray, or None
        What tiles must know of all of the slide; None: nobody has looked yet, see `looked_over`.
    """

    view: Image
    tiles: tuple[Box, ...]
    tile: int
    identity: dict[str, Any]
    tissue: TissueMask
    whole: Mapping[str, np.ndarray] | None = None

    def box(self, number: int) -> tuple[float, float, float, float]:
        """Where the cells of a tile lie, level-0 pixels of the file; pixel centres are at integers."""
        rows, cols = self.view.scale
        row0, col0, row1, col1 = self.tiles[number]
        return row0 * rows - 0.5, col0 * cols - 0.5, row1 * rows - 0.5, col1 * cols - 0.5

    def order(self, view: Box | None) -> list[int]:
        """Numbers of the tiles, those nearest to what the user sees first."""
        if view is None:
            return list(range(len(self.tiles)))
        rows, cols = self.view.scale
        corners = np.array(self.tiles, float).reshape(-1, 4) * (rows, cols, rows, cols)
        seen = (corners[:, 0] < view[2]) & (corners[:, 2] > view[0])
        seen &= (corners[:, 1] < view[3]) & (corners[:, 3] > view[1])
        middle = (corners[:, :2] + corners[:, 2:]) / 2 - ((view[0] + view[2]) / 2, (view[1] + view[3]) / 2)
        return np.lexsort((np.hypot(*middle.T), ~seen)).tolist()


# Predicts tiles in any order, somewhere: from pairs of number and box to pairs of number and output.
Executor = Callable[[Iterable[tuple[int, Box]]], Iterator[tuple[int, TileOutput]]]


def slicer_of(method: Method, image: Image, um_per_px: float | None) -> Method | None:
    """Give what predicts an image tile by tile; None if it is to be predicted whole, or by fields.

    A method that learnt from whole images needs to know how large their pixels were, and the slide's.
    """
    slicer = method.on_slide() if image.is_slide else None
    if slicer is not None and method.whole_image and (um_per_px is None or image.pixel_size_um is None):
        return None
    return slicer


def plan_slide(
    method: Method,
    image: Image,
    *,
    um_per_px: float | None = None,
    tissue: TissueMask | None = None,
    tile: int = 512,
) -> SlidePlan:
    """Decide how a slide is predicted.

    Parameters
    ----------
    method : Method
        One that predicts tiles.
    image : Image
    um_per_px : float, optional
        Side of the pixels that the method learnt from; the slide is read at that size. By default, and where
        it differs by less than 5 % from the slide's own, the slide's pixels are taken as they are.
    tissue : TissueMask, optional
        Where to predict; found by default.
    tile : int
        Side of a tile, rounded up to what the method needs, and at least twice its halo, up to 512: what is
        computed around a tile is thrown away, and is three times the tile then.

    Raises
    ------
    SlideError
        If the method predicts whole images only.
    ImageError
        If the slide cannot be read, or does not say how large its pixels are although `um_per_px` is given.
    """
    if method.whole_image:
        raise SlideError(f"{method.title} predicts images as a whole; it cannot predict a slide in tiles.")
    view = image
    if um_per_px is not None:
        if image.pixel_size_um is None:
            raise ImageError(
                f"{image.path.name} does not say how large its pixels are, and the run was trained at "
                f"{um_per_px:g} um a pixel; give the pixel size."
            )
        if abs(um_per_px / image.pixel_size_um - 1) > SAME_SIZE:
            view = image.at(um_per_px)
    tissue = tissue or find_tissue(image)
    tile = round_up(max(tile, min(2 * method.geometry.halo, WIDE)), method.geometry.unit)
    rows, cols = view.scale
    wanted = sorted(boxes(method, view, tile))
    tiles = tuple(b for b in wanted if tissue.touches((b[0] * rows, b[1] * cols, b[2] * rows, b[3] * cols)))
    identity = {
        "image": image.path.name,
        "size": [image.height, image.width],
        "pixel size": image.pixel_size_um,
        "resolution": view.pixel_size_um,
        "run": digest_of(method),
        "tile size": tile,
        "tissue": hashlib.blake2b(tissue.mask.tobytes(), digest_size=8).hexdigest(),
    }
    return SlidePlan(view, tiles, tile, identity, tissue)


def looked_over(method: Method, plan: SlidePlan, store: SlideStore) -> SlidePlan:
    """Add to a plan what tiles must know of all of the slide, if there is one to do.

    It is taken once and kept beside the tiles, so that it is the same, bit for bit, for whoever goes on, and
    for every worker: to be called before workers are told of the plan.

    Raises
    ------
    ImageError
        If pixels cannot be read.
    SlideError
        If the store cannot be written.
    """
    if plan.whole is None and len(store.done()) < len(plan.tiles):
        plan = replace(plan, whole=store.whole(lambda: method.look_over(plan.view, plan.tissue)))
    return plan


def knowing(method: Method, whole: Mapping[str, np.ndarray] | None) -> Method:
    """Give what predicts the tiles of a slide: the method, with what it must know of all of it."""
    return method.knowing(whole) if whole else method


def predict_slide(
    method: Method,
    plan: SlidePlan,
    store: SlideStore,
    *,
    view: Box | Callable[[], Box | None] | None = None,
    executor: Executor | None = None,
    cancelled: Callable[[], bool] | None = None,
    on_tile: Callable[[int, TileOutput], None] | None = None,
) -> Iterator[SlideTile]:
    """Predict the tiles of a slide that are not in the store yet.

    Parameters
    ----------
    method : Method
    plan : SlidePlan
        Of this method and slide.
    store : SlideStore
        Made with the plan's identity.
    view : tuple of int, or callable that gives one, optional
        What the user sees, level-0 pixels: predicted first. A callable is asked before each tile, so that
        the order follows who looks elsewhere meanwhile.
    executor : callable, optional
        Who predicts; by default this thread, one tile after another.
    cancelled : callable, optional
        Asked before each tile; once it returns True no more tiles come.
    on_tile : callable, optional
        Gets the number and the output of a tile before it counts as done, so it may get the same tile twice
        after a kill: it must replace what is in its box, as `Study.set_predictions` does.

    Yields
    ------
    SlideTile
        In the order that they are done; they are on disk then.

    Raises
    ------
    ImageError
        If pixels cannot be read.
    SlideError
        If the store cannot be written.
    """
    todo = set(range(len(plan.tiles))) - store.done()
    n_done, total = len(plan.tiles) - len(todo), len(plan.tiles)
    wanted = _Wanted(plan, todo, view if callable(view) else lambda: view, cancelled or (lambda: False))
    for number, output in (executor or _in_this_thread(method, plan, store))(wanted):
        box = plan.box(number)
        if on_tile is not None:
            on_tile(number, output)
        _write_grids(method, plan, store, plan.tiles[number], output)
        store.commit(number, output)
        n_done += 1
        yield SlideTile(number, box, output, n_done, total)


def _in_this_thread(method: Method, plan: SlidePlan, store: SlideStore) -> Executor:
    """Predict one tile after another; the slide is looked over when there is a first one."""

    def run(pairs: Iterable[tuple[int, Box]]) -> Iterator[tuple[int, TileOutput]]:
        here = None
        for number, box in pairs:
            here = here or knowing(method, looked_over(method, plan, store).whole)
            yield number, predict_tile(here, plan.view, box)

    return run


class _Wanted:
    """Tiles to do, those nearest to what is looked at when they are asked for first; it knows how many."""

    def __init__(
        self, plan: SlidePlan, todo: set[int], look: Callable[[], Box | None], cancelled: Callable[[], bool]
    ) -> None:
        self._plan, self._look, self._cancelled = plan, look, cancelled
        self._seen = look()
        self._queue = self._ordered(todo)

    def _ordered(self, left: set[int]) -> deque[int]:
        return deque(number for number in self._plan.order(self._seen) if number in left)

    def __iter__(self) -> _Wanted:
        return self

    def __next__(self) -> tuple[int, Box]:
        if not self._queue or self._cancelled():
            raise StopIteration
        if (now := self._look()) != self._seen:
            self._seen = now
            self._queue = self._ordered(set(self._queue))
        number = self._queue.popleft()
        return number, self._plan.tiles[number]

    def __length_hint__(self) -> int:
        return len(self._queue)


def predict_tile(method: Method, view: Image, box: Box) -> TileOutput:
    """Predict one tile of a slide and keep what is worth keeping, in level-0 pixels of the file."""
    began = time.perf_counter()
    prediction, _ = predict_box(method, view, box)
    cells = prediction.cells
    if view.scale != (1.0, 1.0):
        places = {
            name: (cells[name] + 0.5) * scale - 0.5
            for name, scale in zip(("row", "col"), view.scale, strict=True)
        }
        cells = cells.assign(**places)
    mask = None if prediction.mask is None else (prediction.mask.argmax(axis=0) + 1).astype(np.uint8)
    pictures = {name: values.astype(np.float16) for name, values in prediction.pictures.items()}
    table = packed(cells, method.vocabulary.get("cell", ()))
    return TileOutput(table, mask, pictures, time.perf_counter() - began)


def _write_grids(method: Method, plan: SlidePlan, store: SlideStore, box: Box, output: TileOutput) -> None:
    """Write the mask and pictures of a tile into chunks that are its own."""
    stride = method.geometry.stride
    shape = (-(-plan.view.height // stride), -(-plan.view.width // stride))
    grids: dict[str, np.ndarray] = dict(output.pictures)
    if output.mask is not None:
        grids[MASK] = output.mask
    for name, values in grids.items():
        extra = {"image-label": _label_names(method)} if name == MASK else {}
        store.make_grid(
            name,
            shape,
            values.dtype,
            pixel_size_um=plan.view.pixel_size_um,
            chunk=plan.tile // stride,
            scale=float(stride),
            extra=extra,
        )
        row0, col0 = box[0] // stride, box[1] // stride
        height, width = (
            min(n, size - at) for n, size, at in zip(values.shape, shape, (row0, col0), strict=True)
        )
        store.write_chunk(name, row0, col0, values[:height, :width])


def _label_names(method: Method) -> dict[str, Any]:
    """Say what the values of the mask mean, in OME-Zarr's words."""
    names = method.vocabulary.get("mask", ())
    return {"properties": [{"label-value": i, "class": name} for i, name in enumerate(names, start=1)]}


def digest_of(method: Method) -> str:
    """Fingerprint of a trained method: its settings, classes and weights."""
    digest = hashlib.blake2b(digest_size=16)
    about = {"method": method.name, "config": method.config.model_dump(mode="json")}
    digest.update(json.dumps(about | {"classes": method.vocabulary}, sort_keys=True).encode())
    for name, values in sorted(method.state().items()):
        digest.update(name.encode())
        digest.update(values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
