"""Places to learn from that nobody labelled: some anywhere, some where nuclei are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.feature import peak_local_max

from napari_mtssl.images import to_float
from napari_mtssl.images.tissue import find_tissue

if TYPE_CHECKING:
    from napari_mtssl.images import Image

REGION = 256  # side of the pieces of an image in which unlabelled places are looked for, pixels


def darkness(pixels: np.ndarray) -> np.ndarray:
    """Optical density in red, where haematoxylin absorbs and eosin hardly does: (..., 3) to (...).

    Pixels that use little of the range (12 bits in files of 16) are first brightened.
    """
    top = float(pixels.max(initial=0))
    if 0 < top < 0.25:
        pixels = pixels / top
    return -np.log(np.clip(pixels[..., 0], 1 / 255, 1))


def places_in(pixels: np.ndarray, count: int, nuclear_share: float, rng: np.random.Generator) -> np.ndarray:
    """Choose places in a piece of an image (h, w, 3): whole (row, col) in it, shape (count, 2)."""
    nuclear = round(nuclear_share * count)
    smooth = gaussian_filter(darkness(to_float(pixels)), 2.0)
    peaks = peak_local_max(smooth, min_distance=4, exclude_border=False)
    peaks = peaks[rng.permutation(len(peaks))[:nuclear]]
    anywhere = np.stack([rng.integers(0, side, count - len(peaks)) for side in pixels.shape[:2]], axis=1)
    return np.concatenate([peaks, anywhere])


def sample_places(
    image: Image, count: int, regions: int, nuclear_share: float, rng: np.random.Generator
) -> np.ndarray:
    """Choose places of an image without any label: some anywhere, some on local maxima of darkness.

    Parameters
    ----------
    image : Image
    count : int
        Places, at most.
    regions : int
        Pieces of the image that are looked at, at most.
    nuclear_share : float
        Share of the places on local maxima.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (M, 2)
        (row, col), level-0 pixels, whole.
    """
    tissue = find_tissue(image)  # all of it in a field: only a slide has glass
    boxes = [
        (int(top), int(left))
        for top in np.arange(0, image.height, REGION)
        for left in np.arange(0, image.width, REGION)
    ]
    boxes = [(r, c) for r, c in boxes if tissue.touches((r, c, r + REGION, c + REGION))] or boxes
    chosen = [boxes[i] for i in rng.permutation(len(boxes))[:regions]]
    wanted = -(-count // len(chosen))
    found = []
    for top, left in chosen:
        height, width = min(REGION, image.height - top), min(REGION, image.width - left)
        pixels = image.read(top, left, height, width)
        found.append(places_in(pixels, wanted, nuclear_share, rng) + np.array([top, left]))
    return rng.permutation(np.concatenate(found))[:count].astype(float)
