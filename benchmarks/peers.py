"""Networks of other programs, written down from their publications, with random weights: for their speed."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional as F


def convs(*widths: int) -> nn.Sequential:
    """3 x 3 convolutions with ReLU."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class StarDist(nn.Module):
    """StarDist's network for stained slides: its U-Net at half resolution (grid 2), 32 rays and objects.

    Settings of ``2D_versatile_he``: depth 3, 32 filters, two convolutions a level, 128 features before the
    outputs (Weigert and Schmidt, ISBIC 2022; Schmidt et al., MICCAI 2018).
    """

    def __init__(self, rays: int = 32) -> None:
        super().__init__()
        self.grid = convs(3, 32, 32)
        self.down = nn.ModuleList([convs(32, 32, 32), convs(32, 64, 64), convs(64, 128, 128)])
        self.middle = convs(128, 256, 128)
        self.up = nn.ModuleList([convs(64, 32, 32), convs(128, 64, 32), convs(256, 128, 64)])
        self.features = convs(32, 128)
        self.objects, self.rays = nn.Conv2d(128, 1, 1), nn.Conv2d(128, rays, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Object probability and distances to the rim, at half resolution."""
        x = F.max_pool2d(self.grid(x), 2)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for block, skip in zip(reversed(self.up), reversed(skips), strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2), skip], dim=1))
        x = self.features(x)
        return self.objects(x).sigmoid(), self.rays(x)


def normed(before: int, after: int, size: int = 3) -> nn.Sequential:
    """Batch normalisation, ReLU (not before a projection) and a convolution, in Cellpose's order."""
    relu = [nn.ReLU(inplace=True)] if size == 3 else []
    return nn.Sequential(
        nn.BatchNorm2d(before, 1e-5), *relu, nn.Conv2d(before, after, size, padding=size // 2)
    )


class Residual(nn.Module):
    """Four convolutions with two short cuts; on the way up with a skip and the style added."""

    def __init__(self, before: int, after: int, style: int = 0) -> None:
        super().__init__()
        self.conv = nn.ModuleList([normed(before if i == 0 else after, after) for i in range(4)])
        self.project = normed(before, after, 1)
        self.style = nn.ModuleList([nn.Linear(style, after) for _ in range(3)]) if style else None

    def forward(
        self, x: torch.Tensor, skip: torch.Tensor | None = None, style: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Features of the same size."""
        first = self.conv[0](x)
        if self.style is None:
            x = self.project(x) + self.conv[1](first)
            return x + self.conv[3](self.conv[2](x))
        add = [layer(style)[..., None, None] for layer in self.style]
        x = self.project(x) + self.conv[1](first + skip + add[0])
        return x + self.conv[3](self.conv[2](x + add[1]) + add[2])


class Cellpose(nn.Module):
    """Cellpose's residual U-Net with a style vector, 32 to 256 features.

    Stringer et al., Nature Methods 2021.
    """

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        wide = [channels, 32, 64, 128, 256]
        self.down = nn.ModuleList([Residual(a, b) for a, b in itertools.pairwise(wide)])
        above = [32, 64, 128, 256, 256]
        self.up = nn.ModuleList([Residual(b, a, 256) for a, b in itertools.pairwise(above)])
        self.out = normed(32, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Flows and cell probability, at full resolution."""
        skips: list[torch.Tensor] = []
        for block in self.down:
            skips.append(block(F.max_pool2d(skips[-1], 2) if skips else x))
        style = F.normalize(skips[-1].mean((2, 3)), dim=1)
        x = skips[-1]
        for number in reversed(range(4)):
            x = x if number == 3 else F.interpolate(x, scale_factor=2)
            x = self.up[number](x, skips[number], style)
        return self.out(x)
