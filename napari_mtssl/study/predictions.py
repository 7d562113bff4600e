"""What a run predicts: the program's own, replaced by each run, never mixed with the cells people made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from napari_mtssl.study import rasters
from napari_mtssl.study.cells import _numbers
from napari_mtssl.study.classes import image_kind
from napari_mtssl.study.image_classes import ImageClassTable
from napari_mtssl.study.places import Box, in_box
from napari_mtssl.study.records import CELL, MASK, PREDICTION_COLUMNS, StudyError

_TYPES = dict(
    zip(
        PREDICTION_COLUMNS,
        (np.int64, np.int64, str, np.float64, np.float64, str, np.float64, np.float64),
        strict=True,
    )
)
_IMAGE_TYPES = {"image_id": np.int64, "run": str, "kind": str, "class": str, "probability": np.float64}


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
        where, values = "image_id = ?", [float(image_id)]
        if box is not None:
            where, values = in_box("predictions", image_id, box)
        with self._writing() as connection:
            connection.execute(f"DELETE FROM predictions WHERE {where}", values)
            connection.executemany(
                "INSERT INTO predictions (image_id, run, class_id, row, col, confidence, uncertainty) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                zip([image_id] * n, [run] * n, class_ids, *columns, uncertainty, strict=True),
            )

    def predictions(
        self,
        image_id: int,
        most: int | None = None,
        *,
        box: Box | None = None,
        class_name: str | None = None,
        confidence: tuple[float, float] = (0.0, 1.0),
        doubtful: bool = False,
    ) -> pd.DataFrame:
        """Predictions of an image.

        Parameters
        ----------
        image_id : int
        most : int, optional
            So many at most, the newest; by default all.
        box : tuple of float, optional
            ``(row0, col0, row1, col1)``, half open: those in it, found by the R-tree.
        class_name : str, optional
            Those of this class.
        confidence : tuple of float
            Those from the one to the other.
        doubtful : bool
            Of more than `most` the most uncertain, instead of the newest.

        Returns
        -------
        DataFrame
            Columns `PREDICTION_COLUMNS`, level-0 pixels; `uncertainty` NaN where unknown.
        """
        where, values = "image_id = ?", [float(image_id)]
        if box is not None:
            where, values = in_box("predictions", int(image_id), box)
        if class_name is not None:
            where, values = f"{where} AND class_id = ?", [*values, self._class_id(class_name, CELL)]
        if confidence != (0.0, 1.0):
            where, values = f"{where} AND confidence BETWEEN ? AND ?", [*values, *confidence]
        order = "coalesce(uncertainty, 1 - confidence) DESC, id" if doubtful else "id DESC"
        return self._frame(
            "SELECT predictions.id, image_id, run, row, col, name, confidence, uncertainty "
            f"FROM (SELECT * FROM predictions WHERE {where} ORDER BY {order} LIMIT ?) AS predictions "
            "JOIN classes ON classes.id = class_id ORDER BY predictions.id",
            (*values, -1 if most is None else most),
            _TYPES,
        )

    def count_predictions(self, image_id: int) -> int:
        """How many cells are predicted in an image."""
        query = "SELECT count(*) FROM predictions WHERE image_id = ?"
        return int(self._rows(query, (int(image_id),))[0][0])

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

    # -- masks ---------------------------------------------------------------------------------------------

    def set_mask_prediction(
        self,
        image_id: int,
        run: str,
        box: Box,
        probs: np.ndarray,
        scale: tuple[float, float],
        classes: Sequence[str],
    ) -> None:
        """Keep predicted probabilities of the pixels in a box.

        The first box of another run, or of another scale or other classes, replaces all that the image had.

        Parameters
        ----------
        image_id : int
        run : str
            Name of the run that predicts.
        box : tuple of float
            ``(row0, col0, row1, col1)``, level-0 pixels; its corner is a multiple of `scale`.
        probs : ndarray (K, h, w)
            From 0 to 1, kept with 8 bits. What lies beyond the image is left out.
        scale : tuple of float
            Level-0 pixels (rows, columns) to an element of `probs`.
        classes : sequence of str
            The K classes, of the kind ``mask``.

        Raises
        ------
        StudyError
            If classes are unknown or not as many as probabilities, or the study cannot be written.
        """
        image = self.image(image_id)
        self._db.check_writable()
        self._db.check_present()
        if probs.ndim != 3 or len(probs) != len(classes):
            raise StudyError(
                f"Probabilities of the shape {probs.shape} do not fit {len(classes)} classes of masks."
            )
        if not (len(scale) == 2 and min(scale) > 0):
            raise StudyError(f"A scale is two numbers of pixels, not {scale}.")
        codes = [(name, self._class_id(name, MASK)) for name in classes]
        rows, cols = (float(s) for s in scale)
        with self._db.lock:
            rasters.write_mask(self.path, image, run, box, np.asarray(probs), (rows, cols), codes)

    def mask_prediction(self, image_id: int) -> rasters.MaskPrediction | None:
        """Open the predicted mask of an image; nothing is read yet.

        Returns
        -------
        MaskPrediction or None
            None if there is none. A damaged one counts as none, with a warning.
        """
        names = {c.code: c.name for c in self.classes(MASK)}
        return rasters.read_mask(self.path, self.image(image_id), names)

    def drop_mask_prediction(self, image_id: int) -> None:
        """Forget the predicted mask of an image.

        Raises
        ------
        StudyError
            If there is no such image, or the study can only be read.
        """
        self._db.check_writable()
        with self._db.lock:
            rasters.drop_mask(self.path, self.image(image_id).id)

    # -- whole images --------------------------------------------------------------------------------------

    def set_image_prediction(self, image_id: int, run: str, frame: pd.DataFrame) -> None:
        """Replace what is predicted of an image as a whole.

        Parameters
        ----------
        image_id : int
        run : str
            Name of the run that predicts.
        frame : DataFrame
            Columns ``kind, class, probability``.

        Raises
        ------
        StudyError
            If a column is missing, a class is unknown, or the study cannot be written.
        """
        missing = [c for c in ("kind", "class", "probability") if c not in frame]
        if missing:
            raise StudyError(
                "Predictions of images need the columns kind, class, probability; "
                f"missing: {', '.join(missing)}."
            )
        image_id = self.image(image_id).id
        known = {kind: self._class_ids(image_kind(kind)) for kind in frame["kind"].unique()}
        rows = []
        for kind, name, probability in zip(
            frame["kind"], frame["class"], _numbers(frame["probability"], "probability"), strict=True
        ):
            class_id = known[kind].get(name) or self._class_id(name, kind)
            rows.append((image_id, run, class_id, float(probability)))
        with self._writing() as connection:
            connection.execute("DELETE FROM image_predictions WHERE image_id = ?", (image_id,))
            connection.executemany(
                "INSERT INTO image_predictions (image_id, run, class_id, probability) VALUES (?, ?, ?, ?)",
                rows,
            )

    def image_predictions(self, image_id: int | None = None) -> pd.DataFrame:
        """Predictions of whole images: of one, or of all of the study.

        Returns
        -------
        DataFrame
            Columns ``image_id, run, kind, class, probability``.
        """
        return self._frame(
            "SELECT image_id, run, kind, name, probability FROM image_predictions "
            "JOIN classes ON classes.id = class_id JOIN images ON images.id = image_id "
            "WHERE image_id = :image OR :image IS NULL ORDER BY image_id, image_predictions.id",
            {"image": None if image_id is None else int(image_id)},
            _IMAGE_TYPES,
        )
