"""RandAugment for grey or colour images, with the operations and magnitudes FixMatch's released codes use."""

from __future__ import annotations

import torch
from torch.nn import functional as F

CHOSEN = 2  # operations for each image
CHANCE = 0.5  # that a chosen one is applied


def randaugment(images: torch.Tensor, levels: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply two random operations of thirteen to each image, each with probability one half.

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W), values in [0, 1]
        Square.
    levels : int
        Magnitudes are drawn from ``1 .. levels - 1`` tenths.

    Returns
    -------
    images : Tensor, shape (N, C, H, W)
    grid : Tensor, shape (N, H, W, 2)
        Where the pixels come from, for `torch.nn.functional.grid_sample`.

    References
    ----------
    .. [1] Cubuk et al., RandAugment, 2020; Sohn et al., FixMatch, 2020, appendix E.
    """
    changed, matrices = [], []
    for image in images:
        matrix = torch.eye(3)
        for _ in range(CHOSEN):
            kind = int(torch.randint(0, 13, ()))
            share = int(torch.randint(1, levels, ())) / 10
            sign = 1.0 if torch.rand(()) < 0.5 else -1.0
            if torch.rand(()) < CHANCE:
                image = _recolour(image, kind, share)
                matrix = matrix @ _affine(kind, share * sign)
        changed.append(image)
        matrices.append(matrix[:2])
    theta = torch.stack(matrices).to(images)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(torch.stack(changed), grid, mode="bilinear", align_corners=False)
    return moved, grid


def _affine(kind: int, amount: float) -> torch.Tensor:
    """Matrix of the operations 8 to 12: rotation, two shears, two translations."""
    matrix = torch.eye(3)
    if kind == 8:
        angle = torch.deg2rad(torch.tensor(30.0 * amount))
        cos, sin = torch.cos(angle), torch.sin(angle)
        matrix[:2, :2] = torch.tensor([[cos, -sin], [sin, cos]])
    elif kind in (9, 10):
        matrix[kind - 9, 10 - kind] = 0.3 * amount
    elif kind in (11, 12):
        matrix[kind - 11, 2] = 0.6 * amount  # 0.3 of a side that is 2 long
    return matrix


def _recolour(image: torch.Tensor, kind: int, share: float) -> torch.Tensor:
    """Operations 0 to 7 on one image (C, H, W); the others leave it."""
    if kind == 0:  # autocontrast
        low, high = image.amin(), image.amax()
        return (image - low) / (high - low).clamp_min(1e-6)
    if kind == 1:  # brightness
        return image * (0.05 + 0.9 * share)
    if kind == 2:  # contrast
        return image.mean() + (image - image.mean()) * (0.05 + 0.9 * share)
    if kind == 3:  # equalise
        order = image.flatten().argsort().argsort()
        return (order.to(image) / max(image.numel() - 1, 1)).view_as(image)
    if kind == 4:  # posterise
        steps = 2 ** (4 + int(4 * share))
        return (image * 255).floor().div(256 / steps).floor() / (steps - 1)
    if kind == 5:  # sharpness
        soft = F.avg_pool2d(image[None], 3, stride=1, padding=1, count_include_pad=False)[0]
        return (soft + (image - soft) * (0.05 + 0.9 * share)).clamp(0, 1)
    if kind == 6:  # solarise
        return torch.where(image >= 1 - share, 1 - image, image)
    return image  # 7: identity
