"""Batched augmentation: one affine warp per patch that also moves its points, and stain-aware colour changes.

Points are (row, col) in pixels with pixel centres at integers. A matrix maps (x, y, 1) of the source patch to
the (x, y, 1) of the warped one, as kornia has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from kornia.geometry.linalg import transform_points
from kornia.geometry.transform import warp_affine
from torch.nn import functional as F

# Ruifrok and Johnston's optical densities of haematoxylin, eosin and DAB for red, green and blue.
STAINS = torch.tensor([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
_DARKEST = 1.0 / 255.0


@dataclass(frozen=True)
class AffineRange:
    """How far random affine maps go.

    Attributes
    ----------
    flips : bool
        Mirror rows or columns, each with probability one half.
    rotation : float
        Degrees, drawn from +-rotation.
    scale : float
        Zoom is ``exp(u)``, u from +-scale, the same for both axes.
    stretch : float
        Ratio of the axes is ``exp(2 u)``, u from +-stretch.
    """

    flips: bool = True
    rotation: float = 180.0
    scale: float = 0.0
    stretch: float = 0.0


def _uniform(count: int, limit: float, like: torch.Tensor) -> torch.Tensor:
    return (torch.rand(count, device=like.device) * 2 - 1) * limit


def random_affine(
    count: int,
    source: int,
    size: int,
    limits: AffineRange,
    shift: torch.Tensor,
    about: torch.Tensor | None = None,
) -> torch.Tensor:
    """Draw affine maps from square patches of side `source` to crops of side `size`, centre on centre.

    Parameters
    ----------
    count : int
    source, size : int
        Pixels.
    limits : AffineRange
    shift : Tensor, shape (count,)
        Largest shift, in pixels of the source, of each patch along both axes (jitter of the crop).
    about : Tensor, shape (count, 2), optional
        (row, col) from the middle of each patch to where its crop is centred before the shift; by default 0.

    Returns
    -------
    Tensor, shape (count, 3, 3)
    """
    angle = torch.deg2rad(_uniform(count, limits.rotation, shift))
    zoom = torch.exp(_uniform(count, limits.scale, shift))
    stretch = torch.exp(_uniform(count, limits.stretch, shift))
    zoom_x, zoom_y = zoom * stretch, zoom / stretch
    if limits.flips:
        zoom_x = zoom_x * (torch.randint(0, 2, (count,), device=shift.device) * 2 - 1)
        zoom_y = zoom_y * (torch.randint(0, 2, (count,), device=shift.device) * 2 - 1)
    cos, sin = torch.cos(angle), torch.sin(angle)
    linear = torch.stack(
        [torch.stack([cos * zoom_x, -sin * zoom_y], -1), torch.stack([sin * zoom_x, cos * zoom_y], -1)], -2
    )
    centre = _uniform(2 * count, 1.0, shift).view(count, 2) * shift[:, None]
    if about is not None:
        centre = centre + about.flip(-1)
    return _about_centres(linear, source, size, centre)


def centre_crop(count: int, source: int, size: int, device: torch.device | None = None) -> torch.Tensor:
    """Give the map that only crops: (count, 3, 3), onto whole pixels."""
    matrix = torch.eye(3, device=device).repeat(count, 1, 1)
    matrix[:, :2, 2] = -float((source - size) // 2)
    return matrix


def _about_centres(linear: torch.Tensor, source: int, size: int, shift: torch.Tensor) -> torch.Tensor:
    """Affine map with this linear part that takes the source's centre + shift to the crop's centre."""
    matrix = torch.eye(3, device=linear.device).repeat(len(linear), 1, 1)
    matrix[:, :2, :2] = linear
    centre = shift + (source - 1) / 2
    matrix[:, :2, 2] = (size - 1) / 2 - (linear @ centre[..., None])[..., 0]
    return matrix


def warp(patches: torch.Tensor, matrix: torch.Tensor, size: int) -> torch.Tensor:
    """Warp each patch by its own matrix in one bilinear resampling; outside the source it is reflected.

    Parameters
    ----------
    patches : Tensor, shape (N, C, S, S), float
    matrix : Tensor, shape (N, 3, 3)
    size : int
        Side of the result.

    Returns
    -------
    Tensor, shape (N, C, size, size)
    """
    return warp_affine(patches, matrix[:, :2], (size, size), padding_mode="reflection", align_corners=True)


def move_points(points: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Take one point (row, col) per patch through the patch's own matrix: (N, 2) to (N, 2), pixels."""
    return transform_points(matrix, points.flip(-1)[:, None])[:, 0].flip(-1)


@dataclass(frozen=True)
class ColourRange:
    """How far random colour changes go; zero switches one off.

    Attributes
    ----------
    stain : float
        Each stain's density is multiplied by ``1 + u`` and moved by ``u / 5``, u from +-stain, one u each.
    contrast, brightness : float
        ``x`` becomes ``mean + (1 + u)(x - mean) + v``, u and v from +-contrast and +-brightness.
    blur : float
        Standard deviation of a Gaussian, drawn from 0 to blur, pixels.
    """

    stain: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    blur: float = 0.0


def jitter_colour(images: torch.Tensor, limits: ColourRange) -> torch.Tensor:
    """Change stain, contrast, brightness and sharpness of each image on its own.

    Parameters
    ----------
    images : Tensor, shape (N, 3, H, W), values in [0, 1]

    Returns
    -------
    Tensor, shape (N, 3, H, W), values in [0, 1]

    References
    ----------
    .. [1] Tellez et al., Whole-slide mitosis detection in H&E breast histology, IEEE TMI 2018 (stain
       augmentation).
    .. [2] Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution, 2001.
    """
    if limits.stain:
        images = jitter_stain(images, limits.stain)
    if limits.contrast or limits.brightness:
        count = len(images)
        mean = images.mean((1, 2, 3), keepdim=True)
        gain = 1 + _uniform(count, limits.contrast, images).view(-1, 1, 1, 1)
        images = (images - mean) * gain + mean + _uniform(count, limits.brightness, images).view(-1, 1, 1, 1)
    if limits.blur:
        images = blur(images, torch.rand(len(images), device=images.device) * limits.blur)
    return images.clamp(0, 1)


def jitter_stain(images: torch.Tensor, strength: float) -> torch.Tensor:
    """Scale and shift the densities of haematoxylin, eosin and DAB, unmixed with Ruifrok's vectors.

    In optical density this is one 3x3 matrix and one bias per image.
    """
    stains = F.normalize(STAINS, dim=1).to(images)
    count = len(images)
    gain = torch.diag_embed(1 + _uniform(3 * count, strength, images).view(count, 3))
    bias = _uniform(3 * count, strength / 5, images).view(count, 1, 3) @ stains
    matrix = torch.linalg.inv(stains) @ gain @ stains  # densities in a row vector: od @ matrix
    density = -torch.log(images.clamp_min(_DARKEST))
    mixed = torch.einsum("nchw,ncd->ndhw", density, matrix) + bias.transpose(1, 2)[..., None]
    return torch.exp(-mixed)


def blur(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Blur each image by its own Gaussian of standard deviation `sigma` (N,), pixels, five taps each way."""
    count, channels, height, width = images.shape
    offsets = torch.arange(-2, 3, device=images.device, dtype=images.dtype)
    taps = torch.exp(-0.5 * (offsets / sigma.clamp_min(0.05)[:, None]) ** 2)
    taps = (taps / taps.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = F.pad(images.reshape(1, count * channels, height, width), (2, 2, 2, 2), mode="replicate")
    flat = F.conv2d(flat, taps[:, None, :, None], groups=count * channels)
    flat = F.conv2d(flat, taps[:, None, None, :], groups=count * channels)
    return flat.view(count, channels, height, width)
