"""Tables beside masks: what their values mean, and which masks nobody has reviewed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from napari_mtssl.study.files import written_whole
from napari_mtssl.study.records import PREDICTED, CellClass, StudyError, check_colour
from napari_mtssl.study.tables import columns_of, floats, read_table

CLASSES_FILE = "classes.csv"
MASKS_FILE = "masks.csv"


def check_ours(folder: Path) -> None:
    """See that tables beside masks, which would be replaced, are such tables.

    Raises
    ------
    StudyError
    """
    for name, columns in ((CLASSES_FILE, {"value", "class"}), (MASKS_FILE, {"file", "label"})):
        if (folder / name).exists() and not columns <= columns_of(folder / name):
            raise StudyError(
                f"There is another table {folder / name}, which would be replaced: choose another folder. "
                "Nothing was written."
            )


def write_classes(folder: Path, classes: Mapping[int, CellClass], unsaid: int) -> None:
    """Write which value is which class, and the value that says nothing."""
    rows = [(value, c.name, c.colour) for value, c in classes.items()]
    table = pd.DataFrame([*rows, (unsaid, "", "")], columns=["value", "class", "colour"])
    _write(table, folder / CLASSES_FILE)


def read_classes(path: Path) -> tuple[dict[int, str], dict[str, str], int | None]:
    """Class of each value, colour of each class, and the value that says nothing.

    Raises
    ------
    StudyError
        If there is no such table.
    """
    if not path.exists():
        raise StudyError(
            f"There is no {path.name} in {path.parent} to say which value is which class: add one with the "
            "columns value,class, or say the class."
        )
    table = read_table(path, ["value", "class"], "classes", filled=False)
    values = [int(value) for value in floats(table["value"], path)]
    twice = next((v for v in values if values.count(v) > 1), None)
    if twice is not None:
        raise StudyError(f"{path} gives the value {twice} twice: keep one class of it.")
    classes = {v: name for v, name in zip(values, table["class"], strict=True) if name}
    unsaid = next((v for v, name in zip(values, table["class"], strict=True) if not name), None)
    colours = {}
    if "colour" in table:
        pairs = zip(table["class"], table["colour"], strict=True)
        colours = {name: check_colour(colour) for name, colour in pairs if name and colour}
    return classes, colours, unsaid


def note_masks(folder: Path, said: Mapping[str, str]) -> None:
    """Keep beside masks which of them are labels, once one is not.

    Parameters
    ----------
    folder : Path
    said : mapping of str to str
        ``given`` or ``predicted`` of each file that was written; of others the table keeps what it says.

    Raises
    ------
    StudyError
        If the table cannot be read or written.
    """
    path = folder / MASKS_FILE
    known = {name: label for name, label in _noted(folder).items() if (folder / name).exists()} | dict(said)
    if path.exists() or PREDICTED in known.values():
        _write(pd.DataFrame(list(known.items()), columns=["file", "label"]), path)


def predicted_in(folder: Path) -> set[str]:
    """Names of the masks in a folder that hold predictions nobody has reviewed, as the table there says.

    A table of that name with other columns is somebody else's, and says nothing.
    """
    path = folder / MASKS_FILE
    if not path.exists() or not {"file", "label"} <= columns_of(path):
        return set()
    return {name for name, label in _noted(folder).items() if label == PREDICTED}


def _noted(folder: Path) -> dict[str, str]:
    """Read what is said of each file."""
    if not (folder / MASKS_FILE).exists():
        return {}
    table = read_table(folder / MASKS_FILE, ["file", "label"], "masks")
    return dict(zip(table["file"], table["label"].str.lower(), strict=True))


def _write(table: pd.DataFrame, path: Path) -> None:
    with written_whole(path) as stream:
        table.to_csv(stream, index=False, lineterminator="\n")
