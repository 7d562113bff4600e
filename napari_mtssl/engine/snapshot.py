"""The last good weights, kept in memory to return to when a loss is not finite."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from napari_mtssl.methods.base import Method


@dataclass(frozen=True)
class Snapshot:
    """Copies of weights and optimiser state after `step` updates."""

    step: int
    state: dict[str, torch.Tensor]
    optimiser: dict[str, Any]

    @classmethod
    def take(cls, step: int, method: Method, optimiser: torch.optim.Optimizer) -> Snapshot | None:
        """Copy the present state, or return None if it holds a value that is not finite."""
        state = {k: v.detach().clone() for k, v in method.state().items()}
        moments = copy.deepcopy(optimiser.state_dict())
        inner = (v for entries in moments["state"].values() for v in entries.values())
        tensors = [*state.values(), *(v for v in inner if isinstance(v, torch.Tensor))]
        return cls(step, state, moments) if tensors_finite(tensors) else None

    def restore(self, method: Method, optimiser: torch.optim.Optimizer) -> None:
        """Put the copies back; the snapshot stays good for another time."""
        method.load_state(self.state)
        optimiser.load_state_dict(copy.deepcopy(self.optimiser))


@torch.no_grad()
def tensors_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether all elements are finite; reads the device once.

    A sum is finite only if every summand is, and needs no copy of the tensor. It is taken in float64
    on the CPU, where large but finite weights cannot overflow it.
    """
    sums = [
        x.sum(dtype=torch.float32 if x.device.type == "mps" else torch.float64)
        for x in tensors
        if x.is_floating_point()
    ]
    return not sums or bool(torch.isfinite(torch.stack([s.to(sums[0].device) for s in sums])).all())
