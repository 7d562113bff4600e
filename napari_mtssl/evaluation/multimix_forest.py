"""What interactive tools ship today, for masks and classes: random forests on hand-made features."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier

SIZE = 128
SCALES = (1.0, 2.0, 4.0, 8.0, 16.0)
PIXELS = 3000  # drawn from each image


def pixel_features(image: np.ndarray) -> np.ndarray:
    """Grey value, blurs, gradients, Laplacians and variances at several scales, and the position.

    Parameters
    ----------
    image : ndarray, shape (h, w), values in [0, 1]

    Returns
    -------
    ndarray of float32, shape (h * w, F)
    """
    normal = (image - image.mean()) / max(float(image.std()), 1e-3)
    planes = [normal]
    for sigma in SCALES:
        soft = ndimage.gaussian_filter(normal, sigma)
        planes += [
            soft,
            ndimage.gaussian_gradient_magnitude(normal, sigma),
            ndimage.gaussian_laplace(normal, sigma),
            ndimage.gaussian_filter(normal**2, sigma) - soft**2,
        ]
    rows, cols = np.mgrid[: image.shape[0], : image.shape[1]]
    planes += [rows / image.shape[0], cols / image.shape[1]]
    return np.stack([plane.ravel() for plane in planes], axis=1).astype(np.float32)


def image_features(image: np.ndarray) -> np.ndarray:
    """Quantiles of the whole image, and mean, spread and gradient in each field of a grid."""
    normal = (image - image.mean()) / max(float(image.std()), 1e-3)
    steep = ndimage.gaussian_gradient_magnitude(normal, 1.0)
    side = max(image.shape[0] // 8, 1)
    parts = [np.quantile(image, np.linspace(0, 1, 11)), np.quantile(steep, np.linspace(0, 1, 11))]
    for plane in (normal, normal**2, steep):
        parts.append(ndimage.uniform_filter(plane, side)[side // 2 :: side, side // 2 :: side].ravel())
    return np.concatenate(parts).astype(np.float32)


class FieldForest:
    """Two forests: pixels to mask, image to class.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int) -> None:
        self._pixels = RandomForestClassifier(
            100, max_features="sqrt", min_samples_leaf=4, random_state=seed, n_jobs=1
        )
        self._images = RandomForestClassifier(
            400, max_features="sqrt", min_samples_leaf=2, random_state=seed, n_jobs=1, class_weight="balanced"
        )
        self._rng = np.random.default_rng(seed)

    def fit_masks(self, images: np.ndarray, masks: np.ndarray) -> None:
        """Learn from images (N, h, w) and the shares (N, h, w) that their masks cover."""
        features, inside = [], []
        for image, mask in zip(images, masks, strict=True):
            chosen = self._rng.choice(image.size, min(PIXELS, image.size), replace=False)
            features.append(pixel_features(image)[chosen])
            inside.append(mask.ravel()[chosen] > 0.5)
        self._pixels.fit(np.concatenate(features), np.concatenate(inside))

    def masks(self, images: np.ndarray) -> np.ndarray:
        """Probability (N, h, w) of being inside."""
        if len(self._pixels.classes_) < 2:
            return np.full(images.shape, float(self._pixels.classes_[0]), np.float32)
        found = [self._pixels.predict_proba(pixel_features(image))[:, 1] for image in images]
        return np.stack(found).reshape(images.shape).astype(np.float32)

    def fit_classes(self, images: np.ndarray, classes: np.ndarray) -> None:
        """Learn from images (N, h, w) and class indices."""
        self._images.fit(np.stack([image_features(image) for image in images]), classes)

    def classes(self, images: np.ndarray, count: int) -> np.ndarray:
        """Probabilities (N, count)."""
        found = np.zeros((len(images), count), np.float32)
        probabilities = self._images.predict_proba(np.stack([image_features(image) for image in images]))
        found[:, self._images.classes_] = probabilities
        return found
