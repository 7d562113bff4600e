"""Mixup as HydraMix-Net uses it: images and class targets are mixed, centroids are not."""

from __future__ import annotations

import torch
from torch.distributions import Beta


def mix_coefficients(count: int, alpha: float, device: torch.device | None = None) -> torch.Tensor:
    """Draw one gamma per sample: ``g ~ Beta(alpha, alpha)``, ``gamma = max(g, 1 - g)``.

    The paper prints Beta twice; it is one draw, so that gamma is at least one half and the first image
    dominates.

    Parameters
    ----------
    count : int
    alpha : float
        Zero switches mixing off (gamma is 1).

    Returns
    -------
    Tensor, shape (count,), values in [0.5, 1]

    References
    ----------
    .. [1] Bashir et al., HydraMix-Net, 2020, Eq. 3.
    .. [2] Berthelot et al., MixMatch, 2019, Eqs. 8 and 9.
    """
    if alpha <= 0:
        return torch.ones(count, device=device)
    concentration = torch.tensor(alpha, device=device)
    gamma = Beta(concentration, concentration, validate_args=False).sample((count,))
    return torch.maximum(gamma, 1 - gamma)


def mix(values: torch.Tensor, partner: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    """Mix each sample with its partner: ``gamma x_1 + (1 - gamma) x_2``.

    Parameters
    ----------
    values : Tensor, shape (N, ...)
        Images, class targets or weights.
    partner : Tensor, shape (N,), integer
        Index of x_2 for each x_1; a random permutation of the batch is the paper's shuffled set W.
    gamma : Tensor, shape (N,)

    Returns
    -------
    Tensor, shape (N, ...)

    References
    ----------
    .. [1] Bashir et al., HydraMix-Net, 2020, Eq. 3.
    """
    weight = gamma.view(-1, *[1] * (values.ndim - 1))
    return torch.lerp(values[partner], values, weight)
