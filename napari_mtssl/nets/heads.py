"""Heads of HydraMix-Net as convolutions: on a patch they give one value, on an image one for every place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F


class ClassificationHead(nn.Module):
    """Mean over the patch, three dense layers, class logits.

    The mean is a pooling window of the patch's feature size moved by one, the dense layers are 1x1
    convolutions: the same weights serve a patch and an image.

    Parameters
    ----------
    channels : int
        Of the trunk.
    classes : int
    window : int
        Side, in trunk outputs, of one patch.
    hidden : sequence of int
        Widths of the dense layers.

    References
    ----------
    .. [1] Bashir et al., HydraMix-Net, 2020, supplement 8.1 (128, 64, 32).
    """

    def __init__(
        self, channels: int, classes: int, window: int, hidden: Sequence[int] = (128, 64, 32)
    ) -> None:
        super().__init__()
        self.window = window
        widths = (channels, *hidden)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 1), nn.ReLU(inplace=True)]
        self.dense = nn.Sequential(*layers, nn.Conv2d(widths[-1], classes, 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (N, channels, h, w) to logits (N, classes, h - window + 1, w - window + 1)."""
        return self.dense(F.avg_pool2d(features, self.window, stride=1))


class CentroidHead(nn.Module):
    """One coordinate of the centroid from the patch's flattened features, in units of the patch (0 to 1).

    The first dense layer is a convolution as large as the patch, so that it too runs over an image.

    Parameters
    ----------
    channels : int
        Of the trunk.
    window : int
        Side, in trunk outputs, of one patch.
    hidden : sequence of int
        Widths of the two dense layers.
    squeeze : int, optional
        Channels to which a 1x1 convolution reduces the features first; published: none. Sixteen make the head
        an eighth as large.

    References
    ----------
    .. [1] Bashir et al., HydraMix-Net, 2020, supplement 8.1 (flatten, 128, 32, 1).
    """

    def __init__(
        self, channels: int, window: int, hidden: Sequence[int] = (128, 32), squeeze: int | None = None
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if squeeze is not None:
            layers += [nn.Conv2d(channels, squeeze, 1), nn.ReLU(inplace=True)]
            channels = squeeze
        size = window
        for width in hidden:
            layers += [nn.Conv2d(channels, width, size), nn.ReLU(inplace=True)]
            channels, size = width, 1
        last = nn.Conv2d(channels, 1, size)
        if last.bias is not None:
            nn.init.constant_(last.bias, 0.5)  # the middle of the patch, where training starts
        self.dense = nn.Sequential(*layers, last)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (N, channels, h, w) to (N, 1, h - window + 1, w - window + 1)."""
        return self.dense(features)
