"""What a run predicts: the program's own, replaced by each run, never mixed with the cells people made."""

from __future__ import annotations

import numpy as np
import pandas as pd

from napari_mtssl.study.cells import _numbers
from napari_mtssl.study.image_classes import ImageClassTable
from napari_mtssl.study.records import PREDICTION_COLUMNS, StudyError

_TYPES = dict(
    zip(
        PREDICTION_COLUMNS,
        (np.int64, np.int64, str, np.float64, np.float64, str, np.float64, np.float64),
        strict=True,
    )
)
Box = tuple[float, float, float, float]


class PredictionTable(ImageClassTable):
    """Write and read predictions. They are no edits: nothing to undo, and the change counter stays."""

    def set_predictions(self, image_id: int, run: str, frame: pd.DataFrame, box: Box | None = None) -> None:
        """Replace the predictions of an image, all or those inside a box.

        Parameters
        ----------
        image_id : int
        run : str
            Name of the run that predicts.
        frame : DataFrame
            Columns ``row, col, class, confidence``, and if known ``uncertainty``.
        box : tuple of float, optional
            ``(row0, col0, row1, col1)``, half open, level-0 pixels: what is replaced.

        Raises
        ------
        StudyError
            If a column is missing, a class is unknown, or the study cannot be written.
        """
        missing = [c for c in ("row", "col", "class", "confidence") if c not in frame]
        if missing:
            raise StudyError(
                f"Predictions need the columns row, col, class, confidence; missing: {missing[0]}."
            )
        self.image(image_id)
        n = len(frame)
        class_ids = self._known_classes(frame["class"]) if n else []
        columns = [_numbers(frame[c], c).tolist() for c in ("row", "col", "confidence")]
        doubt = (
            _numbers(frame["uncertainty"], "uncertainty") if "uncertainty" in frame else np.full(n, np.nan)
        )
        uncertainty = [None if np.isnan(value) else value for value in doubt.tolist()]
        where = "image_id = ?"
        values: list[float] = [image_id]
        if box is not None:
            where += " AND row >= ? AND col >= ? AND row < ? AND col < ?"
            values += [float(edge) for edge in box]
        with self._writing() as connection:
            connection.execute(f"DELETE FROM predictions WHERE {where}", values)
            connection.executemany(
                "INSERT INTO predictions (image_id, run, class_id, row, col, confidence, uncertainty) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                zip([image_id] * n, [run] * n, class_ids, *columns, uncertainty, strict=True),
            )

    def predictions(self, image_id: int) -> pd.DataFrame:
        """Predictions of an image.

        Returns
        -------
        DataFrame
            Columns `PREDICTION_COLUMNS`, level-0 pixels; `uncertainty` NaN where unknown.
        """
        return self._frame(
            "SELECT predictions.id, image_id, run, row, col, name, confidence, uncertainty "
            "FROM predictions JOIN classes ON classes.id = class_id WHERE image_id = ? "
            "ORDER BY predictions.id",
            (int(image_id),),
            _TYPES,
        )

    def pending_predictions(self, image_id: int, radius: float = 6.0) -> pd.DataFrame:
        """Predictions that nobody has reviewed: those with no cell within `radius` pixels.

        Accepting, correcting or rejecting one makes a cell in its place, so that it is pending no longer;
        undoing that makes it pending again.

        Returns
        -------
        DataFrame
            As `predictions`, with a RangeIndex.
        """
        from scipy.spatial import cKDTree

        predicted = self.predictions(image_id)
        places = np.array(
            self._rows("SELECT row, col FROM cells WHERE image_id = ?", (int(image_id),)), float
        )
        if len(places) == 0 or len(predicted) == 0:
            return predicted
        distance, _ = cKDTree(places).query(predicted[["row", "col"]].to_numpy(), distance_upper_bound=radius)
        return predicted[~np.isfinite(distance)].reset_index(drop=True)
