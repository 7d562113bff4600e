"""Losses summed on the device and read only when somebody looks: no synchronisation in a training step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch


class LossMeter:
    """Mean of named losses since the last reading.

    A NaN or an infinity in any loss stays in its sum, so the sum is also the flag that something went wrong.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], tuple[torch.Tensor, int]] = {}
        self.weights: dict[str, float | torch.Tensor] = {}

    def add(
        self,
        losses: Mapping[str, torch.Tensor],
        weights: Mapping[str, float | torch.Tensor],
        total: torch.Tensor,
    ) -> None:
        """Take in one step's scalars without reading them."""
        names = (*losses, "total")
        values = torch.stack([x.detach().float() for x in (*losses.values(), total)])
        if names in self._sums:
            running, count = self._sums[names]
            self._sums[names] = (running.add_(values), count + 1)
        else:
            self._sums[names] = (values, 1)
        self.weights = dict(weights)

    def read(self) -> dict[str, float]:
        """Means since the last reading, ``total`` among them; empty if there was no step. Starts anew.

        A step need not have all terms; each is averaged over the steps that had it.
        """
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for names, (running, count) in self._sums.items():
            for name, value in zip(names, running.tolist(), strict=True):
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + count
        self.reset()
        return {name: value / counts[name] for name, value in sums.items()}

    def reset(self) -> None:
        """Forget what was not read."""
        self._sums = {}


def all_finite(values: Mapping[str, float]) -> bool:
    """Whether no value is NaN or infinite."""
    return all(math.isfinite(x) for x in values.values())


class SpeedMeter:
    """Steps per second, smoothed over reports; pauses do not count.

    Parameters
    ----------
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._steps = 0
        self._seconds_per_step = 0.0

    def restart(self) -> None:
        """Begin a new interval: what passed since the last one was no training."""
        self._since, self._steps = self._clock(), 0

    def step(self) -> None:
        """Count one step."""
        self._steps += 1

    def read(self, remaining: int) -> tuple[float, float]:
        """Return steps per second and seconds left for `remaining` steps; begins a new interval."""
        if self._steps:
            recent = max(self._clock() - self._since, 1e-9) / self._steps
            known = self._seconds_per_step
            self._seconds_per_step = recent if known == 0.0 else 0.8 * known + 0.2 * recent
        self.restart()
        if self._seconds_per_step == 0.0:
            return 0.0, 0.0
        return 1.0 / self._seconds_per_step, remaining * self._seconds_per_step
