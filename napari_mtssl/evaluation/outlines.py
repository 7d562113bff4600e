"""How well a mask follows the true outline: IoU and Dice, everywhere and near the outline only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Overlap:
    """Pixel counts of two masks.

    Attributes
    ----------
    both, predicted, true : int
    """

    both: int = 0
    predicted: int = 0
    true: int = 0

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(self.both + other.both, self.predicted + other.predicted, self.true + other.true)

    @property
    def iou(self) -> float:
        """Intersection over union; nan if both masks are empty."""
        either = self.predicted + self.true - self.both
        return self.both / either if either else float("nan")

    @property
    def dice(self) -> float:
        """Dice coefficient, ``2 IoU / (1 + IoU)``; nan if both masks are empty."""
        either = self.predicted + self.true
        return 2 * self.both / either if either else float("nan")


def overlap(predicted: np.ndarray, true: np.ndarray, where: np.ndarray | None = None) -> Overlap:
    """Count pixels of two masks (h, w), or of those `where` is true."""
    if where is not None:
        predicted, true = predicted & where, true & where
    return Overlap(int((predicted & true).sum()), int(predicted.sum()), int(true.sum()))


def near_outline(mask: np.ndarray, distance: float) -> np.ndarray:
    """Pixels at most so far from the outline of a mask: from the nearest pixel of the other side.

    An image without an outline, all inside or all outside, has no such pixel.
    """
    from scipy.ndimage import distance_transform_edt

    mask = np.asarray(mask, bool)
    if mask.all() or not mask.any():
        return np.zeros_like(mask)
    return np.where(mask, distance_transform_edt(mask), distance_transform_edt(~mask)) <= distance


class OutlineScores:
    """Adds up images.

    Parameters
    ----------
    distance : float
        Pixels from the true outline within which the masked scores are taken.
    """

    def __init__(self, distance: float) -> None:
        self.distance = distance
        self.everywhere: list[Overlap] = []
        self.masked: list[Overlap] = []

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        """Take in the masks (h, w) of an image."""
        self.everywhere.append(overlap(predicted, true))
        self.masked.append(overlap(predicted, true, near_outline(true, self.distance)))

    def scores(self) -> dict[str, float]:
        """Scores over the pooled pixels of all images, and ``image_...``: means over images."""
        found = {}
        for prefix, parts in (("masked_", self.masked), ("", self.everywhere)):
            pooled = sum(parts, Overlap())
            found[f"{prefix}iou"], found[f"{prefix}dice"] = pooled.iou, pooled.dice
        for prefix, parts in (("masked_", self.masked), ("", self.everywhere)):
            for name in ("iou", "dice"):
                values = [v for v in (getattr(part, name) for part in parts) if v == v]
                found[f"image_{prefix}{name}"] = float(np.mean(values)) if values else float("nan")
        return found


def outline(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask (h, w) with a neighbour outside of it."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return mask & ~inner


def with_outlines(pixels: np.ndarray, masks: list[tuple[np.ndarray, tuple[int, int, int]]]) -> np.ndarray:
    """Draw the outlines of masks (h, w), each in a colour, into a copy of an image (h, w, 3) uint8."""
    picture = pixels.copy()
    for mask, colour in masks:
        line = outline(mask)
        thick = line.copy()
        thick[1:] |= line[:-1]
        thick[:, 1:] |= line[:, :-1]
        picture[thick] = colour
    return picture
