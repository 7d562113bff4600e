"""Batched augmentation of whole grey images such as radiographs: where pixels go, and what they look like.

A geometric change is a sampling grid (N, H, W, 2), as `torch.nn.functional.grid_sample` takes it: the same
grid moves an image, its mask and a teacher's guess for it, so that they stay on top of each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class GeometryRange:
    """How far random geometric changes go; zero switches one off.

    Attributes
    ----------
    flips : bool
        Mirror left and right with probability one half.
    rotation : float
        Degrees, drawn from +-rotation.
    scale, stretch : float
        Zoom is ``exp(u)``, the ratio of the axes ``exp(2 v)``, u and v from +-scale and +-stretch.
    shift : float
        Share of the image's side.
    elastic : float
        Largest displacement, at the nodes of a coarse net, as a share of the image's side.
    """

    flips: bool = True
    rotation: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0


@dataclass(frozen=True)
class LooksRange:
    """How far random changes of grey values go; zero switches one off.

    Attributes
    ----------
    curve : float
        Logarithm of the strongest gamma, upwards and downwards.
    contrast : float
        Strongest change of contrast and brightness, share of the range.
    bias : float
        Logarithm of the strongest smooth brightening or darkening of a part of the image.
    blur, noise : float
        Standard deviations: pixels, and share of the range.
    opacities : float
        Brightest soft blob, share of the range.
    clutter : float
        Chance of each of: letters, cables, blanked boxes, a border.
    inversion : float
        Chance that black and white are exchanged.
    """

    curve: float = 0.0
    contrast: float = 0.0
    bias: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    opacities: float = 0.0
    clutter: float = 0.0
    inversion: float = 0.0


def _signed(count: int, limit: float, device: torch.device) -> torch.Tensor:
    return (torch.rand(count, device=device) * 2 - 1) * limit


def random_grid(count: int, size: int, limits: GeometryRange, device: torch.device) -> torch.Tensor:
    """Draw sampling grids (count, size, size, 2) for square images."""
    angle = torch.deg2rad(_signed(count, limits.rotation, device))
    zoom = torch.exp(_signed(count, limits.scale, device))
    stretch = torch.exp(_signed(count, limits.stretch, device))
    across, down = zoom * stretch, zoom / stretch
    if limits.flips:
        across = across * (torch.randint(0, 2, (count,), device=device) * 2 - 1)
    cos, sin = torch.cos(angle), torch.sin(angle)
    matrix = torch.stack([cos * across, -sin * down, sin * across, cos * down], -1).view(count, 2, 2)
    moved = _signed(2 * count, 2 * limits.shift, device).view(count, 2, 1)
    grid = F.affine_grid(torch.cat([matrix, moved], dim=2), [count, 1, size, size], align_corners=False)
    if limits.elastic:
        nodes = _signed(count * 2 * 36, 2 * limits.elastic, device).view(count, 2, 6, 6)
        strength = torch.rand(count, 1, 1, 1, device=device)
        field = F.interpolate(nodes * strength, size=(size, size), mode="bicubic", align_corners=True)
        grid = grid + field.permute(0, 2, 3, 1)
    return grid


def same_place(count: int, size: int, device: torch.device) -> torch.Tensor:
    """Grid (count, size, size, 2) that moves nothing."""
    eye = torch.eye(2, 3, device=device).repeat(count, 1, 1)
    return F.affine_grid(eye, [count, 1, size, size], align_corners=False)


def move(images: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Resample images, masks or guesses (N, C, H, W) by a grid; what lies outside is 0."""
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def move_filled(images: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Resample images (N, C, H, W) in [0, 1]; what lies outside is black, or another grey in some of them."""
    count, device = len(images), images.device
    inside = move(torch.ones_like(images[:, :1]), grid)
    grey = torch.rand(count, device=device) ** 2 * (torch.rand(count, device=device) < 0.4)
    edge = torch.rand(count, 1, 1, 1, device=device) < 0.3
    held = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    filled = held * inside + grey.view(-1, 1, 1, 1) * (1 - inside)
    return torch.where(edge, held, filled)


def change_looks(images: torch.Tensor, limits: LooksRange) -> torch.Tensor:
    """Change grey values of each image on its own.

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W), values in [0, 1]

    Returns
    -------
    Tensor, same shape, values in [0, 1]
    """
    if limits.opacities:
        images = images + _blobs(images, limits.opacities)
    if limits.bias:
        images = images * torch.exp(_smooth(images, 3, limits.bias))
    if limits.curve:
        images = _curved(images, limits.curve)
    if limits.contrast:
        gain = 1 + _signed(len(images), limits.contrast, images.device).view(-1, 1, 1, 1)
        offset = _signed(len(images), limits.contrast / 2, images.device).view(-1, 1, 1, 1)
        images = (images - 0.5) * gain + 0.5 + offset
    images = images.clamp(0, 1)
    if limits.clutter:
        images = add_clutter(images, limits.clutter)
    if limits.blur or limits.noise:
        images = _sharpness(images, limits)
    if limits.inversion:
        turned = torch.rand(len(images), 1, 1, 1, device=images.device) < limits.inversion
        images = torch.where(turned, 1 - images, images)
    return images.clamp(0, 1)


def _smooth(images: torch.Tensor, nodes: int, limit: float) -> torch.Tensor:
    """Fields (N, 1, H, W) that vary slowly between -limit and limit."""
    coarse = _signed(len(images) * nodes * nodes, limit, images.device).view(-1, 1, nodes, nodes)
    return F.interpolate(coarse, size=images.shape[2:], mode="bicubic", align_corners=True)


def _curved(images: torch.Tensor, limit: float) -> torch.Tensor:
    """Put grey values through one of two families of curves: gamma, or an S about a random grey."""
    count = len(images)
    shape = (-1, 1, 1, 1)
    gamma = torch.exp(_signed(count, limit, images.device)).view(shape)
    centre = (0.3 + 0.4 * torch.rand(count, device=images.device)).view(shape)
    slope = (2 + 6 * torch.rand(count, device=images.device)).view(shape)
    curved = torch.sigmoid((images - centre) * slope)
    low, high = torch.sigmoid(-centre * slope), torch.sigmoid((1 - centre) * slope)
    bent = (curved - low) / (high - low)
    chosen = torch.rand(count, device=images.device).view(shape) < 0.3
    return torch.where(chosen, bent, images.clamp(1e-4, 1) ** gamma)


def _sharpness(images: torch.Tensor, limits: LooksRange) -> torch.Tensor:
    """Blur, or its opposite, and noise."""
    count, device = len(images), images.device
    if limits.blur:
        soft = _gaussian(images, limits.blur)
        share = (torch.rand(count, device=device) * 2 - 0.8).view(-1, 1, 1, 1)
        kept = (torch.rand(count, device=device) < 0.5).view(-1, 1, 1, 1)
        images = torch.where(kept, images, images + share * (soft - images))
    if limits.noise:
        sigma = (torch.rand(count, device=device) ** 2 * limits.noise).view(-1, 1, 1, 1)
        images = images + torch.randn_like(images) * sigma
    return images


def _gaussian(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur all images alike."""
    reach = max(1, math.ceil(2 * sigma))
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    taps = torch.exp(-0.5 * (offsets / sigma) ** 2)
    taps = (taps / taps.sum()).repeat(images.shape[1], 1)
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    rows = F.conv2d(padded, taps[:, None, :, None], groups=images.shape[1])
    return F.conv2d(rows, taps[:, None, None, :], groups=images.shape[1])


def _places(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (H, 1) and columns (1, W) as shares of the image's sides."""
    height, width = images.shape[2:]
    rows = (torch.arange(height, device=images.device) + 0.5) / height
    cols = (torch.arange(width, device=images.device) + 0.5) / width
    return rows[:, None], cols[None]


def _blobs(images: torch.Tensor, limit: float, most: int = 3) -> torch.Tensor:
    """Soft bright blobs (N, 1, H, W), none to three an image: what fluid in a lung looks like."""
    count, device = len(images), images.device
    rows, cols = _places(images)
    total = torch.zeros(count, 1, *images.shape[2:], device=device)
    for _ in range(most):
        row, col, high, wide, bright = (torch.rand(count, 1, 1, device=device) for _ in range(5))
        spread = [(0.03 + 0.15 * s) for s in (high, wide)]
        blob = torch.exp(-(((rows - row) / spread[0]) ** 2) - ((cols - col) / spread[1]) ** 2)
        there = torch.rand(count, 1, 1, device=device) < 0.4
        total += (blob * bright * limit * there)[:, None]
    return total * (1 + 0.5 * _smooth(images, 12, 1.0))  # patchy


def add_air(images: torch.Tensor, covered: torch.Tensor, chance: float, most: int = 2) -> torch.Tensor:
    """Darken ovals below the lungs of some of the images: gas in stomach and bowel.

    They are as dark as a lung and next to it, a rim between them, and no part of it.

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W), values in [0, 1]
    covered : Tensor, shape (N, 1, H, W)
        Share of each pixel that is lung.
    chance : float
        Share of the images that get ovals.
    most : int
        Ovals in each of them.
    """
    if not chance:
        return images
    count, device = len(images), images.device
    height, width = images.shape[2:]
    rows, cols = _places(images)
    there = torch.rand(count, 1, 1, 1, device=device) < chance
    rim = 2 * max(1, height // 64) + 1
    free = (1 - F.max_pool2d(covered, rim, 1, rim // 2)).clamp(0, 1)
    reach = height // 6
    below = F.max_pool2d(F.pad(covered, (0, 0, reach, 0)), (reach + 1, 1), 1) * free
    for _ in range(most):
        centre = torch.multinomial(below.flatten(1) + 1e-4, 1).view(count, 1, 1)
        down, across = rows - (centre // width + 0.5) / height, cols - (centre % width + 0.5) / width
        high, wide, dark, turn = (torch.rand(count, 1, 1, device=device) for _ in range(4))
        sin, cos = torch.sin(turn * math.pi), torch.cos(turn * math.pi)
        along = (down * cos + across * sin) / (0.03 + 0.1 * high)
        aside = (across * cos - down * sin) / (0.03 + 0.1 * wide)
        depth = 1 - torch.sqrt(along**2 + aside**2) + _smooth(images, 8, 0.5)[:, 0]
        shade = (0.2 + 0.5 * dark) * torch.sigmoid(8 * depth)
        images = images * (1 - shade[:, None] * free * there)
    return images


def add_clutter(images: torch.Tensor, chance: float) -> torch.Tensor:
    """Letters, cables, blanked boxes and borders, each on some of the images (N, C, H, W) in [0, 1]."""
    for paint in (_boxes, _cables, _letters, _border):
        there = torch.rand(len(images), 1, 1, 1, device=images.device) < chance
        images = torch.where(there, paint(images), images)
    return images


def _boxes(images: torch.Tensor) -> torch.Tensor:
    """Fill a box of up to a third of each side with one grey."""
    count, device = len(images), images.device
    rows, cols = _places(images)
    row, col, high, wide, grey = (torch.rand(count, 1, 1, device=device) for _ in range(5))
    box = ((rows - row).abs() < 0.02 + 0.15 * high) & ((cols - col).abs() < 0.02 + 0.15 * wide)
    return torch.where(box[:, None], grey[:, None], images)


def _cables(images: torch.Tensor) -> torch.Tensor:
    """Draw two thin curves, bright or dark."""
    count, device = len(images), images.device
    rows, cols = _places(images)
    along = torch.linspace(0, 1, 48, device=device)[:, None]
    for _ in range(2):
        a, b, c = (torch.rand(count, 1, 2, device=device) * 1.4 - 0.2 for _ in range(3))
        curve = (1 - along) ** 2 * a + 2 * along * (1 - along) * b + along**2 * c  # (N, 48, 2)
        near = torch.full((count, *images.shape[2:]), 9.0, device=device)
        for point in range(len(along)):
            row, col = curve[:, point, 0, None, None], curve[:, point, 1, None, None]
            near = torch.minimum(near, (rows - row) ** 2 + (cols - col) ** 2)
        width = 0.004 + 0.006 * torch.rand(count, 1, 1, device=device)
        line = torch.exp(-near / width**2)[:, None]
        step = (torch.rand(count, 1, 1, 1, device=device) * 0.8 - 0.2) * line
        images = (images + step).clamp(0, 1)
    return images


def _letters(images: torch.Tensor) -> torch.Tensor:
    """Print a few bright or dark signs side by side, such as L, R or PORTABLE."""
    images = images.clone()
    height, width = images.shape[2:]
    for index in range(len(images)):
        signs = int(torch.randint(1, 8, ()))
        side = max(int(height * (0.025 + 0.04 * float(torch.rand(())))), 3)
        row = int(torch.randint(0, max(height - side, 1), ()))
        col = int(torch.randint(0, max(width - side * signs, 1), ()))
        marks = (torch.rand(1, 1, 4, 4 * signs, device=images.device) < 0.5).float()
        marks[..., 3::4] = 0
        marks = F.interpolate(marks, size=(side, side * signs))[0]
        patch = images[index, :, row : row + side, col : col + side * signs]
        marks = marks[:, : patch.shape[1], : patch.shape[2]]
        grey = 1.0 if torch.rand(()) < 0.8 else 0.0
        patch.copy_(patch * (1 - marks) + grey * marks)
    return images


def _border(images: torch.Tensor) -> torch.Tensor:
    """Blacken (or whiten) what lies beyond a straight edge on one or two sides."""
    count, device = len(images), images.device
    rows, cols = _places(images)
    for _ in range(2):
        angle = torch.randint(0, 4, (count, 1, 1), device=device) * (math.pi / 2)
        angle = angle + (torch.rand(count, 1, 1, device=device) - 0.5) * 0.15
        depth = 0.5 - 0.18 * torch.rand(count, 1, 1, device=device) ** 1.5
        beyond = (rows - 0.5) * torch.cos(angle) + (cols - 0.5) * torch.sin(angle) > depth
        grey = (torch.rand(count, 1, 1, 1, device=device) < 0.2).float()
        images = torch.where(beyond[:, None], grey, images)
    return images


def normalise(images: torch.Tensor, equalise: bool = False) -> torch.Tensor:
    """Bring each image to mean 0 and deviation 1, whatever machine it comes from.

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W)
    equalise : bool
        Replace each grey value by its rank in its image first, so that no monotone curve of the grey values
        makes a difference.
    """
    if equalise:
        images = ranked(images, *rank_table(images))
    mean = images.mean((2, 3), keepdim=True)
    std = images.std((2, 3), keepdim=True).clamp_min(1e-3)
    return (images - mean) / std


def rank_table(images: torch.Tensor, bins: int = 256) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Take what ranks of grey values follow from: the least and greatest, and the shares below each bin.

    Returns
    -------
    low, high : Tensor, shape (N, C, 1)
    total : Tensor, shape (N, C, bins + 1)
    """
    flat = images.flatten(2)
    low, high = flat.amin(2, keepdim=True), flat.amax(2, keepdim=True)
    left = _place(flat, low, high, bins).floor().clamp(0, bins - 2).long()
    counts = torch.zeros(*flat.shape[:2], bins, device=images.device, dtype=flat.dtype)
    counts.scatter_add_(2, left, torch.ones_like(flat))
    return low, high, F.pad(counts.cumsum(2), (1, 0)) / flat.shape[2]


def ranked(images: torch.Tensor, low: torch.Tensor, high: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Share of the pixels that are darker, by a table of `rank_table`; values beyond it have its ends'."""
    bins = total.shape[2] - 1
    place = _place(images.flatten(2), low, high, bins).clamp(0, bins - 1)
    left = place.floor().clamp(0, bins - 2).long()
    below, above = total.gather(2, left), total.gather(2, left + 1)
    return (below + (place - left) * (above - below)).view_as(images)


def _place(flat: torch.Tensor, low: torch.Tensor, high: torch.Tensor, bins: int) -> torch.Tensor:
    return (flat - low) / (high - low).clamp_min(1e-6) * (bins - 1)
