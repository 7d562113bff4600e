"""What a study is made of: small frozen records, the columns of its tables, and the one error it raises."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

Split = Literal["train", "validation", "test"]
Source = Literal["human", "model"]
Status = Literal["accepted", "corrected", "rejected"]

SPLITS = ("train", "validation", "test")
SOURCES = ("human", "model")
STATUSES = ("accepted", "corrected", "rejected")
BACKGROUND = "background"
KEYS = tuple("123456789")

CELL_COLUMNS = [
    "id",
    "image_id",
    "row",
    "col",
    "class",
    "source",
    "status",
    "confidence",
    "annotator",
    "time",
]
PREDICTION_COLUMNS = ["id", "image_id", "run", "row", "col", "class", "confidence", "uncertainty"]

# Colours that stay apart on pink and purple stains, and for most colour-blind readers (Okabe and Ito, 2008).
PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#ffffff", "#00ffff")
BACKGROUND_COLOUR = "#999999"


class StudyError(ValueError):
    """The study cannot do what was asked; the message is one sentence that says what to change."""


@dataclass(frozen=True)
class ImageRecord:
    """An image that belongs to a study.

    Attributes
    ----------
    id : int
    path : Path
        Where the file (or OME-Zarr folder) is now.
    checksum : str
        Of its content when it was added, see `napari_mtssl.study.files.checksum`.
    height, width : int
        Level-0 pixels.
    pixel_size_um : float or None
        Micrometres per level-0 pixel, None if unknown.
    group : str
        What must stay together when images are split (a patient, a slide).
    split : str
        ``train``, ``validation`` or ``test``.
    """

    id: int
    path: Path
    checksum: str
    height: int
    width: int
    pixel_size_um: float | None
    group: str
    split: Split

    @property
    def name(self) -> str:
        """File name, for messages and lists."""
        return self.path.name


@dataclass(frozen=True)
class CellClass:
    """A class of cells: name, ``#rrggbb`` colour, key ``"1"`` to ``"9"`` or None; background or not."""

    name: str
    colour: str
    key: str | None
    background: bool


@dataclass(frozen=True)
class ImageProblem:
    """An image that is not where it was (`kind` ``moved``) or not what it was (``changed``)."""

    image: ImageRecord
    kind: Literal["moved", "changed"]
    message: str


@dataclass(frozen=True)
class Run:
    """One training run: the folder that holds its settings, weights and metrics."""

    name: str
    method: str
    path: Path
    created: pd.Timestamp


def check_choice(value: str, choices: Sequence[str], what: str) -> str:
    """Return `value` if it is one of `choices`.

    Raises
    ------
    StudyError
        If it is not.
    """
    if value not in choices:
        raise StudyError(f"'{value}' is no {what}. Choose one of: {', '.join(choices)}.")
    return value


def check_colour(colour: str) -> str:
    """Return a colour as lower-case ``#rrggbb``.

    Raises
    ------
    StudyError
        If it is not written so.
    """
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        raise StudyError(f"'{colour}' is no colour. Write it as #rrggbb, for example #e69f00.")
    return colour.lower()


def plural(n: int, noun: str) -> str:
    """Return ``1 cell``, ``2 cells``, ``3 classes``."""
    return f"{n:,} {noun}{'' if n == 1 else 'es' if noun.endswith('s') else 's'}"


def frame_of(rows: Sequence[Sequence[Any]], types: Mapping[str, Any]) -> pd.DataFrame:
    """Make a table of database rows, with the right types also when there are none.

    Parameters
    ----------
    rows : sequence of tuples
    types : mapping of column name to NumPy type, ``str``, or ``"time"`` (seconds since 1970, UTC)

    Returns
    -------
    DataFrame
        With a RangeIndex.
    """
    columns: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) or [()] * len(types)
    table: dict[str, Any] = {}
    for (name, kind), values in zip(types.items(), columns, strict=True):
        if kind == "time":
            table[name] = pd.to_datetime(np.array(values, dtype=np.float64), unit="s", utc=True).as_unit("us")
        elif kind is str:
            table[name] = pd.Series(values, dtype=str)
        else:
            table[name] = np.array(values, dtype=kind)  # None becomes NaN
    return pd.DataFrame(table)
