"""Labels of whole images, and the table of statistics. Every call is one edit."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from napari_mtssl.study.cells import _numbers
from napari_mtssl.study.classes import image_kind
from napari_mtssl.study.masks import MaskTable
from napari_mtssl.study.records import (
    BLOCK,
    IMAGE_CLASS_COLUMNS,
    MASK,
    ORIGIN,
    SOURCES,
    SPLITS,
    STATISTICS_COLUMNS,
    Source,
    Split,
    Status,
    StudyError,
    check_choice,
)

_LABEL_TYPES = dict(
    zip(IMAGE_CLASS_COLUMNS, (np.int64, str, str, str, str, np.float64, str, "time"), strict=True)
)
_STATISTICS_TYPES = dict(zip(STATISTICS_COLUMNS, (str, str, np.float64, np.float64, str), strict=True))


class ImageClassTable(MaskTable):
    """Give images a class of each head, and coarse classes their statistics."""

    def set_image_class(
        self,
        image_id: int,
        kind: str,
        name: str | None,
        *,
        source: Source = "human",
        status: Status = "accepted",
        confidence: float | None = None,
    ) -> None:
        """Give an image a class of one head, or none.

        Parameters
        ----------
        image_id : int
        kind : str
            The head, as ``diagnosis``.
        name : str or None
            A class of this kind; None takes the image's class away.
        source : {'human', 'model'}
            Who proposed it.
        status : {'accepted', 'corrected'}
        confidence : float, optional
            Of the prediction, in [0, 1].

        Raises
        ------
        StudyError
            If there is no such image or class, a value is not valid, or the study cannot be written.
        """
        image = self.image(image_id)
        image_kind(kind)
        check_choice(source, SOURCES, "source")
        check_choice(status, ("accepted", "corrected"), "status of an image's class")
        if confidence is not None and not 0 <= confidence <= 1:
            raise StudyError("A confidence is a number from 0 to 1.")
        if name is None:
            with self.edit(f"Took the {kind} of {image.name} away"):
                sql = "DELETE FROM image_labels WHERE image_id = ? AND kind = ?"
                self._db.connection.execute(sql, (image.id, kind))
            return
        with self.edit(f"Gave {image.name} the {kind} {name}"):
            columns = ("class_id", "source", "status", "confidence", "annotator", "time")
            values = (self._class_id(name, kind), source, status, confidence, self.annotator, time.time())
            sets = ", ".join(f"{column} = excluded.{column}" for column in columns)
            differs = " OR ".join(f"{column} IS NOT excluded.{column}" for column in columns[:4])
            self._db.connection.execute(
                f"INSERT INTO image_labels (image_id, kind, {', '.join(columns)}) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
                f"ON CONFLICT (image_id, kind) DO UPDATE SET {sets} WHERE {differs}",
                (image.id, kind, *values),
            )

    def image_classes(self, image_id: int | None = None, split: Split | None = None) -> pd.DataFrame:
        """Classes of whole images: of one, of those of one split, or of all.

        Returns
        -------
        DataFrame
            Columns `IMAGE_CLASS_COLUMNS`, by image and kind; `confidence` NaN where nobody guessed, `time` of
            the last change (UTC).
        """
        if split is not None:
            check_choice(split, SPLITS, "split")
        return self._frame(
            "SELECT image_id, image_labels.kind, name, source, status, confidence, annotator, time "
            "FROM image_labels JOIN classes ON classes.id = class_id "
            "WHERE (image_id = :image OR :image IS NULL) "
            "AND (:split IS NULL OR image_id IN (SELECT id FROM images WHERE split = :split)) "
            "ORDER BY image_id, image_labels.kind",
            {"image": None if image_id is None else int(image_id), "split": split},
            _LABEL_TYPES,
        )

    def foreign_images(self, split: Split) -> set[int]:
        """Images of a split whose origin is known, and none that a training image has.

        Empty where nobody said where training images come from.
        """
        said = self.image_classes()
        said = said[said["kind"] == ORIGIN]
        origin = dict(zip(said["image_id"].tolist(), said["class"], strict=True))
        learnt = {origin[image.id] for image in self.images("train") if image.id in origin}
        every = [image.id for image in self.images(split)] if learnt else []
        return {image_id for image_id in every if origin.get(image_id) not in {None, *learnt}}

    def set_statistics(self, frame: pd.DataFrame) -> None:
        """Say how much of each exact class lies in a block of each coarse class; replaces the whole table.

        Parameters
        ----------
        frame : DataFrame
            Columns ``block_class, mask_class, mean, spread, source``: mean and standard deviation, over
            blocks of the coarse class, of the part (0 to 1) of their pixels that has the exact class; and a
            word on where these come from (``default``, ``expert``, ``measured``).

        Raises
        ------
        StudyError
            If a column is missing, a class is unknown or named twice, a number is not valid, or the study
            cannot be written.
        """
        missing = [column for column in STATISTICS_COLUMNS if column not in frame]
        if missing:
            raise StudyError(
                f"Statistics need the columns {', '.join(STATISTICS_COLUMNS)}; missing: {', '.join(missing)}."
            )
        mean, spread = _numbers(frame["mean"], "mean"), _numbers(frame["spread"], "spread")
        if not ((mean >= 0) & (mean <= 1) & (spread >= 0) & (spread <= 1)).all():
            raise StudyError("A mean and a spread are parts of a block: numbers from 0 to 1.")
        if frame.duplicated(["block_class", "mask_class"]).any():
            raise StudyError("Statistics name each pair of a coarse and an exact class once.")
        with self.edit("Changed the statistics of coarse classes"):
            coarse = [self._class_id(name, BLOCK) for name in frame["block_class"]]
            exact = [self._class_id(name, MASK) for name in frame["mask_class"]]
            rows = list(zip(coarse, exact, mean.tolist(), spread.tolist(), frame["source"], strict=True))
            connection = self._db.connection
            old = dict.fromkeys(
                connection.execute("SELECT block_class_id, mask_class_id FROM statistics").fetchall()
            )
            connection.executemany(
                "DELETE FROM statistics WHERE block_class_id = ? AND mask_class_id = ?",
                [pair for pair in old if pair not in {row[:2] for row in rows}],
            )
            connection.executemany(
                "INSERT INTO statistics (block_class_id, mask_class_id, mean, spread, source) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT (block_class_id, mask_class_id) DO UPDATE "
                "SET mean = excluded.mean, spread = excluded.spread, source = excluded.source "
                "WHERE mean IS NOT excluded.mean OR spread IS NOT excluded.spread "
                "OR source IS NOT excluded.source",
                [(*row[:4], str(row[4])) for row in rows],
            )

    def statistics(self) -> pd.DataFrame:
        """Statistics of coarse classes, see `set_statistics`; columns `STATISTICS_COLUMNS`."""
        return self._frame(
            "SELECT coarse.name, exact.name, mean, spread, source FROM statistics "
            "JOIN classes AS coarse ON coarse.id = block_class_id "
            "JOIN classes AS exact ON exact.id = mask_class_id ORDER BY block_class_id, mask_class_id",
            (),
            _STATISTICS_TYPES,
        )
