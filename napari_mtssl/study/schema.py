"""The tables of ``study.sqlite``, by version.

What people said is in the recorded tables: images, classes, cells, blocks, masks and so on. Triggers write
every change of these, old row and new row, to a log table of the same columns, under the edit that is being
made: whatever an edit does, its undo is known, in full precision, and in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from napari_mtssl.study.places import POINTS, tree_statements
from napari_mtssl.study.records import BACKGROUND, BACKGROUND_COLOUR

APPLICATION_ID = 0x6D74736C  # "mtsl", in the file's header: tells a study from any other SQLite file

Tables = Mapping[str, Mapping[str, str]]  # table to column name to type and constraint

# Version 1 as it was released. Studies on disk have these tables: never edit them.
_RECORDED_1: Tables = {
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
_PLAIN_1: Tables = {
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

_IMAGE = "INTEGER NOT NULL REFERENCES images(id) DEFERRABLE INITIALLY DEFERRED"
_CLASS = "INTEGER NOT NULL REFERENCES classes(id) DEFERRABLE INITIALLY DEFERRED"
_SOURCE = "TEXT NOT NULL CHECK (source IN ('human', 'model'))"
_WHO = {"annotator": "TEXT NOT NULL", "time": "REAL NOT NULL"}

# Version 2: classes have kinds, and beside cells there are blocks, regions, masks and image labels.
_CLASSES_2 = {
    "kind": "TEXT NOT NULL",
    "name": "TEXT NOT NULL COLLATE NOCASE",
    "colour": "TEXT NOT NULL",
    "key": "TEXT",
    "background": "INTEGER NOT NULL CHECK (background IN (0, 1))",
    "note": "TEXT NOT NULL",
}
# BLOBs come last: what is before them is then read without them.
_NEW_2: Tables = {
    "grids": {
        "image_id": _IMAGE,
        "height": "REAL NOT NULL CHECK (height > 0)",
        "width": "REAL NOT NULL CHECK (width > 0)",
        "row0": "REAL NOT NULL",
        "col0": "REAL NOT NULL",
    },
    "blocks": {
        "image_id": _IMAGE,
        "i": "INTEGER NOT NULL",
        "j": "INTEGER NOT NULL",
        "class_id": _CLASS,
        **_WHO,
    },
    "regions": {"image_id": _IMAGE, "class_id": _CLASS, **_WHO, "polygon": "BLOB NOT NULL"},
    "masks": {
        "image_id": _IMAGE,
        "complete": "INTEGER NOT NULL CHECK (complete IN (0, 1))",
        "source": _SOURCE,
        **_WHO,
    },
    "mask_tiles": {
        "image_id": _IMAGE,
        "i": "INTEGER NOT NULL",
        "j": "INTEGER NOT NULL",
        "data": "BLOB NOT NULL",
    },
    "image_labels": {
        "image_id": _IMAGE,
        "kind": "TEXT NOT NULL",
        "class_id": _CLASS,
        "source": _SOURCE,
        "status": "TEXT NOT NULL CHECK (status IN ('accepted', 'corrected'))",
        "confidence": "REAL",
        **_WHO,
    },
    "statistics": {
        "block_class_id": _CLASS,
        "mask_class_id": _CLASS,
        "mean": "REAL NOT NULL",
        "spread": "REAL NOT NULL",
        "source": "TEXT NOT NULL",
    },
}
_UNIQUE_2 = {
    "classes": ("kind, name", "kind, key"),
    "grids": ("image_id",),
    "blocks": ("image_id, i, j",),
    "masks": ("image_id",),
    "mask_tiles": ("image_id, i, j",),
    "image_labels": ("image_id, kind",),
    "statistics": ("block_class_id, mask_class_id",),
}
_IMAGE_PREDICTIONS_2 = {
    "id": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "image_id": "INTEGER NOT NULL",
    "run": "TEXT NOT NULL",
    "class_id": "INTEGER NOT NULL",
    "probability": "REAL NOT NULL",
}

# Tables whose every change can be undone, and those of the program, as they are now.
RECORDED: Tables = {**_RECORDED_1, "classes": _CLASSES_2, **_NEW_2}
_PLAIN: Tables = {**_PLAIN_1, "image_predictions": _IMAGE_PREDICTIONS_2}
_BY_VERSION: tuple[Tables, ...] = ({**_RECORDED_1, **_PLAIN_1}, {**RECORDED, **_PLAIN})

# Recorded tables that say something of images or of their parts.
LABELS = tuple(table for table in RECORDED if table not in ("images", "classes"))
# Recorded tables whose rows belong to an image, and go with it.
OF_IMAGES = tuple(table for table, spec in RECORDED.items() if "image_id" in spec)


def columns(table: str) -> list[str]:
    """Column names of a recorded table, `id` first."""
    return ["id", *RECORDED[table]]


def wrong_types(version: int) -> Iterator[tuple[str, str]]:
    """Name each table, with the query that finds its rows with a value of another type than the column's.

    SQLite lets any column hold any type; STRICT tables would not, but older systems' SQLite cannot read them.
    """
    for table, spec in _BY_VERSION[min(version, len(_BY_VERSION)) - 1].items():
        tests = [
            f"typeof({column}) NOT IN ('{kind.split()[0].lower()}', '{'' if 'NOT NULL' in kind else 'null'}')"
            for column, kind in spec.items()
        ]
        yield table, f"SELECT 1 FROM {table} WHERE {' OR '.join(tests)} LIMIT 1"


def _table(name: str, spec: Mapping[str, str]) -> str:
    return f"CREATE TABLE {name} ({', '.join(f'{column} {kind}' for column, kind in spec.items())})"


def _recorded(name: str, spec: Mapping[str, str]) -> Iterator[str]:
    """Statements that make one recorded table, its log, and the triggers that fill it."""
    spec = {"id": "INTEGER PRIMARY KEY AUTOINCREMENT", **spec}  # an id is never used again
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
    for name, spec in _PLAIN_1.items():
        yield _table(name, spec)
    for name, spec in _RECORDED_1.items():
        yield from _recorded(name, spec)
    for table, column in (("cells", "image_id"), ("cells", "class_id"), ("predictions", "image_id")):
        yield f"CREATE INDEX {table}_{column} ON {table} ({column})"
    yield "INSERT INTO state VALUES (0, NULL)"
    yield (
        "INSERT INTO classes (name, colour, key, background) "
        f"VALUES ('{BACKGROUND}', '{BACKGROUND_COLOUR}', '9', 1)"
    )


def _version_2() -> Iterator[str]:
    yield from _classes_with_kinds()
    for name, spec in _NEW_2.items():
        yield from _recorded(name, spec)
    for name, uniques in _UNIQUE_2.items():
        for n, among in enumerate(uniques):
            yield f"CREATE UNIQUE INDEX {name}_unique_{n} ON {name} ({among})"
    for table, column in (("blocks", "class_id"), ("regions", "image_id"), ("image_labels", "class_id")):
        yield f"CREATE INDEX {table}_{column} ON {table} ({column})"
    yield _table("image_predictions", _IMAGE_PREDICTIONS_2)
    yield "CREATE INDEX image_predictions_image_id ON image_predictions (image_id)"
    # Every edit asks which edits are undone: without this, it would read them all.
    yield "CREATE INDEX edits_undone ON edits (id) WHERE undone"


def _classes_with_kinds() -> Iterator[str]:
    """Make the table of classes, and its log, anew: SQLite cannot take a constraint off a column."""
    old = ["id", *_RECORDED_1["classes"]]
    for table in ("classes", "log_classes"):
        yield f"CREATE TABLE {table}_1 AS SELECT * FROM {table}"
    # An id is never used again, not even that of a class that was removed.
    yield "CREATE TABLE sequence_1 AS SELECT seq FROM sqlite_sequence WHERE name = 'classes'"
    for table in ("classes", "log_classes"):
        yield f"DROP TABLE {table}"
    yield from _recorded("classes", _CLASSES_2)
    yield (
        f"INSERT INTO classes ({', '.join(old)}, kind, note) "
        f"SELECT {', '.join(old)}, 'cell', '' FROM classes_1"
    )
    yield "UPDATE sqlite_sequence SET seq = (SELECT seq FROM sequence_1) WHERE name = 'classes'"
    logged = ["n", "edit_id", "row_id", *(f"{side}_{column}" for side in ("old", "new") for column in old)]
    added = ", ".join(f"{side}_kind, {side}_note" for side in ("old", "new"))
    values = ", ".join(
        f"CASE WHEN {side}_id IS NULL THEN NULL ELSE {value} END"
        for side in ("old", "new")
        for value in ("'cell'", "''")
    )
    yield (
        f"INSERT INTO log_classes ({', '.join(logged)}, {added}) "
        f"SELECT {', '.join(logged)}, {values} FROM log_classes_1"
    )
    for table in ("classes_1", "log_classes_1", "sequence_1"):
        yield f"DROP TABLE {table}"


def _version_3() -> Iterator[str]:
    """Give cells and predictions an R-tree: a slide has a million of them, of which a few are in view."""
    for table in POINTS:
        yield from tree_statements(table)


# Statements that lead from version i to i + 1. A released one is never edited: add another.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    tuple(_version_1()),
    tuple(_version_2()),
    tuple(_version_3()),
)
