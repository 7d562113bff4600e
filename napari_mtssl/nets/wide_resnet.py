"""Wide residual network whose convolutions are padded (as published) or valid (exact run densely)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

Padding = Literal["zeros", "valid"]
SLOPE = 0.1  # of the leaky ReLU, as in MixMatch's network


class _Crop(torch.autograd.Function):
    """Every so-manyth pixel from some corner on.

    Plain slicing in autograd gives a gradient in another memory layout than the convolutions', one copy for
    each axis, and everything behind it in the backward pass becomes slow: a quarter of a training step.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, start: int, step: int, height: int, width: int) -> torch.Tensor:
        """Crop (N, C, h, w) to (N, C, height, width), `step` pixels apart from `start` on."""
        ctx.shape = x.shape
        ctx.where = (
            ...,
            slice(start, start + step * height, step),
            slice(start, start + step * width, step),
        )
        return x[ctx.where]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Zero wherever nothing was taken."""
        gradient = gradients[0]
        whole = torch.empty(
            ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last
        ).zero_()
        whole[ctx.where] = gradient
        return whole, None, None, None, None


class WideBlock(nn.Module):
    """Pre-activation residual block: BN, ReLU, conv, BN, ReLU, conv, plus a shortcut.

    Parameters
    ----------
    channels, width : int
        Channels in and out; a 1x1 convolution is the shortcut where they differ.
    stride : int
    padding : {'zeros', 'valid'}
        With ``valid`` the shortcut is cropped to the pixels that the two convolutions keep.
    activate_shortcut : bool
        Whether BN and ReLU come before the shortcut too (first block of the network).
    bn_momentum : float

    References
    ----------
    .. [1] Zagoruyko and Komodakis, Wide Residual Networks, 2016, Fig. 1; the details are MixMatch's.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        stride: int,
        padding: Padding = "zeros",
        activate_shortcut: bool = False,
        bn_momentum: float = 0.02,
    ) -> None:
        super().__init__()
        pad = 1 if padding == "zeros" else 0
        self.stride, self.activate_shortcut = stride, activate_shortcut
        # In input pixels, output (0, 0) is centred one pixel in for conv1 and `stride` further for conv2.
        self.start = 1 + stride if padding == "valid" else 0
        self.bn1 = nn.BatchNorm2d(channels, momentum=bn_momentum)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, pad, bias=False)
        self.bn2 = nn.BatchNorm2d(width, momentum=bn_momentum)
        self.conv2 = nn.Conv2d(width, width, 3, 1, pad, bias=False)
        self.shortcut = nn.Conv2d(channels, width, 1, bias=False) if channels != width or stride > 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, channels, h, w) to (N, width, h', w')."""
        active = F.leaky_relu(self.bn1(x), SLOPE, inplace=True)
        out = self.conv2(F.leaky_relu(self.bn2(self.conv1(active)), SLOPE, inplace=True))
        skip = active if self.activate_shortcut else x
        skip = _Crop.apply(skip, self.start, self.stride, out.shape[-2], out.shape[-1])
        if self.shortcut is not None:
            skip = self.shortcut(skip)
        return out + skip


class WideResNet(nn.Module):
    """Trunk of a wide residual network, without pooling and classifier.

    Parameters
    ----------
    depth : int
        ``6 n + 4``: n blocks in each of the three groups.
    widen : int
        Groups have 16, 32 and 64 times this many channels.
    padding : {'zeros', 'valid'}
        With ``valid`` a network run over a whole image gives, at every place, exactly what it gives for the
        patch cut out there, and training spends nothing on padding.
    strides : sequence of int
        Of the three groups; published: (1, 2, 2).
    bn_momentum : float
        Weight of the newest batch in BatchNorm's running statistics.

    Attributes
    ----------
    channels : int
        Of the output.
    stride : int
        Input pixels between neighbouring outputs.
    receptive_field : int
        Input pixels that one output sees.

    References
    ----------
    .. [1] Zagoruyko and Komodakis, Wide Residual Networks, 2016.
    .. [2] Berthelot et al., MixMatch, 2019 (WRN-28-2; leaky ReLU of 0.1; first group activates before the
       shortcut).
    """

    def __init__(
        self,
        depth: int = 28,
        widen: int = 2,
        padding: Padding = "zeros",
        strides: Sequence[int] = (1, 2, 2),
        bn_momentum: float = 0.02,
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(
                f"Depth of a wide residual network is 6 n + 4 (10, 16, 22, 28, ...), not {depth}."
            )
        blocks_per_group = (depth - 4) // 6
        self.padding = padding
        self.stem = nn.Conv2d(3, 16, 3, padding=1 if padding == "zeros" else 0, bias=False)
        blocks: list[nn.Module] = []
        channels, field, step = 16, 3, 1
        for group, group_stride in enumerate(strides):
            width = 16 * widen * 2**group
            for index in range(blocks_per_group):
                stride = group_stride if index == 0 else 1
                first = group == index == 0
                blocks.append(WideBlock(channels, width, stride, padding, first, bn_momentum))
                field += 2 * step
                step *= stride
                field += 2 * step
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(channels, momentum=bn_momentum)
        self.channels, self.stride, self.receptive_field = channels, step, field
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, 3, H, W) to (N, channels, h, w); h and w as `output_size` says."""
        return F.leaky_relu(self.bn(self.blocks(self.stem(x))), SLOPE, inplace=True)

    def output_size(self, size: int) -> int:
        """Side of the output for an input of side `size`; 0 or less if the input is too small."""
        if self.padding == "zeros":
            return -(-size // self.stride)
        return (size - self.receptive_field) // self.stride + 1
