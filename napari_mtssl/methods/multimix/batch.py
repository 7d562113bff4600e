"""What one step of MultiMix draws and what steps remember."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from napari_mtssl.learning.pseudo_labels import DistributionAlignment, SoftThreshold


@dataclass
class Batch:
    """The five streams of a step, normalised, and what is known or guessed of them."""

    seg_labelled: torch.Tensor | None = None
    seg_unlabelled: torch.Tensor | None = None
    cls_labelled: torch.Tensor | None = None
    cls_weak: torch.Tensor | None = None
    cls_strong: torch.Tensor | None = None
    masks: torch.Tensor | None = None
    known: torch.Tensor | None = None
    guessed_masks: torch.Tensor | None = None
    guessed_inside: torch.Tensor | None = None
    classed: torch.Tensor | None = None
    unclassed: torch.Tensor | None = None
    guessed: list[torch.Tensor] | None = None

    def names(self) -> list[str]:
        """Streams that this step has."""
        every = ("seg_labelled", "seg_unlabelled", "cls_labelled", "cls_weak", "cls_strong")
        return [name for name in every if getattr(self, name) is not None]

    def streams(self) -> list[torch.Tensor]:
        """Images of the streams of `names`."""
        return [getattr(self, name) for name in self.names()]


class Memory(nn.Module):
    """What training steps remember from one to the next, besides weights."""

    mean: torch.Tensor
    std: torch.Tensor
    fitted: torch.Tensor
    updates: torch.Tensor

    def __init__(self, channels: int, classes: Sequence[int], alignment: float) -> None:
        super().__init__()
        self.trust = nn.ModuleList(SoftThreshold(n) for n in classes)
        self.align = nn.ModuleList(DistributionAlignment(n, alignment) for n in classes)
        self.alignment = alignment
        self.register_buffer("updates", torch.tensor(0))
        self.register_buffer("mean", torch.full((1, channels, 1, 1), 0.5))
        self.register_buffer("std", torch.full((1, channels, 1, 1), 0.25))
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def fit(self, images: torch.Tensor) -> None:
        """Take the channels' mean and deviation."""
        self.mean.copy_(images.mean((0, 2, 3), keepdim=True))
        self.std.copy_(images.std((0, 2, 3), keepdim=True).clamp_min(1e-3))
        self.fitted.fill_(True)

    def aligned(self, head: int, probs: torch.Tensor, target: torch.Tensor | None) -> torch.Tensor:
        """Move guesses (N, C) towards the classes' shares, or towards equal shares."""
        if not self.alignment:
            return probs
        if target is None:
            target = torch.full_like(probs[0], 1.0 / probs.shape[1])
        return self.align[head](probs, target)


def split(features: Sequence[torch.Tensor], sizes: Sequence[int]) -> list[list[torch.Tensor]]:
    """Levels of features of all streams to features of each stream."""
    return [list(parts) for parts in zip(*(level.split(list(sizes)) for level in features), strict=True)]


def known_cross_entropy(logits: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over the images that have a class of this kind."""
    known = (index >= 0).to(logits.dtype)
    cost = F.cross_entropy(logits, index.clamp_min(0), reduction="none")
    return (cost * known).sum() / known.sum().clamp_min(1.0)


def shares_of(index: torch.Tensor, classes: int) -> torch.Tensor:
    """Share of each class among labelled images."""
    counts = torch.bincount(index[index >= 0], minlength=classes).float()
    return counts / counts.sum().clamp_min(1.0)
