"""Made-up chest radiographs with an exact lung mask and, in some, a visible finding.

They have no patient and no licence: demos, tests and screenshots can show them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

CLASSES = ("normal", "pneumonia")
SOURCES = ("clinic", "portable")


@dataclass(frozen=True)
class Chest:
    """One made-up radiograph.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (size, size)
    lungs : ndarray of bool, shape (size, size)
    sick : bool
        Whether a lung has a patch of fluid.
    patient : str
    """

    pixels: np.ndarray
    lungs: np.ndarray
    sick: bool
    patient: str


def make_chest(seed: int, sick: bool, source: str = "clinic", size: int = 256) -> Chest:
    """Draw a chest.

    Parameters
    ----------
    seed : int
        One seed gives one patient.
    sick : bool
    source : str
        ``clinic``: upright, even, clean. ``portable``: turned, uneven, softer, with a border, letters and a
        cable.
    size : int
        Side in pixels.

    Returns
    -------
    Chest
    """
    rng = np.random.default_rng([seed, 17])
    rows, cols = _places(rng, size, turned=source == "portable")
    right, left = (_lung(rng, rows, cols, side) for side in (-1, 1))
    heart = ((rows - rng.uniform(0.62, 0.66)) / 0.2) ** 2 + ((cols - rng.uniform(0.53, 0.57)) / 0.14) ** 2 < 1
    lungs = (right | left) & ~heart
    image = _body(rng, rows, cols, lungs, heart)
    if sick:
        image = image + _fluid(rng, lungs, size)
    image = ndimage.gaussian_filter(image, size / 400)
    if source == "portable":
        image = _portable(rng, image)
    image = image + rng.normal(0, 0.02, image.shape)
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return Chest(pixels, lungs, sick, f"{source[0]}{seed:04d}")


def write_chests(
    folder: str | Path, masks: int = 24, classes: int = 80, source: str = "clinic", size: int = 256
) -> tuple[Path, Path]:
    """Write made-up chests as public sets are laid out: other patients with masks than with classes.

    Returns
    -------
    masks : Path
        Folder of ``X.png`` with ``X@.png``.
    classes : Path
        Folder with a sub-folder for each of `CLASSES`.
    """
    import imageio.v3 as iio

    folder = Path(folder)
    first = 1000 * SOURCES.index(source)
    painted, named = folder / "masks", folder / "classes"
    for part in (painted, *(named / name for name in CLASSES)):
        part.mkdir(parents=True, exist_ok=True)
    for index in range(masks):
        chest = make_chest(first + index, index % 3 == 0, source, size)
        iio.imwrite(painted / f"{chest.patient}_0.png", chest.pixels)
        iio.imwrite(painted / f"{chest.patient}_0@.png", chest.lungs.astype(np.uint8) * 255)
    for index in range(classes):
        chest = make_chest(first + 500 + index, index % 2 == 1, source, size)
        iio.imwrite(named / CLASSES[index % 2] / f"{chest.patient}_0.png", chest.pixels)
    return painted, named


def _places(rng: np.random.Generator, size: int, turned: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of all pixels as shares of the picture, the patient turned and moved a little."""
    rows, cols = (np.mgrid[:size, :size] + 0.5) / size
    angle = np.deg2rad(rng.normal(0, 4 if turned else 1.5))
    zoom = np.exp(rng.normal(0, 0.08 if turned else 0.04))
    down, across = rng.normal(0, 0.02, 2)
    y, x = rows - 0.5 - down, cols - 0.5 - across
    return (
        0.5 + (np.cos(angle) * y + np.sin(angle) * x) * zoom,
        0.5 + (np.cos(angle) * x - np.sin(angle) * y) * zoom,
    )


def _lung(rng: np.random.Generator, rows: np.ndarray, cols: np.ndarray, side: int) -> np.ndarray:
    """One lung: narrow at its apex, cut off below by the dome of the diaphragm."""
    top, wide = rng.uniform(0.1, 0.15), rng.uniform(0.15, 0.18)
    base = rng.uniform(0.78, 0.85) + (0.02 if side > 0 else 0.0)
    along = np.clip((rows - top) / (base - top), 0, 1.2)
    half = wide * np.sqrt(np.clip(1 - np.abs(1 - along) ** 2.4, 0, 1))
    middle = 0.5 + side * (0.1 + 0.09 * along + rng.uniform(0.02, 0.04))
    dome = base - 0.09 * np.exp(-(((cols - middle + side * 0.05) / 0.11) ** 2))
    return (np.abs(cols - middle) < half) & (rows > top) & (rows < dome)


def _body(
    rng: np.random.Generator, rows: np.ndarray, cols: np.ndarray, lungs: np.ndarray, heart: np.ndarray
) -> np.ndarray:
    """Grey values of a healthy chest."""
    trunk = np.abs(cols - 0.5) < 0.36 + 0.08 * np.clip(rows - 0.1, 0, 0.5)
    image = np.where(trunk, 0.62 + 0.16 * rows, 0.06)
    image = np.where(heart, image + 0.08, image)
    depth = ndimage.distance_transform_edt(lungs) / len(rows)
    image = np.where(lungs, image - 0.26 - 1.2 * np.minimum(depth, 0.08), image)
    image += 0.12 * np.exp(-(((cols - 0.5) / 0.035) ** 2)) * trunk  # spine
    away = np.abs(cols - 0.5)
    for rib in range(9):
        height = 0.14 + 0.082 * rib + 0.35 * away**2 - 0.05 * away
        band = np.exp(-(((rows - height) / 0.012) ** 2))
        image += 0.07 * band * (away > 0.05) * (away < 0.36) * trunk
    for side in (-1, 1):
        collar = 0.13 - side * 0.2 * (cols - 0.5) * 0.6
        image += 0.1 * np.exp(-(((rows - collar) / 0.014) ** 2)) * (side * (cols - 0.5) > 0.04) * trunk
    vessels = ndimage.gaussian_filter(rng.normal(0, 1, rows.shape), len(rows) / 90)
    return image + lungs * vessels * 0.25 * np.exp(-(((away - 0.1) / 0.12) ** 2))


def _fluid(rng: np.random.Generator, lungs: np.ndarray, size: int) -> np.ndarray:
    """Bright, ragged patch in one lung."""
    inside = np.argwhere(ndimage.distance_transform_edt(lungs) > 0.04 * size)
    row, col = inside[rng.integers(len(inside))]
    y, x = np.mgrid[:size, :size]
    reach = rng.uniform(0.08, 0.13) * size
    ragged = ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), size / 40)
    ragged = 1 + 0.6 * ragged / ragged.std()
    blob = np.exp(-(((y - row) / reach) ** 2) - ((x - col) / reach) ** 2)
    return rng.uniform(0.24, 0.36) * blob * np.clip(ragged, 0.2, 2) * lungs


def _portable(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Make of it what a machine at the bedside does."""
    size = len(image)
    y, x = np.mgrid[:size, :size] / size
    image = np.clip(image, 0, 1) ** rng.uniform(0.5, 1.6)
    image = 0.15 + 0.75 * image + rng.normal(0, 0.12) * (x - 0.5) + rng.normal(0, 0.12) * (y - 0.5)
    image = ndimage.gaussian_filter(image, size / 250)
    cable = 0.5 + 0.4 * np.sin(3 * y + rng.uniform(0, 6)) * rng.uniform(0.3, 1)
    image = np.where(np.abs(x - cable) < 0.006, 0.95, image)
    high, wide = max(size // 28, 2), max(size // 40, 2)
    row, col = int(rng.integers(size // 30, size // 8)), int(rng.integers(size // 30, size - 8 * wide))
    letters = rng.random((3, 7)) < 0.55
    letters[:, 3] = False
    sign = np.kron(letters, np.ones((max(high // 3, 1), wide), bool))
    image[row : row + sign.shape[0], col : col + sign.shape[1]][sign] = 1.0
    edge = int(rng.integers(0, size // 14))
    image[: edge // 2], image[:, size - edge :] = 0.0, 0.0
    return image
