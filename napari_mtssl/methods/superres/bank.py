"""Training data of label super-resolution: fields of pixels with their blocks, and crops of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import find_objects

from napari_mtssl.methods.base import Samples

UNKNOWN = -1  # exact class of a pixel that nobody painted
DARK = 0.5  # images whose brightest pixels are darker than that do not use the range of their type
COMPLETE = 0.9  # of a block must be in a crop, or its share there would be somebody else's


@dataclass(frozen=True)
class Field:
    """A part of an image, at the resolution of the network.

    Attributes
    ----------
    image_id : int
    row0, col0 : int
        Its corner, in level-0 pixels.
    pixels : Tensor, shape (3, h, w), uint8, or float in [0, 1]
    ids : Tensor of int32, shape (h, w)
        Block of each pixel, counted through the bank from 1; 0 is none.
    exact : Tensor of int16, shape (h, w), optional
        Exact class of each pixel, `UNKNOWN` where nobody painted.
    """

    image_id: int
    row0: int
    col0: int
    pixels: torch.Tensor
    ids: torch.Tensor
    exact: torch.Tensor | None = None


@dataclass(frozen=True)
class Crops:
    """One batch.

    Attributes
    ----------
    images : Tensor, shape (N, 3, S, S), values in [0, 1]
    ids : Tensor of int64, shape (N, S, S)
        Block of each pixel, counted through the batch from 1.
    coarse : Tensor of int64, shape (n,)
        Coarse class of each block of the batch.
    exact : Tensor of int64, shape (N, S, S)
    """

    images: torch.Tensor
    ids: torch.Tensor
    coarse: torch.Tensor
    exact: torch.Tensor

    def __add__(self, other: Crops) -> Crops:
        shifted = torch.where(other.ids > 0, other.ids + len(self.coarse), 0)
        return Crops(
            torch.cat([self.images, other.images]),
            torch.cat([self.ids, shifted]),
            torch.cat([self.coarse, other.coarse]),
            torch.cat([self.exact, other.exact]),
        )


class BlockBank(Samples):
    """Fields and blocks, resident on the device.

    Parameters
    ----------
    fields : sequence of Field
        At least as large as the crops.
    coarse : array of int, shape (B,)
        Coarse class of each block.
    eta, rho : array, shape (Z, L)
        Statistics: mean and spread of each exact class for each coarse class.
    device : torch.device
    downsample : int
        Level-0 pixels to a pixel of the fields.
    keys : mapping, optional
        Identity of each label to what it says; by default block number to class.

    Attributes
    ----------
    boxes : Tensor of int64, shape (B, 5)
        Field of each block, and its bounds ``row0, col0, row1, col1`` there.
    area : Tensor, shape (B,)
        Pixels.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        coarse: np.ndarray,
        eta: np.ndarray,
        rho: np.ndarray,
        device: torch.device,
        downsample: int = 1,
        keys: Mapping[int, Any] | None = None,
    ) -> None:
        self.fields = list(fields)
        self.coarse = torch.as_tensor(np.asarray(coarse, np.int64), device=device)
        self.eta, self.rho = torch.as_tensor(eta, device=device), torch.as_tensor(rho, device=device)
        self.downsample = downsample
        self.boxes, self.area = bounds_of(self.fields, len(self.coarse), device)
        painted = [i for i, field in enumerate(self.fields) if field.exact is not None]
        self.painted = torch.tensor(painted, dtype=torch.long)
        self._keys = dict(enumerate(np.asarray(coarse).tolist())) if keys is None else dict(keys)
        self.n_labelled = len(self.coarse) + len(self.painted)
        self.n_unlabelled = 0

    def advance(self, step: int) -> None:
        """Take in what was read until a step: nothing, since all of it is here; see `RollingBank`."""

    def keys(self) -> Mapping[int, Any]:
        """Identity of each label to what it says."""
        return self._keys

    def pixels(self, count: int = 64, side: int = 128) -> torch.Tensor:
        """Give some pixels (N, 3, s, s) in [0, 1] from all fields, for the normalisation."""
        step = max(1, len(self.fields) // count)
        parts = [field.pixels for field in self.fields[::step]]
        side = min(side, *(min(part.shape[-2:]) for part in parts))
        tops = [((p.shape[-2] - side) // 2, (p.shape[-1] - side) // 2) for p in parts]
        return to_unit(
            torch.stack([p[:, r : r + side, c : c + side] for p, (r, c) in zip(parts, tops, strict=True)])
        )

    def around(self, blocks: torch.Tensor, size: int, turned: bool = True) -> Crops:
        """Crops of side `size`, each with one of these blocks in it, on the block's own grid.

        Blocks that a crop cuts through are not counted. All randomness comes from torch's default generator.
        """
        where = []
        for index, *bounds in self.boxes[blocks].tolist():
            shape = self.fields[index].ids.shape
            row = _corner(bounds[0], bounds[2], size, shape[0])
            col = _corner(bounds[1], bounds[3], size, shape[1])
            where.append((index, row, col))
        return self._cut(where, size, turned)

    def around_paint(self, count: int, size: int, turned: bool = True) -> Crops:
        """Crops of side `size`, each around a painted pixel."""
        where = []
        for index in self.painted[torch.randint(0, len(self.painted), (count,))].tolist():
            exact = self.fields[index].exact
            assert exact is not None
            places = torch.nonzero(exact != UNKNOWN)
            at = places[int(torch.randint(0, len(places), ()))].tolist()
            shift = torch.randint(0, size, (2,)).tolist()
            row, col = (
                min(max(p - s, 0), side - size) for p, s, side in zip(at, shift, exact.shape, strict=True)
            )
            where.append((index, row, col))
        return self._cut(where, size, turned)

    def _cut(self, where: Sequence[tuple[int, int, int]], size: int, turned: bool) -> Crops:
        images, ids, exacts, kinds, seen = [], [], [], [], 0
        for index, row, col in where:
            field = self.fields[index]
            here = (slice(row, row + size), slice(col, col + size))
            local = field.ids[here].long()
            inside = torch.bincount(local.ravel(), minlength=len(self.coarse) + 1)[1:]
            whole = inside >= COMPLETE * self.area.clamp_max(size * size)
            (kept,) = torch.nonzero(whole & (inside > 0), as_tuple=True)
            number = torch.zeros(len(self.coarse) + 1, dtype=torch.long, device=local.device)
            number[kept + 1] = torch.arange(1, len(kept) + 1, device=local.device) + seen
            seen += len(kept)
            kinds.append(self.coarse[kept])
            painted = field.exact[here].long() if field.exact is not None else torch.full_like(local, UNKNOWN)
            parts = [to_unit(field.pixels[(slice(None), *here)]), number[local], painted]
            if turned:
                quarter, mirror = int(torch.randint(0, 4, ())), int(torch.randint(0, 2, ()))
                parts = [torch.rot90(part, quarter, (-2, -1)) for part in parts]
                parts = [part.flip(-1) for part in parts] if mirror else parts
            images.append(parts[0])
            ids.append(parts[1])
            exacts.append(parts[2])
        return Crops(torch.stack(images), torch.stack(ids), torch.cat(kinds), torch.stack(exacts))


def to_unit(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels as float in [0, 1]."""
    return pixels.float() / 255.0 if pixels.dtype == torch.uint8 else pixels.float()


def gain_for(pixels: torch.Tensor) -> float:
    """Brightness to multiply pixels in [0, 1] by: 1, unless all of them are dark.

    Cameras of 12 bits fill a sixteenth of 16: such pixels would be lost on changes of stain and brightness
    that are meant for the whole range.
    """
    sample = pixels.flatten()[:: max(1, pixels.numel() // 1_000_000)].float()
    top = float(torch.quantile(sample, 0.999))
    return 1.0 if top >= DARK or top <= 0 else 1.0 / top


def padded(pixels: np.ndarray, least: int, fill: int | None = None) -> np.ndarray:
    """Make an array (h, w) or (h, w, 3) at least `least` wide and high: by reflection, or with a value."""
    grow = [(0, max(0, least - side)) for side in pixels.shape[:2]] + [(0, 0)] * (pixels.ndim - 2)
    if fill is None:
        return np.pad(pixels, grow, mode="symmetric")
    return np.pad(pixels, grow, constant_values=fill)


def _corner(low: int, high: int, size: int, limit: int) -> int:
    """First pixel of a crop around ``low .. high`` that begins where some block of this size may begin."""
    side = high - low
    if side >= size:
        return int(torch.randint(low, max(low, min(high, limit) - size) + 1, ()))
    steps = int(torch.randint(0, (size - side) // side + 1, ()))
    return min(max(low - steps * side, 0), limit - size)


def bounds_of(
    fields: Sequence[Field], blocks: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find boxes and areas of all blocks; a block lies in one field."""
    boxes = torch.zeros(blocks, 5, dtype=torch.long)
    area = torch.zeros(blocks, dtype=torch.long)
    for index, field in enumerate(fields):
        ids = field.ids.cpu().numpy()
        last = int(ids.max(initial=0))
        if last == 0:
            continue
        before = int(ids[ids > 0].min()) - 1  # numbers in a field follow each other
        own = np.maximum(ids - before, 0)
        pixels = np.bincount(own.ravel())[1:]
        number = np.flatnonzero(pixels)
        found = find_objects(own)
        sides = [(rows.start, cols.start, rows.stop, cols.stop) for rows, cols in (found[n] for n in number)]
        boxes[before + number, 0] = index
        boxes[before + number, 1:] = torch.as_tensor(sides)
        area[before + number] = torch.as_tensor(pixels[number])
    return boxes.to(device), area.to(device)
