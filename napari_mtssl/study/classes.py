"""The classes of a study, with colours and keys."""

from __future__ import annotations

from typing import Any

from napari_mtssl.study.images import ImageTable
from napari_mtssl.study.records import (
    KEYS,
    PALETTE,
    CellClass,
    StudyError,
    check_choice,
    check_colour,
    plural,
)


class ClassTable(ImageTable):
    """Add, change and remove classes. A fresh study has the background alone."""

    def classes(self) -> list[CellClass]:
        """Classes: the background, then the others in the order they were added."""
        rows = self._rows("SELECT name, colour, key, background FROM classes ORDER BY background DESC, id")
        return [CellClass(name, colour, key, bool(background)) for name, colour, key, background in rows]

    def class_named(self, name: str) -> CellClass:
        """One class; upper and lower case are the same.

        Raises
        ------
        StudyError
            If the study has no such class.
        """
        for found in self.classes():
            if found.name.lower() == name.lower():
                return found
        known = ", ".join(c.name for c in self.classes())
        raise StudyError(f"The study '{self.name}' has no class '{name}'; it has: {known}.")

    def add_class(self, name: str, colour: str | None = None, key: str | None = None) -> CellClass:
        """Add a class.

        Parameters
        ----------
        name : str
        colour : str, optional
            ``#rrggbb``, by default the next of a palette that the colour-blind can read.
        key : {'1', ..., '9'}, optional
            By default the first that is free; None when all are taken.

        Raises
        ------
        StudyError
            If the name or the key is taken, or a value is not valid.
        """
        name = name.strip()
        self._check_name(name)
        classes = self.classes()
        if key is None:
            taken = {c.key for c in classes}
            key = next((k for k in KEYS if k not in taken), None)
        else:
            self._check_key(key)
        if colour is None:
            used = {c.colour for c in classes}
            colour = next((c for c in PALETTE if c not in used), PALETTE[len(classes) % len(PALETTE)])
        added = CellClass(name, check_colour(colour), key, False)
        with self.edit(f"Added the class {name}"):
            self._db.connection.execute(
                "INSERT INTO classes (name, colour, key, background) VALUES (?, ?, ?, 0)",
                (added.name, added.colour, added.key),
            )
        return added

    def update_class(
        self, name: str, *, new_name: str | None = None, colour: str | None = None, key: str | None = None
    ) -> CellClass:
        """Rename a class (its cells follow), or change its colour or key.

        Raises
        ------
        StudyError
            If there is no such class, the new name or key is taken, or the background is to be renamed.
        """
        old = self.class_named(name)
        values: dict[str, Any] = {}
        if new_name is not None and new_name.strip() != old.name:
            if old.background:
                raise StudyError(f"The class '{old.name}' keeps its name: methods know it by that.")
            self._check_name(new_name.strip(), besides=old.name)
            values["name"] = new_name.strip()
        if colour is not None:
            values["colour"] = check_colour(colour)
        if key is not None and key != old.key:
            self._check_key(key)
            values["key"] = key
        if values:
            sets = ", ".join(f"{column} = :{column}" for column in values)
            differs = " OR ".join(f"{column} IS NOT :{column} COLLATE BINARY" for column in values)
            with self.edit(f"Changed the class {old.name}"):
                sql = f"UPDATE classes SET {sets} WHERE name = :old AND ({differs})"
                self._db.connection.execute(sql, {**values, "old": old.name})
        return self.class_named(values.get("name", old.name))

    def remove_class(self, name: str) -> None:
        """Remove a class that no cell has; `undo` brings it back.

        Raises
        ------
        StudyError
            If there is no such class, cells have it, or it is the background.
        """
        old = self.class_named(name)
        if old.background:
            raise StudyError("The background class cannot be removed: every method needs one.")
        with self.edit(f"Removed the class {old.name}"):
            sql = "SELECT count(*) FROM cells WHERE class_id = (SELECT id FROM classes WHERE name = ?)"
            n = self._rows(sql, (old.name,))[0][0]
            if n:
                raise StudyError(
                    f"{plural(n, 'cell')} {'has' if n == 1 else 'have'} the class '{old.name}': "
                    "give them another class, or delete them first."
                )
            self._db.connection.execute("DELETE FROM classes WHERE name = ?", (old.name,))

    def _class_ids(self) -> dict[str, int]:
        return {name: class_id for class_id, name in self._class_names().items()}

    def _class_names(self) -> dict[int, str]:
        return dict(self._rows("SELECT id, name FROM classes ORDER BY background DESC, id"))

    def _check_name(self, name: str, besides: str | None = None) -> None:
        if not name:
            raise StudyError("A class needs a name.")
        for taken in self.classes():
            if taken.name.lower() == name.lower() and taken.name != besides:
                raise StudyError(f"There is a class '{taken.name}' already; choose another name.")

    def _check_key(self, key: str) -> None:
        check_choice(key, KEYS, "key")
        for taken in self.classes():
            if taken.key == key:
                raise StudyError(f"The key {key} belongs to the class '{taken.name}'; choose another.")
