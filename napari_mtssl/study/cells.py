"""The cells of a study: places with a class. Every call is one edit, on disk when it returns."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from napari_mtssl.study.classes import ClassTable
from napari_mtssl.study.places import Box, in_box
from napari_mtssl.study.records import (
    BACKGROUND,
    CELL_COLUMNS,
    SOURCES,
    SPLITS,
    STATUSES,
    Source,
    Split,
    Status,
    StudyError,
    check_choice,
    plural,
)

_TYPES = dict(
    zip(
        CELL_COLUMNS,
        (np.int64, np.int64, np.float64, np.float64, str, str, str, np.float64, str, "time"),
        strict=True,
    )
)
_MARGIN = 1.0  # pixels by which a place may lie outside: centroids of cut cells, coordinates counted from one


class CellTable(ClassTable):
    """Add, change, delete and read cells."""

    def add_cell(
        self,
        image_id: int,
        row: float,
        col: float,
        class_name: str,
        *,
        source: Source = "human",
        status: Status = "accepted",
        confidence: float | None = None,
    ) -> int:
        """Add one cell, as a click does.

        Parameters
        ----------
        image_id : int
        row, col : float
            Level-0 pixels, pixel centres at integers.
        class_name : str
        source : {'human', 'model'}
            Who proposed it.
        status : {'accepted', 'corrected', 'rejected'}
            A rejected prediction is a cell of the background class.
        confidence : float, optional
            Of the prediction, in [0, 1].

        Returns
        -------
        int
            The cell's id, never used again for another.

        Raises
        ------
        StudyError
            If the place is outside the image, a value is not valid, or the study cannot be written.
        """
        cell = {"image_id": image_id, "row": row, "col": col, "class": class_name, "source": source}
        frame = pd.DataFrame(
            {k: [v] for k, v in {**cell, "status": status, "confidence": confidence}.items()}
        )
        return self.add_cells(frame, what=f"Added a {class_name} cell to {self.image(image_id).name}")[0]

    def add_cells(self, frame: pd.DataFrame, *, what: str | None = None) -> list[int]:
        """Add many cells in one edit.

        Parameters
        ----------
        frame : DataFrame
            Columns ``image_id, row, col, class``, and if wanted ``source, status, confidence``; others are
            ignored.
        what : str, optional
            For the edit log; by default the number of cells.

        Returns
        -------
        list of int
            Ids in the order of the rows.

        Raises
        ------
        StudyError
            If a column is missing, a place is outside its image, a value is not valid, or the study cannot be
            written. Then no cell was added.
        """
        with self.edit(what or f"Added {plural(len(frame), 'cell')}"):
            columns = self._checked(frame)
            found = self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'cells'")
            first = (found[0][0] if found else 0) + 1
            ids = list(range(first, first + len(frame)))
            n = len(frame)
            rows = zip(ids, *columns, [self.annotator] * n, [time.time()] * n, strict=True)
            self._db.connection.executemany(
                "INSERT INTO cells (id, image_id, row, col, class_id, source, status, confidence, annotator, "
                "time) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
        return ids

    def move_cell(self, cell_id: int, row: float, col: float) -> None:
        """Move a cell; a moved prediction counts as corrected.

        Raises
        ------
        StudyError
            If there is no such cell, the place is outside its image, or the study cannot be written.
        """
        with self.edit("Moved a cell"):
            self._require([cell_id])
            image_id = self._rows("SELECT image_id FROM cells WHERE id = ?", (int(cell_id),))[0][0]
            self._check_inside(np.array([image_id]), np.array([row], float), np.array([col], float))
            self._change(
                [cell_id], _CORRECTED, "row IS NOT :row OR col IS NOT :col", row=float(row), col=float(col)
            )

    def set_class(self, ids: int | Iterable[int], class_name: str) -> None:
        """Give cells a class; a prediction that gets another class counts as corrected.

        Raises
        ------
        StudyError
            If there is no such cell or class, or the study cannot be written.
        """
        ids = _as_list(ids)
        found = self.class_named(class_name)
        with self.edit(f"Gave {plural(len(ids), 'cell')} the class {found.name}"):
            self._require(ids)
            class_id = self._class_ids()[found.name]
            self._change(ids, _CORRECTED, "class_id IS NOT :class_id", class_id=class_id)

    def set_status(self, ids: int | Iterable[int], status: Status) -> None:
        """Say what was made of predictions; a rejected one becomes a cell of the background class.

        Raises
        ------
        StudyError
            If there is no such cell or status, or the study cannot be written.
        """
        ids = _as_list(ids)
        check_choice(status, STATUSES, "status")
        with self.edit(f"Marked {plural(len(ids), 'cell')} as {status}"):
            self._require(ids)
            values: dict[str, Any] = {"status": status}
            if status == "rejected":
                values["class_id"] = self._class_ids()[BACKGROUND]
            self._change(ids, "", "status IS NOT :status", **values)

    def delete_cells(self, ids: int | Iterable[int]) -> None:
        """Delete cells.

        Raises
        ------
        StudyError
            If there is no such cell, or the study cannot be written.
        """
        ids = _as_list(ids)
        with self.edit(f"Deleted {plural(len(ids), 'cell')}"):
            self._require(ids)
            self._db.connection.execute(f"DELETE FROM cells WHERE {_AMONG}", {"ids": json.dumps(ids)})

    def cells(
        self, image_id: int | None = None, *, split: Split | None = None, box: Box | None = None
    ) -> pd.DataFrame:
        """Cells of one image, of the images of one split, or all.

        Parameters
        ----------
        image_id : int, optional
        split : {'train', 'validation', 'test'}, optional
        box : tuple of float, optional
            ``(row0, col0, row1, col1)``, half open, of one image: those in it, found by the R-tree.

        Returns
        -------
        DataFrame
            Columns `CELL_COLUMNS`, in the order the cells were added: positions in level-0 pixels,
            `confidence` NaN where nobody guessed, `time` of the last change (UTC).
        """
        where: list[str] = ["1"]
        values: list[Any] = []
        if box is not None:
            if image_id is None:
                raise StudyError("A box is of one image: say of which.")
            condition, values = in_box("cells", int(image_id), box)
            where.append(condition)
        elif image_id is not None:
            where.append("image_id = ?")
            values.append(int(image_id))
        if split is not None:
            where.append("image_id IN (SELECT id FROM images WHERE split = ?)")
            values.append(check_choice(split, SPLITS, "split"))
        return self._frame(
            "SELECT cells.id, image_id, row, col, name, source, status, confidence, annotator, time "
            "FROM cells JOIN classes ON classes.id = class_id "
            f"WHERE {' AND '.join(where)} ORDER BY cells.id",
            values,
            _TYPES,
        )

    def counts(self) -> pd.DataFrame:
        """Count cells by class and by who proposed them.

        Returns
        -------
        DataFrame
            Index ``class`` in the order of `classes`; columns ``human, model, total``.
        """
        types = {"class": str, "human": np.int64, "model": np.int64, "total": np.int64}
        return self._frame(
            "SELECT name, sum(source IS 'human'), sum(source IS 'model'), count(cells.id) FROM classes "
            "LEFT JOIN cells ON class_id = classes.id WHERE kind = 'cell' GROUP BY classes.id "
            "ORDER BY background DESC, classes.id",
            (),
            types,
        ).set_index("class")

    def cell_classes(self, split: str) -> set[str]:
        """Names of the classes that cells of a split have; no cell is read, however many there are."""
        sql = (
            "SELECT name FROM classes WHERE kind = 'cell' AND EXISTS (SELECT 1 FROM cells JOIN images "
            "ON images.id = image_id WHERE class_id = classes.id AND split = ?)"
        )
        return {name for (name,) in self._rows(sql, (split,))}

    # -- checks --------------------------------------------------------------------------------------------

    def _checked(self, frame: pd.DataFrame) -> tuple[list[Any], ...]:
        """Columns to insert, from `image_id` to `confidence`, or a sentence about what is wrong with them."""
        missing = [c for c in ("image_id", "row", "col", "class") if c not in frame]
        if missing:
            raise StudyError(
                f"Cells need the columns image_id, row, col, class; missing: {', '.join(missing)}."
            )
        n = len(frame)
        image_ids = frame["image_id"].to_numpy(np.int64)
        rows, cols = (_numbers(frame[c], c) for c in ("row", "col"))
        self._check_inside(image_ids, rows, cols)
        class_ids = self._known_classes(frame["class"])
        sources = frame["source"].tolist() if "source" in frame else ["human"] * n
        statuses = frame["status"].tolist() if "status" in frame else ["accepted"] * n
        for values, choices, what in ((sources, SOURCES, "source"), (statuses, STATUSES, "status")):
            for value in set(values):
                check_choice(value, choices, what)
        if "rejected" in statuses:
            background = self._class_ids()[BACKGROUND]
            if any(s == "rejected" and c != background for s, c in zip(statuses, class_ids, strict=True)):
                raise StudyError(f"A rejected prediction is kept as a cell of the class '{BACKGROUND}'.")
        confidence = [None] * n
        if "confidence" in frame:
            guessed = _numbers(frame["confidence"], "confidence")
            if ((guessed < 0) | (guessed > 1)).any():
                raise StudyError("A confidence is a number from 0 to 1.")
            confidence = [None if np.isnan(value) else value for value in guessed.tolist()]
        return image_ids.tolist(), rows.tolist(), cols.tolist(), class_ids, sources, statuses, confidence

    def _known_classes(self, names: pd.Series) -> list[int]:
        known = self._class_ids()
        unknown = [name for name in names.unique() if name not in known]
        if unknown:
            raise StudyError(
                f"The study '{self.name}' has no class '{unknown[0]}', only {', '.join(known)}: add it."
            )
        return names.map(known).tolist()

    def outside(self, image_ids: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> tuple[int, str] | None:
        """Find the first place that lies outside its image, as one of a cell may not.

        Returns
        -------
        index : int
        sentence : str
            What is wrong with it. None if all lie inside.
        """
        wrong = []
        for image_id in np.unique(image_ids).tolist():
            image = self.image(image_id)
            row, col = rows[image_ids == image_id], cols[image_ids == image_id]
            inside = (row >= -_MARGIN) & (row <= image.height - 1 + _MARGIN)
            inside &= (col >= -_MARGIN) & (col <= image.width - 1 + _MARGIN)
            if not inside.all():  # also where a position is NaN
                first = np.flatnonzero(~inside)[0]
                sentence = (
                    f"Row {row[first]:.6g}, column {col[first]:.6g} lies outside {image.name}, which has "
                    f"{image.height} rows and {image.width} columns."
                )
                wrong.append((int(np.flatnonzero(image_ids == image_id)[first]), sentence))
        return min(wrong, default=None)

    def _check_inside(self, image_ids: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> None:
        wrong = self.outside(image_ids, rows, cols)
        if wrong is not None:
            raise StudyError(wrong[1])

    def _require(self, ids: list[int]) -> None:
        sql = "SELECT value FROM json_each(?) WHERE value NOT IN (SELECT id FROM cells) LIMIT 1"
        gone = self._rows(sql, (json.dumps(ids),))
        if gone:
            raise StudyError(f"The study '{self.name}' has no cell number {gone[0][0]} (any more).")

    def _change(self, ids: list[int], also: str, differs: str, **values: Any) -> None:
        """Set columns of those cells that differ, with who did it and when."""
        sets = ", ".join(f"{column} = :{column}" for column in values)
        self._db.connection.execute(
            f"UPDATE cells SET {sets}, annotator = :annotator, time = :time {also} "
            f"WHERE {_AMONG} AND ({differs})",
            {**values, "ids": json.dumps(ids), "annotator": self.annotator, "time": time.time()},
        )


_AMONG = "id IN (SELECT value FROM json_each(:ids))"
_CORRECTED = ", status = CASE source WHEN 'model' THEN 'corrected' ELSE 'accepted' END"


def _as_list(ids: int | Iterable[int]) -> list[int]:
    return [
        int(i) for i in np.atleast_1d(np.asarray(list(ids) if isinstance(ids, Iterable) else ids)).tolist()
    ]


def _numbers(column: pd.Series, name: str) -> np.ndarray:
    """Return a column as floats; what is missing is NaN."""
    try:
        return pd.to_numeric(column).to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise StudyError(f"The column '{name}' holds something that is no number: {error}.") from error
