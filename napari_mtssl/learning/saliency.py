"""Where a classifier looks: the input gradient, and Grad-CAM and SmoothGrad as MONAI has them.

All of it works inside ``torch.no_grad()`` and leaves no gradient behind.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

Scores = Callable[[torch.Tensor], torch.Tensor]
HOW = ("gradient", "smooth-gradient", "grad-cam")


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Within this context the network is in evaluation mode: no dropout."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def input_gradient(scores: Scores, images: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
    """Absolute gradient of one raw class score by each pixel.

    Parameters
    ----------
    scores : callable
        From images (N, C, H, W) to raw scores (N, K) before any softmax; in evaluation mode.
    images : Tensor, shape (N, C, H, W)
    classes : Tensor, shape (N,), optional
        Whose score; by default each image's greatest.

    Returns
    -------
    Tensor, shape (N, 1, H, W)
        The greatest over the channels, detached, on the scale the gradient has.

    References
    ----------
    .. [1] Simonyan, Vedaldi, Zisserman, Deep inside convolutional networks, 2014, section 3.
    .. [2] Haque et al., MultiMix, ISBI 2021, section 2 (the saliency bridge).
    """
    with torch.inference_mode(False), torch.enable_grad():
        pixels = images.detach().clone().requires_grad_(True)
        raw = scores(pixels)
        chosen = raw.amax(1) if classes is None else raw.gather(1, classes[:, None])[:, 0]
        (gradient,) = torch.autograd.grad(chosen.sum(), pixels)
    return gradient.detach().abs().amax(1, keepdim=True)


def to_range(maps: torch.Tensor) -> torch.Tensor:
    """Stretch each map (N, 1, H, W) from 0 to 1; one without contrast becomes 0."""
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (maps - low) / spread.clamp_min(torch.finfo(maps.dtype).tiny), 0.0)


def grad_cam(classifier: nn.Module, layer: str, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Grad-CAM of one layer, as large as the images.

    Parameters
    ----------
    classifier : nn.Module
        From images to raw scores (N, K); it is copied, and left as it is.
    layer : str
        Name of one of its modules, such as ``network.encoder.4``.
    images : Tensor, shape (N, C, H, W)
    classes : Tensor, shape (N,)

    Returns
    -------
    Tensor, shape (N, 1, H, W), values in [0, 1]
    """
    from monai.visualize import GradCAM

    with torch.inference_mode(False), torch.enable_grad():
        # a copy: MONAI registers hooks for good and writes gradients, which training would then add up
        cam = GradCAM(_own(classifier), target_layers=layer)
        maps = [
            cam.compute_map(image[None].detach().clone(), class_idx=int(index)).detach()
            for image, index in zip(images, classes, strict=True)
        ]
    large = F.interpolate(torch.cat(maps), size=images.shape[2:], mode="bilinear", align_corners=False)
    return to_range(large)


def smooth_grad(
    classifier: nn.Module, images: torch.Tensor, classes: torch.Tensor, samples: int = 16, noise: float = 0.15
) -> torch.Tensor:
    """Input gradients averaged over noisy copies of each image.

    Parameters
    ----------
    classifier : nn.Module
        From images to raw scores (N, K); it is copied, and left as it is.
    images : Tensor, shape (N, C, H, W)
    classes : Tensor, shape (N,)
    samples : int
    noise : float
        Deviation of the noise, share of each image's range.

    Returns
    -------
    Tensor, shape (N, 1, H, W), on the scale the gradient has
    """
    from monai.visualize import SmoothGrad

    with torch.inference_mode(False), torch.enable_grad():
        smooth = SmoothGrad(_own(classifier), n_samples=samples, stdev_spread=noise, verbose=False)
        maps = [
            smooth(image[None].detach().clone(), index=int(index)).detach()
            for image, index in zip(images, classes, strict=True)
        ]
    return torch.cat(maps).abs().amax(1, keepdim=True)


def class_map(
    classifier: nn.Module, images: torch.Tensor, index: int | None = None, how: str = HOW[0]
) -> torch.Tensor:
    """Show where a class is seen in images, in one of the ways of `HOW`.

    Parameters
    ----------
    classifier : nn.Module
        From images to raw scores (N, K). For Grad-CAM, ``network.encoder.4`` must be its deepest features.
    images : Tensor, shape (N, C, H, W)
    index : int, optional
        Of the class; by default the most probable one of each image.
    how : str

    Returns
    -------
    Tensor, shape (N, 1, H, W)
    """
    with torch.no_grad(), evaluating(classifier):
        best = classifier(images).argmax(1)
        classes = best if index is None else torch.full_like(best, index)
        if how == "gradient":
            return input_gradient(classifier, images, classes)
    if how == "smooth-gradient":
        return smooth_grad(classifier, images, classes)
    return grad_cam(classifier, "network.encoder.4", images, classes)


def _own(classifier: nn.Module) -> nn.Module:
    """Copy a classifier, in evaluation mode and with gradients for every weight."""
    return copy.deepcopy(classifier).eval().requires_grad_(True)
