"""Made-up slides of any size with every cell and region known, made tile by tile: for tests and benchmarks.

A slide is glass with four pieces of tissue; in each, a tumour lies in stroma. Their texture is a `cell_field`
that is mirrored again and again, so that it has no seams, any tile can be made on its own, and reduced levels
come from reduced fields: nothing larger than a tile is ever in memory, however large the slide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pandas as pd

from napari_mtssl.evaluation.synthetic import cell_field

REGIONS = ("glass", "stroma", "tumour")
STROMA, TUMOUR = 1, 2
# A tumour ends at this share of the way from the middle of its piece of tissue to its rim.
RIM = 0.55
DENSITY = {STROMA: 0.35, TUMOUR: 1.0}
GLASS = 244.0
HARMONICS = np.arange(2, 6)
WOBBLE = 0.2  # how far, in sum, the outline of a piece departs from an ellipse


@dataclass(frozen=True)
class Piece:
    """One piece of tissue: an ellipse with a wavy outline.

    Attributes
    ----------
    centre : tuple of float
        ``(row, col)``, level-0 pixels.
    axes : tuple of float
        Half axes along rows and columns.
    waves, phases : ndarray, shape (4,)
        Relative amplitude and phase of `HARMONICS`.
    """

    centre: tuple[float, float]
    axes: tuple[float, float]
    waves: np.ndarray
    phases: np.ndarray

    def depth(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Distance from the middle as a share of the way to the rim: below 1 is tissue."""
        y, x = (rows - self.centre[0]) / self.axes[0], (cols - self.centre[1]) / self.axes[1]
        return np.hypot(y, x) / self._rim(np.arctan2(y, x))

    def near(self, rows: np.ndarray, cols: np.ndarray) -> bool:
        """Whether a piece may reach the box around some places."""
        reach = 1 + WOBBLE
        return all(
            places.size > 0
            and float(places.min()) < middle + reach * axis
            and float(places.max()) > middle - reach * axis
            for places, middle, axis in zip((rows, cols), self.centre, self.axes, strict=True)
        )

    def outline(self, share: float = 1.0, n: int = 256) -> np.ndarray:
        """Polygon (N, 2) of row and column where `depth` is `share`."""
        angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
        radius = share * self._rim(angle)
        rows = self.centre[0] + self.axes[0] * radius * np.sin(angle)
        return np.stack([rows, self.centre[1] + self.axes[1] * radius * np.cos(angle)], axis=1)

    def _rim(self, angle: np.ndarray) -> np.ndarray:
        rim = np.ones_like(angle)
        for wave, phase, k in zip(self.waves, self.phases, HARMONICS, strict=True):
            rim += wave * np.cos(k * angle + phase)
        return rim


@dataclass(frozen=True)
class MadeSlide:
    """A slide that does not exist: any part of it at any reduction, and the truth about it.

    Attributes
    ----------
    height, width : int
        Level-0 pixels.
    pixel_size_um, magnification : float
        What it pretends to have.
    seed : int
    pieces : tuple of Piece
    period : int
        Side of the mirrored field; a power of two.
    """

    height: int
    width: int
    pixel_size_um: float
    magnification: float
    seed: int
    pieces: tuple[Piece, ...] = field(repr=False)
    period: int = 1024

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(height, width, 3)``."""
        return self.height, self.width, 3

    def level_shape(self, level: int) -> tuple[int, int, int]:
        """Shape of the slide reduced by ``2**level``."""
        return -(-self.height // 2**level), -(-self.width // 2**level), 3

    def read(self, row0: int, col0: int, height: int, width: int, level: int = 0) -> np.ndarray:
        """Pixels of a rectangle of the slide reduced by ``2**level``; beyond its border there is glass.

        Returns
        -------
        ndarray of uint8, shape (height, width, 3)
        """
        rows, cols = np.arange(row0, row0 + height), np.arange(col0, col0 + width)
        kinds = self._uniform(row0, col0, height, width, level)
        if kinds is None:
            region = self.region(row0, col0, height, width, level)
            present = np.unique(region)
        else:
            region, present = None, np.array([kinds])
        fields = _fields(self.seed, self.period)
        pixels = np.empty((height, width, 3), np.uint8)
        for kind in present.tolist():
            picture = fields[kind].levels[min(level, len(fields[kind].levels) - 1)]
            part = picture[np.ix_(_mirror(rows, len(picture)), _mirror(cols, len(picture)))]
            if region is None:
                return part
            np.copyto(pixels, part, where=(region == kind)[..., None])
        return pixels

    def region(self, row0: int, col0: int, height: int, width: int, level: int = 0) -> np.ndarray:
        """Index into `REGIONS` of the pixels of a rectangle reduced by ``2**level``, (h, w) uint8."""
        scale = 2**level
        rows = (np.arange(row0, row0 + height) + 0.5) * scale - 0.5
        cols = (np.arange(col0, col0 + width) + 0.5) * scale - 0.5
        return self._kind(rows[:, None], cols[None, :])

    def cells(self, box: tuple[int, int, int, int] | None = None) -> pd.DataFrame:
        """Every nucleus with its centre in a box ``(row0, col0, row1, col1)``, by default on the whole slide.

        Returns
        -------
        DataFrame
            ``row, col, class, radius`` in level-0 pixels. Where the field is mirrored, a nucleus may touch
            its own reflection.
        """
        row0, col0, row1, col1 = box or (0, 0, self.height, self.width)
        frames = []
        for kind in (STROMA, TUMOUR):
            known = _fields(self.seed, self.period)[kind].cells
            for top in range(row0 // self.period, -(-row1 // self.period)):
                for left in range(col0 // self.period, -(-col1 // self.period)):
                    corner = (top * self.period, left * self.period)
                    if self._uniform(*corner, self.period, self.period, 0) in (None, kind):
                        frames.append(self._copy(known, kind, top, left))
        found = (
            pd.concat(frames, ignore_index=True) if frames else _fields(self.seed, self.period)[1].cells[:0]
        )
        inside = (
            found["row"].between(row0 - 0.5, min(row1, self.height) - 0.5, inclusive="left")
            & found["col"].between(col0 - 0.5, min(col1, self.width) - 0.5, inclusive="left")
        )  # fmt: skip
        return found[inside].reset_index(drop=True)

    def outlines(self) -> list[tuple[str, np.ndarray]]:
        """Name and polygon (N, 2) in level-0 row and column of each region; a tumour lies over its stroma."""
        kinds = [(REGIONS[STROMA], 1.0), (REGIONS[TUMOUR], RIM)]
        return [(name, piece.outline(share)) for piece in self.pieces for name, share in kinds]

    def tile_key(self, row0: int, col0: int, side: int, level: int) -> tuple[int, ...] | None:
        """Key that two tiles share only if their pixels are equal; None if a tile may be unlike any other."""
        picture = max(self.period >> level, 1)
        kind = self._uniform(row0, col0, side, side, level)
        if kind is None:
            return None
        return level, kind, row0 % (2 * picture), col0 % (2 * picture), side

    def _copy(self, known: pd.DataFrame, kind: int, top: int, left: int) -> pd.DataFrame:
        """Nuclei of a field in its ``(top, left)``-th mirror image, as far as it shows there."""
        last = self.period - 1
        rows = top * self.period + (known["row"] if top % 2 == 0 else last - known["row"])
        cols = left * self.period + (known["col"] if left % 2 == 0 else last - known["col"])
        there = self._kind(np.rint(rows.to_numpy()), np.rint(cols.to_numpy())) == kind
        return known.assign(row=rows, col=cols)[there]

    def _kind(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        kinds = np.zeros(np.broadcast_shapes(rows.shape, cols.shape), np.uint8)
        for piece in self.pieces:
            if not piece.near(rows, cols):
                continue
            depth = piece.depth(rows, cols)
            kinds[depth < 1] = STROMA
            kinds[depth < RIM] = TUMOUR
        # beyond the slide there is glass, whatever a piece says
        kinds[np.broadcast_to((rows >= self.height) | (cols >= self.width), kinds.shape)] = 0
        return kinds

    def _uniform(self, row0: int, col0: int, height: int, width: int, level: int) -> int | None:
        """Region of a whole rectangle, judged at few places with room for error; None where it may vary."""
        scale, steps = 2**level, 9
        if (row0 + height) * scale > self.height or (col0 + width) * scale > self.width:
            return None
        rows = np.linspace(row0, row0 + height, steps)[:, None] * scale
        cols = np.linspace(col0, col0 + width, steps)[None, :] * scale
        kinds = set()
        for piece in self.pieces:
            spacing = scale * max(height / piece.axes[0], width / piece.axes[1]) / (steps - 1)
            slack = 3 * spacing  # `depth` changes by less than this between two of the places
            low, high = (float(f(piece.depth(rows, cols))) for f in (np.min, np.max))
            if any(low - slack < edge < high + slack for edge in (RIM, 1.0)):
                return None
            kinds.add(0 if low > 1 else STROMA if low > RIM else TUMOUR)
        return max(kinds, default=0)


def made_slide(
    height: int = 20_000,
    width: int = 20_000,
    *,
    tissue: float = 0.2,
    pixel_size_um: float = 0.5,
    seed: int = 0,
    period: int = 1024,
) -> MadeSlide:
    """Make up a slide.

    Parameters
    ----------
    height, width : int
        Pixels, at least 64.
    tissue : float
        Share of the slide that is tissue, 0 to 0.5.
    pixel_size_um : float
    seed : int
        The same arguments give the same slide, pixel for pixel.
    period : int
        Side of the field that is mirrored, a power of two; smaller ones are made faster.

    Raises
    ------
    ValueError
        If a size or share is not possible.
    """
    if min(height, width) < 64:
        raise ValueError(f"A slide of {height} x {width} pixels is too small; make it at least 64 x 64.")
    if not 0 <= tissue <= 0.5:
        raise ValueError(f"A slide cannot be tissue by {tissue:g}; give a share of 0 to 0.5.")
    if period < 64 or period & (period - 1):
        raise ValueError(f"The period {period} is not a power of two of at least 64.")
    rng = np.random.default_rng([seed, 7])
    pieces = []
    for index in range(4 if tissue else 0):
        waves = rng.dirichlet(np.ones(len(HARMONICS))) * WOBBLE
        radius = math.sqrt(4 * tissue / np.pi / (1 + (waves**2).sum() / 2))
        centre = ((0.25 + 0.5 * (index // 2)) * height, (0.25 + 0.5 * (index % 2)) * width)
        axes = (radius * height / 4, radius * width / 4)
        pieces.append(Piece(centre, axes, waves, rng.uniform(0, 2 * np.pi, len(HARMONICS))))
    magnification = 10.0 / pixel_size_um
    return MadeSlide(height, width, pixel_size_um, magnification, seed, tuple(pieces), period)


@dataclass(frozen=True)
class _Field:
    """What is mirrored: a square of pixels, whole and halved again and again, and its nuclei."""

    levels: tuple[np.ndarray, ...]
    cells: pd.DataFrame


@cache
def _fields(seed: int, period: int) -> tuple[_Field, _Field, _Field]:
    """Glass, stroma and tumour."""
    rng = np.random.default_rng([seed, 11])
    glass = np.clip(np.rint(GLASS + 1.5 * rng.standard_normal((period, period, 3))), 0, 255)
    made = [cell_field(period, period, density=DENSITY[k], seed=seed * 2 + k) for k in (STROMA, TUMOUR)]
    fields = [_Field(_halved(glass.astype(np.uint8)), made[0].cells[:0])]
    fields += [_Field(_halved(f.image), f.cells) for f in made]
    return fields[0], fields[1], fields[2]


def _halved(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Reduce a square of pixels to its means over blocks of 1, 2, 4, 8, ..."""
    levels = []
    for k in range(int(math.log2(len(pixels))) + 1):
        n = len(pixels) >> k
        blocks = pixels.reshape(n, 2**k, n, 2**k, 3).mean(axis=(1, 3), dtype=np.float32)
        levels.append(np.rint(blocks).astype(np.uint8))
    return tuple(levels)


def _mirror(positions: np.ndarray, size: int) -> np.ndarray:
    """Positions folded into ``[0, size)`` by mirrors on the edges of the field."""
    folded = positions % (2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)


def grid(shape: tuple[int, ...], tile: int) -> Iterator[tuple[int, int]]:
    """Corners of the tiles of a level, row by row."""
    for row0 in range(0, shape[0], tile):
        for col0 in range(0, shape[1], tile):
            yield row0, col0
