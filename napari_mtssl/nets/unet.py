"""A compact U-Net: any widths, any number of outputs, batch or group normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

Norm = Literal["batch", "group"]


class UNet(nn.Module):
    """Convolutions down and up again, with skip connections; as many outputs as pixels.

    Parameters
    ----------
    outputs : int
        Channels of the result.
    widths : sequence of int
        Channels at each resolution, finest first; each resolution is half the one before.
    channels : int
        Of the image.
    norm : {"batch", "group"}
        Group normalisation depends on the whole tile, batch normalisation in evaluation mode does not.
    convs : int
        3x3 convolutions at each resolution, down and up.
    stem : int
        1, or 2: the first convolution halves the resolution and the result is enlarged again, which is four
        times cheaper where outlines need not be exact to the pixel.
    dropout : float
        Of the coarsest features.

    Attributes
    ----------
    align : int
        Sides of an image must be multiples of this.
    reach : int
        Pixels farther than this from an output element never change it (batch normalisation, evaluation
        mode): the halo that tiles need, a multiple of `align`.
    mean, std : Tensor, shape (1, channels, 1, 1)
        Of the channels; set once by `normalise_with`.

    References
    ----------
    .. [1] Ronneberger, Fischer and Brox, U-Net, MICCAI 2015; here with padded convolutions and bilinear
       enlargement instead of transposed convolutions.
    """

    mean: torch.Tensor
    std: torch.Tensor
    fitted: torch.Tensor

    def __init__(
        self,
        outputs: int,
        widths: Sequence[int] = (16, 32, 64, 128),
        channels: int = 3,
        norm: Norm = "batch",
        convs: int = 2,
        stem: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if stem not in (1, 2) or len(widths) < 2:
            raise ValueError("A U-Net needs at least two widths, and a stem of 1 or 2.")
        self.stem = stem
        self.align = stem * 2 ** (len(widths) - 1)
        self.reach = -(-_reach(len(widths), convs, stem) // self.align) * self.align
        down, width = [], channels
        for level, wide in enumerate(widths):
            stride = stem if level == 0 else 1
            down.append(_block(width, wide, convs, norm, stride))
            width = wide
        self.down = nn.ModuleList(down)
        self.dropout = nn.Dropout2d(dropout)
        up = []
        for wide in reversed(widths[:-1]):
            up.append(_block(width + wide, wide, convs, norm))
            width = wide
        self.up = nn.ModuleList(up)
        self.head = nn.Conv2d(width, outputs, 1)
        self.register_buffer("mean", torch.full((1, channels, 1, 1), 0.5))
        self.register_buffer("std", torch.full((1, channels, 1, 1), 0.25))
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def normalise_with(self, images: torch.Tensor) -> None:
        """Take the channels' mean and standard deviation from images (N, C, H, W) in [0, 1]."""
        self.mean.copy_(images.mean((0, 2, 3), keepdim=True))
        self.std.copy_(images.std((0, 2, 3), keepdim=True).clamp_min(1e-3))
        self.fitted.fill_(True)

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features at each resolution, finest first; the last one is the bottleneck.

        Raises
        ------
        ValueError
            If a side is no multiple of `align`.
        """
        if images.shape[-1] % self.align or images.shape[-2] % self.align:
            raise ValueError(
                f"Sides of {tuple(images.shape[-2:])} pixels must be multiples of {self.align} here."
            )
        found = []
        now = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        for level, block in enumerate(self.down):
            now = block(F.max_pool2d(now, 2) if level else now)
            found.append(now)
        found[-1] = self.dropout(found[-1])
        return found

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, outputs, H, W) of images (N, channels, H, W) in [0, 1]."""
        skips = self.features(images)
        now = skips.pop()
        for block in self.up:
            now = block(torch.cat([_enlarge(now), skips.pop()], dim=1))
        now = self.head(now)
        return _enlarge(now) if self.stem == 2 else now


def _enlarge(features: torch.Tensor) -> torch.Tensor:
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


def _block(wide_in: int, wide: int, convs: int, norm: Norm, stride: int = 1) -> nn.Sequential:
    """Convolutions with normalisation and ReLU; the first one takes the stride."""
    layers: list[nn.Module] = []
    for number in range(convs):
        layers += [
            nn.Conv2d(wide_in, wide, 3, stride if number == 0 else 1, padding=1, bias=False),
            nn.BatchNorm2d(wide) if norm == "batch" else nn.GroupNorm(_groups(wide), wide),
            nn.ReLU(inplace=True),
        ]
        wide_in = wide
    return nn.Sequential(*layers)


def _groups(wide: int) -> int:
    """At most eight groups that divide the channels."""
    return next(n for n in (8, 4, 2, 1) if wide % n == 0)


def _reach(levels: int, convs: int, stem: int) -> int:
    """How far a pixel's influence goes at most."""
    sides = [stem * 2**level for level in range(levels)]
    down = convs * sum(sides) + sum(sides[:-1])  # convolutions, and pooling between levels
    up = convs * sum(sides[:-1]) + sum(sides[1:])  # bilinear enlargement looks one coarse element aside
    return down + up + (2 * stem if stem > 1 else 0)
