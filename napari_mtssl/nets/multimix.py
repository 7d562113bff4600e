"""MultiMix's network: a U-Net whose encoder also classifies, and whose decoder is shown where it looked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

WIDTHS = (16, 32, 64, 128, 256)
REDUCE = 8  # the bridge meets the decoder where it works at an eighth of the image's side
DOWN = 16  # height and width of an image are multiples of this


class DoubleConv(nn.Sequential):
    """Twice a 3x3 convolution, instance normalisation and LeakyReLU 0.2, then dropout.

    Parameters
    ----------
    channels_in, channels_out : int
    dropout : float
    """

    def __init__(self, channels_in: int, channels_out: int, dropout: float = 0.25) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 3, padding=1),
            nn.InstanceNorm2d(channels_out),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(channels_out, channels_out, 3, padding=1),
            nn.InstanceNorm2d(channels_out),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Dropout(dropout) if dropout else nn.Identity(),
        )


class MultiMixNet(nn.Module):
    """Encoder, classifiers, saliency bridge and decoder.

    Parameters
    ----------
    channels : int
        Of the images.
    classes : sequence of int
        Number of classes of each image-level head; may be empty.
    masks : int
        Mask logits; 0 leaves the decoder out.
    bridge : bool
        Whether the decoder is also given the image and a saliency map, both at an eighth of their side.
    widths : sequence of int
        Channels of the five levels.
    dropout : float

    Attributes
    ----------
    corners : bool
        Whether maps are enlarged and reduced so that the middles of their corners fall together, as
        published: then where a place is taken from depends on how large the image is.

    References
    ----------
    .. [1] Haque, Imran, Wang, Terzopoulos, MultiMix: sparingly-supervised, extreme multitask learning from
       medical images, ISBI 2021, Fig. 1.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: Sequence[int] = (2,),
        masks: int = 1,
        bridge: bool = True,
        widths: Sequence[int] = WIDTHS,
        dropout: float = 0.25,
    ) -> None:
        super().__init__()
        self.channels, self.masks = channels, masks
        self.corners = True
        steps = zip([channels, *widths[:-1]], widths, strict=True)
        self.encoder = nn.ModuleList(DoubleConv(i, o, dropout) for i, o in steps)
        self.heads = nn.ModuleList(nn.Linear(widths[-1], n) for n in classes)
        self.bridged = bridge and masks > 0
        self.decoder = nn.ModuleList()
        if masks:
            extra = channels + 1 if self.bridged else 0
            for level in range(len(widths) - 2, -1, -1):
                added = extra if level == len(widths) - 2 else 0
                self.decoder.append(
                    DoubleConv(widths[level + 1] + widths[level] + added, widths[level], dropout)
                )
            self.out = nn.Conv2d(widths[0], masks, 1)

    def encode(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features of the five levels, finest first, for images (N, channels, H, W)."""
        features = []
        for level, block in enumerate(self.encoder):
            images = block(F.max_pool2d(images, 2) if level else images)
            features.append(images)
        return features

    def classify(self, deepest: torch.Tensor) -> list[torch.Tensor]:
        """Logits (N, classes) of each head from the deepest features (N, 256, H / 16, W / 16).

        In single precision, also under autocast: so are losses.
        """
        pooled = F.max_pool2d(deepest, 2).mean((2, 3))
        return [head(pooled).float() for head in self.heads]

    def scores(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Logits of each head for images (N, channels, H, W), without the decoder."""
        return self.classify(self.encode(images)[-1])

    def decode(self, features: Sequence[torch.Tensor], bridge: torch.Tensor | None = None) -> torch.Tensor:
        """Mask logits.

        Parameters
        ----------
        features : sequence of Tensor
            From `encode`.
        bridge : Tensor, shape (N, channels + 1, H / 8, W / 8), optional
            From `reduce`; needed if the network was made with a bridge.

        Returns
        -------
        Tensor of float32, shape (N, masks, H, W)
        """
        if (bridge is None) == self.bridged:
            raise ValueError("This network's decoder " + ("needs" if self.bridged else "has no") + " bridge.")
        up = features[-1]
        for block, skip in zip(self.decoder, reversed(features[:-1]), strict=True):
            up = F.interpolate(up, scale_factor=2.0, mode="bilinear", align_corners=self.corners)
            parts = [up, skip] if bridge is None else [up, skip, bridge]
            up, bridge = block(torch.cat(parts, dim=1)), None
        return self.out(up).float()

    def reduce(self, images: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
        """Put image (N, C, H, W) and saliency (N, 1, H, W) together at an eighth of their side."""
        both = torch.cat([images, saliency], dim=1)
        size = (both.shape[2] // REDUCE, both.shape[3] // REDUCE)
        return F.interpolate(both, size=size, mode="bilinear", align_corners=self.corners)

    def forward(
        self, images: torch.Tensor, saliency: torch.Tensor | None = None
    ) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """Class logits of each head and mask logits (None without a decoder).

        Parameters
        ----------
        images : Tensor, shape (N, channels, H, W)
            Sides are multiples of 16.
        saliency : Tensor, shape (N, 1, H, W), optional
        """
        features = self.encode(images)
        logits = self.classify(features[-1])
        if not self.masks:
            return logits, None
        bridge = self.reduce(images, saliency) if self.bridged and saliency is not None else None
        return logits, self.decode(features, bridge)


class Classifier(nn.Module):
    """One head of a `MultiMixNet` with its encoder: images (N, C, H, W) to raw scores (N, classes)."""

    def __init__(self, network: MultiMixNet, head: int = 0) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Raw scores of this head."""
        return self.network.scores(images)[self.head]
