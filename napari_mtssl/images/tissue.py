"""Where there is tissue on a slide: glass is neither sampled nor predicted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_mtssl.images.image import Image, ImageError

LONGEST = 2048  # pixels of the picture that tissue is looked for in, at most
RESOLUTION = 8.0  # micrometres a pixel that are enough
FIELD = 4096  # pixels: a smaller image is a field that somebody chose, not a slide
# Share of the light that tissue takes away: never glass above the second, never tissue below the first.
FAINTEST, STRONGEST = 0.05, 0.3
# Glass is bright, and even: half of it differs by less than this. Without such glass all is tissue.
BRIGHT, EVEN = 0.7, 0.03
ASSUMED_UM = 0.5  # a pixel of a slide that does not tell
SPECK_UM, HOLE_UM, MARGIN_UM = 100.0, 250.0, 30.0


@dataclass(frozen=True)
class TissueMask:
    """Tissue of an image at low resolution; made by `find_tissue`, or of a mask that somebody corrected.

    Attributes
    ----------
    mask : ndarray of bool, shape (h, w)
        Evenly over the image.
    height, width : int
        Of the image, level-0 pixels.
    """

    mask: np.ndarray
    height: int
    width: int

    @property
    def scale(self) -> tuple[float, float]:
        """Level-0 pixels per element, along rows and columns."""
        return self.height / self.mask.shape[0], self.width / self.mask.shape[1]

    @property
    def share(self) -> float:
        """Share of the image that is tissue."""
        return float(self.mask.mean())

    def touches(self, box: Iterable[float]) -> bool:
        """Whether there is tissue in a half-open box ``(row0, col0, row1, col1)`` of level-0 pixels."""
        row0, col0, row1, col1 = box
        rows, cols = self.scale
        part = self.mask[
            max(math.floor(row0 / rows), 0) : math.ceil(row1 / rows),
            max(math.floor(col0 / cols), 0) : math.ceil(col1 / cols),
        ]
        return bool(part.any())

    def contains(self, places: np.ndarray) -> np.ndarray:
        """Which of the places (N, 2), rows and columns of level 0, lie on tissue."""
        at = np.floor((np.asarray(places, float).reshape(-1, 2) + 0.5) / self.scale).astype(int)
        at = np.clip(at, 0, np.array(self.mask.shape) - 1)
        return self.mask[at[:, 0], at[:, 1]]


def tissue_file(study: Path, image_id: int) -> Path:
    """Where a study keeps what somebody corrected of the tissue of an image."""
    return study / "tissue" / f"{image_id}.png"


def in_study(image: Image, study: Path, image_id: int) -> Image:
    """Tell an image of a study where a corrected mask of its tissue would be, and give it back."""
    image.tissue_file = tissue_file(study, image_id)
    return image


def read_tissue(path: Path, image: Image) -> TissueMask:
    """Read a mask that covers an image evenly, at any resolution: tissue is what is not 0.

    Raises
    ------
    ImageError
        If it cannot be read.
    """
    import PIL.Image

    try:
        with PIL.Image.open(path) as picture:
            mask = np.asarray(picture.convert("L")) > 0
    except OSError as error:
        raise ImageError(f"The mask of tissue {path} cannot be read ({error}).") from error
    return TissueMask(mask, image.height, image.width)


def write_tissue(mask: TissueMask, path: Path) -> None:
    """Keep a mask as PNG: 255 is tissue. It is there whole or not at all.

    Raises
    ------
    ImageError
        If it cannot be written.
    """
    import PIL.Image

    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.where(mask.mask, np.uint8(255), np.uint8(0))).save(part, format="PNG")
        part.replace(path)
    except OSError as error:
        raise ImageError(
            f"The mask of tissue {path} cannot be written ({error.strerror or error})."
        ) from error


def find_tissue(image: Image) -> TissueMask:
    """Give the tissue that somebody corrected (`Image.tissue_file`), or find it, once for each image.

    It is found by the light that it takes away: Otsu's threshold on a small picture's darkest channel. Specks
    up to about 100 um are dropped, holes up to about 250 um are filled, and a rim of 30 um is added, so
    that nothing at an edge is lost. Strokes of a pen count as tissue. An image without bright and even glass,
    one in grey, and one of less than 4096 pixels count as tissue everywhere.

    Returns
    -------
    TissueMask

    Raises
    ------
    ImageError
        If pixels cannot be read.
    """
    file = image.tissue_file
    corrected = file.stat().st_mtime_ns if file is not None and file.exists() else None
    if image.tissue is None or image.tissue[0] != (file, corrected):
        found = _found(image) if file is None or corrected is None else read_tissue(file, image)
        image.tissue = (file, corrected), found
    return image.tissue[1]


def _found(image: Image) -> TissueMask:
    """Look for tissue on a small picture."""
    from scipy import ndimage

    size = (image.height, image.width)
    if image.channels == 1 or max(size) < FIELD:
        return TissueMask(np.ones((1, 1), bool), *size)
    extent = max(size) * (image.pixel_size_um or ASSUMED_UM)
    picture = image.thumbnail(min(max(math.ceil(extent / RESOLUTION), 256), LONGEST))
    unit = picture.astype(np.float32) / np.iinfo(picture.dtype).max
    light = ndimage.gaussian_filter(unit, (1, 1, 0)).min(axis=2)
    white = float(np.percentile(light, 99))
    lost = np.clip(1 - light / max(white, 1e-6), 0, STRONGEST)
    tissue = lost > max(otsu(lost), FAINTEST)
    unlike = np.subtract(*np.percentile(lost[~tissue], [75, 25]))
    if white < BRIGHT or unlike > EVEN:
        return TissueMask(np.ones((1, 1), bool), *size)
    um = extent / max(picture.shape[:2])
    tissue = _without_small(ndimage.binary_opening(tissue), (SPECK_UM / um) ** 2)
    tissue = ~_without_small(~tissue, (HOLE_UM / um) ** 2)
    tissue = ndimage.binary_dilation(tissue, iterations=max(round(MARGIN_UM / um), 1))
    return TissueMask(tissue, *size)


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """Threshold that parts values into two groups with the least variance within them.

    References
    ----------
    N. Otsu. A threshold selection method from gray-level histograms. IEEE Trans. SMC 9 (1979), 62-66.
    """
    counts, edges = np.histogram(values, bins=bins)
    middles = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts).astype(float)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    best = np.nan_to_num(between)
    # between two groups far apart every threshold is as good: take the middle of them
    return float(middles[np.flatnonzero(best >= best.max() * (1 - 1e-9))].mean())


def _without_small(mask: np.ndarray, area: float) -> np.ndarray:
    """Drop connected parts of fewer elements than `area`."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask)
    large = np.bincount(labels.ravel()) >= area
    large[0] = False
    return np.asarray(large[labels])
