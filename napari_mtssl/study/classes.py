"""The classes of a study, by kind, with colours and keys."""

from __future__ import annotations

import re
from typing import Any

from napari_mtssl.study.images import ImageTable
from napari_mtssl.study.records import (
    BACKGROUND,
    BACKGROUND_COLOUR,
    BACKGROUND_KEY,
    BLOCK,
    CELL,
    IMAGE_CLASS_COLUMNS,
    KEYS,
    MASK,
    PALETTE,
    CellClass,
    StudyError,
    check_choice,
    check_colour,
    plural,
)
from napari_mtssl.study.tiles import packed, unpacked

LONGEST_NAME = 100  # characters
_NO_HEADS = {"image", "group", "split", "path", *IMAGE_CLASS_COLUMNS}  # names of columns in tables of labels


class ClassTable(ImageTable):
    """Add, change and remove classes. A fresh study has the background of the cells alone."""

    def classes(self, kind: str | None = CELL) -> list[CellClass]:
        """Classes: the background, then the others in the order they were added.

        Parameters
        ----------
        kind : str or None
            ``cell``, ``block``, ``mask``, a head of whole images (as ``diagnosis``), or None for all.
        """
        rows = self._rows(
            "SELECT name, colour, key, background, kind, id, note FROM classes WHERE kind = ? OR ? IS NULL "
            "ORDER BY background DESC, id",
            (kind, kind),
        )
        return [CellClass(name, colour, key, bool(back), *rest) for name, colour, key, back, *rest in rows]

    def kinds(self) -> list[str]:
        """Kinds that have classes: cell, block, mask, then heads of whole images as they were added."""
        found = [kind for (kind,) in self._rows("SELECT kind FROM classes GROUP BY kind ORDER BY min(id)")]
        first = [kind for kind in (CELL, BLOCK, MASK) if kind in found]
        return first + [kind for kind in found if kind not in first]

    def class_named(self, name: str, kind: str = CELL) -> CellClass:
        """One class; upper and lower case are the same.

        Raises
        ------
        StudyError
            If the study has no such class.
        """
        classes = self.classes(kind)
        for found in classes:
            if found.name.lower() == name.lower():
                return found
        raise StudyError(self._no_class(name, kind, [c.name for c in classes]))

    def class_now(self, name: str, kind: str = CELL) -> str | None:
        """How a class is called today that had a name once, as a network may know it.

        A class that has the name today is meant before one that had it earlier.

        Returns
        -------
        str or None
            None if there is no such class any more, or never was.
        """
        for found in self.classes(kind):
            if found.name.lower() == name.lower():
                return found.name
        sql = (
            "SELECT classes.name FROM log_classes JOIN classes ON classes.id = row_id "
            "WHERE lower(:name) IN (lower(old_name), lower(new_name)) AND kind = :kind "
            "ORDER BY n DESC LIMIT 1"
        )
        rows = self._rows(sql, {"name": name, "kind": kind})
        return str(rows[0][0]) if rows else None

    def add_class(
        self,
        name: str,
        colour: str | None = None,
        key: str | None = None,
        *,
        kind: str = CELL,
        note: str = "",
    ) -> CellClass:
        """Add a class. With the first one of the kind ``mask`` comes the background of masks.

        Parameters
        ----------
        name : str
        colour : str, optional
            ``#rrggbb``, by default the next of a palette that the colour-blind can read: one that no class
            of the study has, of any kind, while there is one.
        key : {'1', ..., '9', '0'}, optional
            By default the first that is free; None when all are taken.
        kind : str
            ``cell``, ``block``, ``mask``, or any other lower-case word: a head that labels whole images.
        note : str
            A description, for those who label.

        Raises
        ------
        StudyError
            If the name or the key is taken, or a value is not valid.
        """
        name = name.strip()
        check_kind(kind)
        self._check_name(name, kind)
        classes = self.classes(kind)
        with self.edit(f"Added the {'' if kind == CELL else f'{kind} '}class {name}"):
            background = kind == MASK and name.lower() == BACKGROUND
            if kind == MASK and not classes and not background:
                classes = [self._insert_class(BACKGROUND, BACKGROUND_COLOUR, BACKGROUND_KEY, True, kind, "")]
            if key is None:
                taken = {c.key for c in classes}
                key = BACKGROUND_KEY if background else next((k for k in KEYS if k not in taken), None)
            else:
                self._check_key(key, kind)
            if colour is None:
                colour = BACKGROUND_COLOUR if background else self._free_colour(classes)
            name = BACKGROUND if background else name
            return self._insert_class(name, check_colour(colour), key, background, kind, note.strip())

    def _free_colour(self, classes: list[CellClass]) -> str:
        """Colour that no class has; if all are taken, none of these `classes`; else any."""
        for others in (self.classes(None), classes):
            used = {c.colour.lower() for c in others}
            free = next((c for c in PALETTE if c not in used), None)
            if free is not None:
                return free
        return PALETTE[len(classes) % len(PALETTE)]

    def _insert_class(
        self, name: str, colour: str, key: str | None, background: bool, kind: str, note: str
    ) -> CellClass:
        code = self._db.connection.execute(
            "INSERT INTO classes (name, colour, key, background, kind, note) VALUES (?, ?, ?, ?, ?, ?)",
            (name, colour, key, background, kind, note),
        ).lastrowid
        assert code is not None
        return CellClass(name, colour, key, background, kind, code, note)

    def update_class(
        self,
        name: str,
        *,
        new_name: str | None = None,
        colour: str | None = None,
        key: str | None = None,
        note: str | None = None,
        kind: str = CELL,
    ) -> CellClass:
        """Rename a class (what has it follows), or change its colour, key or description.

        Raises
        ------
        StudyError
            If there is no such class, the new name or key is taken, or the background is to be renamed.
        """
        old = self.class_named(name, kind)
        values: dict[str, Any] = {}
        if new_name is not None and new_name.strip() != old.name:
            if old.background:
                raise StudyError(f"The class '{old.name}' keeps its name: methods know it by that.")
            self._check_name(new_name.strip(), kind, besides=old.name)
            values["name"] = new_name.strip()
        if colour is not None:
            values["colour"] = check_colour(colour)
        if key is not None and key != old.key:
            self._check_key(key, kind)
            values["key"] = key
        if note is not None:
            values["note"] = note.strip()
        if values:
            sets = ", ".join(f"{column} = :{column}" for column in values)
            differs = " OR ".join(f"{column} IS NOT :{column} COLLATE BINARY" for column in values)
            with self.edit(f"Changed the class {old.name}"):
                sql = f"UPDATE classes SET {sets} WHERE id = :old AND ({differs})"
                self._db.connection.execute(sql, {**values, "old": old.code})
        return self.class_named(values.get("name", old.name), kind)

    def remove_class(self, name: str, kind: str = CELL, *, into: str | None = None) -> None:
        """Remove a class; `undo` brings it back. Its statistics go with it.

        Parameters
        ----------
        name : str
        kind : str
        into : str, optional
            The class that everything which has the removed one gets: the two become one.

        Raises
        ------
        StudyError
            If there is no such class, it is the background, or, without `into`, a cell, block, region, pixel
            or image has it.
        """
        old = self.class_named(name, kind)
        if old.background:
            raise StudyError("The background class cannot be removed: every method needs one.")
        new = None if into is None else self.class_named(into, kind)
        if new == old:
            raise StudyError(f"The class '{old.name}' cannot become itself: choose another one.")
        what = f"Removed the class {old.name}" if new is None else f"Made {old.name} {new.name}"
        with self.edit(what):
            if new is None:
                for noun, n in self.class_uses(name, kind).items():
                    raise StudyError(
                        f"{plural(n, noun)} {'has' if n == 1 else 'have'} the class '{old.name}': "
                        "give them another class, or delete them first."
                    )
            else:
                self._give_all(old.code, new.code, kind)
            connection = self._db.connection
            connection.execute(
                "DELETE FROM statistics WHERE :id IN (block_class_id, mask_class_id)", {"id": old.code}
            )
            connection.execute("DELETE FROM classes WHERE id = ?", (old.code,))

    def class_uses(self, name: str, kind: str = CELL) -> dict[str, int]:
        """Count what has a class: cells, blocks, regions, images and pixels, those that there are.

        Returns
        -------
        dict of str to int
            By noun, as ``{"cell": 12}``.

        Raises
        ------
        StudyError
            If there is no such class.
        """
        code = self.class_named(name, kind).code
        uses = {
            noun: self._rows(f"SELECT count(*) FROM {table} WHERE class_id = ?", (code,))[0][0]
            for table, noun in _USES.items()
        }
        if kind == MASK:
            tiles = self._rows("SELECT data FROM mask_tiles")
            uses["pixel"] = sum(int((unpacked(data) == code).sum()) for (data,) in tiles)
        return {noun: n for noun, n in uses.items() if n}

    def _give_all(self, old: int, new: int, kind: str) -> None:
        """Give everything that has one class another one of its kind."""
        connection = self._db.connection
        for table in _USES:
            connection.execute(f"UPDATE {table} SET class_id = ? WHERE class_id = ?", (new, old))
        for row, data in self._rows("SELECT id, data FROM mask_tiles") if kind == MASK else ():
            tile = unpacked(data)
            if (tile == old).any():
                tile[tile == old] = new
                connection.execute("UPDATE mask_tiles SET data = ? WHERE id = ?", (packed(tile), row))

    def _class_ids(self, kind: str = CELL) -> dict[str, int]:
        return {found.name: found.code for found in self.classes(kind)}

    def _class_id(self, name: str, kind: str) -> int:
        """Find the id of a class by its exact name."""
        ids = self._class_ids(kind)
        if name not in ids:
            raise StudyError(f"{self._no_class(name, kind, list(ids))[:-1]}: add it.")
        return ids[name]

    def _no_class(self, name: str, kind: str, known: list[str]) -> str:
        what = "class" if kind == CELL else f"{kind} class"
        return f"The study '{self.name}' has no {what} '{name}'; it has: {', '.join(known) or 'none'}."

    def _check_name(self, name: str, kind: str, besides: str | None = None) -> None:
        if not name:
            raise StudyError("A class needs a name.")
        if len(name) > LONGEST_NAME or not name.isprintable():
            shown = "".join(c if c.isprintable() else "?" for c in name[:20])
            raise StudyError(
                f"'{shown}' is no name of a class: use one line of at most {LONGEST_NAME} characters."
            )
        for taken in self.classes(kind):
            if taken.name.lower() == name.lower() and taken.name != besides:
                raise StudyError(f"There is a class '{taken.name}' already; choose another name.")

    def _check_key(self, key: str, kind: str) -> None:
        check_choice(key, KEYS, "key")
        for taken in self.classes(kind):
            if taken.key == key:
                raise StudyError(f"The key {key} belongs to the class '{taken.name}'; choose another.")


_USES = {"cells": "cell", "blocks": "block", "regions": "region", "image_labels": "image"}


def check_kind(kind: str) -> str:
    """Return a kind of classes.

    Raises
    ------
    StudyError
        If it cannot name one.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", kind):
        raise StudyError(f"'{kind}' names no kind of class: use lower-case letters, digits, '-' and '_'.")
    if kind in _NO_HEADS:
        raise StudyError(f"'{kind}' cannot name a kind of class: a column of tables has this name.")
    return kind


def image_kind(kind: str) -> str:
    """Return a kind of classes that label whole images.

    Raises
    ------
    StudyError
        If it is none.
    """
    if check_kind(kind) in (CELL, BLOCK, MASK):
        raise StudyError(f"The {kind} classes are not for whole images: name a head, for example diagnosis.")
    return kind
