"""What a study is made of: small frozen records, the columns of its tables, and the one error it raises."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
GIVEN, PREDICTED = "given", "predicted"  # in files: a label, and a prediction that nobody has reviewed
BACKGROUND = "background"
CELL, BLOCK, MASK = "cell", "block", "mask"  # kinds of classes; every other kind labels whole images
ORIGIN = "origin"  # the head that names where an image comes from; nothing is to be learnt from it
KEYS = tuple("1234567890")  # in the order that classes get them: ten bins have one each
BACKGROUND_KEY = "9"

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
IMAGE_CLASS_COLUMNS = [
    "image_id",
    "kind",
    "class",
    "source",
    "status",
    "confidence",
    "annotator",
    "time",
]
STATISTICS_COLUMNS = ["block_class", "mask_class", "mean", "spread", "source"]
PREDICTION_COLUMNS = ["id", "image_id", "run", "row", "col", "class", "confidence", "uncertainty"]

# Colours that stay apart on pink and purple stains, and for most colour-blind readers (Okabe and Ito, 2008).
# Okabe and Ito's, then Tol's: classes of different kinds need different ones, too.
PALETTE = (
    *("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#ffffff", "#00ffff"),
    *("#882255", "#44aa99", "#ddcc77", "#aa4499", "#88ccee", "#cc6677", "#117733", "#6f5fd0"),
)
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
        Where the file (or OME-Zarr folder) is now. Of an image at an address, only the name means anything.
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
    url : str or None
        Its address, if it is no file.
    """

    id: int
    path: Path
    checksum: str
    height: int
    width: int
    pixel_size_um: float | None
    group: str
    split: Split
    url: str | None = None

    @property
    def location(self) -> str:
        """Path or address: what opens it."""
        return self.url or str(self.path)

    @property
    def name(self) -> str:
        """File name, for messages and lists."""
        return self.path.name


@dataclass(frozen=True)
class CellClass:
    """A class of cells, or of another kind.

    Attributes
    ----------
    name : str
        Unique among the classes of its kind.
    colour : str
        ``#rrggbb``.
    key : {'1', ..., '9'} or None
        Unique among the classes of its kind.
    background : bool
        Whether it says that nothing is here.
    kind : str
        ``cell``, ``block``, ``mask``, or a head that labels whole images, as ``diagnosis``.
    code : int
        The value of its pixels in masks; never that of another class of the study, of whatever kind.
    note : str
        A description, for those who label.
    """

    name: str
    colour: str
    key: str | None
    background: bool
    kind: str = CELL
    code: int = field(default=0, compare=False)
    note: str = ""


@dataclass(frozen=True)
class Grid:
    """Blocks of equal size over an image.

    Attributes
    ----------
    height, width : float
        Of a block, level-0 pixels.
    row0, col0 : float
        Upper left corner of block (0, 0), in pixels from the upper left corner of the image: 0.0 is the edge
        of the first pixel, whose centre lies at 0.5. A pixel belongs to the block that its centre lies in.
    """

    height: float
    width: float
    row0: float = 0.0
    col0: float = 0.0

    def blocks_over(self, box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """Range of blocks, half open, that have pixels in a box (row0, col0, row1, col1) of pixels."""
        i0, j0 = self.block_of(box[0], box[1])
        i1, j1 = self.block_of(box[2] - 1, box[3] - 1)
        return int(i0), int(j0), int(i1) + 1, int(j1) + 1

    def block_of(self, row: Any, col: Any) -> tuple[Any, Any]:
        """Find the block (i, j) of pixels (row, col), numbers or arrays, pixel centres at integers."""
        i = np.floor((np.asarray(row, np.float64) + 0.5 - self.row0) / self.height).astype(np.int64)
        j = np.floor((np.asarray(col, np.float64) + 0.5 - self.col0) / self.width).astype(np.int64)
        return i, j

    def edges(self, i: int, j: int) -> tuple[float, float, float, float]:
        """Edges (row0, col0, row1, col1) of a block, in pixels from the image's upper left corner."""
        row, col = self.row0 + i * self.height, self.col0 + j * self.width
        return row, col, row + self.height, col + self.width


@dataclass(frozen=True)
class MaskState:
    """What is said about the pixels of an image.

    Attributes
    ----------
    painted : bool
        Whether any pixel has a class.
    complete : bool
        Whether the pixels without one are background; else nobody has said what they are.
    source : {'human', 'model'} or None
        Who painted: a person (also over a prediction), or the program alone. None if nothing is said.
    """

    painted: bool
    complete: bool
    source: Source | None


@dataclass(frozen=True)
class ImageProblem:
    """An image that is not where it was (`kind` ``moved``) or not what it was (``changed``).

    Of one at an address, ``moved`` also means that the server does not answer.
    """

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
