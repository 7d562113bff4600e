"""Coarse probability maps, binned into classes of blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from napari_mtssl.study.block_files import lay_grid
from napari_mtssl.study.files import plane, read_array
from napari_mtssl.study.merge import ImportReport, make_classes
from napari_mtssl.study.merge_labels import merge_blocks
from napari_mtssl.study.records import BLOCK, Grid, ImageRecord, StudyError
from napari_mtssl.study.study import Study
from napari_mtssl.study.tables import floats, image_ids, indices, read_table

BIN_EDGES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
TABLES = (".csv", ".tsv", ".txt")
USUAL_SIDE = 64.0  # pixels of a block, where a map does not say
_COLUMNS = ["image", "row", "col", "probability"]
_COARSE = 8  # pixels to an element of a map that was made of patches
_EXACT = 6  # decimals of a probability: one of 32 bits may lie on an edge, too
_BAND = 512  # rows of a map that are summed at once
_FROM, _OVER, _TO = (44, 123, 182), (255, 255, 191), (215, 25, 28)  # blue, pale yellow, red


@dataclass(frozen=True)
class ProbabilityMap:
    """A map that was read and found to be one; nothing of it is in a study yet.

    Attributes
    ----------
    name : str
    values : ndarray (h, w), or None
        As in the file; they cover one image.
    whole : float
        What a probability of one is there.
    table : DataFrame or None
        ``image_id, i, j, probability`` of blocks of any images, instead of values.
    """

    name: str
    values: np.ndarray | None
    whole: float = 1.0
    table: pd.DataFrame | None = None

    @property
    def said(self) -> str:
        """What it holds, in a sentence: what a user would see if it was taken for something else."""
        if self.table is not None:
            images, rows = self.table["image_id"].nunique(), self.table[["i", "j"]].max() + 1
            low, high = self.table["probability"].min(), self.table["probability"].max()
            return (
                f"{len(self.table):,} block{'' if len(self.table) == 1 else 's'} of {images} "
                f"image{'' if images == 1 else 's'}, rows to {rows['i'] - 1}, columns to {rows['j'] - 1}, "
                f"with {100 * low:.3g} to {100 * high:.3g} %."
            )
        assert self.values is not None
        low, high = (float(f(self.values)) for f in (np.nanmin, np.nanmax))
        of = f" ({low:g} to {high:g} of {self.whole:g})" if self.whole > 1 else ""
        height, width = self.values.shape
        share = f"{100 * low / self.whole:.3g} to {100 * high / self.whole:.3g} %"
        return f"{height} × {width} values of {share}{of}."

    def sides(self, image: ImageRecord) -> tuple[float, float]:
        """Size of the blocks that it most likely stands for: its elements, unless these are pixels.

        Patches seldom end where the image does. If squares of one whole number of pixels, counted with or
        without those that are cut off, are as many as the elements, it is that size.
        """
        if self.values is None or image.height / self.values.shape[0] < _COARSE:
            return USUAL_SIDE, USUAL_SIDE
        sizes, counts = (image.height, image.width), self.values.shape
        exact = sizes[0] / counts[0], sizes[1] / counts[1]
        if not any(side % 1 for side in exact):
            return exact
        low, high = min(exact) * 0.5, max(exact) * 2
        fitting = [
            side
            for side in range(math.ceil(low), int(high) + 1)
            if all(_fits(n, size, side) for n, size in zip(counts, sizes, strict=True))
        ]
        if not fitting:
            return exact
        side = float(max(fitting, key=lambda n: (n & -n, -n)))  # 64 rather than 63
        return side, side


def read_probabilities(study: Study, source: np.ndarray | Path | str) -> ProbabilityMap:
    """Read a map of probabilities and check that it is one; see `import_probability_map`.

    Raises
    ------
    StudyError
        If it cannot be read, or these are no probabilities, or a table names an unknown image.
    """
    if not isinstance(source, str | Path):
        return _checked(np.asarray(source), "a probability map")
    path = Path(source)
    if path.suffix.lower() in TABLES and not path.is_dir():
        return ProbabilityMap(path.name, None, table=_read_table(study, path))
    return _checked(read_array(path), path.name)


def import_probability_map(
    study: Study,
    source: np.ndarray | Path | str | ProbabilityMap,
    image_id: int | None = None,
    *,
    edges: Sequence[float] = BIN_EDGES,
    grid: Grid | None = None,
) -> ImportReport:
    """Import a coarse map of probabilities, binned into classes of blocks.

    Parameters
    ----------
    study : Study
    source : ndarray (h, w), or path
        Probabilities that cover the whole image at any resolution: numbers from 0 to 1, or whole numbers from
        0 to 255 or to 65535. A path to an image (grey, also if saved in colour), ``.npy``, a Zarr array or
        OME-Zarr image, or a table with columns ``image,row,col,probability`` (row and col as in
        `import_blocks_csv`; 0.8 or 80%). NaN is no block. Or what `read_probabilities` gave.
    image_id : int, optional
        Needed unless it is a table.
    edges : sequence of float
        Of the bins, ascending from 0 to 1. Each bin is a class such as ``20-30 %``, or the study's own class
        of that range (``20-30``); a probability on an edge belongs to the bin above. All are made, in order.
    grid : Grid, optional
        For images that have none; by default one block to an element of the map. A map of as many elements as
        the grid has blocks, with or without those that the edge of the image cuts off, has one for each.
        Else a block has the mean of the elements whose centres lie in it, or if there are none, that of the
        element that its own centre lies in.

    Raises
    ------
    StudyError
        If these are no probabilities, the edges do not ascend, or a block is outside. Then nothing was
        imported.
    """
    bins = bin_names(edges)
    found = source if isinstance(source, ProbabilityMap) else read_probabilities(study, source)
    names = _own_names(study, bins)
    what = f"Imported {found.name}"
    if found.table is None and image_id is None:
        raise StudyError(f"Say which image {found.name} belongs to.")
    with study.edit(what):
        if found.table is not None:
            frame = found.table
            for number in frame["image_id"].unique():
                lay_grid(study, study.image(int(number)), grid)
        else:
            assert image_id is not None and found.values is not None
            image = study.image(image_id)
            if study.grid(image.id) is None and grid is None:
                grid = Grid(image.height / found.values.shape[0], image.width / found.values.shape[1])
            frame = _block_means(found.values, found.whole, image, lay_grid(study, image, grid))
        created = make_classes(study, names, _ramp(names), BLOCK)[1]
        frame = frame.assign(**{"class": [names[n] for n in _bins(frame["probability"], edges)]})
        return replace(merge_blocks(study, frame, what), classes_created=created)


def bin_names(edges: Sequence[float]) -> list[str]:
    """Names of the classes between edges: ``0-20 %``, ``20-30 %``, ...

    Raises
    ------
    StudyError
        If the edges do not ascend from 0 to 1.
    """
    steps = np.diff(np.asarray(edges, np.float64))
    if len(edges) < 2 or edges[0] != 0 or edges[-1] != 1 or not (steps > 0).all():
        raise StudyError(f"Edges of bins ascend from 0 to 1, not {', '.join(f'{e:g}' for e in edges)}.")
    return [f"{100 * a:g}-{100 * b:g} %" for a, b in pairwise(edges)]


def _own_names(study: Study, names: list[str]) -> list[str]:
    """Names of bins as the study writes them, where it has them: with or without the sign of per cent."""
    own = {_bare(c.name): c.name for c in study.classes(BLOCK)}
    return [own.get(_bare(name), name) for name in names]


def _bare(name: str) -> str:
    return name.lower().replace("%", "").replace(" ", "")


def _read_table(study: Study, path: Path) -> pd.DataFrame:
    """Read ``image_id, i, j, probability``; rows whose probability is NaN are left out."""
    table = read_table(path, _COLUMNS, "probabilities")
    percent = table["probability"].str.endswith("%")
    bare = table["probability"].str.removesuffix("%").str.strip()
    probability = np.array(floats(bare, path, table.attrs["decimal"])) / np.where(percent, 100, 1)
    wrong = ~(((probability >= 0) & (probability <= 1)) | np.isnan(probability))
    if wrong.any():
        line = table.index[np.flatnonzero(wrong)[0]]
        raise StudyError(
            f"{path.name}, line {line}: a probability is a number from 0 to 1, or per cent with a %."
        )
    places = {"i": indices(table["row"], path), "j": indices(table["col"], path)}
    frame = pd.DataFrame(
        {"image_id": image_ids(study, table["image"], path), **places, "probability": probability}
    )
    twice = frame.duplicated(["image_id", "i", "j"])
    if twice.any():
        line = twice.idxmax()
        raise StudyError(
            f"{path.name}, line {line}: this block has a probability already; give each block one."
        )
    frame = frame[~np.isnan(probability)].reset_index(drop=True)
    if frame.empty:
        raise StudyError(f"{path.name} has no probabilities: all are NaN.")
    return frame


def _checked(values: np.ndarray, what: str) -> ProbabilityMap:
    """Check that values are probabilities, and find what one is."""
    values = plane(values)
    if values.ndim == 3 and values.shape[2] in (2, 3, 4) and values.dtype.kind in "bu":  # a picture
        colours = values[..., : 3 if values.shape[2] > 2 else 1]
        if (colours != colours[..., :1]).any():
            raise StudyError(
                f"{what} is a picture in colour; a map of probabilities has one number for each place: "
                "export it in grey, or as TIFF, .npy or Zarr."
            )
        values = colours[..., 0]
    if values.ndim != 2 or values.size == 0:
        raise StudyError(f"{what} has the shape {values.shape}; a map of probabilities has rows and columns.")
    if values.dtype.kind not in "biuf":
        raise StudyError(f"{what} holds no numbers; probabilities are from 0 to 1.")
    if values.dtype.kind == "u" and values.max() > 1:
        return ProbabilityMap(what, values, float(np.iinfo(values.dtype).max))
    known = ~np.isnan(values) if values.dtype.kind == "f" else None
    if known is not None and not known.any():
        raise StudyError(f"{what} has no values, all are NaN; probabilities are from 0 to 1.")
    low, high = (float(f(values)) for f in (np.nanmin, np.nanmax))
    if low < 0 or high > 1:
        hint = "; divide per cent by 100" if low >= 0 and 1 < high <= 100 else ""
        raise StudyError(f"{what} has values from {low:g} to {high:g}; probabilities are from 0 to 1{hint}.")
    return ProbabilityMap(what, values)


def _fits(n: int, size: float, side: float) -> bool:
    """Whether so many blocks are those along an image, with or without one that is cut off."""
    return n in (math.floor(size / side + 1e-9), math.ceil(size / side - 1e-9))


def _block_means(values: np.ndarray, whole: float, image: ImageRecord, grid: Grid) -> pd.DataFrame:
    """Mean of a map in each block: columns ``image_id, i, j, probability``."""
    h, w = values.shape
    i0, j0, i1, j1 = grid.blocks_over((0, 0, image.height, image.width))
    rows = (np.arange(h) + 0.5) * image.height / h - 0.5
    cols = (np.arange(w) + 0.5) * image.width / w - 0.5
    i, j = grid.block_of(rows, cols)
    # Where blocks are smaller than elements: the element that the middle of a block lies in.
    down = (grid.row0 + (np.arange(i0, i1) + 0.5) * grid.height) * h / image.height
    right = (grid.col0 + (np.arange(j0, j1) + 0.5) * grid.width) * w / image.width
    down, right = np.clip(down, 0, h - 1), np.clip(right, 0, w - 1)
    begins = (grid.row0, grid.col0) == (0, 0)
    if begins and _fits(h, image.height, grid.height) and _fits(w, image.width, grid.width):
        i, j = np.arange(h), np.arange(w)
        down, right = np.arange(i0, i1), np.arange(j0, j1)
    shape = (i1 - i0, j1 - j0)
    n, total = np.zeros(shape[0] * shape[1]), np.zeros(shape[0] * shape[1])
    across = (j >= j0) & (j < j1)
    for first in range(0, h, _BAND):
        band = values[first : first + _BAND].astype(np.float64) / whole
        there = i[first : first + _BAND]
        known = ((there >= i0) & (there < i1))[:, None] & across & ~np.isnan(band)
        flat = ((there - i0)[:, None] * shape[1] + (j - j0))[known]
        n += np.bincount(flat, minlength=n.size)
        total += np.bincount(flat, band[known], minlength=n.size)
    n, total = n.reshape(shape), total.reshape(shape)
    inside = ((down >= 0) & (down < h))[:, None] & ((right >= 0) & (right < w))
    places = (np.clip(a.astype(int), 0, size - 1) for a, size in ((down, h), (right, w)))
    near = np.where(inside, values[np.ix_(*places)].astype(np.float64) / whole, np.nan)
    probability = np.where(n > 0, total / np.maximum(n, 1), near)
    i, j = np.nonzero(~np.isnan(probability))
    share = np.clip(probability[i, j], 0, 1)
    return pd.DataFrame({"image_id": image.id, "i": i + i0, "j": j + j0, "probability": share})


def _bins(probability: np.ndarray | pd.Series, edges: Sequence[float]) -> list[int]:
    values = np.round(np.asarray(probability, np.float64), _EXACT)
    return np.minimum(
        np.searchsorted(np.round(edges, _EXACT), values, side="right") - 1, len(edges) - 2
    ).tolist()


def _ramp(names: Sequence[str]) -> dict[str, str]:
    """Colours from blue over pale yellow to red."""
    at = np.linspace(0, 1, len(names)) if len(names) > 1 else np.array([1.0])
    stops = np.array([_FROM, _OVER, _TO], float).T
    channels = np.rint([np.interp(at, [0, 0.5, 1], stop) for stop in stops]).astype(int).T
    return {n: "#" + "".join(f"{v:02x}" for v in rgb) for n, rgb in zip(names, channels, strict=True)}
