"""Open ``study.sqlite`` without ever harming it, and turn every database error into one clear sentence."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

from napari_mtssl.study import schema
from napari_mtssl.study.records import StudyError

FILE = "study.sqlite"
BUSY_SECONDS = 10.0
_MAGIC = b"SQLite format 3\0"


class Database:
    """One connection to a study's file.

    A connection may be used from any thread, one at a time (a lock sees to that); threads that should not
    wait for each other use one connection each.

    Parameters
    ----------
    file : Path
        An existing ``study.sqlite``.
    check : bool
        Look for damage first; a second connection to the same file need not.

    Raises
    ------
    StudyError
        If the file is damaged, no study, or from a newer program. It is left exactly as it was.
    """

    def __init__(self, file: Path, *, check: bool = True) -> None:
        self.file = file
        self.lock = threading.RLock()
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        if check:
            _check(file)
        with self.explained():
            connection = _connect_writable(file)
            self.read_only = connection is None
            if connection is None:
                connection, self._copy = _up_to_date(*_connect_read_only(file))
            else:
                _migrate(connection, file)
        self.connection = connection
        self._identity = file.stat()

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        with self.lock:
            self.connection.close()
            if self._copy is not None:
                self._copy.cleanup()

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query.

        Raises
        ------
        StudyError
            If the file cannot be read.
        """
        with self.lock, self.explained():
            return self.connection.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing: commits at the end of the block, and the commit is on disk when the block ends.

        Raises
        ------
        StudyError
            If the study can only be read, is gone, or the disk is full; then nothing was changed.
        """
        self.check_writable()
        with self.lock, self.explained():
            self.check_present()
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # a full disk has already rolled back
                    self.connection.execute("ROLLBACK")
                raise
            self.check_present()  # deleted while we wrote: the commit went to a file without a name

    def check_writable(self) -> None:
        """See that edits are allowed.

        Raises
        ------
        StudyError
            If the study can only be read.
        """
        if self.read_only:
            raise StudyError(
                f"The study '{self.file.parent.stem}' can only be read, so nothing was changed: you may "
                f"not write to {self.file.parent}. Copy the study to a folder of your own and open the copy."
            )

    def check_present(self) -> None:
        """See that the open file is still the one at its path.

        Raises
        ------
        StudyError
            If it was deleted, moved or replaced while open: what is written now would be lost.
        """
        try:
            present = os.path.samestat(os.stat(self.file), self._identity)
        except OSError:
            present = False
        if not present:
            raise StudyError(
                f"The study's file {self.file} was deleted, moved or replaced while it was open, so this "
                "change cannot be kept. Put the folder back and open the study again; "
                "what is on screen can still be exported."
            )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn SQLite's errors into a StudyError."""
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter from a damaged text
            raise explain(error, self.file) from error


def create(file: Path) -> None:
    """Make the file of a new study; SQLite's errors are the caller's to explain."""
    with closing(_connect(file, "mode=rwc")) as connection:
        _migrate(connection, None)


def _connect(file: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(file.absolute().as_posix())}?{mode}"
    return sqlite3.connect(
        uri,
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )


def _connect_writable(file: Path) -> sqlite3.Connection | None:
    """Connect for reading and writing; None where that is not allowed."""
    if not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        return None
    connection = _connect(file, "mode=rw")
    try:
        # WAL with FULL: a commit is on the disk when it returns, and readers never wait for a writer.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")  # permissions can lie (network folders): try
        connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        connection.close()
        if _primary_code(error) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            return None
        raise
    return connection


def _connect_read_only(file: Path) -> tuple[sqlite3.Connection, tempfile.TemporaryDirectory[str] | None]:
    """Connect without changing the file, and without leaving out a click, wherever it is.

    A study that was closed has no write-ahead log: the file is all there is, and ``immutable`` reads it
    without lock files beside it. One that was killed, or is open elsewhere, has its last clicks in the log,
    which SQLite reads with the help of a shared-memory file in the same folder. Where that cannot be made,
    both are copied to a temporary folder and read there.
    """
    wal = Path(f"{file}-wal")
    if not (wal.exists() and wal.stat().st_size):
        return _connect(file, "mode=ro&immutable=1"), None
    connection = _connect(file, "mode=ro")
    try:
        connection.execute("PRAGMA user_version").fetchone()
        return connection, None
    except sqlite3.OperationalError as error:
        connection.close()
        if _primary_code(error) not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise
    folder = tempfile.TemporaryDirectory(prefix="mtssl-")
    copy = Path(folder.name) / FILE
    shutil.copyfile(file, copy)
    shutil.copyfile(wal, f"{copy}-wal")
    return _connect(copy, "mode=rw"), folder


def _migrate(connection: sqlite3.Connection, file: Path | None) -> None:
    """Bring the tables to this program's version, in one transaction, keeping a copy of an older file."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    newest = len(schema.MIGRATIONS)
    if version == newest:
        return
    if file is not None:
        with closing(_connect(file.with_name(f"study.v{version}.sqlite"), "mode=rwc")) as copy:
            connection.backup(copy)
    connection.execute("PRAGMA foreign_keys = OFF")  # a table that others refer to may be made anew
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another program may have done it while this one waited.
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for statements in schema.MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {newest}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.execute("PRAGMA foreign_keys = ON")


def _up_to_date(
    connection: sqlite3.Connection, folder: tempfile.TemporaryDirectory[str] | None
) -> tuple[sqlite3.Connection, tempfile.TemporaryDirectory[str] | None]:
    """Read an older study that cannot be brought forward in its place: a temporary copy is."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == len(schema.MIGRATIONS):
        return connection, folder
    place = tempfile.TemporaryDirectory(prefix="mtssl-")
    copy = _connect(Path(place.name) / FILE, "mode=rwc")
    connection.backup(copy)
    connection.close()
    if folder is not None:
        folder.cleanup()
    _migrate(copy, None)
    return copy, place


def _check(file: Path) -> None:
    """Look at a file without touching it, and say so if it is not a sound study of a version we know."""
    with file.open("rb") as stream:
        start = stream.read(len(_MAGIC))
    if start != _MAGIC:
        raise damaged(file, "it does not begin as a study does")
    try:
        connection, copy = _connect_read_only(file)
        with copy or nullcontext(), closing(connection):
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if application != schema.APPLICATION_ID:
                raise StudyError(f"{file} is a database, but not of a study; nothing was changed.")
            if version > len(schema.MIGRATIONS):
                raise StudyError(
                    f"The study {file.parent} was made by a newer napari-mtssl (format {version}, this one "
                    f"knows {len(schema.MIGRATIONS)}); nothing was changed. "
                    "Update with: pip install --upgrade napari-mtssl"
                )
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict == "ok":
                for table, query in schema.wrong_types(version):
                    if connection.execute(query).fetchone():
                        verdict = f"a value of a wrong type in the table {table}"
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
            raise explain(error, file) from error
        raise damaged(file, str(error)) from error
    if verdict != "ok":
        raise damaged(file, verdict.replace("\n", " "))


def damaged(file: Path, reason: str) -> StudyError:
    """Say that a file is damaged, what was done about it (nothing), and what can be."""
    return StudyError(
        f"The study's file {file} is damaged ({reason}), and nothing in it was changed. "
        f"Restore it from a backup, or rescue what is readable with: sqlite3 '{file}' .recover"
    )


def _primary_code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def explain(error: Exception, file: Path) -> StudyError:
    """Find the sentence for a way in which a database refuses."""
    match _primary_code(error):
        case sqlite3.SQLITE_FULL:
            return StudyError(
                f"The disk of {file.parent} is full: this change was not kept. Free some space."
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StudyError(f"Another program is writing to {file.parent}; wait a moment and try again.")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return damaged(file, str(error))
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return StudyError(
                f"The study {file.parent} cannot be written ({error}): this change was not kept."
            )
        case sqlite3.SQLITE_IOERR:
            return StudyError(f"The disk of {file.parent} failed or is full ({error}): nothing was changed.")
    if isinstance(error, UnicodeDecodeError) or "decode" in str(error):
        return damaged(file, "a text in it cannot be read")
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        return StudyError(f"The study {file.parent} has been closed; open it again.")
    return StudyError(f"The study {file.parent} could not be read or written: {error}.")
