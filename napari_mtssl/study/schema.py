"""The tables of ``study.sqlite``, by version.

What people said is in ``images``, ``classes`` and ``cells``. Triggers write every change of these three, old
row and new row, to a log table of the same columns, under the edit that is being made: whatever an edit does,
its undo is known, in full precision, and in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from napari_mtssl.study.records import BACKGROUND, BACKGROUND_COLOUR

APPLICATION_ID = 0x6D74736C  # "mtsl", in the file's header: tells a study from any other SQLite file

# Tables whose every change can be undone: column name to type and constraint.
RECORDED: dict[str, dict[str, str]] = {
    "images": {
        "path": "TEXT NOT NULL UNIQUE",
        "relative": "TEXT",  # to the study's folder: finds images that moved together with the study
        "checksum": "TEXT NOT NULL",
        "bytes": "INTEGER NOT NULL",
        "modified": "INTEGER NOT NULL",  # nanoseconds
        "height": "INTEGER NOT NULL CHECK (height > 0)",
        "width": "INTEGER NOT NULL CHECK (width > 0)",
        "pixel_size_um": "REAL CHECK (pixel_size_um > 0)",
        "grp": "TEXT NOT NULL",
        "split": "TEXT NOT NULL CHECK (split IN ('train', 'validation', 'test'))",
    },
    "classes": {
        "name": "TEXT NOT NULL UNIQUE COLLATE NOCASE",
        "colour": "TEXT NOT NULL",
        "key": "TEXT UNIQUE",
        "background": "INTEGER NOT NULL CHECK (background IN (0, 1))",
    },
    "cells": {
        "image_id": "INTEGER NOT NULL REFERENCES images(id) DEFERRABLE INITIALLY DEFERRED",
        "row": "REAL NOT NULL",
        "col": "REAL NOT NULL",
        "class_id": "INTEGER NOT NULL REFERENCES classes(id) DEFERRABLE INITIALLY DEFERRED",
        "source": "TEXT NOT NULL CHECK (source IN ('human', 'model'))",
        "status": "TEXT NOT NULL CHECK (status IN ('accepted', 'corrected', 'rejected'))",
        "confidence": "REAL",
        "annotator": "TEXT NOT NULL",
        "time": "REAL NOT NULL",  # seconds since 1970
    },
}


# What is not recorded: the program's own, and the log itself.
_PLAIN: dict[str, dict[str, str]] = {
    # One row: how often what people said has changed, and the edit that is being made (NULL outside of one).
    "state": {"counter": "INTEGER NOT NULL", "edit_id": "INTEGER"},
    "edits": {
        "id": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "time": "REAL NOT NULL",
        "annotator": "TEXT NOT NULL",
        "what": "TEXT NOT NULL",
        "undone": "INTEGER NOT NULL DEFAULT 0 CHECK (undone IN (0, 1))",
    },
    # Images and classes are named without REFERENCES, so that removing one of these and undoing that brings
    # its predictions back.
    "predictions": {
        "id": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "image_id": "INTEGER NOT NULL",
        "run": "TEXT NOT NULL",
        "row": "REAL NOT NULL",
        "col": "REAL NOT NULL",
        "class_id": "INTEGER NOT NULL",
        "confidence": "REAL NOT NULL",
        "uncertainty": "REAL",
    },
}


def columns(table: str) -> list[str]:
    """Column names of a recorded table, `id` first."""
    return ["id", *RECORDED[table]]


def wrong_types() -> Iterator[tuple[str, str]]:
    """Name each table, with the query that finds its rows with a value of another type than the column's.

    SQLite lets any column hold any type; STRICT tables would not, but older systems' SQLite cannot read them.
    """
    for table, spec in (RECORDED | _PLAIN).items():
        tests = [
            f"typeof({column}) NOT IN ('{kind.split()[0].lower()}', '{'' if 'NOT NULL' in kind else 'null'}')"
            for column, kind in spec.items()
        ]
        yield table, f"SELECT 1 FROM {table} WHERE {' OR '.join(tests)} LIMIT 1"


def _table(name: str, spec: Mapping[str, str]) -> str:
    return f"CREATE TABLE {name} ({', '.join(f'{column} {kind}' for column, kind in spec.items())})"


def _recorded(name: str) -> Iterator[str]:
    """Statements that make one recorded table, its log, and the triggers that fill it."""
    spec = {"id": "INTEGER PRIMARY KEY AUTOINCREMENT", **RECORDED[name]}  # an id is never used again
    yield _table(name, spec)
    log = [f"{side}_{column} {kind.split()[0]}" for side in ("old", "new") for column, kind in spec.items()]
    yield (
        f"CREATE TABLE log_{name} (n INTEGER PRIMARY KEY, edit_id INTEGER NOT NULL, "
        f"row_id INTEGER NOT NULL, {', '.join(log)})"
    )
    yield f"CREATE INDEX log_{name}_edit ON log_{name} (edit_id)"
    for event, sides in {"insert": (None, "new"), "update": ("old", "new"), "delete": ("old", None)}.items():
        values = [f"{side}.{column}" if side else "NULL" for side in sides for column in spec]
        row = sides[1] or sides[0]
        yield (
            f"CREATE TRIGGER {name}_{event} AFTER {event.upper()} ON {name} "
            f"WHEN (SELECT edit_id FROM state) IS NOT NULL BEGIN INSERT INTO log_{name} "
            f"VALUES (NULL, (SELECT edit_id FROM state), {row}.id, {', '.join(values)}); END"
        )


def _version_1() -> Iterator[str]:
    yield f"PRAGMA application_id = {APPLICATION_ID}"
    for name, spec in _PLAIN.items():
        yield _table(name, spec)
    for name in RECORDED:
        yield from _recorded(name)
    for table, column in (("cells", "image_id"), ("cells", "class_id"), ("predictions", "image_id")):
        yield f"CREATE INDEX {table}_{column} ON {table} ({column})"
    yield "INSERT INTO state VALUES (0, NULL)"
    yield (
        "INSERT INTO classes (name, colour, key, background) "
        f"VALUES ('{BACKGROUND}', '{BACKGROUND_COLOUR}', '9', 1)"
    )


# Statements that lead from version i to i + 1. A released one is never edited: add another.
MIGRATIONS: tuple[tuple[str, ...], ...] = (tuple(_version_1()),)
