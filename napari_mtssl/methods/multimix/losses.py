"""MultiMix's losses on masks. Masks are soft: a pixel holds the share of it that each class covers."""

from __future__ import annotations

import torch
from torch.nn import functional as F

SMOOTH = 1.0
_TINY = 1e-6


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Foreground logits (N, K, H, W) to probabilities (N, K + 1, H, W), the background's first.

    The background's logit is fixed at 0: with one class this is the sigmoid.
    """
    return F.softmax(F.pad(logits.float(), (0, 0, 0, 0, 1, 0)), dim=1)


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Logarithm of `probabilities`."""
    return F.log_softmax(F.pad(logits.float(), (0, 0, 0, 0, 1, 0)), dim=1)


def dice_loss(
    predicted: torch.Tensor, target: torch.Tensor, known: torch.Tensor | None = None
) -> torch.Tensor:
    """One minus the Dice coefficient of each image and class, mean of all.

    ``1 - (2 sum p g + 1) / (sum p + sum g + 1)``: two empty masks agree.

    Parameters
    ----------
    predicted, target : Tensor, shape (N, K, H, W)
        Probabilities of the foreground classes.
    known : Tensor, shape (N, 1, H, W), optional
        Weight of each pixel; 0 where nobody said anything.

    References
    ----------
    .. [1] Milletari et al., V-Net, 3DV 2016; Haque et al., MultiMix, ISBI 2021.
    """
    if known is not None:
        predicted, target = predicted * known, target * known
    overlap = (predicted * target).sum((2, 3))
    total = predicted.sum((2, 3)) + target.sum((2, 3))
    return (1 - (2 * overlap + SMOOTH) / (total + SMOOTH)).mean()


def mask_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross-entropy of each pixel against soft classes, mean over the known pixels.

    Parameters
    ----------
    logits : Tensor, shape (N, K, H, W)
    target : Tensor, shape (N, K + 1, H, W)
    known : Tensor, shape (N, 1, H, W), optional
    """
    cost = -(target * log_probabilities(logits)).sum(1, keepdim=True)
    if known is None:
        return cost.mean()
    return (cost * known).sum() / known.sum().clamp_min(1.0)


def paper_consistency(labelled: torch.Tensor, unlabelled: torch.Tensor) -> torch.Tensor:
    """Bernoulli KL from the mean mask of the labelled images to each mask of the unlabelled ones.

    What the paper writes, in one direction: unlabelled masks are drawn to where lungs are on average. The
    released code takes the softmax over a single channel instead, and its loss is always 0.

    Parameters
    ----------
    labelled, unlabelled : Tensor, shape (N, K, H, W), (M, K, H, W)
        Probabilities of the foreground classes.

    References
    ----------
    .. [1] Haque et al., MultiMix, ISBI 2021, Eq. 4.
    """
    p = labelled.detach().mean(0, keepdim=True).clamp(_TINY, 1 - _TINY)
    q = unlabelled.clamp(_TINY, 1 - _TINY)
    return (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()


def area_consistency(labelled: torch.Tensor, unlabelled: torch.Tensor) -> torch.Tensor:
    """KL from the shares of the image that labelled masks cover to those of the unlabelled, as Gaussians.

    Parameters
    ----------
    labelled, unlabelled : Tensor, shape (N, K, H, W), (M, K, H, W)
        Probabilities of the foreground classes.
    """
    floor = 1e-4  # variance of an area known to a hundredth
    p, q = labelled.detach().mean((2, 3)), unlabelled.mean((2, 3))
    p_var, q_var = p.var(0, unbiased=False) + floor, q.var(0, unbiased=False) + floor
    distance = (p.mean(0) - q.mean(0)) ** 2
    return (0.5 * (q_var / p_var).log() + (p_var + distance) / (2 * q_var) - 0.5).mean()


def teacher_consistency(
    logits: torch.Tensor, guess: torch.Tensor, inside: torch.Tensor, confidence: float
) -> torch.Tensor:
    """Cross-entropy and Dice against a teacher's guess for the same image, where the teacher is sure.

    Parameters
    ----------
    logits : Tensor, shape (N, K, H, W)
        Of the changed image.
    guess : Tensor, shape (N, K + 1, H, W)
        The teacher's probabilities, moved as the image was; no gradient.
    inside : Tensor, shape (N, 1, H, W)
        0 where the moved image shows what lay outside.
    confidence : float
        Pixels whose best class is guessed less surely are left out.
    """
    sure = (guess.amax(1, keepdim=True) >= confidence).to(guess.dtype) * inside
    cost = mask_cross_entropy(logits, guess, sure)
    return cost + dice_loss(probabilities(logits)[:, 1:], guess[:, 1:], sure)
