"""A bank for slides: of very many labelled fields some are in memory, and others take their place in turn.

All labels count as labels of the bank; batches are drawn from the fields that are there at a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from napari_mtssl.images.rotation import Rotation
from napari_mtssl.methods.superres.bank import BlockBank, Field, bounds_of

HELD = 40  # fields in memory: of 1024 x 1024 pixels with their blocks and paint, 9 MB each


@dataclass
class Piece:
    """A field with its labels; its blocks are numbered from `first` + 1.

    Attributes
    ----------
    field : Field
    kinds : ndarray of int, shape (n,)
        Coarse class of each block.
    boxes, area : Tensor
        Bounds ``row0, col0, row1, col1`` and pixels of each block.
    first : int
    """

    field: Field
    kinds: np.ndarray
    boxes: torch.Tensor
    area: torch.Tensor
    first: int = 0

    @classmethod
    def of(cls, field: Field, kinds: list[int]) -> Piece:
        """Measure the blocks of a field, which are numbered from 1."""
        boxes, area = bounds_of([field], len(kinds), torch.device("cpu"))
        return cls(field, np.array(kinds, np.int64), boxes[:, 1:], area)

    def numbered_from(self, first: int) -> Field:
        """Give the field with its blocks numbered from `first` + 1, in place: no copy is held."""
        ids = self.field.ids
        if first != self.first:
            ids.add_((ids > 0).to(ids.dtype) * (first - self.first))
            self.first = first
        return self.field


class RollingBank(BlockBank):
    """The fields of a study's slides as they are at a step.

    Parameters
    ----------
    rotation : Rotation of Piece or None
        None where a field turned out to have no label.
    eta, rho : array, shape (Z, L)
    device : torch.device
    downsample : int
    keys : mapping
        Identity of every label of the study to what it says.
    heard : callable
        Told the step whenever it advances.
    """

    def __init__(
        self,
        rotation: Rotation[Piece | None],
        eta: np.ndarray,
        rho: np.ndarray,
        device: torch.device,
        downsample: int,
        keys: Mapping[int, Any],
        heard: Callable[[int], None],
    ) -> None:
        self.rotation, self._heard = rotation, heard
        super().__init__([], np.zeros(0, np.int64), eta, rho, device, downsample, keys)
        self._assemble()
        self.n_labelled = len(self._keys)

    def advance(self, step: int) -> None:
        """Take in what was read until a step.

        Raises
        ------
        ImageError
            If a slide cannot be read.
        """
        self._heard(step)
        if list(self.rotation.until(step)):
            self._assemble()

    def _assemble(self) -> None:
        """Count the blocks of all fields through."""
        device = self.coarse.device
        fields: list[Field] = []
        kinds, boxes, area, seen = [], [], [], 0
        for piece in self.rotation.parts:
            if piece is None:
                continue
            index = torch.full((len(piece.kinds), 1), len(fields), dtype=torch.long)
            fields.append(piece.numbered_from(seen))
            kinds.append(piece.kinds)
            boxes.append(torch.cat([index, piece.boxes], dim=1))
            area.append(piece.area)
            seen += len(piece.kinds)
        none = torch.zeros(0, 5, dtype=torch.long)
        self.fields = fields
        self.coarse = torch.as_tensor(np.concatenate([*kinds, np.zeros(0, np.int64)]), device=device)
        self.boxes = torch.cat([*boxes, none]).to(device)
        self.area = torch.cat([*area, none[:, 0]]).to(device)
        self.painted = torch.tensor(
            [i for i, f in enumerate(fields) if f.exact is not None], dtype=torch.long
        )
