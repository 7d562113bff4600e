"""The true encoder of ResNet-34: a 7x7 stem and 3, 4, 6 and 3 basic blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

BLOCKS = (3, 4, 6, 3)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a skip; ReLU after the sum.

    Parameters
    ----------
    channels, width : int
        In and out.
    stride : int
        Of the first convolution and of the 1x1 convolution on the skip.
    project : bool
        Whether the skip has a 1x1 convolution even where shapes agree, as the report draws it.

    References
    ----------
    .. [1] He et al., Deep residual learning for image recognition, CVPR 2016.
    """

    def __init__(self, channels: int, width: int, stride: int = 1, project: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if project or stride > 1 or channels != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, channels, h, w) to (N, width, h / stride, w / stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        skip = x if self.downsample is None else self.downsample(x)
        return F.relu(out + skip, inplace=True)


class ResNet34Encoder(nn.Module):
    """ResNet-34 without its classifier, with the features of every resolution.

    Parts are named as in torchvision and timm (``conv1``, ``bn1``, ``layer1`` ... ``layer4``), so that
    weights of theirs fit when ``base`` is 64.

    Parameters
    ----------
    base : int
        Channels of the stem and the first layer; published: 64.
    channels : int
        Of the image.

    Attributes
    ----------
    widths : tuple of int
        Channels of each feature map, finest first: at 1/2, 1/4, 1/8, 1/16 and 1/32.
    first_stride : int
        Of the finest feature map.
    align : int
        Sides of an image must be multiples of this.
    """

    def __init__(self, base: int = 64, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, base, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(base)
        width = base
        for number, count in enumerate(BLOCKS, start=1):
            wide = base * 2 ** (number - 1)
            blocks = [
                BasicBlock(width if i == 0 else wide, wide, 2 if i == 0 and number > 1 else 1)
                for i in range(count)
            ]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
            width = wide
        self.widths = (base, base, 2 * base, 4 * base, 8 * base)
        self.first_stride, self.align = 2, 32
        initialise(self)

    @property
    def reach(self) -> int:
        """Pixels around a place that its coarsest features depend on: stem, pooling, two a block."""
        return 3 + 2 + sum(2 * count * 2 ** (number + 1) for number, count in enumerate(BLOCKS, start=1))

    @property
    def last(self) -> nn.Parameter:
        """Kernel of the last convolution."""
        weight = self.layer4[-1].conv2.weight  # type: ignore[index, union-attr]
        assert isinstance(weight, nn.Parameter)
        return weight

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Features of normalised images (N, channels, H, W), finest first."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        found = [x]
        x = F.max_pool2d(x, 3, 2, 1)
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
            found.append(x)
        return found


def initialise(module: nn.Module) -> None:
    """He's normal initialisation for every convolution."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")


class WeightsError(ValueError):
    """Weights of the user's own do not fit; the message says why."""


def check_weights(source: str) -> None:
    """Say at once that there is no such file, or no timm; nothing is read.

    Raises
    ------
    WeightsError
        In the words of `load_encoder`.
    """
    if source.startswith("timm:"):
        _timm()
    elif source:
        _file(source)


def load_encoder(encoder: nn.Module, source: str) -> int:
    """Load weights of the user's own into an encoder.

    Parameters
    ----------
    encoder : Module
    source : str
        A ``.safetensors`` file with torchvision's or timm's names, perhaps behind a prefix such as
        ``encoder.``; or ``timm:NAME`` or ``timm:NAME@FILE`` for a model that timm, if installed, makes, with
        weights from a file. Nothing is downloaded.

    Returns
    -------
    int
        Tensors that were taken.

    Raises
    ------
    WeightsError
        If the file cannot be read, timm is missing, or the weights are of another network.
    """
    return fit_weights(encoder, _read(source), source)


def fit_weights(encoder: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> int:
    """Copy those tensors into an encoder that it has; every one of its own must be there."""
    own = encoder.state_dict()
    needed = [name for name in own if not name.endswith("num_batches_tracked")]
    prefix = next((p for p in _prefixes(state, needed[0]) if f"{p}{needed[0]}" in state), "")
    missing = [name for name in needed if f"{prefix}{name}" not in state]
    if missing:
        raise WeightsError(
            f"{source} holds no weights of this encoder ('{missing[0]}' is missing); "
            "choose the encoder they were made for, or leave them out."
        )
    for name in needed:
        theirs, mine = state[f"{prefix}{name}"], own[name]
        if theirs.shape != mine.shape:
            raise WeightsError(
                f"'{name}' has the shape {tuple(theirs.shape)} in {source} but {tuple(mine.shape)} here; "
                "choose the width they were made for."
            )
        mine.copy_(theirs)
    return len(needed)


def _prefixes(state: Mapping[str, torch.Tensor], first: str) -> Sequence[str]:
    return ["", *(name.removesuffix(first) for name in state if name.endswith(f".{first}"))]


def _read(source: str) -> dict[str, torch.Tensor]:
    if source.startswith("timm:"):
        return _from_timm(source.removeprefix("timm:"))
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = _file(source)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"The weights {path} cannot be read ({error}).") from error


def _file(source: str) -> Path:
    path = Path(source).expanduser()
    if path.suffix != ".safetensors" or not path.is_file():
        raise WeightsError(f"There is no file {path} of weights; give a .safetensors file.")
    return path


def _timm() -> Any:
    try:
        return import_module("timm")
    except ImportError as error:
        raise WeightsError("timm is not installed; install it, or give a .safetensors file.") from error


def _from_timm(what: str) -> dict[str, torch.Tensor]:
    name, _, file = what.partition("@")
    try:
        model = _timm().create_model(name, pretrained=False, checkpoint_path=file)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"timm cannot make '{name}' with {file or 'random weights'}: {error}") from error
    state: dict[str, torch.Tensor] = model.state_dict()
    return state
