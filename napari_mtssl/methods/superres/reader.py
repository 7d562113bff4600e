"""Reading a study's blocks, regions, statistics and exact paint into a `BlockBank`."""

from __future__ import annotations

import hashlib
import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from napari_mtssl.images import to_float
from napari_mtssl.images.rotation import AHEAD, Rotation
from napari_mtssl.methods.base import MethodError, draw_labels, labels_of
from napari_mtssl.methods.superres.bank import UNKNOWN, BlockBank, Field, padded
from napari_mtssl.methods.superres.config import SuperResConfig
from napari_mtssl.methods.superres.rolling import HELD, Piece, RollingBank
from napari_mtssl.methods.superres.statistics import as_arrays

if TYPE_CHECKING:
    from napari_mtssl.images import Image, ImagePool
    from napari_mtssl.study import Study
    from napari_mtssl.study.records import Split

FIELD = 1024  # largest side of a field, in pixels of the network
HELD_OUT = 16  # fields of many that scores are taken on
BAND = 2**24  # pixels that are read at a time
PixelBox = tuple[int, int, int, int]


NO_BLOCK = (
    "No block of the images in the split '{}' has a class: lay a grid over an image and give some blocks a "
    "class."
)


def check_exact(mask_classes: Sequence[str]) -> None:
    """See that there is something to outline.

    Raises
    ------
    MethodError
        If there is only the background.
    """
    if len(mask_classes) < 2:
        raise MethodError(
            "The study has no exact class to outline: add a class of the kind 'mask', such as tumour."
        )


def check_blocks(
    study: Study, block_classes: Sequence[str], mask_classes: Sequence[str], split: Split
) -> None:
    """Say what is missing of the labels to learn from, before any image is read.

    Raises
    ------
    MethodError
        If there is nothing to outline, nothing is labelled, or a class that is used has no statistics.
    """
    check_exact(mask_classes)
    if not study.coarse_images(split) and not study.masked_images(split):
        raise MethodError(NO_BLOCK.format(split))
    used = labels_of(study, ("block",), split).get("block", set()) & set(block_classes)
    as_arrays(study.statistics(), block_classes, mask_classes, sorted(used))


class BankReader:
    """Reads a study; pixels that were read once are kept, so that new labels cost no new reading.

    Parameters
    ----------
    config : SuperResConfig
    block_classes, mask_classes : sequence of str
    device : torch.device
    """

    def __init__(
        self,
        config: SuperResConfig,
        block_classes: Sequence[str],
        mask_classes: Sequence[str],
        device: torch.device,
    ) -> None:
        self.config = config
        self.block_classes, self.mask_classes = tuple(block_classes), tuple(mask_classes)
        self.device = device
        self._pixels: OrderedDict[tuple[int, PixelBox, int], torch.Tensor] = OrderedDict()
        self._most: int | None = None  # fields whose pixels are kept; all unless they are too many
        self._lock = threading.Lock()
        self._at = 0  # step of the training, which a bank that is read anew begins at

    def read(self, study: Study, images: ImagePool, split: Split, downsample: int | None = None) -> BlockBank:
        """Read one split.

        Parameters
        ----------
        downsample : int, optional
            Of a network that is trained already; by default the setting, or what suits the blocks.

        Raises
        ------
        MethodError
            If nothing is labelled, or a coarse class has no statistics.
        """
        coarse, painted = study.coarse_images(split), study.masked_images(split)
        if not coarse and not painted:
            raise MethodError(NO_BLOCK.format(split))
        step = downsample or self.config.downsample or suited(study, coarse)
        places = [
            (image_id, box)
            for image_id in sorted({*coarse, *painted})
            for box in self._boxes(study, image_id, step)
        ]
        if len(places) > HELD:
            if split == "train":
                return self._rolling(study, images, places, step)
            chosen = np.linspace(0, len(places) - 1, HELD_OUT).round().astype(int)
            places = [places[at] for at in chosen]  # evenly over all slides, the same each time
        fields: list[Field] = []
        kinds: list[int] = []
        keys: dict[int, object] = {}
        for image_id, box in places:
            image = images(study.image(image_id))
            field = self._field(study, image_id, image, box, step, kinds, keys)
            if field is not None:
                fields.append(field)
        if not fields:
            raise MethodError(f"No label of the split '{split}' lies on an image.")
        if self.config.labels and split == "train":
            kinds = _some(fields, kinds, self.config.labels, self.config.seed)
        eta, rho = self._statistics(study, {self.block_classes[k] for k in kinds})
        keys[-1] = hashlib.blake2b(eta.tobytes() + rho.tobytes()).hexdigest()
        return BlockBank(fields, np.array(kinds, np.int64), eta, rho, self.device, step, keys)

    def _statistics(self, study: Study, used: set[str]) -> tuple[np.ndarray, np.ndarray]:
        gone = [name for name in self.mask_classes if study.class_now(name, "mask") is None]
        if gone:  # nobody can say any more how much of it is in a block
            raise MethodError(
                f"The exact class '{gone[0]}', which this network has learnt, was removed: "
                "begin a new network, or undo that."
            )
        return as_arrays(study.statistics(), self.block_classes, self.mask_classes, sorted(used))

    def _rolling(
        self, study: Study, images: ImagePool, places: list[tuple[int, PixelBox]], step: int
    ) -> RollingBank:
        """Make a bank of more fields than fit into memory: these are read in the background, in turn."""
        if self.config.labels:
            raise MethodError(
                "Labels of so many fields cannot be drawn at random: set 'Labels' to 0, to learn from all."
            )
        keys, used = every_label(study, sorted({image_id for image_id, _ in places}))
        eta, rho = self._statistics(study, used & set(self.block_classes))
        keys[-1] = hashlib.blake2b(eta.tobytes() + rho.tobytes()).hexdigest()
        order = np.random.default_rng(self.config.seed).permutation(len(places))
        self._most = HELD + 2 * AHEAD
        other = study.reopen()  # for the thread that reads

        def read(number: int) -> Piece | None:
            image_id, box = places[order[number % len(places)]]
            kinds: list[int] = []
            image = images(other.image(image_id))
            field = self._field(other, image_id, image, box, step, kinds, {})
            return None if field is None else Piece.of(field, kinds)

        rotation: Rotation[Piece | None] = Rotation(read, HELD, self.config.renew, self._at)
        weakref.finalize(rotation, other.close)
        return RollingBank(rotation, eta, rho, self.device, step, keys, self._advanced)

    def _advanced(self, step: int) -> None:
        self._at = step

    def _boxes(self, study: Study, image_id: int, step: int) -> list[PixelBox]:
        """Parts of an image, in level-0 pixels, that together hold all its labels."""
        image = study.image(image_id)
        grid = study.grid(image_id)
        rows = _cuts(image.height, FIELD * step, *((grid.height, grid.row0) if grid else (1.0, 0.0)))
        cols = _cuts(image.width, FIELD * step, *((grid.width, grid.col0) if grid else (1.0, 0.0)))
        found = [
            (row0, col0, row1, col1)
            for row0, row1 in itertools.pairwise(rows)
            for col0, col1 in itertools.pairwise(cols)
        ]
        if len(found) == 1 or study.mask_state(image_id).complete:
            return found
        touched = _touched(rows, cols, [*label_extents(study, image_id), *study.painted_tiles(image_id)])
        return [box for box, here in zip(found, touched.ravel().tolist(), strict=True) if here]

    def _field(
        self,
        study: Study,
        image_id: int,
        image: Image,
        box: PixelBox,
        step: int,
        kinds: list[int],
        keys: dict[int, object],
    ) -> Field | None:
        """Read one part; what is new in `kinds` and `keys` is added."""
        numbers, classes = study.coarse_map(image_id, box, step)
        exact = self._exact(study, image_id, box, step)
        known = {
            n: self.block_classes.index(name) for n, name in classes.items() if name in self.block_classes
        }
        if not known and exact is None:
            return None
        table = np.zeros(int(numbers.max(initial=0)) + 1, np.int32)
        for number, kind in known.items():
            kinds.append(kind)
            table[number] = len(kinds)
            keys[number] = classes[number]
        least = self.config.crop
        if exact is not None:
            # one key for each painted field, below every number of a block
            keys[-2 - len(keys)] = (image_id, *box, hashlib.blake2b(exact.tobytes()).hexdigest())
            exact = padded(exact, least, UNKNOWN)
        return Field(
            image_id,
            box[0],
            box[1],
            self._read(image, image_id, box, step),
            torch.as_tensor(padded(table[numbers], least, 0), device=self.device),
            None if exact is None else torch.as_tensor(exact, device=self.device),
        )

    def _exact(self, study: Study, image_id: int, box: PixelBox, step: int) -> np.ndarray | None:
        """Exact classes of the pixels; None if nothing is painted."""
        state = study.mask_state(image_id)
        if not (state.painted or state.complete):
            return None
        mask = study.mask(image_id, box)[step // 2 :: step, step // 2 :: step]
        table = np.full(2**16, UNKNOWN, np.int16)
        table[0] = 0 if state.complete else UNKNOWN
        for item in study.classes(kind="mask"):
            if item.name in self.mask_classes:
                table[item.code] = self.mask_classes.index(item.name)
        exact = table[mask]
        return exact if (exact != UNKNOWN).any() else None

    def _read(self, image: Image, image_id: int, box: PixelBox, step: int) -> torch.Tensor:
        key = (image_id, box, step)
        with self._lock:  # by the thread that trains and the one that reads ahead
            if (known := self._pixels.get(key)) is not None:
                self._pixels.move_to_end(key)
                return known
        pixels = padded(_pixels(image, box, step), self.config.crop)
        tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(self.device)
        with self._lock:
            self._pixels[key] = tensor
            while self._most is not None and len(self._pixels) > self._most:
                self._pixels.popitem(last=False)
        return tensor


def _some(fields: list[Field], kinds: list[int], count: int, seed: int) -> list[int]:
    """Leave `count` blocks, of every class in turn, and take the others out of the fields' ids."""
    kept = draw_labels(pd.DataFrame({"class": kinds}), count, seed).index.to_numpy()
    table = np.zeros(len(kinds) + 1, np.int32)
    table[kept + 1] = np.arange(1, len(kept) + 1)
    for index, field in enumerate(fields):
        ids = torch.as_tensor(table, device=field.ids.device)[field.ids.long()]
        fields[index] = replace(field, ids=ids)
    return [kinds[i] for i in kept]


def reduced(pixels: np.ndarray, step: int) -> np.ndarray:
    """Mean over squares of `step` pixels of an image (h, w, 3) whose sides are multiples of it."""
    if step == 1:
        return pixels
    height, width = pixels.shape[0] // step, pixels.shape[1] // step
    return pixels.reshape(height, step, width, step, 3).mean((1, 3), dtype=np.float32)


def _pixels(image: Image, box: PixelBox, step: int) -> np.ndarray:
    """Pixels of a box, averaged over squares of `step`: read in bands, so that never all of it is there."""
    height, width = (-(-(box[2 + axis] - box[axis]) // step) * step for axis in (0, 1))
    band = max(BAND // (width * step), 1) * step
    parts = []
    for top in range(0, height, band):
        pixels = image.read(box[0] + top, box[1], min(band, height - top), width)
        if step > 1 or pixels.dtype != np.uint8:
            unit = reduced(to_float(pixels), step)
            # eight bits are enough for eight-bit images, not for the lower end of sixteen bits
            pixels = np.rint(unit * 255).astype(np.uint8) if pixels.dtype == np.uint8 else unit
        parts.append(pixels)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _touched(rows: Sequence[int], cols: Sequence[int], extents: Sequence[tuple[float, ...]]) -> np.ndarray:
    """Which of the parts between these cuts have a label: bool (len(rows) - 1, len(cols) - 1)."""
    found = np.zeros((len(rows) - 1, len(cols) - 1), bool)
    if not extents:
        return found
    top, left, bottom, right = np.array(extents, float).T
    first = [np.searchsorted(cuts, at, "right") - 1 for cuts, at in ((rows, top), (cols, left))]
    last = [np.searchsorted(cuts, at, "left") for cuts, at in ((rows, bottom), (cols, right))]
    spans = np.unique(np.stack([*first, *last], axis=1), axis=0)
    for i0, j0, i1, j1 in spans.tolist():
        found[max(i0, 0) : i1, max(j0, 0) : j1] = True
    return found


def every_label(study: Study, image_ids: Sequence[int]) -> tuple[dict[int, object], set[str]]:
    """Identity of every block, region and painted tile to what it says, and the coarse classes used."""
    keys: dict[int, object] = {}
    used: set[str] = set()
    for image_id in image_ids:
        blocks, regions = study.blocks(image_id), study.regions(image_id)
        used |= {*blocks["class"], *regions["class"]}
        said: dict[tuple[object, ...], object] = {
            ("block", int(b.i), int(b.j)): b[3] for b in blocks.itertuples()
        }
        said |= {("region", n): name for n, name in zip(regions["id"], regions["class"], strict=True)}
        said |= {("paint", *place): mark for place, mark in study.painted_marks(image_id).items()}
        keys |= {_number(image_id, place): what for place, what in said.items()}
    return keys, used


def _number(image_id: int, place: tuple[object, ...]) -> int:
    """Give a label a number: the same for the same place, and never that of the statistics."""
    return int.from_bytes(hashlib.blake2b(repr((image_id, place)).encode(), digest_size=7).digest(), "big")


def _cuts(length: int, side: int, block: float, start: float) -> list[int]:
    """Where to cut an image into parts of about `side` pixels without cutting through blocks."""
    period = max(int(side // block), 1) * block
    inner = np.round(start % block + np.arange(1, int(length // period) + 1) * period).astype(int)
    return [0, *(int(cut) for cut in inner if cut < length - 1), length]


def suited(study: Study, image_ids: Sequence[int]) -> int:
    """Power of two that makes most blocks 64 to 128 pixels wide, or leaves smaller ones as they are."""
    sides = [min(c - a, d - b) for image_id in image_ids for a, b, c, d in label_extents(study, image_id)]
    side = float(np.median(sides)) if sides else 64.0
    return int(2 ** max(0, np.floor(np.log2(side / 64.0)))) if side >= 128 else 1


def label_extents(study: Study, image_id: int) -> list[tuple[float, float, float, float]]:
    """Bounds (row0, col0, row1, col1) of every labelled block and region."""
    found: list[tuple[float, float, float, float]] = []
    grid = study.grid(image_id)
    if grid is not None:
        found += [grid.edges(int(b.i), int(b.j)) for b in study.blocks(image_id).itertuples()]
    for polygon in study.regions(image_id)["polygon"]:
        found.append((*polygon.min(axis=0), *polygon.max(axis=0)))
    return found
