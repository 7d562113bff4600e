"""Statistics matching: how far predicted counts are from what a coarse class says about them.

All distributions are Gaussians of a class's share of a block: predicted ``N(m, v)``, known ``N(eta, rho^2)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from napari_mtssl.methods.superres.counts import Counts, MemoryBank, Moments, moments

Divergence = Literal["overlap", "kl", "w2"]
LogTerm = Literal["none", "pixel", "paper"]

FLOOR = 1e-4  # added to both variances, so that none is zero and the best predicted one is exactly rho^2
PIXEL_FLOOR = 0.03  # of the mean pixel variance in the logarithm, as in the authors' code
RHO_MIN = 0.03  # no coarse class is surer than three per cent of a block


@dataclass(frozen=True)
class Matching:
    """How distributions are compared.

    Attributes
    ----------
    divergence : {"overlap", "kl", "w2"}
        ``overlap`` is the negative logarithm of the integral of the product of both (the paper's reference
        code); its best predicted variance is 0, not ``rho^2``. ``kl`` and ``w2`` are best at ``rho^2``.
    log_term : {"none", "pixel", "paper"}
        ``paper``: ``log(2 pi (v + rho^2)) / 2``, a part of the overlap alone, numerically constant for large
        blocks. ``pixel``: ``log(mean p (1 - p) + 0.03)``, which makes pixels decide, added to any divergence.
    deadzone : bool
        Means within one ``rho`` of ``eta`` cost nothing.
    """

    divergence: Divergence = "kl"
    log_term: LogTerm = "none"
    deadzone: bool = False

    def __call__(
        self,
        mean: torch.Tensor,
        variance: torch.Tensor,
        eta: torch.Tensor,
        rho: torch.Tensor,
        pixel_variance: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Distance of each predicted from its known distribution, averaged over classes: (..., L) to (...,).

        The mean over classes, not the sum: two classes that complement each other say the same thing twice.
        """
        off = mean - eta
        if self.deadzone:
            off = (off.abs() - rho).clamp_min(0.0)
        distance = divergence(off**2, variance, rho**2, self.divergence, self.log_term == "paper")
        if self.log_term == "pixel":
            if pixel_variance is None:
                raise ValueError("the log term 'pixel' needs the pixels' variance")
            distance = distance + torch.log(pixel_variance + PIXEL_FLOOR)
        return distance.mean(-1)


def divergence(
    square: torch.Tensor, v: torch.Tensor, rho2: torch.Tensor, kind: Divergence, log: bool = True
) -> torch.Tensor:
    """Distance of ``N(m, v)`` from ``N(eta, rho^2)``, with ``square = (m - eta)^2``, element by element.

    Parameters
    ----------
    square, v, rho2 : Tensor, broadcastable
    kind : {"overlap", "kl", "w2"}
        ``overlap``: ``square / (v + rho2) / 2 + log(2 pi (v + rho2)) / 2``. ``kl``: Kullback-Leibler
        divergence of the predicted from the known one. ``w2``: squared Wasserstein distance.
    log : bool
        Of the overlap, whether with the logarithm.

    References
    ----------
    .. [1] Label super resolution with inter-instance loss, 2019, Eqs. 5 and 9; Malkin et al., Label
       super-resolution networks, ICLR 2019, Eq. 7.
    """
    if kind == "overlap":
        total = v + rho2
        distance = 0.5 * square / total
        return distance + 0.5 * torch.log(2.0 * math.pi * total) if log else distance
    v, rho2 = v + FLOOR, rho2 + FLOOR
    if kind == "kl":
        ratio = v / rho2
        return 0.5 * (ratio - 1.0 - torch.log(ratio) + square / rho2)
    return square + (v.sqrt() - rho2.sqrt()) ** 2


def intra_loss(
    counts: Counts, coarse: torch.Tensor, eta: torch.Tensor, rho: torch.Tensor, matching: Matching
) -> torch.Tensor:
    """Each block on its own must have the counts of its coarse class.

    Parameters
    ----------
    counts : Counts
        Of B blocks.
    coarse : Tensor of int, shape (B,)
    eta, rho : Tensor, shape (Z, L)
        Mean and spread of each exact class for each coarse class.
    matching : Matching

    Returns
    -------
    Tensor, scalar
        Mean over the blocks; 0 without any.

    References
    ----------
    .. [1] Label super resolution with inter-instance loss, 2019, Eq. 5.
    """
    if len(coarse) == 0:
        return counts.mean.sum() * 0.0
    variance, undecided = counts.variance, counts.pixel_variance
    return matching(
        counts.mean, variance, eta[coarse].to(variance), rho[coarse].to(variance), undecided
    ).mean()


def group_loss(
    counts: Counts,
    coarse: torch.Tensor,
    eta: torch.Tensor,
    rho: torch.Tensor,
    matching: Matching,
    *,
    within: bool = True,
    unbiased: bool = True,
    least: int = 5,
    bank: MemoryBank | None = None,
) -> torch.Tensor:
    """All blocks of a coarse class together must have the distribution of counts that it stands for.

    Parameters
    ----------
    counts, coarse, eta, rho, matching
        As for `intra_loss`.
    within : bool
        intra+inter (with the variance within blocks), or inter (without).
    unbiased : bool
        Estimate of the variance between blocks.
    least : int
        Groups smaller than this have no spread to speak of: their blocks are matched one by one.
    bank : MemoryBank, optional
        Earlier blocks that count as members of the groups; it is given the present ones.

    Returns
    -------
    Tensor, scalar
        Mean over blocks: each group counts as often as it has blocks.

    References
    ----------
    .. [1] Label super resolution with inter-instance loss, 2019, Eqs. 9 to 11.
    """
    if len(coarse) == 0:
        return counts.mean.sum() * 0.0
    kinds, group, members = coarse.unique(return_inverse=True, return_counts=True)
    remembered = bank.remembered(kinds) if bank is not None and bank.size else None
    found: Moments = moments(
        counts, group, len(kinds), within=within, unbiased=unbiased, remembered=remembered
    )
    large = found.size >= least
    known = eta[kinds].to(found.mean), rho[kinds].to(found.mean)
    distance = matching(found.mean, found.variance, *known, found.pixel_variance)
    total = (distance * members)[large].sum()
    alone = ~large[group]
    if alone.any():
        total = total + intra_loss(counts[alone], coarse[alone], eta, rho, matching) * alone.sum()
    if bank is not None:
        bank.add(counts.mean, coarse)
    return total / len(coarse)
