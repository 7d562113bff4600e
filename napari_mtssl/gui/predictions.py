"""The program's cells of the image on screen: a tile replaces what it covers; what is settled is done."""

from __future__ import annotations

import numpy as np
import pandas as pd

COLUMNS = ["row", "col", "class", "confidence", "uncertainty"]
SETTLED_RADIUS = 6.0
MOST = 100_000  # the newest are held for review; a slide may have millions, which `slide_cells` shows


def empty() -> pd.DataFrame:
    """Return no predictions, with the right columns and types."""
    numbers = {name: np.zeros(0) for name in COLUMNS if name != "class"}
    return pd.DataFrame({**numbers, "class": np.zeros(0, dtype=object)})[COLUMNS]


class PredictionStore:
    """Predictions of one image.

    Attributes
    ----------
    version : int
        Grows with every change, so that listeners can skip what they have already shown.
    """

    def __init__(self) -> None:
        self._frame = empty()
        self.version = 0

    def __len__(self) -> int:
        return len(self._frame)

    @property
    def frame(self) -> pd.DataFrame:
        """All predictions, columns ``row, col, class, confidence, uncertainty`` (level-0 pixels)."""
        return self._frame

    @property
    def coordinates(self) -> np.ndarray:
        """Places as (N, 2) array of row, col."""
        return self._frame[["row", "col"]].to_numpy(dtype=float)

    def set(self, frame: pd.DataFrame) -> None:
        """Replace everything."""
        frame = frame.tail(MOST)
        self._frame = frame.reindex(columns=COLUMNS).reset_index(drop=True) if len(frame) else empty()
        self.version += 1

    def replace(self, box: tuple[int, int, int, int], frame: pd.DataFrame) -> None:
        """Replace what lies inside the half-open `box` ``(row0, col0, row1, col1)`` by `frame`."""
        # Pixel centres are at integers: pixel r covers [r - 0.5, r + 0.5).
        row, col = self._frame["row"].to_numpy(float) + 0.5, self._frame["col"].to_numpy(float) + 0.5
        inside = (row >= box[0]) & (col >= box[1]) & (row < box[2]) & (col < box[3])
        parts = [part for part in (self._frame[~inside], frame.reindex(columns=COLUMNS)) if len(part)]
        whole = pd.concat(parts, ignore_index=True) if parts else empty()
        self._frame = whole.tail(MOST).reset_index(drop=True) if len(whole) > MOST else whole
        self.version += 1

    def pending(self, settled: np.ndarray, radius: float = SETTLED_RADIUS) -> pd.DataFrame:
        """Return predictions that no cell of the study lies on: what is left to review.

        Parameters
        ----------
        settled : ndarray (M, 2)
            Row and col of all cells of the image.
        radius : float
            Distance in level-0 pixels within which a prediction counts as settled.
        """
        if not len(settled) or not len(self._frame):
            return self._frame
        from scipy.spatial import cKDTree

        distance, _ = cKDTree(settled).query(self.coordinates, distance_upper_bound=radius)
        return self._frame[~(distance <= radius)]
