"""A made-up tissue with every cell's place and class known: for tests, benchmarks and File > Open Sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

CLASSES = ("tumour", "lymphocyte")
COLOURS = {"tumour": "#e6194b", "lymphocyte": "#4363d8"}

# Optical density of each stain in red, green and blue (Ruifrok & Johnston 2001).
HAEMATOXYLIN = np.array([0.65, 0.70, 0.29], np.float32)
EOSIN = np.array([0.07, 0.99, 0.11], np.float32)
DAB = np.array([0.27, 0.57, 0.78], np.float32)

# Half axes of a nucleus in pixels, as at 20x (0.5 um a pixel): smallest, largest.
RADII = {"tumour": (5.5, 8.5), "lymphocyte": (3.2, 4.4)}
GAP = 1.5  # pixels between two nuclei at the least


@dataclass(frozen=True)
class CellField:
    """A made-up image and its truth.

    Attributes
    ----------
    image : ndarray of uint8, shape (height, width, 3)
    cells : DataFrame
        ``row, col, class, radius``: centre of each nucleus (level-0 pixels, exact), its class, and half of
        its longer axis. No two nuclei overlap.
    pixel_size_um : float
        What the image pretends to have.
    """

    image: np.ndarray
    cells: pd.DataFrame
    pixel_size_um: float = 0.5


def cell_field(
    height: int = 512,
    width: int = 512,
    *,
    density: float = 1.0,
    stain: Literal["he", "ihc"] = "he",
    noise: float = 1.0,
    seed: int = 0,
) -> CellField:
    """Make an image of tumour nests among lymphocytes.

    Tumour nuclei are large, pale and textured, lymphocytes small, dark and round; pale debris without a
    nucleus is scattered between them. With ``stain="ihc"`` the tumour's cytoplasm is brown.

    Parameters
    ----------
    height, width : int
        Pixels, at least 32.
    density : float
        1 is about as crowded as colorectal tumour (a cell for every 500 square pixels).
    stain : {"he", "ihc"}
    noise : float
        How much stain, shade and camera noise vary; 0 gives a clean image.
    seed : int
        The same seed gives the same field.

    Returns
    -------
    CellField

    Raises
    ------
    ValueError
        If a size, density or stain is not possible.
    """
    if height < 32 or width < 32:
        raise ValueError(f"A field of {height} x {width} pixels is too small; make it at least 32 x 32.")
    if density < 0 or noise < 0:
        raise ValueError("Density and noise must not be negative.")
    if stain not in ("he", "ihc"):
        raise ValueError(f"There is no stain '{stain}'; choose 'he' or 'ihc'.")
    rng = np.random.default_rng(seed)
    nests = _smooth_noise(rng, height, width, 90)
    cells = _place(rng, nests, density)
    blue, second = _paint(rng, cells, nests, stain, noise)
    counter = EOSIN if stain == "he" else DAB
    stains = np.stack([HAEMATOXYLIN, counter]) * (1 + 0.08 * noise * rng.standard_normal((2, 3), np.float32))
    image = np.empty((height, width, 3), np.uint8)
    for channel in range(3):
        light = np.exp(-blue * stains[0, channel] - second * stains[1, channel]) * 0.96
        light += 0.012 * noise * rng.standard_normal((height, width), np.float32)
        image[..., channel] = np.clip(np.rint(light * 255), 0, 255)
    return CellField(image, cells[["row", "col", "class", "radius"]])


def _smooth_noise(rng: np.random.Generator, height: int, width: int, period: float) -> np.ndarray:
    """Noise with mean 0 and standard deviation near 1 that changes over about `period` pixels."""
    from scipy.ndimage import map_coordinates

    shape = (int(np.ceil(height / period)) + 4, int(np.ceil(width / period)) + 4)
    coarse = rng.standard_normal(shape, np.float32)
    # Rows, then columns: the interpolation is separable, and two small passes need no field of coordinates.
    rows = np.stack(
        [map_coordinates(column, [np.arange(height) / period + 1], order=3) for column in coarse.T], axis=1
    )
    field = np.empty((height, width), np.float32)
    where = np.arange(width) / period + 1
    for row in range(height):
        field[row] = map_coordinates(rows[row], [where], order=3)
    return field * 1.5


def _place(rng: np.random.Generator, nests: np.ndarray, density: float) -> pd.DataFrame:
    """Draw nuclei and drop, in random order, those that would touch one drawn before."""
    from scipy.spatial import cKDTree

    height, width = nests.shape
    count = round(2.2 * density * height * width / 500)
    row, col = rng.uniform(0, height - 1, count), rng.uniform(0, width - 1, count)
    inside = nests[np.rint(row).astype(int), np.rint(col).astype(int)]
    tumour = rng.random(count) < 1 / (1 + np.exp(-4 * inside))
    low, high = (np.where(tumour, *(RADII[name][end] for name in CLASSES)) for end in (0, 1))
    major = rng.uniform(low, high)
    minor = major * np.where(tumour, rng.uniform(0.6, 0.95, count), rng.uniform(0.85, 1.0, count))
    points = np.stack([row, col], axis=1)
    pairs = cKDTree(points).query_pairs(2 * RADII["tumour"][1] + GAP, output_type="ndarray")
    near = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    pairs = np.sort(pairs[near < major[pairs[:, 0]] + major[pairs[:, 1]] + GAP], axis=1)
    keep = np.ones(count, dtype=bool)
    for first, later in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]:
        if keep[first]:
            keep[later] = False
    return pd.DataFrame(
        {
            "row": row,
            "col": col,
            "class": np.where(tumour, *CLASSES),
            "radius": major,
            "minor": minor,
            "angle": rng.uniform(0, np.pi, count),
            "dark": np.where(tumour, rng.normal(0.75, 0.13, count), rng.normal(1.15, 0.13, count)).clip(0.4),
        }
    )[keep].reset_index(drop=True)


def _paint(
    rng: np.random.Generator, cells: pd.DataFrame, nests: np.ndarray, stain: str, noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """Concentration of haematoxylin and of the second stain, each (height, width)."""
    height, width = nests.shape
    nest = 1 / (1 + np.exp(-4 * nests))
    texture = _smooth_noise(rng, height, width, 3)
    fibres = _smooth_noise(rng, height, width, 12)
    shade = 1 + 0.12 * noise * _smooth_noise(rng, height, width, 200)
    blue = 0.10 + 0.06 * nest + 0.03 * noise * fibres
    second = 0.22 + 0.05 * noise * fibres - 0.08 * nest
    if stain == "ihc":
        second = 0.03 + 0.02 * noise * fibres + 0 * nest
    debris = _debris(rng, height, width, len(cells) // 8)
    for cell in debris.itertuples(index=False):
        window, distance = _ellipse(cell, height, width, 3)
        blue[window] += cell.dark * _soft(distance - 1, 0.35)
    for cell in cells.itertuples(index=False):
        window, distance = _ellipse(cell, height, width, 6)
        mask = _soft(distance - 1, 0.12)
        grain = 1 + (0.35 if cell.radius > RADII["lymphocyte"][1] else 0.12) * texture[window]
        blue[window] = blue[window] * (1 - mask) + cell.dark * grain.clip(0.3) * mask
        second[window] *= 1 - 0.6 * mask
        if stain == "ihc" and cell.radius > RADII["lymphocyte"][1]:
            second[window] += 0.6 * _soft(distance - 1.55, 0.15) * (1 - mask)
    return (blue * shade).clip(0).astype(np.float32), (second * shade).clip(0).astype(np.float32)


def _debris(rng: np.random.Generator, height: int, width: int, count: int) -> pd.DataFrame:
    """Pale smears that are no cells."""
    major = rng.uniform(3, 9, count)
    return pd.DataFrame(
        {
            "row": rng.uniform(0, height - 1, count),
            "col": rng.uniform(0, width - 1, count),
            "radius": major,
            "minor": major * rng.uniform(0.3, 0.6, count),
            "angle": rng.uniform(0, np.pi, count),
            "dark": rng.uniform(0.08, 0.25, count),
        }
    )


def _ellipse(cell: object, height: int, width: int, margin: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """Window around a cell and, in it, the distance from its centre in units of its half axes."""
    row, col, radius = cell.row, cell.col, cell.radius  # type: ignore[attr-defined]
    reach = int(np.ceil(radius)) + margin
    top, left = max(int(row) - reach, 0), max(int(col) - reach, 0)
    bottom, right = min(int(row) + reach + 2, height), min(int(col) + reach + 2, width)
    y, x = np.ogrid[top - row : bottom - row - 0.5, left - col : right - col - 0.5]
    cos, sin = np.cos(cell.angle), np.sin(cell.angle)  # type: ignore[attr-defined]
    along, across = (x * cos + y * sin) / radius, (y * cos - x * sin) / cell.minor  # type: ignore[attr-defined]
    return (slice(top, bottom), slice(left, right)), np.sqrt(along**2 + across**2)


def _soft(distance: np.ndarray, width: float) -> np.ndarray:
    """1 inside (negative distance), 0 outside, with a soft edge."""
    return 1 / (1 + np.exp(np.clip(distance / (width / 4), -40, 40)))
