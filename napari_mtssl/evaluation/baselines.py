"""What interactive tools ship today: a random forest on hand-made colour and texture features.

The features are in the spirit of ilastik's and QuPath's: statistics of colours and stains over the patch and
at its middle, edges and blobs at several scales, and texture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from napari_mtssl.images import Image

PATCH = 41  # pixels
MIDDLE = 8.0  # radius of the disc in the middle of a patch, pixels
SCALES = (1.0, 2.0, 4.0)  # pixels
PERCENTILES = (10, 50, 90)
TREES = 300
# Of the blobs that are looked at as nuclei; chosen on training images of CRCHistoPhenotypes.
BLOB_SCALE = 4.0  # pixels
BLOB_GAP = 6  # pixels
BLOB_LEAST = 0.01


def patch_features(patches: np.ndarray) -> np.ndarray:
    """Describe patches by colour and texture.

    Parameters
    ----------
    patches : ndarray of uint8, shape (N, S, S, 3)

    Returns
    -------
    ndarray of float32, shape (N, 88)
        Of nine channels (RGB, haematoxylin-eosin-DAB, CIELAB): mean, standard deviation, 10th, 50th and 90th
        percentile, mean of the middle (54); of haematoxylin at three scales: mean, deviation and 90th
        percentile of the gradient, deviation and extremes of the Laplacian of Gaussian (18); uniform local
        binary patterns (10) and co-occurrence contrast, homogeneity and energy at two distances (6).
    """
    parts = [_features(patches[start : start + 256]) for start in range(0, len(patches), 256)]
    return np.concatenate(parts) if parts else np.empty((0, 88), np.float32)


def _features(patches: np.ndarray) -> np.ndarray:
    """Features of a few patches at once."""
    from skimage.color import rgb2hed, rgb2lab

    rgb = patches.astype(np.float32) / 255
    hed = rgb2hed(rgb).astype(np.float32)
    channels = np.concatenate([rgb, hed, rgb2lab(rgb).astype(np.float32)], axis=-1)  # (n, S, S, 9)
    flat = channels.reshape(len(patches), -1, channels.shape[-1])
    size = patches.shape[1]
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    middle = (y**2 + x**2 <= MIDDLE**2).ravel()
    statistics = [
        flat.mean(1),
        flat.std(1),
        *np.percentile(flat, PERCENTILES, axis=1),
        flat[:, middle].mean(1),
    ]
    blue = hed[..., 0]
    columns = [*statistics, _edges_and_blobs(blue), _texture(blue)]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _edges_and_blobs(blue: np.ndarray) -> np.ndarray:
    """Gradient and Laplacian of Gaussian of (n, S, S) at each scale: (n, 18)."""
    from scipy.ndimage import gaussian_filter

    columns = []
    for scale in SCALES:
        sigma = (0.0, scale, scale)
        rows, cols = (gaussian_filter(blue, sigma, order=order) for order in ((0, 1, 0), (0, 0, 1)))
        gradient = np.hypot(rows, cols).reshape(len(blue), -1)
        curved = sum(gaussian_filter(blue, sigma, order=order) for order in ((0, 2, 0), (0, 0, 2)))
        laplace = curved.reshape(len(blue), -1)
        columns += [gradient.mean(1), gradient.std(1), np.percentile(gradient, 90, axis=1)]
        columns += [laplace.std(1), laplace.min(1), laplace.max(1)]
    return np.stack(columns, axis=1)


def _texture(blue: np.ndarray) -> np.ndarray:
    """Local binary patterns and co-occurrence of (n, S, S): (n, 16)."""
    from skimage.feature import graycomatrix, graycoprops, local_binary_pattern

    # One fixed range for all images, so that grey levels mean the same everywhere.
    grey = np.clip(blue / 0.25 * 255, 0, 255).astype(np.uint8)
    rows = []
    for patch in grey:
        patterns = local_binary_pattern(patch, 8, 1, "uniform")
        histogram = np.bincount(patterns.astype(int).ravel(), minlength=10) / patterns.size
        pairs = graycomatrix(patch // 16, [1, 3], [0, np.pi / 2], levels=16, symmetric=True, normed=True)
        props = [graycoprops(pairs, name).mean(axis=1) for name in ("contrast", "homogeneity", "energy")]
        rows.append(np.concatenate([histogram, *props]))
    return np.stack(rows)


class RandomForest:
    """A random forest over patches; the same seed gives the same forest.

    Parameters
    ----------
    n_classes : int
    seed : int
    """

    def __init__(self, n_classes: int, seed: int = 0) -> None:
        from sklearn.ensemble import RandomForestClassifier

        self.n_classes = n_classes
        self._forest = RandomForestClassifier(TREES, class_weight="balanced", random_state=seed)

    def fit(self, features: np.ndarray, classes: np.ndarray) -> RandomForest:
        """Learn from features (N, F) and class indices (N,)."""
        self._forest.fit(features, classes)
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Give class probabilities, shape (N, n_classes)."""
        probabilities = np.zeros((len(features), self.n_classes), np.float32)
        if len(features):
            probabilities[:, self._forest.classes_] = self._forest.predict_proba(features)
        return probabilities


def nucleus_candidates(
    image: Image, *, scale: float = BLOB_SCALE, gap: int = BLOB_GAP, least: float = BLOB_LEAST
) -> np.ndarray:
    """Find dark blue blobs, as tools do before they classify cells.

    Parameters
    ----------
    image : Image
    scale : float
        Standard deviation of the Laplacian of Gaussian, pixels; finds blobs of radius ``1.4 * scale``.
    gap : int
        Least distance between two candidates, pixels.
    least : float
        Least response.

    Returns
    -------
    ndarray, shape (N, 2)
        ``(row, col)`` in level-0 pixels.
    """
    from scipy.ndimage import gaussian_laplace
    from skimage.color import rgb2hed
    from skimage.feature import peak_local_max

    from napari_mtssl.images import to_float

    blue = rgb2hed(to_float(image.read(0, 0, image.height, image.width)))[..., 0]
    response = -gaussian_laplace(blue, scale) * scale**2
    return peak_local_max(response, min_distance=gap, threshold_abs=least, exclude_border=False).astype(float)


def detect_cells(image: Image, forest: RandomForest, classes: Sequence[str]) -> pd.DataFrame:
    """Classify every candidate of an image and keep those that are more likely a cell than background.

    Parameters
    ----------
    image : Image
    forest : RandomForest
    classes : sequence of str
        Index 0 is the background.

    Returns
    -------
    DataFrame
        ``row, col, class, confidence``.
    """
    centres = nucleus_candidates(image)
    probabilities = forest.predict(patch_features(image.patches(centres, PATCH)))
    best = probabilities[:, 1:].argmax(axis=1) + 1
    cells = probabilities[:, 0] < 0.5
    return pd.DataFrame(
        {
            "row": centres[cells, 0],
            "col": centres[cells, 1],
            "class": np.asarray(classes, dtype=object)[best[cells]],
            "confidence": probabilities[cells, best[cells]],
        }
    )
