"""A made-up tissue with every pixel's class known: glands in stroma, for tests, benchmarks and the demo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from napari_mtssl.evaluation.synthetic import EOSIN, HAEMATOXYLIN

CLASSES = ("stroma", "gland")
GLAND = 60.0  # pixels, about, from one side of a gland to the other
LUMEN = 0.72  # share of a gland's depth where its hollow begins


@dataclass(frozen=True)
class TissueImage:
    """A made-up image and its truth.

    Attributes
    ----------
    image : ndarray of uint8, shape (height, width, 3)
    mask : ndarray of uint8, shape (height, width)
        Index into `CLASSES`.
    pixel_size_um : float
        What the image pretends to have.
    """

    image: np.ndarray
    mask: np.ndarray
    pixel_size_um: float = 1.0

    def shares(self, side: int) -> np.ndarray:
        """Share of gland in each block of a grid, the cut ones at the edges included."""
        rows, cols = (-(-length // side) for length in self.mask.shape)
        return np.array(
            [
                [
                    (self.mask[i * side : (i + 1) * side, j * side : (j + 1) * side] == 1).mean()
                    for j in range(cols)
                ]
                for i in range(rows)
            ]
        )


def tissue(height: int = 384, width: int = 384, *, seed: int = 0, noise: float = 1.0) -> TissueImage:
    """Make an image of glands, each a ring of dark cells around a hollow, in fibrous stroma.

    Neither colour nor brightness of a pixel tells its class: nuclei of the stroma are as dark as those of
    glands, and the hollow of a gland is as pale as gaps in the stroma.

    Parameters
    ----------
    height, width : int
        Pixels, at least 64.
    seed : int
    noise : float
        Of the camera; 0 for none.
    """
    rng = np.random.default_rng(seed)
    shape = (height, width)
    smooth = gaussian_filter(rng.standard_normal(shape), GLAND / 3.2, mode="wrap")
    mask = smooth > np.quantile(smooth, rng.uniform(0.5, 0.65))
    # glands are rounder than noise: small bits and bays go
    mask = gaussian_filter(mask.astype(float), 6, mode="nearest") > 0.5
    depth = distance_transform_edt(mask) if mask.any() else np.zeros(shape)
    texture = gaussian_filter(rng.standard_normal(shape), 1.6)
    texture /= texture.std()
    fibres = gaussian_filter(rng.standard_normal(shape), (0.8, 5.0))
    fibres /= fibres.std()
    blue = np.where(mask, 0.55 + 0.22 * (texture > 0.3), 0.12 + 0.55 * (texture > 1.5))
    pink = np.where(mask, 0.25, 0.42 + 0.12 * fibres)
    hollow = mask & (depth > LUMEN * 16)
    gap = ~mask & (gaussian_filter(rng.standard_normal(shape), 4) > 0.09)
    for pale in (hollow, gap):
        blue = np.where(pale, 0.05, blue)
        pink = np.where(pale, 0.08, pink)
    stain = rng.uniform(0.85, 1.15, 2)
    density = (
        stain[0] * gaussian_filter(blue, 0.8)[..., None] * HAEMATOXYLIN
        + stain[1] * gaussian_filter(pink, 0.8)[..., None] * EOSIN
    )
    pixels = 245.0 * np.exp(-density) + rng.normal(0.0, 4.0 * noise, (*shape, 3))
    return TissueImage(np.clip(pixels, 0, 255).astype(np.uint8), mask.astype(np.uint8))
