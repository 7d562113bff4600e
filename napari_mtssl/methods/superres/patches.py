"""The low resolution model: a classifier of whole blocks, as published before label super-resolution.

It answers for a block at once, how much of it is foreground; its answers, binned, can also be the coarse
labels that label super-resolution learns from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from napari_mtssl.learning.augment import ColourRange, jitter_colour
from napari_mtssl.methods.superres.bank import to_unit

SIDE = 64  # pixels that every block is resized to


class PatchNet(nn.Module):
    """A small convolutional classifier: shares (N, L) of the exact classes for blocks (N, 3, 64, 64)."""

    def __init__(self, classes: int, widths: Sequence[int] = (24, 48, 96, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        wide = 3
        for width in widths:
            layers += [nn.Conv2d(wide, width, 3, 2 if wide == 3 else 1, 1, bias=False), nn.BatchNorm2d(width)]
            layers += [nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, 1, 1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            wide = width
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Linear(wide, classes)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Logits (N, L) for blocks in [0, 1]."""
        return self.head(self.trunk((patches - 0.5) / 0.25).mean((2, 3)))


class PatchClassifier:
    """Learns shares of exact classes from blocks with a coarse class.

    Parameters
    ----------
    classes : int
        Exact classes.
    steps, batch_size : int
    learning_rate : float
    seed : int
    """

    def __init__(
        self,
        classes: int,
        steps: int = 400,
        batch_size: int = 48,
        learning_rate: float = 2e-3,
        seed: int = 0,
    ) -> None:
        self.steps, self.batch_size, self.learning_rate, self.seed = steps, batch_size, learning_rate, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = PatchNet(classes)

    def fit(
        self, blocks: torch.Tensor, shares: torch.Tensor, tell: Callable[[int, int], None] | None = None
    ) -> PatchClassifier:
        """Learn from blocks (N, 3, 64, 64), see `as_patches`, and shares (N, L) that their classes mean."""
        for step in self.learning(blocks, shares):
            if tell is not None:
                tell(step, self.steps)
        return self

    def learning(self, blocks: torch.Tensor, shares: torch.Tensor) -> Iterator[int]:
        """Learn step by step, as `fit` does; yields how many are done, and may be left before the end."""
        optimiser = torch.optim.AdamW(self.network.parameters(), self.learning_rate, weight_decay=0.02)
        colour = ColourRange(stain=0.15, contrast=0.15, brightness=0.08)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 1)
            chance = torch.get_rng_state()
        self.network.train()
        for step in range(self.steps):
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate * (
                    0.01 + 0.495 * (1 + math.cos(math.pi * step / self.steps))
                )
            with torch.random.fork_rng(devices=[]):  # whoever runs between two steps has his own chance
                torch.set_rng_state(chance)
                chosen = torch.randint(0, len(blocks), (self.batch_size,))
                batch = to_unit(blocks[chosen])
                quarter, mirror = int(torch.randint(0, 4, ())), int(torch.randint(0, 2, ()))
                batch = torch.rot90(batch, quarter, (-2, -1))
                batch = jitter_colour(batch.flip(-1) if mirror else batch, colour)
                loss = -(shares[chosen] * F.log_softmax(self.network(batch), 1)).sum(1).mean()
                chance = torch.get_rng_state()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            yield step + 1

    @torch.no_grad()
    def predict(self, blocks: torch.Tensor) -> np.ndarray:
        """Shares (N, L) of blocks (N, 3, 64, 64)."""
        self.network.eval()
        parts = [self.network(to_unit(part)).softmax(1) for part in blocks.split(256)]
        return (
            torch.cat(parts).numpy() if parts else np.zeros((0, self.network.head.out_features), np.float32)
        )


def as_patches(pieces: Sequence[np.ndarray]) -> torch.Tensor:
    """Pixels (h, w, 3) of blocks of any size, resized: (N, 3, 64, 64).

    Of eight bits they are uint8 and stay so; others are floats in [0, 1] and become float16, which keeps
    the levels of dark pixels.
    """
    if not pieces:
        return torch.zeros(0, 3, SIDE, SIDE, dtype=torch.uint8)
    found = []
    for piece in pieces:
        tensor = torch.from_numpy(np.ascontiguousarray(piece)).permute(2, 0, 1)[None]
        small = tensor.float()
        if tensor.shape[-2:] != (SIDE, SIDE):
            small = F.interpolate(small, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        found.append(small.round().to(torch.uint8) if tensor.dtype == torch.uint8 else small.half())
    if len({part.dtype for part in found}) > 1:
        found = [to_unit(part).half() for part in found]
    return torch.cat(found)
