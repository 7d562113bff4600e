"""How many pixels of each exact class a block has: predicted counts, and the moments of a group of blocks.

Counts are shares of the block, between 0 and 1, so that blocks of all sizes and the statistics in per cent
speak the same language. Everything is float32 (or float64, if that is what comes in), also under autocast.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Counts:
    """What a network predicts about B blocks.

    Attributes
    ----------
    mean : Tensor, shape (B, L)
        Expected share of each class, ``mu``.
    variance : Tensor, shape (B, L)
        Of that share, if every pixel is drawn on its own, ``sigma^2``.
    pixel_variance : Tensor, shape (B, L)
        Mean over the pixels of ``p (1 - p)``: how undecided the pixels are.
    pixels : Tensor, shape (B,)
        Of each block; a block without pixels has counts of zero.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    pixel_variance: torch.Tensor
    pixels: torch.Tensor

    def __getitem__(self, chosen: torch.Tensor) -> Counts:
        return Counts(
            self.mean[chosen], self.variance[chosen], self.pixel_variance[chosen], self.pixels[chosen]
        )


def count(probs: torch.Tensor, ids: torch.Tensor, blocks: int) -> Counts:
    """Predicted counts of blocks of any shape, several in an image.

    Parameters
    ----------
    probs : Tensor, shape (N, L, H, W)
        Probabilities of the exact classes.
    ids : Tensor of int, shape (N, H, W)
        Block of each pixel, 1 to `blocks`; 0 is no block.
    blocks : int

    Returns
    -------
    Counts
        Of blocks 1 to `blocks`, in this order.

    References
    ----------
    .. [1] Label super resolution with inter-instance loss, 2019, Eqs. 1 to 3.
    """
    probs = _exact(probs)
    classes = probs.shape[1]
    flat = probs.movedim(1, -1).reshape(-1, classes)
    index = ids.reshape(-1).long()

    def summed(values: torch.Tensor) -> torch.Tensor:
        start = torch.zeros(blocks + 1, classes, dtype=values.dtype, device=values.device)
        return start.index_add(0, index, values)[1:]

    pixels = torch.bincount(index, minlength=blocks + 1)[1:].to(flat.dtype)
    area = pixels.clamp_min(1.0)[:, None]
    undecided = summed(flat * (1.0 - flat)) / area
    return Counts(summed(flat) / area, undecided / area, undecided, pixels)


@dataclass(frozen=True)
class Moments:
    """Mean and variance of the counts over groups of blocks.

    Attributes
    ----------
    mean, variance : Tensor, shape (G, L)
    pixel_variance : Tensor, shape (G, L)
        Mean over the group's blocks.
    size : Tensor, shape (G,)
        Blocks in each group.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    pixel_variance: torch.Tensor
    size: torch.Tensor


def moments(
    counts: Counts,
    group: torch.Tensor,
    groups: int,
    *,
    within: bool = True,
    unbiased: bool = True,
    remembered: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> Moments:
    """Mean and variance over each group of blocks, by the law of total variance.

    ``v = E[sigma^2] + Var[mu]``; nothing is sampled. The variance is computed about the mean: as
    ``E[mu^2] - E[mu]^2`` it would lose its digits where blocks are alike.

    Parameters
    ----------
    counts : Counts
        Of B blocks.
    group : Tensor of int, shape (B,)
        Group of each block, 0 to ``groups - 1``.
    groups : int
    within : bool
        With the variance within blocks (intra+inter), or without (inter).
    unbiased : bool
        Divide by one less than the blocks of the group.
    remembered : tuple of Tensor, optional
        Means (M, L) of earlier blocks and their groups (M,): they count, without gradient.

    References
    ----------
    .. [1] Label super resolution with inter-instance loss, 2019, Eqs. 7, 8, 10 and 11.
    """
    mu, member = counts.mean, group
    if remembered is not None:
        mu = torch.cat([mu, remembered[0].to(mu).detach()])
        member = torch.cat([group, remembered[1].to(group)])
    size = torch.bincount(member, minlength=groups).to(mu.dtype)
    mean = _grouped(mu, member, groups) / size.clamp_min(1.0)[:, None]
    spread = _grouped((mu - mean[member]) ** 2, member, groups)
    variance = spread / (size - float(unbiased)).clamp_min(1.0)[:, None]
    now = torch.bincount(group, minlength=groups).clamp_min(1).to(mu.dtype)[:, None]
    if within:
        variance = variance + _grouped(counts.variance, group, groups) / now
    return Moments(mean, variance, _grouped(counts.pixel_variance, group, groups) / now, size)


def _grouped(values: torch.Tensor, member: torch.Tensor, groups: int) -> torch.Tensor:
    start = torch.zeros(groups, values.shape[1], dtype=values.dtype, device=values.device)
    return start.index_add(0, member, values)


def _exact(values: torch.Tensor) -> torch.Tensor:
    """Half precision has three digits: too few for a variance of a millionth."""
    return values if values.dtype == torch.float64 else values.float()


class MemoryBank(nn.Module):
    """The latest predicted counts of each coarse class, for groups too small to have a spread of their own.

    Parameters
    ----------
    coarse, classes : int
        Number of coarse and of exact classes.
    size : int
        Blocks remembered for each coarse class; 0 remembers nothing.
    """

    means: torch.Tensor
    used: torch.Tensor
    cursor: torch.Tensor

    def __init__(self, coarse: int, classes: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("means", torch.zeros(coarse, max(size, 1), classes))
        self.register_buffer("used", torch.zeros(coarse, dtype=torch.long))
        self.register_buffer("cursor", torch.zeros(coarse, dtype=torch.long))

    @torch.no_grad()
    def add(self, mean: torch.Tensor, coarse: torch.Tensor) -> None:
        """Remember blocks' means (B, L), coarse classes (B,); the oldest are forgotten."""
        if self.size == 0:
            return
        for kind in coarse.unique():
            latest = mean[coarse == kind][-self.size :].detach().float()
            place = (self.cursor[kind] + torch.arange(len(latest), device=mean.device)) % self.size
            self.means[kind, place] = latest
            self.cursor[kind] = (self.cursor[kind] + len(latest)) % self.size
            self.used[kind] = (self.used[kind] + len(latest)).clamp_max(self.size)

    def remembered(self, coarse: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Remembered means (M, L) of these coarse classes (G,), and which of the G each belongs to (M,)."""
        place = torch.arange(self.means.shape[1], device=self.means.device)
        there = place < self.used[coarse][:, None]  # (G, size)
        group = torch.arange(len(coarse), device=self.means.device)[:, None].expand_as(there)
        return self.means[coarse][there], group[there]
