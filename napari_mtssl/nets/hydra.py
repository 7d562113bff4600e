"""HydraMix-Net's network: one trunk, a head for the class and one for each coordinate of the centroid."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_mtssl.nets.heads import CentroidHead, ClassificationHead
from napari_mtssl.nets.wide_resnet import WideResNet


class HydraNet(nn.Module):
    """Wide ResNet with three or four heads, for patches and, with the same weights, for whole images.

    Parameters
    ----------
    trunk : WideResNet
    classes : int
    window : int
        Side of a patch in pixels, a multiple of the trunk's stride.
    squeeze : int, optional
        See `CentroidHead`.
    hidden : int
        Width of the first dense layer of the centroid heads; the second has 32.
    typed : bool
        Add a fourth head that only tells cells apart; the class head then says how surely there is a cell.

    Attributes
    ----------
    halo : int
        Pixels around an image that `forward` needs for one output every stride over the whole of it.
    mean, std : Tensor, shape (1, 3, 1, 1)
        Of the channels; set once by `normalise_with`.

    References
    ----------
    .. [1] Bashir et al., HydraMix-Net, 2020, Fig. 1 and supplement 8.1.
    """

    mean: torch.Tensor
    std: torch.Tensor
    fitted: torch.Tensor

    def __init__(
        self,
        trunk: WideResNet,
        classes: int,
        window: int,
        squeeze: int | None = None,
        hidden: int = 128,
        typed: bool = False,
    ) -> None:
        super().__init__()
        side = trunk.output_size(window)
        if side < 1 or window % trunk.stride:
            raise ValueError(
                f"A window of {window} pixels does not suit this network: take a multiple of {trunk.stride}"
                + (f" of at least {trunk.receptive_field}." if trunk.padding == "valid" else ".")
            )
        self.window, self.stride = window, trunk.stride
        self.trunk = trunk
        self.kind = ClassificationHead(trunk.channels, classes, side)
        self.row = CentroidHead(trunk.channels, side, (hidden, 32), squeeze)
        self.col = CentroidHead(trunk.channels, side, (hidden, 32), squeeze)
        self.cell_type = ClassificationHead(trunk.channels, classes - 1, side) if typed else None
        # Padded trunks: outputs this near to the tile's edge saw its padding, and are cut off.
        self.margin = 0 if trunk.padding == "valid" else -(-(trunk.receptive_field // 2) // trunk.stride)
        self.halo = (window - trunk.stride) // 2 + self.margin * trunk.stride
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))
        self.register_buffer("std", torch.full((1, 3, 1, 1), 0.25))
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def heads(self) -> list[ClassificationHead | CentroidHead]:
        """All heads it has."""
        return [head for head in (self.kind, self.cell_type, self.row, self.col) if head is not None]

    @torch.no_grad()
    def normalise_with(self, images: torch.Tensor) -> None:
        """Take the channels' mean and standard deviation from images (N, 3, H, W) in [0, 1]."""
        self.mean.copy_(images.mean((0, 2, 3), keepdim=True))
        self.std.copy_(images.std((0, 2, 3), keepdim=True).clamp_min(1e-4))
        self.fitted.fill_(True)

    def forward(
        self, images: torch.Tensor, dense: bool = False, half: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Classify patches, or every place of an image.

        Parameters
        ----------
        images : Tensor, shape (N, 3, H, W), values in [0, 1]
            Patches of side `window`, or with `dense` an image with `halo` pixels around it.
        dense : bool
        half : bool
            Run the trunk in bfloat16.

        Returns
        -------
        logits : Tensor, shape (N, classes, h, w)
        centroids : Tensor, shape (N, 2, h, w)
            (row, col) in units of the window, (0, 0) its corner.
        """
        kind, cell_type, centroids = self.outputs(images, dense, half)
        return kind if cell_type is None else joint_logits(kind, cell_type), centroids

    def outputs(
        self, images: torch.Tensor, dense: bool = False, half: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """Give what each head says, as it is trained; see `forward`.

        Returns
        -------
        kind : Tensor, shape (N, classes, h, w)
        cell_type : Tensor, shape (N, classes - 1, h, w), or None
            Logits of the classes of cells, given that there is one; None without that head.
        centroids : Tensor, shape (N, 2, h, w)
        """
        # Half precision is too coarse for what the heads say: a sixth of a pixel.
        with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
            normal = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
            features = self.trunk(normal.to(self.trunk.stem.weight.dtype))
        features = features.to(self.kind.dense[0].weight.dtype)
        if dense and self.margin:
            features = features[..., self.margin : -self.margin, self.margin : -self.margin]
        cell_type = None if self.cell_type is None else self.cell_type(features)
        return self.kind(features), cell_type, torch.cat([self.row(features), self.col(features)], dim=1)


def joint_logits(kind: torch.Tensor, cell_type: torch.Tensor) -> torch.Tensor:
    """Log-probabilities: the background and how surely there is a cell from one head, its type from another.

    Parameters
    ----------
    kind : Tensor, shape (N, C, ...)
        Logits, background first.
    cell_type : Tensor, shape (N, C - 1, ...)
        Logits.

    Returns
    -------
    Tensor, shape (N, C, ...)
        ``log p(background)``, and ``log p(cell) + log p(type | cell)``.
    """
    told = kind.log_softmax(1)
    cell = told[:, 1:].logsumexp(1, keepdim=True)
    return torch.cat([told[:, :1], cell + cell_type.log_softmax(1)], dim=1)


def turned(
    network: HydraNet, images: torch.Tensor, turns: int, dense: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Average what a network says of images turned by equal angles, turned back.

    Parameters
    ----------
    network : HydraNet
    images : Tensor, shape (N, 3, H, W)
    turns : {1, 2, 4}
        1: as they are; 2: also by half a turn; 4: by every quarter.
    dense : bool
        As in `HydraNet.forward`; the sides then are a multiple of the stride and the halo.

    Returns
    -------
    logits : Tensor, shape (N, classes, h, w)
        Logarithms of the mean probabilities, if there is more than one turn.
    centroids : Tensor, shape (N, 2, h, w)
        (row, col) in units of the window.
    """
    if turns == 1:
        return network(images, dense)
    probs, places = [], []
    for quarters in range(0, 4, 4 // turns):
        logits, centroids = network(torch.rot90(images, quarters, (2, 3)), dense)
        for _ in range(quarters):  # a quarter turn moves (row, col) to (1 - col, row)
            centroids = torch.stack([centroids[:, 1], 1.0 - centroids[:, 0]], dim=1)
        probs.append(torch.rot90(logits.softmax(1), -quarters, (2, 3)))
        places.append(torch.rot90(centroids, -quarters, (2, 3)))
    return torch.stack(probs).mean(0).clamp_min(1e-12).log(), torch.stack(places).mean(0)


def for_inference(network: HydraNet, half: bool) -> HydraNet:
    """Copy a trained network into one that says the same in less time.

    Normalisations are folded into the convolutions before them where nothing else needs what is between.

    Parameters
    ----------
    network : HydraNet
    half : bool
        Convolutions in bfloat16, all but the last of each head: half precision is too coarse for what heads
        say, a sixth of a pixel.
    """
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    trunk, first = copied.trunk, copied.trunk.blocks[0]
    trunk.stem = _folded(trunk.stem, first.bn1)
    first.bn1 = nn.Identity()
    for block in trunk.blocks:
        block.conv1 = _folded(block.conv1, block.bn2)
        block.bn2 = nn.Identity()
    if half:
        for module in copied.modules():
            if isinstance(module, nn.Conv2d):
                module.to(torch.bfloat16)
        for head in copied.heads:
            head.dense[-1].float()
            head.dense.insert(len(head.dense) - 1, _Exact())
    return copied.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _folded(convolution: Any, normalisation: Any) -> nn.Conv2d:
    """One convolution that does what both did."""
    return fuse_conv_bn_eval(convolution, normalisation)


class _Exact(nn.Module):
    """Back to single precision."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Within this context BatchNorm in training mode does not remember the batch's statistics."""
    layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
