"""Reading a study's blocks, regions, statistics and exact paint into a `BlockBank`."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from napari_mtssl.images import to_float
from napari_mtssl.methods.base import MethodError, draw_labels
from napari_mtssl.methods.superres.bank import UNKNOWN, BlockBank, Field, padded
from napari_mtssl.methods.superres.config import SuperResConfig
from napari_mtssl.methods.superres.statistics import as_arrays

if TYPE_CHECKING:
    from napari_mtssl.images import Image, ImagePool
    from napari_mtssl.study import Study
    from napari_mtssl.study.records import Split

FIELD = 1024  # largest side of a field, in pixels of the network
PixelBox = tuple[int, int, int, int]


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
        self._pixels: dict[tuple[int, PixelBox, int], torch.Tensor] = {}

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
            raise MethodError(
                f"No block of the images in the split '{split}' has a class: lay a grid over an image and "
                "give some blocks a class."
            )
        step = downsample or self.config.downsample or suited(study, coarse)
        fields: list[Field] = []
        kinds: list[int] = []
        keys: dict[int, object] = {}
        for image_id in sorted({*coarse, *painted}):
            image = images(study.image(image_id))
            for box in self._boxes(study, image_id, image, step):
                field = self._field(study, image_id, image, box, step, kinds, keys)
                if field is not None:
                    fields.append(field)
        if not fields:
            raise MethodError(f"No label of the split '{split}' lies on an image.")
        if self.config.labels and split == "train":
            kinds = _some(fields, kinds, self.config.labels, self.config.seed)
        eta, rho = as_arrays(
            study.statistics(),
            self.block_classes,
            self.mask_classes,
            sorted({self.block_classes[k] for k in kinds}),
        )
        keys[-1] = hashlib.blake2b(eta.tobytes() + rho.tobytes()).hexdigest()
        return BlockBank(fields, np.array(kinds, np.int64), eta, rho, self.device, step, keys)

    def _boxes(self, study: Study, image_id: int, image: Image, step: int) -> list[PixelBox]:
        """Parts of an image, in level-0 pixels, that together hold all its labels."""
        grid = study.grid(image_id)
        rows = _cuts(image.height, FIELD * step, *((grid.height, grid.row0) if grid else (1.0, 0.0)))
        cols = _cuts(image.width, FIELD * step, *((grid.width, grid.col0) if grid else (1.0, 0.0)))
        found = [
            (row0, col0, row1, col1)
            for row0, row1 in itertools.pairwise(rows)
            for col0, col1 in itertools.pairwise(cols)
        ]
        if len(found) == 1:
            return found
        whole = study.mask_state(image_id).complete
        extents = label_extents(study, image_id)
        return [
            box
            for box in found
            if whole
            or any(a < box[2] and c > box[0] and b < box[3] and d > box[1] for a, b, c, d in extents)
            or study.mask(image_id, box).any()
        ]

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
        if key not in self._pixels:
            height, width = (-(-(box[2 + axis] - box[axis]) // step) * step for axis in (0, 1))
            pixels = image.read(box[0], box[1], height, width)
            if step > 1 or pixels.dtype != np.uint8:
                unit = reduced(to_float(pixels), step)
                # eight bits are enough for eight-bit images, not for the lower end of sixteen bits
                pixels = np.rint(unit * 255).astype(np.uint8) if pixels.dtype == np.uint8 else unit
            pixels = padded(pixels, self.config.crop)
            self._pixels[key] = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(
                self.device
            )
        return self._pixels[key]


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
