"""Joint U-Net: a mask from a decoder, and any number of classes of the whole image from the bottleneck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from napari_mtssl.nets.resnet34 import BasicBlock, ResNet34Encoder, initialise

Encoder = Literal["residual", "resnet34", "double"]
Pooling = Literal["last", "levels", "mask", "light"]
LIGHT = 4  # what `light_inside` says of an image
DARK = 0.01  # less light than this is as good as none
# An optimiser that moves every weight alike learns from few numbers in time only if they are large.
QUICK, SURE = 6.0, 24.0


class DoubleConv(nn.Sequential):
    """Twice 3x3 convolution, batch normalisation and ReLU: the original U-Net's block, padded."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )


class PoolingEncoder(nn.Module):
    """Encoder of a U-Net: a block at each resolution, maximum pooling between them.

    Parameters
    ----------
    base : int
        Channels at the finest resolution; they double at each of the four coarser ones.
    residual : bool
        One residual block with a 1x1 convolution on its skip in each Down, as in the report, or the original
        double convolution.
    channels : int
        Of the image.

    Attributes
    ----------
    widths, first_stride, align
        As for `ResNet34Encoder`.
    """

    def __init__(self, base: int = 64, residual: bool = True, channels: int = 3) -> None:
        super().__init__()
        self.widths = tuple(base * 2**level for level in range(5))
        self.first_stride, self.align = 1, 16
        self.blocks = nn.ModuleList(
            BasicBlock(before, wide, project=True) if residual else DoubleConv(before, wide)
            for before, wide in zip((channels, *self.widths), self.widths, strict=False)
        )
        initialise(self)

    @property
    def reach(self) -> int:
        """Pixels around a place that its coarsest features depend on: two 3x3 convolutions a resolution."""
        return sum(2 * 2**level for level in range(len(self.widths)))

    @property
    def last(self) -> nn.Parameter:
        """Kernel of the last convolution."""
        block = self.blocks[-1]
        layer = block.conv2 if isinstance(block, BasicBlock) else block[3]  # type: ignore[index]
        weight = layer.weight
        assert isinstance(weight, nn.Parameter)
        return weight

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Features of normalised images (N, channels, H, W), finest first."""
        found = []
        for level, block in enumerate(self.blocks):
            x = block(F.max_pool2d(x, 2) if level else x)
            found.append(x)
        return found


class JointUNet(nn.Module):
    """One encoder for all tasks, a decoder for the mask, and a linear classifier for each head.

    Only the encoder is shared: the last layer that all tasks share is the last convolution of the bottleneck.

    Parameters
    ----------
    heads : mapping of str to int
        Classes of each head.
    outputs : int
        Channels of the mask's logits; 0: there is no mask to learn, and no decoder.
    encoder : {'residual', 'resnet34', 'double'}
        The report's network (residual blocks in the U-Net's Downs), the true ResNet-34, or the original.
    base : int
        Channels at the finest resolution.
    dropout : float
        Before the classifiers.
    channels : int
        Of the image.
    pooling : {'last', 'levels', 'mask', 'light'}
        What the classifiers see: means of the coarsest features (the usual ResNet); mean and spread of the
        features at every resolution, so that a fine texture need not find its way to the bottom first; or
        these, of the image too, and all once more inside the network's own mask, which no network of a single
        task can know. Without a mask to learn that part is left out. 'light' is 'mask', but for the heads
        named in `bright`: how bright an image is called depends on how bright its cells are and on what they
        are, so that these see the light inside the mask and what the other heads say, and nothing else that
        a few labels could be learnt by heart from. Without a mask or another head, they see what others do.
    bright : sequence of str
        Heads that are about how bright an image is.

    Attributes
    ----------
    align : int
        Sides of an image must be multiples of this.
    mean, std : Tensor, shape (1, channels, 1, 1)
        Of the channels, over the whole data set; set once by `normalise_with`.

    References
    ----------
    .. [1] Percannella et al., Joint intensity classification and specimen segmentation on HEp-2 images,
       2022; Ferrara, Gargiulo, Maruotto (report), the residual blocks.
    .. [2] Ronneberger, Fischer, Brox, U-Net, MICCAI 2015.
    """

    mean: torch.Tensor
    std: torch.Tensor
    fitted: torch.Tensor

    def __init__(
        self,
        heads: Mapping[str, int],
        outputs: int = 1,
        encoder: Encoder = "residual",
        base: int = 16,
        dropout: float = 0.2,
        channels: int = 3,
        pooling: Pooling = "last",
        bright: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if not heads and not outputs:
            raise ValueError("A network needs a mask or a class to learn.")
        self.encoder: ResNet34Encoder | PoolingEncoder
        if encoder == "resnet34":
            self.encoder = ResNet34Encoder(base, channels)
        else:
            self.encoder = PoolingEncoder(base, encoder == "residual", channels)
        self.align = self.encoder.align
        widths = self.encoder.widths
        self.up, self.join = nn.ModuleList(), nn.ModuleList()
        self.mask: nn.Module | None = None
        if outputs:
            width = widths[-1]
            for wide in reversed(widths[:-1]):
                self.up.append(nn.ConvTranspose2d(width, wide, 2, 2))
                self.join.append(DoubleConv(2 * wide, wide))
                width = wide
            self.mask = nn.Conv2d(width, outputs, 1)
            initialise(self.up)
            initialise(self.join)
        self.dropout = nn.Dropout(dropout)
        self.scale: nn.BatchNorm1d | None = None
        seen = widths[-1]
        self.pooling: Pooling = pooling
        if pooling != "last" and heads:
            seen = 2 * sum(widths)
            if pooling in ("mask", "light"):
                seen = 2 * (channels + sum(widths)) * (2 if outputs else 1)
            self.scale = nn.BatchNorm1d(seen)  # means and spreads are of very different sizes
        others = sum(count for name, count in heads.items() if name not in bright)
        self.bright: tuple[str, ...] = ()
        self.light: nn.Module = nn.Identity()
        if pooling == "light" and outputs and others:
            self.bright = tuple(name for name in heads if name in bright)
            self.light = nn.BatchNorm1d(LIGHT, affine=False)
        self.heads = nn.ModuleDict(
            {
                name: nn.Linear(LIGHT + others if name in self.bright else seen, count)
                for name, count in heads.items()
            }
        )
        self.register_buffer("mean", torch.full((1, channels, 1, 1), 0.5))
        self.register_buffer("std", torch.full((1, channels, 1, 1), 0.25))
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def reach(self) -> int:
        """Pixels around a place that its mask depends on, at most; a multiple of `align`."""
        strides = [self.encoder.first_stride * 2**level for level in range(len(self.encoder.widths))]
        decoder = sum(2 * stride for stride in strides[:-1]) + self.encoder.first_stride
        # pooling meets its grid somewhere in a cell of the coarsest one
        seen = self.encoder.reach + decoder + strides[-1]
        return -(-seen // self.align) * self.align

    @torch.no_grad()
    def normalise_with(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Take the channels' mean and standard deviation (C,), of values in [0, 1]."""
        self.mean.copy_(mean.view(1, -1, 1, 1))
        self.std.copy_(std.view(1, -1, 1, 1).clamp_min(1e-3))
        self.fitted.fill_(True)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """Logits of the mask (N, outputs, H, W) and of each head (N, C), for images in [0, 1].

        Raises
        ------
        ValueError
            If a side is no multiple of `align`.
        """
        if images.shape[-1] % self.align or images.shape[-2] % self.align:
            raise ValueError(
                f"Sides of {tuple(images.shape[-2:])} pixels must be multiples of {self.align} here."
            )
        x = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        skips = self.encoder(x)
        mask = self._decoded(skips)
        if not self.heads:
            return mask, {}
        seen = self.dropout(self._pooled(x, skips, mask))
        logits = {name: head(seen) for name, head in self.heads.items() if name not in self.bright}
        if self.bright and mask is not None:
            given = self._lit(images, mask, logits)
            logits |= {name: self.heads[name](given) for name in self.bright}
        return mask, logits

    def _decoded(self, skips: list[torch.Tensor]) -> torch.Tensor | None:
        """Logits of the mask at the image's resolution, from features of every resolution, finest first."""
        if self.mask is None:
            return None
        now = skips[-1]
        for up, join, skip in zip(self.up, self.join, reversed(skips[:-1]), strict=True):
            now = join(torch.cat([up(now), skip], dim=1))
        mask: torch.Tensor = self.mask(now)
        if self.encoder.first_stride > 1:
            mask = F.interpolate(
                mask, scale_factor=self.encoder.first_stride, mode="bilinear", align_corners=False
            )
        return mask

    def _lit(
        self, images: torch.Tensor, mask: torch.Tensor, logits: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Collect what heads of brightness see, (N, C): light inside the mask, and what other heads say."""
        light = light_inside(images.float(), covered(mask.detach().float()), self.mean)
        # not theirs to teach: an image without a class of one kind says nothing of that kind by another
        said = [SURE * values.detach().float().softmax(1) for values in logits.values()]
        return torch.cat([QUICK * self.light(light), *said], 1)

    def _pooled(
        self, image: torch.Tensor, features: list[torch.Tensor], mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Pool the features of every resolution into what the classifiers see, (N, C)."""
        if self.scale is None:
            return features[-1].mean((2, 3))
        if self.pooling == "levels":
            found = [part for level in features for part in moments(level.float())]
        else:
            # what a class is must not move the outline: the mask learns from masks alone
            inside = None if mask is None else covered(mask.detach().float())
            found = [part for level in (image, *features) for part in masked_moments(level.float(), inside)]
        pooled: torch.Tensor = self.scale(torch.cat(found, 1))
        return pooled


def covered(mask: torch.Tensor) -> torch.Tensor:
    """Probability (N, 1, H, W) that a pixel is of any class but the background, from a mask's logits."""
    if mask.shape[1] == 1:
        return torch.sigmoid(mask)
    return 1 - mask.softmax(1)[:, :1]


def moments(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and spread, (N, C) each, of features (N, C, H, W)."""
    spread, mean = torch.var_mean(features, (2, 3), correction=0)
    return mean, (spread + 1e-4).sqrt()


def light_inside(images: torch.Tensor, inside: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Logarithms of how bright images are inside a mask, in the channel that shines most over the data set.

    Logarithms, since a pattern and an exposure each multiply the light: their parts add up then. On white
    what is missing of the light counts.

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W), in [0, 1]
    inside : Tensor, shape (N, 1, H, W)
        Probability that a pixel is inside.
    mean : Tensor, shape (1, C, 1, 1)
        Of the channels over the data set.

    Returns
    -------
    Tensor, shape (N, 4)
        Of the mean inside, its excess over the whole, and the spread of the whole and inside.
    """
    white = mean.mean() > 0.5
    strongest = torch.where(white, 1 - mean, mean).flatten().argmax().view(1)
    light = images.index_select(1, strongest)  # by a tensor: no number is waited for from the device
    light = torch.where(white, 1 - light, light)
    means, spreads = masked_moments(light, inside)
    found = torch.stack([means[:, 1], means[:, 1] - means[:, 0], spreads[:, 0], spreads[:, 1]], 1)
    return (found.clamp_min(0) + DARK).log()


def masked_moments(features: torch.Tensor, inside: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and spread of features (N, C, H, W), of all pixels, and of those inside a mask.

    Parameters
    ----------
    features : Tensor, shape (N, C, H, W)
    inside : Tensor, shape (N, 1, ., .), or None
        Probability that a pixel is inside, at any resolution.

    Returns
    -------
    tuple of Tensor, shape (N, 2, C) flattened, or (N, C) without a mask
    """
    count, channels, height, width = features.shape
    weights = torch.ones(count, 1, height * width, device=features.device)
    if inside is not None:
        # a mask that is empty still gives a mean: that of the whole
        part = F.adaptive_avg_pool2d(inside, (height, width)).flatten(2) + 1e-3
        weights = torch.cat([weights, part], 1)
    weights = weights / weights.sum(2, keepdim=True)
    pixels = features.permute(0, 2, 3, 1).reshape(count, height * width, channels)
    # a product of matrices reads the features once for both weights
    mean, square = weights @ pixels, weights @ pixels.square()
    spread = (square - mean.square()).clamp_min(0)
    return mean.flatten(1), (spread + 1e-4).sqrt().flatten(1)
