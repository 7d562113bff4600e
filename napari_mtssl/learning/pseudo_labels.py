"""Targets for unlabelled samples: averaging, sharpening, thresholds, alignment, the mean teacher."""

from __future__ import annotations

import torch
from torch import nn

_TINY = 1e-8


def average(logits: torch.Tensor) -> torch.Tensor:
    """Mean class distribution over views: (K, N, C) logits to (N, C) probabilities.

    References
    ----------
    .. [1] Bashir et al., HydraMix-Net, 2020, Eq. 1.
    """
    return torch.softmax(logits, dim=-1).mean(0)


def sharpen(probs: torch.Tensor, temperature: float) -> torch.Tensor:
    """Lower the entropy: ``p_i^(1/T) / sum_j p_j^(1/T)``.

    Parameters
    ----------
    probs : Tensor, shape (..., C)
    temperature : float
        1 changes nothing; towards 0 the result becomes one-hot.

    Returns
    -------
    Tensor, shape (..., C)

    References
    ----------
    .. [1] Bashir et al., HydraMix-Net, 2020, Eq. 2; Berthelot et al., MixMatch, 2019, Eq. 7.
    """
    return torch.softmax(probs.clamp_min(_TINY).log() / temperature, dim=-1)


def hard_threshold(probs: torch.Tensor, threshold: float) -> torch.Tensor:
    """Weight 1 where the largest probability reaches the threshold, else 0: (N, C) to (N,).

    References
    ----------
    .. [1] Sohn et al., FixMatch, 2020, Eq. 4.
    """
    return (probs.amax(-1) >= threshold).to(probs.dtype)


class SoftThreshold(nn.Module):
    """Weight of a guess by how its confidence compares with the recent mean: a truncated Gaussian.

    Confident guesses weigh 1; below the running mean the weight falls off with the running variance.

    Parameters
    ----------
    classes : int
    momentum : float
        Share of the newest batch in the running mean and variance.
    spread : float
        Standard deviations taken for the fall-off is ``sqrt(var) / spread``.

    References
    ----------
    .. [1] Chen et al., SoftMatch, ICLR 2023, Eqs. 6 and 7.
    """

    mean: torch.Tensor
    var: torch.Tensor

    def __init__(self, classes: int, momentum: float = 0.05, spread: float = 2.0) -> None:
        super().__init__()
        self.momentum, self.spread = momentum, spread
        self.register_buffer("mean", torch.tensor(1.0 / classes))
        self.register_buffer("var", torch.tensor(1.0))

    @torch.no_grad()
    def forward(self, probs: torch.Tensor) -> torch.Tensor:
        """Take in a batch of guesses (N, C) and return their weights (N,)."""
        confidence = probs.amax(-1)
        self.mean.lerp_(confidence.mean(), self.momentum)
        self.var.lerp_(confidence.var(unbiased=False), self.momentum)
        below = (self.mean - confidence).clamp_min(0.0)
        return torch.exp(-(below**2) * self.spread**2 / (2.0 * self.var.clamp_min(_TINY)))


class DistributionAlignment(nn.Module):
    """Move guesses towards the class distribution that unlabelled data should have on average.

    ``p_c (target_c / running_c)^strength``, normalised; `running` follows the mean guess.

    Parameters
    ----------
    classes : int
    strength : float
        0 does nothing, 1 aligns fully. Between, the pool keeps some of a balance of its own.
    momentum : float
        Share of the newest batch in the running mean.

    References
    ----------
    .. [1] Berthelot et al., ReMixMatch, ICLR 2020, section 3.1.
    """

    running: torch.Tensor

    def __init__(self, classes: int, strength: float, momentum: float = 0.01) -> None:
        super().__init__()
        self.strength, self.momentum = strength, momentum
        self.register_buffer("running", torch.full((classes,), 1.0 / classes))

    @torch.no_grad()
    def forward(self, probs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Take in a batch of guesses (N, C) and return them aligned to the distribution `target` (C,)."""
        self.running.lerp_(probs.mean(0), self.momentum)
        aligned = probs * (target / self.running.clamp_min(_TINY)) ** self.strength
        return aligned / aligned.sum(-1, keepdim=True)


class MeanTeacher:
    """Exponential moving average of a network's weights and running statistics.

    Early on the average is the plain mean of all networks so far: ``decay = min(1 - 1 / (t + 1), decay)``.

    Parameters
    ----------
    teacher, student : nn.Module
        Of the same architecture.
    decay : float

    References
    ----------
    .. [1] Tarvainen and Valpola, Mean teachers are better role models, NeurIPS 2017, Eq. 1 and section 3.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, decay: float) -> None:
        self.decay = decay
        pairs = list(zip(teacher.state_dict().values(), student.state_dict().values(), strict=True))
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the student after its update number `step` (from 1)."""
        decay = min(1.0 - 1.0 / (step + 1), self.decay)
        torch._foreach_lerp_([a for a, _ in self._averaged], [b for _, b in self._averaged], 1.0 - decay)
        for mine, theirs in self._copied:
            mine.copy_(theirs)
