"""Views of whole images: one warp for image and mask, colours that leave the intensity what it is."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from napari_mtssl.learning.augment import AffineRange, blur, jitter_stain, random_affine, warp
from napari_mtssl.methods.joint_unet.config import JointUNetConfig
from napari_mtssl.methods.joint_unet.samples import UNKNOWN


class Views:
    """Draws views by the settings.

    Parameters
    ----------
    config : JointUNetConfig
    """

    def __init__(self, config: JointUNetConfig) -> None:
        self.config = config
        self.warps = config.warped > 0 and any((config.rotation, config.scale, config.stretch, config.shift))
        self.limits = AffineRange(False, config.rotation, config.scale, config.stretch)

    def warped(
        self, images: torch.Tensor, masks: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Turn images (N, 3, S, S), in [0, 1], and masks (N, S, S); warp some by random affine maps.

        What the map brings in from outside is a reflection, in both.
        """
        count, size = len(images), images.shape[-1]
        if self.config.turns:
            turns = torch.randint(0, 8, (count,)).tolist()
            images = torch.stack([dihedral(x, n) for x, n in zip(images, turns, strict=True)])
            if masks is not None:
                masks = torch.stack([dihedral(x, n) for x, n in zip(masks, turns, strict=True)])
        if not self.warps:
            return images, masks
        shift = torch.full((count,), self.config.shift * size, device=images.device)
        matrix = random_affine(count, size, size, self.limits, shift)
        # resampling blurs: what is told by a fine texture must be seen as it is too
        sharp = torch.rand(count, device=images.device) >= self.config.warped
        matrix[sharp] = torch.eye(3, device=images.device)
        moved = warp(images, matrix, size)
        if masks is None:
            return moved, None
        # classes one by one, with the unknown among them, so that no class is invented between two
        values = torch.unique(masks).tolist()
        stack = torch.stack([(masks == value).float() for value in values], 1)
        best = warp(stack, matrix, size).argmax(1)
        return moved, torch.tensor(values, dtype=torch.uint8, device=masks.device)[best]

    def coloured(self, images: torch.Tensor, bright: bool) -> torch.Tensor:
        """Jitter the stains of images on white, and the brightness by a few percent."""
        config, count = self.config, len(images)
        if bright and config.stain:
            images = jitter_stain(images, config.stain)
        if not bright and config.tint:
            gain = torch.exp((torch.rand(count, 3, 1, 1, device=images.device) * 2 - 1) * config.tint)
            moved = images * gain
            # as bright as before where it is brightest: the intensity may be what is asked for
            images = moved * (_brightest(images) + 1e-6) / (_brightest(moved) + 1e-6)
        if config.blur:
            images = blur(images, torch.rand(count, device=images.device) * config.blur)
        if config.brightness:
            images = images * torch.exp(_uniform(count, config.brightness, images))
        if config.noise:
            images = images + config.noise * torch.rand(
                count, 1, 1, 1, device=images.device
            ) * torch.randn_like(images)
        return images.clamp(0, 1)

    def regained(self, images: torch.Tensor, bright: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Change the brightness of half of the images, if they are on black, and say of which (N,)."""
        changed = torch.randperm(len(images), device=images.device) < len(images) // 2
        if bright or not self.config.gain:
            return images, torch.zeros_like(changed)
        factor = torch.exp(_uniform(len(images), self.config.gain, images))
        return torch.where(changed[:, None, None, None], (images * factor).clamp(0, 1), images), changed

    def strong(self, images: torch.Tensor, bright: bool) -> torch.Tensor:
        """Colour a view that a guess is learnt from: further than `coloured`, and with a hole."""
        images = self.coloured(images, bright)
        much = self.config.strong
        if not much:
            return images
        count, _, size, _ = images.shape
        images = images + 0.03 * much * torch.rand(count, 1, 1, 1, device=images.device) * torch.randn_like(
            images
        )
        if bright:
            middle = images.mean((2, 3), keepdim=True)
            images = middle + (images - middle) * torch.exp(_uniform(count, 0.25 * much, images))
        side = max(1, round(size * 0.25))
        corner = torch.randint(0, size - side + 1, (count, 2), device=images.device)
        grid = torch.arange(size, device=images.device)
        rows = (grid >= corner[:, :1]) & (grid < corner[:, :1] + side)
        cols = (grid >= corner[:, 1:]) & (grid < corner[:, 1:] + side)
        hole = (rows[:, :, None] & cols[:, None, :])[:, None]
        return torch.where(hole, images.mean((2, 3), keepdim=True), images).clamp(0, 1)


def cut_and_paste(
    images: torch.Tensor, guess: torch.Tensor, share: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Paste a box of the image before it, and of what is guessed of that, into some images (CutMix).

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W)
    guess : Tensor, shape (N, K, H, W)
        Logits of their masks.
    share : float
        Of the images; the others stay as they are.

    Returns
    -------
    images, guess : Tensor
    mixed : Tensor of bool, shape (N,)
        Which ones show two images now, so that no class is theirs.

    References
    ----------
    .. [1] French et al., Semi-supervised semantic segmentation needs strong, varied perturbations, BMVC 2020.
    """
    count, _, height, width = images.shape
    device = images.device
    mixed = torch.randperm(count, device=device) < round(share * count)
    side = 0.4 + 0.4 * torch.rand(count, 1, device=device)
    corner = torch.rand(count, 2, device=device) * (1 - side)
    rows, cols = torch.arange(height, device=device) / height, torch.arange(width, device=device) / width
    inside = _between(rows, corner[:, :1], side)[:, :, None] & _between(cols, corner[:, 1:], side)[:, None]
    inside = (inside & mixed[:, None, None])[:, None]
    pasted = torch.where(inside, images.roll(1, 0), images)
    return pasted, torch.where(inside, guess.roll(1, 0), guess), mixed


def _between(places: torch.Tensor, first: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    return (places >= first) & (places < first + length)


def _brightest(images: torch.Tensor) -> torch.Tensor:
    """Mean of the brightest channel of each image, (N, 1, 1, 1)."""
    return images.mean((2, 3), keepdim=True).amax(1, keepdim=True)


def _uniform(count: int, limit: float, like: torch.Tensor) -> torch.Tensor:
    return (torch.rand(count, 1, 1, 1, device=like.device) * 2 - 1) * limit


def dihedral(images: torch.Tensor, number: int, back: bool = False) -> torch.Tensor:
    """One of the eight turned and mirrored views of (..., S, S), or its inverse."""
    turns, mirrored = number % 4, number >= 4
    if back:
        images = torch.rot90(images, -turns, (-2, -1))
        return images.flip(-1) if mirrored else images
    if mirrored:
        images = images.flip(-1)
    return torch.rot90(images, turns, (-2, -1))


def mask_loss(logits: torch.Tensor, target: torch.Tensor, kind: str) -> torch.Tensor:
    """Loss of masks where somebody said what they are, mean over images.

    Parameters
    ----------
    logits : Tensor, shape (N, 1, H, W) for two classes or (N, K, H, W)
    target : Tensor of uint8, shape (N, H, W)
        Class of each pixel, 255 where unknown.
    kind : {'bce', 'dice', 'both'}
        Cross-entropy; one minus Dice of each image (smoothing 1, soft), mean over the classes that are no
        background; or their sum.
    """
    logits = logits.float()
    known = (target != UNKNOWN).float()
    inside = known.sum((1, 2)).clamp_min(1.0)
    classes = torch.where(target == UNKNOWN, 0, target).long()
    cost = torch.zeros(len(logits), device=logits.device)
    if logits.shape[1] == 1:
        truth = (classes > 0).float()
        if kind != "dice":
            entropy = F.binary_cross_entropy_with_logits(logits[:, 0], truth, reduction="none")
            cost = cost + (entropy * known).sum((1, 2)) / inside
        if kind != "bce":
            cost = cost + _dice(torch.sigmoid(logits[:, 0]) * known, truth * known)
        return cost.mean()
    if kind != "dice":
        cost = cost + (F.cross_entropy(logits, classes, reduction="none") * known).sum((1, 2)) / inside
    if kind != "bce":
        probs = logits.softmax(1)
        each = [_dice(probs[:, k] * known, (classes == k).float() * known) for k in range(1, logits.shape[1])]
        cost = cost + torch.stack(each).mean(0)
    return cost.mean()


def _dice(probs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """One minus the soft Dice of each image."""
    both = (probs * truth).sum((1, 2))
    return 1 - (2 * both + 1) / (probs.sum((1, 2)) + truth.sum((1, 2)) + 1)
