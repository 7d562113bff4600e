"""The loss of one batch: statistics, guesses, paint, smoothness, each with its weight."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from napari_mtssl.methods.superres.bank import UNKNOWN, Crops
from napari_mtssl.methods.superres.config import SuperResConfig
from napari_mtssl.methods.superres.counts import MemoryBank, count
from napari_mtssl.methods.superres.guesses import fitted_probs
from napari_mtssl.methods.superres.losses import Matching, group_loss, intra_loss

RAMP = 0.1  # share of the run over which guesses gain their weight


class Objective:
    """Computes the named losses of a batch and their weights.

    Parameters
    ----------
    config : SuperResConfig
    """

    def __init__(self, config: SuperResConfig) -> None:
        self.config = config
        self.matching = Matching(config.divergence, config.log_term, config.deadzone)

    def wants_guesses(self, progress: float) -> bool:
        """Whether a step at `progress` learns from the teacher's guesses."""
        return self.config.guess_weight > 0 and progress >= self.config.guess_from

    def __call__(
        self,
        logits: torch.Tensor,
        guess: torch.Tensor | None,
        crops: Crops,
        eta: torch.Tensor,
        rho: torch.Tensor,
        memory: MemoryBank,
        progress: float,
    ) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Losses of one batch.

        Parameters
        ----------
        logits : Tensor, shape (N, L, H, W)
            Of the network.
        guess : Tensor, shape (N, L, H, W), optional
            Logits of the teacher.
        crops : Crops
        eta, rho : Tensor, shape (Z, L)
        memory : MemoryBank
        progress : float
        """
        config = self.config
        logits = logits.float()
        probs = logits.softmax(1)
        losses: dict[str, torch.Tensor] = {}
        weights: dict[str, float] = {}
        if config.statistics_weight and len(crops.coarse):
            counts = count(probs, crops.ids, len(crops.coarse))
            if config.loss == "intra":
                loss = intra_loss(counts, crops.coarse, eta, rho, self.matching)
            else:
                loss = group_loss(
                    counts,
                    crops.coarse,
                    eta,
                    rho,
                    self.matching,
                    within=config.loss == "intra+inter",
                    unbiased=config.unbiased,
                    least=config.least_group,
                    bank=memory,
                )
            losses["statistics"], weights["statistics"] = loss, config.statistics_weight
        if config.blocks_weight and len(crops.coarse):
            shares = torch.cat([eta.new_zeros(1, eta.shape[1]), eta[crops.coarse]])
            target = shares.argmax(1)[crops.ids]
            losses["blocks"] = pixel_loss(logits, target, crops.ids > 0)
            weights["blocks"] = config.blocks_weight
        if guess is not None:
            losses["guesses"] = self._guesses(logits, guess, crops, eta, rho)
            ramp = min(1.0, (progress - config.guess_from) / RAMP + 0.1)
            weights["guesses"] = config.guess_weight * ramp
        painted = crops.exact != UNKNOWN
        if config.exact_weight and bool(painted.any()):
            losses["exact"] = pixel_loss(logits, crops.exact.clamp_min(0), painted)
            weights["exact"] = config.exact_weight
        if config.smooth_weight:
            losses["smoothness"] = roughness(probs, crops.images, config.smooth_edge)
            weights["smoothness"] = config.smooth_weight
        if not losses:
            losses["statistics"], weights["statistics"] = logits.sum() * 0.0, 1.0
        return losses, weights

    def _guesses(
        self, logits: torch.Tensor, guess: torch.Tensor, crops: Crops, eta: torch.Tensor, rho: torch.Tensor
    ) -> torch.Tensor:
        """Cross-entropy against the teacher's pixels once they fit their blocks."""
        config = self.config
        mean, reach = eta[crops.coarse], config.guess_reach * rho[crops.coarse]
        fitted = fitted_probs(guess, crops.ids, (mean - reach).clamp_min(0.0), (mean + reach).clamp_max(1.0))
        trusted = crops.ids > 0
        if config.guess_free < 1:  # nothing is known of the shares there: only what is certain is learnt
            trusted = trusted | (fitted.amax(1) >= config.guess_free)
        trusted = trusted & (crops.exact == UNKNOWN)
        if config.guess_margin:
            best = fitted.topk(2, dim=1).values
            trusted = trusted & (best[:, 0] - best[:, 1] > config.guess_margin)
        if config.guess_hard:
            return pixel_loss(logits, fitted.argmax(1), trusted)
        loss = -(fitted * F.log_softmax(logits, dim=1)).sum(1)
        return (loss * trusted).sum() / trusted.sum().clamp_min(1)


def pixel_loss(logits: torch.Tensor, target: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the pixels `where` (N, H, W); 0 if there are none."""
    loss = F.cross_entropy(logits, target, reduction="none")
    return (loss * where).sum() / where.sum().clamp_min(1)


def roughness(probs: torch.Tensor, images: torch.Tensor, edge: float) -> torch.Tensor:
    """Total variation of the probabilities, cheap where the image has an edge of its own.

    Parameters
    ----------
    probs : Tensor, shape (N, L, H, W)
    images : Tensor, shape (N, 3, H, W)
    edge : float
        Grey difference at which the cost has fallen to ``1 / e``.
    """
    grey = images.mean(1, keepdim=True)
    total = probs.new_zeros(())
    for axis in (-1, -2):
        allowed = torch.exp(-grey.diff(dim=axis).abs() / edge)
        total = total + (probs.diff(dim=axis).abs() * allowed).mean()
    return total
