"""Views of patches and the targets that go with them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from napari_mtssl.learning.augment import (
    AffineRange,
    ColourRange,
    centre_crop,
    jitter_colour,
    move_points,
    random_affine,
    warp,
)
from napari_mtssl.learning.mixup import mix, mix_coefficients
from napari_mtssl.methods.hydramix.config import HydraMixConfig
from napari_mtssl.methods.hydramix.samples import PatchBank, to_unit

View = tuple[torch.Tensor, torch.Tensor]  # images (N, 3, P, P) and the affine that made each (N, 3, 3)


@dataclass(frozen=True)
class Targets:
    """Images with what is known or guessed of them.

    Attributes
    ----------
    images : Tensor, shape (N, 3, P, P)
    probs : Tensor, shape (N, C)
    centroids : Tensor, shape (N, 2)
        (row, col) in units of the window.
    cell : Tensor, shape (N,)
        How surely the image has a cell whose centroid is that: 0 for background and for centroids outside.
    trust : Tensor, shape (N,)
        Weight of the targets.
    """

    images: torch.Tensor
    probs: torch.Tensor
    centroids: torch.Tensor
    cell: torch.Tensor
    trust: torch.Tensor

    def __add__(self, other: Targets) -> Targets:
        return Targets(
            *(torch.cat(pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    def mixed(self, alpha: float, trust_centroids: bool) -> Targets:
        """Mix every image and its class target with another one's; centroids stay (Eq. 3).

        Parameters
        ----------
        alpha : float
            Of the Beta distribution.
        trust_centroids : bool
            If not, a centroid weighs ``2 gamma - 1``: nothing where both images are equally visible.
        """
        count = len(self.images)
        gamma = mix_coefficients(count, alpha, self.images.device)
        partner = torch.randperm(count, device=self.images.device)
        return Targets(
            mix(self.images, partner, gamma),
            mix(self.probs, partner, gamma),
            self.centroids,
            # A mixed cell keeps the share that its own image has, a background patch has no centroid to keep.
            self.cell * (gamma if trust_centroids else 2 * gamma - 1),
            mix(self.trust, partner, gamma),
        )


class Views:
    """Makes weak views to guess from and strong views to learn from.

    Parameters
    ----------
    config : HydraMixConfig

    Attributes
    ----------
    gain : float
        Colours are changed on images brightened by this; see `brightening`.
    """

    def __init__(self, config: HydraMixConfig) -> None:
        self.config = config
        self.gain = 1.0
        self._weak = AffineRange()
        plain = config.variant == "cnn"
        self._strong = AffineRange() if plain else AffineRange(scale=config.scale, stretch=config.stretch)
        changes = (config.stain, config.contrast, config.brightness, config.blur)
        self._colour = ColourRange() if plain else ColourRange(*changes)
        # a class is told by its colours: labels are learnt from nearly those that were clicked
        share = 0.0 if plain else config.labelled_colour
        self._mild = ColourRange(*(share * change for change in changes))
        self._typing = ColourRange(*(config.type_colour * change for change in changes))

    def labelled(
        self, bank: PatchBank, chosen: torch.Tensor, classes: int, *, typing: bool = False
    ) -> Targets:
        """One view of each chosen labelled patch, its targets moved along.

        Parameters
        ----------
        bank : PatchBank
        chosen : Tensor of int, shape (N,)
        classes : int
        typing : bool
            In the colours that cells are told apart by.

        Returns
        -------
        Targets
            Of N images.
        """
        config = self.config
        kind = bank.classes[chosen]
        is_cell = (kind > 0).float()
        shift = torch.where(kind > 0, config.jitter, config.background_jitter)
        source = to_unit(bank.patches[chosen])
        # Jitter is about the cell, wherever it lies in the stored patch.
        off = (bank.centroids[chosen] - (source.shape[-1] - 1) / 2) * is_cell[:, None]
        colour = self._typing if typing else self._mild
        images, matrix = self._view(source, shift, self._strong, colour, about=off)
        centroids, inside = self._to_window(bank.centroids[chosen], matrix)
        probs = F.one_hot(kind, classes).to(images.dtype)
        return Targets(images, probs, centroids, is_cell * inside, torch.ones_like(is_cell))

    def weak(self, source: torch.Tensor) -> list[View]:
        """K views to guess from: flips, rotations and a small shift."""
        config = self.config
        limit = config.background_jitter if config.strong_views else config.jitter
        shift = torch.full((len(source),), limit, device=source.device)
        if config.strong_views:
            return [self._view(source, shift, self._weak) for _ in range(config.views)]
        return [self._view(source, shift, self._strong, self._colour) for _ in range(config.views)]

    def unlabelled(
        self,
        source: torch.Tensor,
        weak: list[View],
        probs: torch.Tensor,
        sharp: torch.Tensor,
        centroid: torch.Tensor,
        trust: torch.Tensor,
    ) -> Targets:
        """Make views to learn the guesses from: strong ones, or those that were guessed from.

        Parameters
        ----------
        source : Tensor, shape (M, 3, S, S)
        weak : list of (images, matrix)
        probs, sharp : Tensor, shape (M, C)
            Guess before and after sharpening.
        centroid : Tensor, shape (M, 2)
            (row, col) in pixels of the source.
        trust : Tensor, shape (M,)

        Returns
        -------
        Targets
            Of M times as many images as there are views.
        """
        config = self.config
        views = weak
        if config.strong_views:
            low, high = config.background_jitter, config.jitter
            shift = torch.where(probs.argmax(1) > 0, high, low)
            views = [
                self._view(source, shift, self._strong, self._colour) for _ in range(config.strong_views)
            ]
        parts = []
        for images, matrix in views:
            centroids, inside = self._to_window(centroid, matrix)
            parts.append(Targets(images, sharp, centroids, (1.0 - sharp[:, 0]) * inside, trust))
        result = parts[0]
        for part in parts[1:]:
            result = result + part
        return result

    def crop(self, source: torch.Tensor) -> torch.Tensor:
        """Middle of each patch, not augmented."""
        start = (source.shape[-1] - self.config.window) // 2
        stop = start + self.config.window
        return source[..., start:stop, start:stop]

    def crop_matrix(self, source: torch.Tensor) -> torch.Tensor:
        """Affine of `crop`."""
        return centre_crop(len(source), source.shape[-1], self.config.window, source.device)

    def to_source(self, centroids: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        """Predicted centroids (N, 2) in units of the window to pixels of the source patch."""
        return move_points(centroids * self.config.window - 0.5, torch.linalg.inv(matrix))

    def _to_window(self, points: torch.Tensor, matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Points in pixels of the source to units of the window, and 1 where they are near its middle."""
        moved = (move_points(points, matrix) + 0.5) / self.config.window
        reach = min(0.5, self.config.centroid_reach / self.config.window)
        return moved, ((moved - 0.5).abs() < reach).all(1).to(moved.dtype)

    def _view(
        self,
        source: torch.Tensor,
        shift: torch.Tensor,
        limits: AffineRange,
        colour: ColourRange | None = None,
        about: torch.Tensor | None = None,
    ) -> View:
        size = self.config.window
        matrix = random_affine(len(source), source.shape[-1], size, limits, shift, about)
        images = warp(source, matrix, size)
        if colour is not None and self.gain == 1:
            images = jitter_colour(images, colour)
        elif colour is not None:
            images = jitter_colour(images * self.gain, colour) / self.gain
        return images, matrix


def brightening(images: torch.Tensor) -> float:
    """Factor that brings dark images (12 bits in files of 16) into the range where colours are changed.

    Parameters
    ----------
    images : Tensor
        Values in [0, 1].

    Returns
    -------
    float
        1 for images that use the range.
    """
    values = images.flatten()
    values = values[:: max(1, len(values) // 1_000_000)]
    top = float(torch.quantile(values, 0.999))
    return 1.0 / top if 0 < top < 0.5 else 1.0


class ClassDraw:
    """Draws labelled samples on the device, all alike or balanced.

    Balanced draws are one third background, the most varied class whatever the number of others,
    and the rest evenly of the other classes. For the paper's three classes that is one third each.

    Parameters
    ----------
    bank : PatchBank
    classes : int
    balanced : bool

    Attributes
    ----------
    distribution : Tensor, shape (classes,)
        Share of each class in what is drawn.
    """

    def __init__(self, bank: PatchBank, classes: int, balanced: bool) -> None:
        self._bank = bank
        counts = torch.bincount(bank.classes, minlength=classes)
        self._order = torch.argsort(bank.classes, stable=True)
        self._first = torch.cumsum(counts, 0) - counts
        self._counts = counts
        share = counts.float()
        if balanced:
            share = (counts > 0).float()
            others = share[1:].sum()
            if share[0] > 0 and others > 0:
                share[0] = others / 2
        self.distribution = share / share.sum()
        self._bounds = torch.cumsum(self.distribution, 0)
        self._background = float(self.distribution[0])

    def is_of(self, bank: PatchBank) -> bool:
        """Whether it draws from this very bank."""
        return self._bank is bank

    def __call__(self, count: int) -> torch.Tensor:
        """Draw indices (count,) of labelled patches, with replacement."""
        return self._drawn(count, 0.0)

    def cells(self, batch: int) -> torch.Tensor:
        """Draw as many cells as a batch of this many patches has, but no background: their indices.

        A bank of background alone has none.
        """
        return self._drawn(round(batch * (1.0 - self._background)), self._background)

    def _drawn(self, count: int, low: float) -> torch.Tensor:
        """Draw from the classes beyond this share of the distribution."""
        device = self._bank.classes.device
        # Evenly spaced with one random offset: every batch has the shares that are wanted, up to rounding.
        spot = (torch.arange(count, device=device) + torch.rand(1, device=device)) / max(1, count)
        spot = low + (1.0 - low) * spot
        # Rounding must not reach beyond the last class that occurs.
        kind = torch.searchsorted(self._bounds, spot.clamp_max(1.0 - 1e-6), right=True)
        within = (torch.rand(count, device=device) * self._counts[kind]).long()
        return self._order[self._first[kind] + within]
