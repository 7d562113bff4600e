"""The program's cells of the image on screen: a tile replaces what it covers; what is settled is done.

A slide may have millions. If there are more than `MOST`, the `SOME` most uncertain are held of those that the
review asks for; those that come while it is predicted are held up to `MOST`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from napari_mtssl.study import Study

COLUMNS = ["row", "col", "class", "confidence", "uncertainty"]
SETTLED_RADIUS = 6.0
MOST = 100_000  # are held; all of a slide are shown by `slide_cells`
SOME = 20_000  # are held of more than that: nobody reviews more at a time, and finding them takes 0.3 s


@dataclass(frozen=True)
class Wanted:
    """Which predictions the review asks for.

    Attributes
    ----------
    box : tuple of int, optional
        ``(row0, col0, row1, col1)``, level-0 pixels; by default all of the image.
    class_name : str, optional
    least, most : float
        Confidence.
    """

    box: tuple[int, int, int, int] | None = None
    class_name: str | None = None
    least: float = 0.0
    most: float = 1.0


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
    total : int
        Of the image; `complete` says whether all of them are held.
    wanted : Wanted
        What was asked for, where not all are held.
    """

    def __init__(self) -> None:
        self._frame = empty()
        self.version = self.total = 0
        self.wanted = Wanted()

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

    @property
    def complete(self) -> bool:
        """Whether all predictions of the image are held."""
        return self.total <= len(self._frame)

    def set(self, frame: pd.DataFrame, total: int | None = None) -> None:
        """Replace everything; `total` if there are more of them."""
        self.total = len(frame) if total is None else total
        frame = most_doubtful(frame, MOST)
        self._frame = frame.reindex(columns=COLUMNS).reset_index(drop=True) if len(frame) else empty()
        self.version += 1

    def replace(self, box: tuple[int, int, int, int], frame: pd.DataFrame) -> None:
        """Replace what lies inside the half-open `box` ``(row0, col0, row1, col1)`` by `frame`."""
        # Pixel centres are at integers: pixel r covers [r - 0.5, r + 0.5).
        row, col = self._frame["row"].to_numpy(float) + 0.5, self._frame["col"].to_numpy(float) + 0.5
        inside = (row >= box[0]) & (col >= box[1]) & (row < box[2]) & (col < box[3])
        parts = [part for part in (self._frame[~inside], frame.reindex(columns=COLUMNS)) if len(part)]
        whole = pd.concat(parts, ignore_index=True) if parts else empty()
        self.total += len(whole) - len(self._frame)
        self._frame = most_doubtful(whole, MOST).reset_index(drop=True)
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
        return unsettled(self._frame, settled, radius)


def unsettled(frame: pd.DataFrame, settled: np.ndarray, radius: float = SETTLED_RADIUS) -> pd.DataFrame:
    """Return the rows that lie further than `radius` from every place (M, 2) that is settled."""
    if not len(settled) or not len(frame):
        return frame
    from scipy.spatial import cKDTree

    places = frame[["row", "col"]].to_numpy(float)
    distance, _ = cKDTree(settled).query(places, distance_upper_bound=radius)
    return frame[~(distance <= radius)]


def near(places: np.ndarray, wanted: np.ndarray, radius: float = SETTLED_RADIUS) -> np.ndarray:
    """Return the rows of `places` (N, 2) that `wanted` (M, 2) means, also where one was refined since.

    Returns
    -------
    ndarray of int
        The nearest one to each, if it lies within `radius`; each once, in the order of `places`.
    """
    if not len(places) or not len(wanted):
        return np.zeros(0, dtype=int)
    from scipy.spatial import cKDTree

    distance, at = cKDTree(places).query(wanted, distance_upper_bound=radius)
    return np.unique(at[np.isfinite(distance)])


def as_cells(
    frame: pd.DataFrame, image_id: int, verdict: str, chosen: pd.Series | str | None
) -> pd.DataFrame:
    """Return the cells that predictions of an image become by a verdict, each of its class, or all of one."""
    cells = pd.DataFrame({"image_id": image_id, "row": frame["row"], "col": frame["col"]})
    cells = cells.assign(status=verdict, source="model", confidence=frame["confidence"])
    cells["class"] = chosen
    return cells


def most_doubtful(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return the most uncertain rows, so many at most, in the order they had."""
    if len(frame) <= most:
        return frame
    doubt = frame["uncertainty"].fillna(1.0 - frame["confidence"]).to_numpy(float)
    return frame.iloc[np.sort(np.argsort(-doubt, kind="stable")[:most])]


def read(study: Study, image_id: int, wanted: Wanted, settled: np.ndarray) -> PredictionStore:
    """Read predictions of an image from a study: all, or of too many the most uncertain that are asked for.

    Parameters
    ----------
    study : Study
    image_id : int
    wanted : Wanted
    settled : ndarray (M, 2)
        Row and col of all cells of the image: of too many predictions, those are left out that lie on one.
    """
    store = PredictionStore()
    total = study.count_predictions(image_id)
    if total <= MOST:
        store.set(study.predictions(image_id))
        return store
    most = min(SOME, MOST)
    span = (wanted.least, wanted.most)
    enough = most + len(settled)  # each settles few
    found = study.predictions(
        image_id, enough, box=wanted.box, class_name=wanted.class_name, confidence=span, doubtful=True
    )
    store.set(most_doubtful(unsettled(found, settled), most), total)
    store.wanted = wanted
    return store
