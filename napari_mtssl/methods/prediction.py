"""What a trained method says of an image or of a part of it; one form for all methods. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

CELLS = ["row", "col", "class", "confidence", "uncertainty"]
IMAGE_CLASSES = ["kind", "class", "probability"]


def no_cells() -> pd.DataFrame:
    """Make a table of cells without a row."""
    return pd.DataFrame({name: pd.Series(dtype=str if name == "class" else float) for name in CELLS})


def no_image_classes() -> pd.DataFrame:
    """Make a table of image classes without a row."""
    return pd.DataFrame(
        {name: pd.Series(dtype=float if name == "probability" else str) for name in IMAGE_CLASSES}
    )


@dataclass(frozen=True)
class Prediction:
    """Cells, a mask, pictures and image classes; a method fills what it knows.

    All grids have the same shape (h, w) and cover the predicted box evenly: with ``scale`` level-0 pixels per
    element, element ``(i, j)`` is centred at ``box[:2] + ((i, j) + 0.5) * scale - 0.5``.

    Attributes
    ----------
    cells : DataFrame
        ``row, col, class, confidence, uncertainty`` in level-0 pixels.
    mask : ndarray, shape (K, h, w), or None
        Probabilities of the classes of kind ``mask``, in the order of the method's vocabulary.
    pictures : mapping of str to ndarray (h, w)
        Such as ``uncertainty`` and ``saliency``, higher is more.
    image : DataFrame
        ``kind, class, probability``: one row for every class of every image-level head.
    classes : tuple of str
        The K classes of `mask`, where the vocabulary is not at hand: those of the study today.
    """

    cells: pd.DataFrame = field(default_factory=no_cells)
    mask: np.ndarray | None = None
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)
    image: pd.DataFrame = field(default_factory=no_image_classes)
    classes: tuple[str, ...] = ()

    def cropped(self, rows: slice, cols: slice, inside: np.ndarray) -> Prediction:
        """Keep a part of the grids, and of the cells those that are `inside` (a mask of rows)."""
        # copies: a view would keep the whole alive, and the listener lives in another thread
        return Prediction(
            self.cells[inside].reset_index(drop=True),
            None if self.mask is None else self.mask[:, rows, cols].copy(),
            {name: picture[rows, cols].copy() for name, picture in self.pictures.items()},
            self.image,
            self.classes,
        )


def full_size(probabilities: np.ndarray, height: int, width: int) -> np.ndarray:
    """Probabilities (K, h, w) on every pixel of the image, by bilinear interpolation: (K, height, width)."""
    from skimage.transform import resize

    if probabilities.shape[1:] == (height, width):
        return probabilities
    return np.stack(
        [resize(part, (height, width), order=1, mode="edge", anti_aliasing=False) for part in probabilities]
    )
