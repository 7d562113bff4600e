"""Tables of labels: read as text, checked column by column, with one sentence for what is wrong."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from napari_mtssl.study.files import read_text
from napari_mtssl.study.records import StudyError
from napari_mtssl.study.study import Study

# Columns that a reader takes if they are there.
_READ = (
    *("class", "colour", "confidence", "group", "label", "origin", "probability", "source", "split"),
    "status",
)


def read_table(
    path: Path,
    columns: Sequence[str],
    noun: str,
    *,
    filled: bool = True,
    others: Mapping[str, Sequence[str]] | None = None,
    heads: bool = False,
) -> pd.DataFrame:
    """Read a table as text, so that nothing is rounded and a class may be called 'NA'.

    Parameters
    ----------
    path : Path
        Text in UTF-8; commas, semicolons, tabs or bars between the columns, whose names may be in capitals.
        A first line ``sep=;``, as spreadsheets write it, says which.
    columns : sequence of str
        Columns it must have.
    noun : str
        What its rows are, for messages: ``cells``.
    filled : bool
        Whether these columns must have a value in every row.
    others : mapping of str to sequence of str, optional
        Other names of a column, in lower case, which count where it is missing.
    heads : bool
        Whether any other column may say something, too, so that none may be there twice.

    Raises
    ------
    StudyError
        If it is no such table, a column is missing or there twice, or it has no rows.

    Returns
    -------
    DataFrame
        Of str; its index are the lines of the file. ``attrs["decimal"]`` is what may stand in numbers instead
        of a point.
    """
    table, separator = _parsed(path, columns, heads)
    table = _renamed(table, columns, others or {}).apply(lambda column: column.str.strip())
    missing = [c for c in columns if c not in table]
    if missing:
        raise StudyError(
            f"{path.name} needs the columns {','.join(columns)}; {', '.join(missing)} is missing "
            f"(it has: {', '.join(map(str, table.columns)) or 'none'})."
        )
    if table.empty:
        raise StudyError(f"{path.name} has no {noun}: there is nothing below its first line.")
    wanted = table[list(columns)]
    blank = wanted.isna() | (wanted == "")
    if filled and blank.any(axis=None):
        row, column = np.argwhere(blank.to_numpy())[0]
        raise StudyError(f"{path.name}, line {table.index[row]}: the column {columns[column]} is empty.")
    table = table.fillna("")
    table.attrs["decimal"] = "." if separator == "," else ","
    return table


def columns_of(path: Path) -> set[str]:
    """Names of a table's columns, in lower case; of a file that is none, what its first line says."""
    first = read_text(path).lstrip("\r\n").partition("\n")[0]
    return {name.strip().strip('"').lower() for name in re.split("[,;\t|]", first)}


def _parsed(path: Path, columns: Sequence[str], heads: bool) -> tuple[pd.DataFrame, str]:
    """Take a file apart; its columns as they are called there, and what stands between them."""
    text = read_text(path)
    whole, text = text.count("\n"), text.lstrip("\r\n")
    first, _, rest = text.partition("\n")
    said = re.fullmatch(r"sep=(.)\s*", first, re.IGNORECASE)
    if said:
        separator, text = said[1], rest
    else:
        separator = max(",;\t|", key=first.count)
    try:
        # blank lines are read and left out below, so that the others keep their numbers
        table = pd.read_csv(
            io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, skip_blank_lines=False
        )
        top = text.partition("\n")[0]
        names = pd.read_csv(io.StringIO(top), sep=separator, dtype=str, header=None).iloc[0]
    except pd.errors.EmptyDataError as error:
        raise StudyError(f"{path.name} is empty; it needs the columns {','.join(columns)}.") from error
    except pd.errors.ParserError as error:
        raise StudyError(f"{path.name} is no table: {str(error).strip()}.") from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus values for names of rows
        raise StudyError(f"{path.name} is no table: its rows hold more values than its first line has names.")
    # pandas gives the second of two names a number, and what it says would be lost
    often = Counter(names.dropna().str.strip().str.lower())
    twice = next((n for n in often if often[n] > 1 and (heads or n in (*columns, *_READ))), None)
    if twice is not None:
        raise StudyError(
            f"{path.name} has {often[twice]} columns called {twice}: keep the one that is meant."
        )
    table.columns = table.columns.str.strip()
    table.index += whole - text.count("\n") + 2
    return table[~table.fillna("").eq("").all(axis=1)], separator


def _renamed(
    table: pd.DataFrame, columns: Sequence[str], others: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Give columns the names that are looked for, where they have them in capitals or another one."""
    lower = {str(c): str(c).lower() for c in table if str(c).lower() in (*columns, *_READ)}
    table = table.rename(columns=lower)
    for column, names in others.items():
        found = [c for c in table if str(c).lower() in names]
        if column not in table and found:
            table = table.rename(columns={found[0]: column})
    return table


def floats(column: pd.Series, path: Path, decimal: str = ".") -> list[float]:
    """Read numbers to the last bit; an empty one is NaN.

    Parameters
    ----------
    column : Series of str
    path : Path
    decimal : str
        What may stand in a number instead of a point.

    Raises
    ------
    StudyError
        If one is no number.
    """
    out = []
    for line, text in column.items():
        try:
            out.append(float(text.replace(decimal, ".") or "nan"))
        except ValueError as error:
            raise StudyError(
                f"{path.name}, line {line}: '{text}' in the column {column.name} is no number."
            ) from error
    return out


def indices(column: pd.Series, path: Path) -> list[int]:
    """Read indices of blocks.

    Raises
    ------
    StudyError
        If one is no whole number.
    """
    out = []
    for line, value in zip(column.index, floats(column, path), strict=True):
        if not value.is_integer():
            raise StudyError(
                f"{path.name}, line {line}: {value:g} in the column {column.name} is no index of a block in "
                "its grid; in a table of blocks, row and col are whole numbers."
            )
        out.append(int(value))
    return out


def image_ids(study: Study, names: pd.Series, path: Path) -> pd.Series:
    """Find the images that a column names, with or without suffix or by path.

    Raises
    ------
    StudyError
        If the study has none of a name, or several.
    """
    found = {}
    for line, name in names.drop_duplicates().items():
        try:
            found[name] = study.find_image(name).id
        except StudyError as error:
            raise StudyError(f"{path.name}, line {line}: {error}") from error
    return names.map(found)


def image_names(study: Study) -> dict[int, str]:
    """Names of images by number: the file's, or its path or URL where two have the same."""
    images = study.images()
    often = Counter(image.name for image in images)
    return {image.id: image.name if often[image.name] == 1 else image.location for image in images}
