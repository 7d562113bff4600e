"""What every part of a study stands on: its folder, its connection, and edits that can be undone."""

from __future__ import annotations

import getpass
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd

from napari_mtssl.study import schema
from napari_mtssl.study.database import FILE, Database, damaged
from napari_mtssl.study.records import frame_of

_CHANGED = "SELECT " + " OR ".join(
    f"EXISTS (SELECT 1 FROM log_{table} WHERE edit_id = :edit)" for table in schema.RECORDED
)


class StudyCore:
    """An open study: closes, counts changes, makes edits, undoes and redoes them.

    Parameters
    ----------
    path : Path
        The folder ``NAME.mtssl``.
    annotator : str, optional
        Who is at work; by default the name the user logged in with.
    check : bool
        Look for damage before opening.
    """

    def __init__(self, path: Path, *, annotator: str | None = None, check: bool = True) -> None:
        self.path = path
        self.annotator = annotator or _login_name()
        self._db = Database(path / FILE, check=check)
        self._editing = False
        self._own = self.change_counter()  # at what the counter would be if nobody else made edits

    @property
    def name(self) -> str:
        """The folder's name without ``.mtssl``."""
        return self.path.name.removesuffix(".mtssl")

    @property
    def read_only(self) -> bool:
        """Whether the study can only be looked at: every edit raises a StudyError."""
        return self._db.read_only

    def close(self) -> None:
        """Close the study; everything is on disk already. A second call does nothing."""
        self._db.close()

    def reopen(self) -> Self:
        """Open the same study a second time, for another thread."""
        return type(self)(self.path, annotator=self.annotator, check=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r})"

    def labels_mark(self) -> tuple[tuple[object, ...], ...]:
        """Return what differs once labels, or which images they count for, were changed; not for a colour.

        An edit that is undone, or done again, counts as one, whatever it changed.
        """
        newest = (f"(SELECT max(n) FROM log_{table})" for table in schema.LABELS)
        queries = (
            f"SELECT {', '.join(newest)}",
            "SELECT count(*), max(id) FROM edits WHERE undone",
            "SELECT id, split FROM images ORDER BY id",
        )
        return tuple(row for query in queries for row in self._db.rows(query))

    def change_counter(self) -> int:
        """Return a number that grows with every change of images, classes or cells, whoever made it.

        Takes some ten microseconds: cheap enough for every training step.

        Raises
        ------
        StudyError
            If the study's folder is gone.
        """
        self._db.check_present()
        return int(self._db.rows("SELECT counter FROM state")[0][0])

    def edits_elsewhere(self) -> int:
        """Return how many edits, undos and redos others made since this study was opened.

        Others are other windows, threads and people: whoever opened the same study.

        Raises
        ------
        StudyError
            If the study's folder is gone.
        """
        with self._db.lock:
            return self.change_counter() - self._own

    # -- edits ---------------------------------------------------------------------------------------------

    @contextmanager
    def edit(self, what: str) -> Iterator[None]:
        """Make everything in the block one edit: on disk when the block ends, undone by one `undo`.

        If the block raises, nothing of it happened. An edit that changes nothing leaves no trace.

        Parameters
        ----------
        what : str
            For the log and the undo button, as ``Added 3 cells``.

        Raises
        ------
        StudyError
            If the study cannot be written.
        """
        with self._db.lock:
            if self._editing:  # part of a larger edit
                yield
                return
            with self._db.transaction() as connection:
                self._editing = True
                try:
                    begun = connection.execute(
                        "INSERT INTO edits (time, annotator, what) VALUES (?, ?, ?)",
                        (time.time(), self.annotator, what),
                    )
                    edit = {"edit": begun.lastrowid}
                    connection.execute("UPDATE state SET edit_id = :edit", edit)
                    yield
                    connection.execute("UPDATE state SET edit_id = NULL")
                    changed = bool(connection.execute(_CHANGED, edit).fetchone()[0])
                    if changed:
                        self._drop_redo()
                        connection.execute("UPDATE state SET counter = counter + 1")
                    else:
                        connection.execute("DELETE FROM edits WHERE id = :edit", edit)
                finally:
                    self._editing = False
            self._own += changed

    def _drop_redo(self) -> None:
        """Forget the edits that were undone: a new one was made in their place."""
        for table in schema.RECORDED:
            self._db.connection.execute(
                f"DELETE FROM log_{table} WHERE edit_id IN (SELECT id FROM edits WHERE undone)"
            )
        self._db.connection.execute("DELETE FROM edits WHERE undone")

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to undo."""
        return bool(self._db.rows("SELECT EXISTS (SELECT 1 FROM edits WHERE NOT undone)")[0][0])

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone edit, and no new one since."""
        return bool(self._db.rows("SELECT EXISTS (SELECT 1 FROM edits WHERE undone)")[0][0])

    def undo(self) -> str | None:
        """Take the last edit back, also one of an earlier session.

        Returns
        -------
        str or None
            What was undone; None if there is nothing to undo.

        Raises
        ------
        StudyError
            If the study cannot be written.
        """
        return self._travel(back=True)

    def redo(self) -> str | None:
        """Make the last undone edit again.

        Returns
        -------
        str or None
            What was made again; None if there is nothing to redo.

        Raises
        ------
        StudyError
            If the study cannot be written.
        """
        return self._travel(back=False)

    def _travel(self, *, back: bool) -> str | None:
        query = (
            "SELECT id, what FROM edits WHERE NOT undone ORDER BY id DESC LIMIT 1"
            if back
            else "SELECT id, what FROM edits WHERE undone ORDER BY id LIMIT 1"
        )
        with self._db.lock:
            with self._db.transaction() as connection:
                found = connection.execute(query).fetchone()
                if found is None:
                    return None
                edit_id, what = found
                for table in schema.RECORDED:
                    for statement in _travel(table, back=back):
                        connection.execute(statement, {"edit": edit_id})
                connection.execute("UPDATE edits SET undone = ? WHERE id = ?", (back, edit_id))
                connection.execute("UPDATE state SET counter = counter + 1")
            self._own += 1
        return f"{'Undone' if back else 'Redone'}: {what}"

    def edits(self, limit: int = 100) -> pd.DataFrame:
        """List the last edits, newest first.

        Returns
        -------
        DataFrame
            Columns ``time, annotator, what, undone``.
        """
        types = {"time": "time", "annotator": str, "what": str, "undone": np.bool_}
        return self._frame(f"SELECT {', '.join(types)} FROM edits ORDER BY id DESC LIMIT ?", (limit,), types)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Write what is no edit (nothing to undo); within an edit, together with it."""
        with self._db.lock:
            if self._editing:
                yield self._db.connection
            else:
                with self._db.transaction() as connection:
                    yield connection

    def _rows(self, sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
        return self._db.rows(sql, values)

    def _frame(self, sql: str, values: Any, types: Mapping[str, Any]) -> pd.DataFrame:
        """Rows as a table with the columns of `types`."""
        rows = self._db.rows(sql, values)
        try:
            return frame_of(rows, types)
        except (TypeError, ValueError, OverflowError) as error:
            raise damaged(self._db.file, str(error)) from error


def _travel(table: str, *, back: bool) -> tuple[str, str]:
    """Remove all rows of a table that an edit touched, and put back those of before (or after) it.

    A row changed twice in one edit is put back as it was before the first change (or after the last).
    """
    side, which = ("old", "min") if back else ("new", "max")
    columns = ", ".join(schema.columns(table))
    logged = ", ".join(f"{side}_{column}" for column in schema.columns(table))
    remove = f"DELETE FROM {table} WHERE id IN (SELECT row_id FROM log_{table} WHERE edit_id = :edit)"
    put_back = (
        f"INSERT INTO {table} ({columns}) SELECT {logged} FROM log_{table} "
        f"WHERE n IN (SELECT {which}(n) FROM log_{table} WHERE edit_id = :edit GROUP BY row_id) "
        f"AND {side}_id IS NOT NULL"
    )
    return remove, put_back


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"
