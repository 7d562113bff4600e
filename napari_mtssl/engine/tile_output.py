"""What is kept of a tile of a slide, in a form that travels well: numbers whose names both ends know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from napari_mtssl.methods.prediction import CELLS

# A cell as it travels and as its table in the store has it; a class is its place in the method's vocabulary.
CELL = np.dtype([(name, np.int32 if name == "class" else np.float64) for name in CELLS])


@dataclass(frozen=True)
class TileOutput:
    """What is kept of a tile: small enough to come from another computer.

    Attributes
    ----------
    cells : ndarray of CELL (n,)
        ``row, col, class, confidence, uncertainty`` in level-0 pixels of the file; see `packed`.
    mask : ndarray of uint8 (h, w), or None
        1 + the place of the most probable class in the method's vocabulary; 0 is what nobody predicted.
    pictures : dict of str to ndarray of float16 (h, w)
    seconds : float
        What it took.
    """

    cells: np.ndarray
    mask: np.ndarray | None
    pictures: dict[str, np.ndarray]
    seconds: float


def packed(cells: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Make an array of `CELL` of a prediction's cells: a tenth of a table's cost to send and to keep."""
    table = np.empty(len(cells), CELL)
    place = {name: i for i, name in enumerate(classes)}
    for name in CELLS:
        values = cells[name].to_numpy()
        table[name] = [place[value] for value in values] if name == "class" else values
    return table


def unpacked(table: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Inverse of `packed`."""
    names = np.array(classes, dtype=object)
    return pd.DataFrame({name: names[table[name]] if name == "class" else table[name] for name in CELLS})
