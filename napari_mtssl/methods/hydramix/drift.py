"""Unlabelled places of slides, renewed while training goes on: read in the background, part by part.

A slide has more places than fit into memory. The pool holds some of them in `PARTS` parts, of which every so
many steps the oldest makes room for a new one from elsewhere in the tissue (`images.rotation`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from napari_mtssl.images.rotation import Rotation
from napari_mtssl.images.tissue import find_tissue
from napari_mtssl.methods.hydramix.places import REGION, places_in

if TYPE_CHECKING:
    from napari_mtssl.images import Image

PARTS = 16  # of the pool, renewed one after another
REGIONS = 4  # pieces of slides that a part is cut from; the next part is cut from the next slides
KNOWN = 256  # slides whose tissue is remembered


@dataclass(frozen=True)
class Slide:
    """A slide of a study.

    Attributes
    ----------
    image_id : int
    checksum : str
    open : callable
        Gives the image; not all slides of a large study are open at a time.
    """

    image_id: int
    checksum: str
    open: Callable[[], Image]


@dataclass(frozen=True)
class Part:
    """Some of the pool.

    Attributes
    ----------
    patches : ndarray of uint8, shape (N, S, S, 3)
    image_ids : ndarray of int, shape (N,)
    centres : ndarray, shape (N, 2)
        (row, col), level-0 pixels, whole.
    """

    patches: np.ndarray
    image_ids: np.ndarray
    centres: np.ndarray


class Drift:
    """The pool of a study's slides as it is at a step.

    Parameters
    ----------
    slides : sequence of Slide
    count : int
        Places in the pool; rounded up to a multiple of `PARTS`.
    size : int
        Side of the patches.
    nuclear_share : float
        Share of the places where nuclei are.
    every : int
        Steps after which a part is renewed; 0 for never.
    seed : int
    """

    def __init__(
        self, slides: Sequence[Slide], count: int, size: int, nuclear_share: float, every: int, seed: int
    ) -> None:
        self.slides, self.size, self.seed = tuple(slides), size, seed
        self.nuclear_share = nuclear_share
        self.share = -(-count // PARTS)
        self._corners = lru_cache(KNOWN)(lambda which: _tissue_corners(self.slides[which].open()))
        self.rotation = Rotation(lambda number: self._read(number), PARTS, every)

    @property
    def parts(self) -> list[Part]:
        """What is in the pool."""
        return self.rotation.parts

    def until(self, step: int) -> Iterator[tuple[int, Part]]:
        """Renew what is due at a step; see `Rotation.until`."""
        return self.rotation.until(step)

    def _read(self, number: int) -> Part:
        """Cut a part: from pieces of several slides in turn, each read once."""
        rng = np.random.default_rng(
            [self.seed, number, *(zlib.crc32(slide.checksum.encode()) for slide in self.slides)]
        )
        wanted = -(-self.share // REGIONS)
        patches, ids, centres = [], [], []
        for region in range(number * REGIONS, (number + 1) * REGIONS):
            which = region % len(self.slides)
            slide, corners = self.slides[which], self._corners(which)
            corner = corners[rng.integers(len(corners))]
            found, cut = _cut(slide.open(), corner, wanted, self.size, self.nuclear_share, rng)
            patches.append(cut if cut.dtype == np.uint8 else (cut >> 8).astype(np.uint8))
            ids.append(np.full(len(found), slide.image_id))
            centres.append(found)
        chosen = rng.permutation(wanted * REGIONS)[: self.share]
        return Part(
            np.concatenate(patches)[chosen], np.concatenate(ids)[chosen], np.concatenate(centres)[chosen]
        )


def _cut(
    image: Image, corner: np.ndarray, count: int, size: int, nuclear_share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Places (N, 2) in a piece of a slide, and their patches, from one read."""
    top, left = (int(at) for at in corner)
    half = size // 2
    around = image.read(top - half, left - half, REGION + size, REGION + size)
    places = places_in(around[half : half + REGION, half : half + REGION], count, nuclear_share, rng)
    patches = np.stack([around[row : row + size, col : col + size] for row, col in places])
    return (places + np.array([top, left])).astype(float), patches


def _tissue_corners(image: Image) -> np.ndarray:
    """Corners (N, 2) of the pieces of a slide with tissue; of all if none was found."""
    tissue = find_tissue(image)
    tops = np.arange(0, max(image.height - REGION, 0) + 1, REGION)
    lefts = np.arange(0, max(image.width - REGION, 0) + 1, REGION)
    corners = np.stack(np.meshgrid(tops, lefts, indexing="ij"), axis=-1).reshape(-1, 2)
    inside = tissue.contains(corners + REGION // 2)
    return (corners[inside] if inside.any() else corners).astype(np.int32)
