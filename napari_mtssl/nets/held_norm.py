"""Instance normalisation with statistics that are taken once and then held, so that parts make up a whole.

Mean and variance of the whole image tie all of its pixels together, in the gradient, too: what comes back
through them is the mean of the gradient and that of its product with the output. Those four numbers of each
channel are all that a part cannot know of the whole. With them held, both passes are local.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

MEAN, VARIANCE, PULL, TILT = range(4)  # rows of what is held


class HeldNorm(nn.Module):
    """Takes the place of an ``nn.InstanceNorm2d`` without weights.

    Parameters
    ----------
    channels : int
    eps : float
        As the other's.

    Attributes
    ----------
    held : Tensor, shape (4, channels)
        Mean and variance of the input; means of the gradient and of its product with the output.
    rim : int or None
        While statistics are taken: elements at each border that do not count, since they saw padding.
        None: what is held is used.
    """

    held: torch.Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.rim: int | None = None
        self.register_buffer("held", torch.zeros(4, channels), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (N, channels, H, W); while statistics are taken, all N as parts of one image."""
        result: torch.Tensor = _Normalise.apply(x, self)
        return result


class _Normalise(torch.autograd.Function):
    """Normalisation whose passes use what a `HeldNorm` holds, or set it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, norm: HeldNorm) -> torch.Tensor:
        """Mean 0 and variance 1."""
        if norm.rim is not None:
            variance, mean = torch.var_mean(inner(x, norm.rim), (0, 2, 3), correction=0)
            norm.held[MEAN], norm.held[VARIANCE] = mean, variance
        # the input is kept and not the output: a LeakyReLU in place writes into that
        ctx.save_for_backward(x)
        ctx.norm = norm
        return _normalised(x, norm)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Gradient of an instance normalisation, its two means taken or held."""
        (x,), norm, (gradient,) = ctx.saved_tensors, ctx.norm, gradients
        if norm.rim is not None:
            part = inner(gradient, norm.rim)
            norm.held[PULL] = part.mean((0, 2, 3))
            norm.held[TILT] = (part * inner(_normalised(x, norm), norm.rim)).mean((0, 2, 3))
        scale = (norm.held[VARIANCE] + norm.eps).rsqrt()
        # (gradient - pull - tilt * output) * scale, in as few passes over memory as it takes
        slope = norm.held[TILT] * scale * scale
        shift = norm.held[MEAN] * slope - norm.held[PULL] * scale
        result = torch.addcmul(shift.view(-1, 1, 1), gradient, scale.view(-1, 1, 1))
        return result.addcmul_(x, slope.view(-1, 1, 1), value=-1), None


def _normalised(x: torch.Tensor, norm: HeldNorm) -> torch.Tensor:
    return F.batch_norm(x, norm.held[MEAN], norm.held[VARIANCE], training=False, eps=norm.eps)


def inner(x: torch.Tensor, rim: int) -> torch.Tensor:
    """Give maps (N, C, H, W) without so many elements at each border."""
    return x[..., rim : x.shape[-2] - rim, rim : x.shape[-1] - rim]


def held_norms(network: nn.Module) -> dict[str, HeldNorm]:
    """All such layers of a network, by name."""
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, HeldNorm)}


def hold(network: nn.Module, statistics: Mapping[str, torch.Tensor]) -> None:
    """Let the layers of a network use statistics (4, channels) from now on, by their names."""
    for name, layer in held_norms(network).items():
        layer.rim = None
        layer.held.copy_(statistics[name])
