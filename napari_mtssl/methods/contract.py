"""What passes between a method and the engine: geometry of a prediction, losses of a step, samples."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Geometry:
    """How a fully convolutional prediction lies on the pixels.

    A tile comes with `halo` extra pixels on each side. Output element ``(i, j)`` is centred at pixel
    ``(halo + (stride - 1) / 2 + i * stride, ...)`` of the tile, so outputs exactly cover the tile without its
    halo.

    Attributes
    ----------
    stride : int
        Input pixels between neighbouring output elements.
    halo : int
        Context, in pixels, that a tile needs on each side so that stitched tiles equal the whole image.
    window : int
        Side of the square of pixels that one output element classifies.
    margin : int
        Pixels beyond a box that `Method.decode` must see to find what is inside as if the box had no border.
    align : int
        Corners of tiles are multiples of this, so that a network that pools meets the same grid in every
        tile; `halo` must be a multiple of it too.
    """

    stride: int
    halo: int
    window: int
    margin: int
    align: int = 1

    @property
    def unit(self) -> int:
        """Pixels that corners and sides of a predicted box are multiples of."""
        return math.lcm(self.stride, self.align)


@dataclass
class StepOutput:
    """What one forward pass of a training step gives the loop.

    Attributes
    ----------
    losses : dict of str to Tensor
        Unweighted scalar losses, on the device, with gradient.
    weights : dict of str to float
        Weight of each loss in the total.
    pseudo : dict of str to Tensor
        Detached targets guessed for the unlabelled part of the batch, in the method's own words for its
        `Method.describe`; empty when the step used no unlabelled samples or has none to tell.
    tasks : dict of str to str
        Task (of `Method.tasks`) of each loss, for a balancer. A loss of no task keeps its weight; a task
        without labels in this batch has no loss here.
    """

    losses: dict[str, torch.Tensor]
    weights: dict[str, float]
    pseudo: dict[str, torch.Tensor] = field(default_factory=dict)
    tasks: dict[str, str] = field(default_factory=dict)


class Samples(ABC):
    """Training data of one method, resident on the device."""

    n_labelled: int
    n_unlabelled: int

    @abstractmethod
    def keys(self) -> Mapping[int, Any]:
        """Labelled sample identity to its target, so that two loads can be compared."""
