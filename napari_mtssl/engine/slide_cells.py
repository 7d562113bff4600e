"""The cells that were predicted on a slide, a million perhaps: found by where they are."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pandas as pd

from napari_mtssl.engine.slide_prediction_store import SlideError

COLUMNS = ("row", "col", "class", "confidence")
LONGEST = 2048  # elements of a density map, at most


class SlideCells:
    """Cells of a finished prediction; safe to share between threads.

    Parameters
    ----------
    folder : Path
        ``NAME.prediction``.

    Attributes
    ----------
    image : str
        Name of the slide.
    height, width : int
        Of the slide, level-0 pixels.
    pixel_size_um : float or None
    classes : tuple of str
    count : int

    Raises
    ------
    SlideError
        If it is no prediction, or one that is still being made.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "tiles.sqlite"
        if not path.exists():
            raise SlideError(f"{folder} holds no prediction of a slide; choose a folder NAME.prediction.")
        try:
            uri = f"{path.absolute().as_uri()}?mode=ro"
            self._db = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=0.5)
            about = dict(self._db.execute("SELECT name, value FROM about"))
            self.count = int(self._db.execute("SELECT count(*) FROM places").fetchone()[0])
        except sqlite3.Error as error:
            raise SlideError(
                f"{folder} cannot be read ({error}); if it is still being predicted, wait until that is done."
            ) from error
        self._lock = threading.Lock()
        self.folder = folder
        identity = json.loads(about["identity"])
        self.image = str(identity["image"])
        self.height, self.width = identity["size"]
        self.pixel_size_um: float | None = identity["pixel size"]
        self.classes = tuple(json.loads(about["classes"]))

    def within(self, box: tuple[float, float, float, float], most: int | None = None) -> pd.DataFrame:
        """Cells in a box, found by the R-tree.

        Parameters
        ----------
        box : tuple of float
            ``(row0, col0, row1, col1)``, level-0 pixels.
        most : int, optional
            Cells, at most.

        Returns
        -------
        DataFrame
            ``row, col, class, confidence``.
        """
        row0, col0, row1, col1 = box
        # the tree knows 32-bit numbers, rounded outwards: the cells' own decide
        query = (
            "SELECT row, col, class, confidence FROM places JOIN cells ON cells.rowid = places.id "
            "WHERE row1 >= ? AND row0 < ? AND col1 >= ? AND col0 < ? "
            "AND row >= ? AND row < ? AND col >= ? AND col < ? LIMIT ?"
        )
        values = (row0, row1, col0, col1) * 2
        with self._lock:
            rows = self._db.execute(query, (*values, -1 if most is None else most)).fetchall()
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        frame["class"] = np.array(self.classes, object)[frame["class"].to_numpy(int)]
        return frame

    def density(self) -> tuple[np.ndarray, int]:
        """Count the cells in squares all over the slide.

        Returns
        -------
        counts : ndarray of float32, shape (h, w)
        step : int
            Level-0 pixels to a square.
        """
        step = 16
        while max(self.height, self.width) / step > LONGEST:
            step *= 2
        counts = np.zeros((-(-self.height // step), -(-self.width // step)), np.float32)
        with self._lock:
            query = self._db.execute("SELECT row, col FROM cells")
            while rows := query.fetchmany(50_000):
                at = ((np.array(rows) + 0.5) / step).astype(int)
                at = np.clip(at, 0, np.array(counts.shape) - 1)
                np.add.at(counts, (at[:, 0], at[:, 1]), 1)
        return counts, step

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()
