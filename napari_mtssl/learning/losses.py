"""Losses on soft targets: cross-entropy, symmetric cross-entropy, centroid regression without background."""

from __future__ import annotations

import torch
from torch.nn import functional as F

LOG_FLOOR = 1e-4  # of targets inside a logarithm: log(0) becomes -9.21, as in both public SCE codes


def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy against soft targets, ``-sum_c q_c log p_c``, per sample.

    Parameters
    ----------
    logits, target : Tensor, shape (N, C)

    Returns
    -------
    Tensor, shape (N,)
    """
    return -(target * F.log_softmax(logits, dim=1)).sum(1)


def reverse_cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with prediction and target exchanged, ``-sum_c p_c log q_c``, per sample.

    Zero targets are raised to 1e-4, so that the loss and its gradient are finite; with a hard target it is
    ``9.21 (1 - p_y)``, a bounded loss that tolerates wrong labels.

    Parameters
    ----------
    logits, target : Tensor, shape (N, C)

    Returns
    -------
    Tensor, shape (N,)

    References
    ----------
    .. [1] Wang et al., Symmetric Cross Entropy for Robust Learning with Noisy Labels, ICCV 2019, Eq. 4.
    """
    return -(F.softmax(logits, dim=1) * target.clamp_min(LOG_FLOOR).log()).sum(1)


def symmetric_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, delta: float, rho: float
) -> torch.Tensor:
    """``delta`` times cross-entropy plus ``rho`` times reverse cross-entropy, per sample.

    Parameters
    ----------
    logits, target : Tensor, shape (N, C)
    delta : float
        Trust in the targets.
    rho : float
        Trust in the predictions.

    Returns
    -------
    Tensor, shape (N,)

    References
    ----------
    .. [1] Bashir et al., HydraMix-Net, 2020, Eq. 4.
    """
    return delta * cross_entropy(logits, target) + rho * reverse_cross_entropy(logits, target)


def centroid_loss(
    predicted: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
    foreground: torch.Tensor | None = None,
    huber: float | None = None,
) -> torch.Tensor:
    """Squared or absolute error of the centroids, weighted by how surely there is one.

    ``sum_i w_i |r_i - t_i|^2 / max(sum_i w_i, 1)`` for each coordinate, summed over both: a batch of
    background alone costs nothing. `weight` and `foreground` are constants here, so that the classifier
    cannot lower this loss by calling cells background.

    Parameters
    ----------
    predicted, target : Tensor, shape (N, 2)
        In units of the patch.
    weight : Tensor, shape (N,)
        One minus the background's share; zero where no centroid exists.
    foreground : Tensor, shape (N,), optional
        The paper's literal form: predictions are multiplied by this predicted probability of not being
        background before they are compared. It draws the predictions away from the target; kept for
        comparison.

    huber : float, optional
        If given, errors beyond this count linearly (Huber's loss divided by `huber`) instead of squared. Of
        two near cells the squared error's best answer is between them, the absolute error's is one of them.

    Returns
    -------
    Tensor, scalar

    References
    ----------
    .. [1] Bashir et al., HydraMix-Net, 2020, Eq. 5 and section 3.5.
    """
    weight = weight.detach()
    if foreground is not None:
        predicted = predicted * foreground.detach()[:, None]
    # A weight of zero must also silence targets that are not finite.
    error = torch.where(weight[:, None] > 0, predicted - target, torch.zeros_like(predicted))
    if huber is None:
        cost = error**2
    else:
        cost = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none", beta=huber)
    return (weight[:, None] * cost).sum() / weight.sum().clamp_min(1.0)
