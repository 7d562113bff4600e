"""Views of whole images for MultiMix: weak, affine, strong, each with the grid that moved it."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from napari_mtssl.learning.radiograph import (
    GeometryRange,
    LooksRange,
    change_looks,
    move,
    move_filled,
    random_grid,
)
from napari_mtssl.learning.randaugment import randaugment
from napari_mtssl.methods.multimix.config import MultiMixConfig


class Views:
    """Draws views of images (N, C, S, S) in [0, 1].

    Parameters
    ----------
    config : MultiMixConfig
    """

    def __init__(self, config: MultiMixConfig) -> None:
        self.config = config
        self.weak_geometry = GeometryRange(flips=config.flips, shift=0.125)
        # What a plain U-Net is trained with here: the rows of the paper that ours is compared with.
        self.affine_geometry = GeometryRange(
            flips=config.flips, rotation=10.0, scale=0.15, stretch=0.05, shift=0.08
        )
        self.strong_geometry = GeometryRange(
            config.flips, config.rotation, config.scale, config.stretch, config.shift, config.elastic
        )
        s = config.looks
        self.strong_looks = LooksRange(
            curve=0.7 * s,
            contrast=0.35 * s,
            bias=0.4 * s,
            blur=1.0 * s,
            noise=0.06 * s,
            opacities=config.opacities,
            clutter=config.clutter,
            inversion=config.inversion,
        )

    def weak(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mirror half of them and crop after padding by reflection, an eighth at most."""
        grid = random_grid(len(images), images.shape[-1], self.weak_geometry, images.device)
        moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        return moved, grid

    def strong(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw what the network must see through."""
        if self.config.strong_views == "randaugment":
            mirrored, first = self.weak(images)
            moved, second = randaugment(mirrored)
            return moved, _compose(first, second)
        grid = random_grid(len(images), images.shape[-1], self.strong_geometry, images.device)
        return change_looks(move_filled(images, grid), self.strong_looks), grid

    def labelled(self, images: torch.Tensor, kind: str, progress: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw what labelled images are learnt from, `progress` into the run."""
        if kind == "weak":
            return self.weak(images)
        mild, grid = self.affine(images)
        if kind == "affine":
            return mild, grid
        calm = self.config.calm
        share = self.config.strong_share * (min(1.0, (1.0 - progress) / calm) if calm else 1.0)
        strong, strong_grid = self.strong(images)
        chosen = (torch.rand(len(images), device=images.device) < share).view(-1, 1, 1, 1)
        return torch.where(chosen, strong, mild), torch.where(chosen, strong_grid, grid)

    def affine(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Turn, zoom and shift them a little; the outermost pixels are drawn out."""
        grid = random_grid(len(images), images.shape[-1], self.affine_geometry, images.device)
        held = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return held, grid


def _compose(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Grid that does in one step what two do one after the other."""
    return F.grid_sample(
        first.permute(0, 3, 1, 2), second, mode="bilinear", padding_mode="border", align_corners=False
    ).permute(0, 2, 3, 1)


def move_mask(masks: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Move soft masks (N, K + 1, S, S) with their images; what comes from outside is background."""
    moved = move(masks, grid)
    rest = 1 - moved.sum(1, keepdim=True)
    return torch.cat([moved[:, :1] + rest, moved[:, 1:]], dim=1)


def inside(grid: torch.Tensor) -> torch.Tensor:
    """1 where a grid (N, H, W, 2) takes its pixel from within the image: (N, 1, H, W)."""
    return (grid.abs() <= 1).all(-1)[:, None].to(grid.dtype)
