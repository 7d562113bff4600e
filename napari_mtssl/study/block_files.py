"""Blocks as tables, and coarse probability maps binned into classes of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from napari_mtssl.study.files import plane, read_array, written_whole
from napari_mtssl.study.merge import ImportReport, make_classes
from napari_mtssl.study.merge_labels import merge_blocks
from napari_mtssl.study.records import BLOCK, MASK, Grid, ImageRecord, StudyError
from napari_mtssl.study.study import Study
from napari_mtssl.study.tables import floats, image_ids, image_names, indices, read_table

BLOCK_COLUMNS = ["image", "row", "col", "class"]
_GRID_COLUMNS = ["height", "width", "row0", "col0"]
BIN_EDGES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
_FROM, _OVER, _TO = (44, 123, 182), (255, 255, 191), (215, 25, 28)  # blue, pale yellow, red


def import_blocks_csv(study: Study, path: Path | str, *, grid: Grid | None = None) -> ImportReport:
    """Import classes of blocks from a table with columns ``image,row,col,class``.

    Parameters
    ----------
    study : Study
    path : path
        As for cells (`import_csv`), but `row` and `col` are indices of blocks in the image's grid, counted
        from 0. Columns ``height,width,row0,col0``, if present, are the grid of an image that has none.
    grid : Grid, optional
        For images that have no grid, neither in the study nor in the file.

    Raises
    ------
    StudyError
        If a column is missing, an image unknown, an index unreadable or outside, or an image has no grid.
        Then nothing was imported.
    """
    path = Path(path)
    table = read_table(path, BLOCK_COLUMNS, "blocks")
    frame = pd.DataFrame(
        {
            "image_id": image_ids(study, table["image"]),
            "i": indices(table["row"], path),
            "j": indices(table["col"], path),
            "class": table["class"],
        }
    )
    said = all(column in table for column in _GRID_COLUMNS)
    with study.edit(f"Imported {path.name}"):
        for image_id, rows in frame.groupby("image_id", sort=False):
            own = grid
            if said:
                own = Grid(*(floats(table.loc[rows.index[:1], c], path)[0] for c in _GRID_COLUMNS))
            _lay_grid(study, study.image(int(image_id)), own)
        return merge_blocks(study, frame, f"Imported {path.name}")


def export_blocks_csv(study: Study, path: Path | str, *, details: bool = False) -> int:
    """Export all blocks as a table with columns ``image,row,col,class``, see `import_blocks_csv`.

    Parameters
    ----------
    study : Study
    path : path
        Replaced whole, or left as it was.
    details : bool
        Also write the grids: ``height,width,row0,col0``.

    Returns
    -------
    int
        How many blocks were written.

    Raises
    ------
    StudyError
        If the file cannot be written.
    """
    columns = BLOCK_COLUMNS + (_GRID_COLUMNS if details else [])
    tables = [pd.DataFrame(columns=columns)]
    for image_id, name in image_names(study).items():
        grid = study.grid(image_id)
        if grid is not None:
            blocks = study.blocks(image_id).rename(columns={"i": "row", "j": "col"})
            tables.append(blocks.assign(image=name, **{c: getattr(grid, c) for c in _GRID_COLUMNS}))
    table = pd.concat(tables[1:] or tables)
    with written_whole(Path(path)) as stream:
        table[columns].to_csv(stream, index=False, lineterminator="\n")
    return len(table)


def import_probability_map(
    study: Study,
    source: np.ndarray | Path | str,
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
        0 to 255 or to 65535. A path to an image, ``.npy``, a Zarr array or OME-Zarr image, or a table with
        columns ``image,row,col,probability`` (row and col as in `import_blocks_csv`). NaN is no block.
    image_id : int, optional
        Needed unless it is a table.
    edges : sequence of float
        Of the bins, ascending from 0 to 1. Each bin is a class such as ``20-30 %``, or the study's own class
        of that range (``20-30``); a probability on an edge belongs to the bin above.
    grid : Grid, optional
        For images that have none; by default one block to an element of the map. A block has the mean
        probability of the elements whose centres lie in it, or if there are none, that of the element that
        its own centre lies in.

    Raises
    ------
    StudyError
        If these are no probabilities, the edges do not ascend, or a block is outside. Then nothing was
        imported.
    """
    names = _own_names(study, bin_names(edges))
    what = "a probability map"
    if isinstance(source, str | Path):
        what = Path(source).name
        if Path(source).suffix.lower() in {".csv", ".tsv", ".txt"}:
            return _import_table(study, Path(source), edges, grid)
        source = read_array(Path(source))
    if image_id is None:
        raise StudyError(f"Say which image {what} belongs to.")
    image = study.image(image_id)
    values = _probabilities(np.asarray(source), what)
    with study.edit(f"Imported {what}"):
        if study.grid(image.id) is None and grid is None:
            grid = Grid(image.height / values.shape[0], image.width / values.shape[1])
        laid = _lay_grid(study, image, grid)
        frame = _block_means(values, image, laid)
        frame["class"] = [names[n] for n in _bins(frame["probability"], edges)]
        return merge_blocks(study, frame, f"Imported {what}", colours=_ramp(names))


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


def _import_table(study: Study, path: Path, edges: Sequence[float], grid: Grid | None) -> ImportReport:
    names = _own_names(study, bin_names(edges))
    table = read_table(path, ["image", "row", "col", "probability"], "probabilities")
    probability = np.array(floats(table["probability"], path))
    if not ((probability >= 0) & (probability <= 1)).all():
        line = int(np.flatnonzero(~((probability >= 0) & (probability <= 1)))[0]) + 2
        raise StudyError(f"{path.name}, line {line}: a probability is a number from 0 to 1.")
    frame = pd.DataFrame(
        {
            "image_id": image_ids(study, table["image"]),
            "i": indices(table["row"], path),
            "j": indices(table["col"], path),
            "class": [names[n] for n in _bins(probability, edges)],
        }
    )
    with study.edit(f"Imported {path.name}"):
        for image_id in frame["image_id"].unique():
            _lay_grid(study, study.image(int(image_id)), grid)
        return merge_blocks(study, frame, f"Imported {path.name}", colours=_ramp(names))


def _lay_grid(study: Study, image: ImageRecord, grid: Grid | None) -> Grid:
    """Grid of an image, laid now if it had none."""
    own = study.grid(image.id)
    if own is not None:
        return own
    if grid is None:
        raise StudyError(f"{image.name} has no grid: say how large its blocks are.")
    study.set_grid(image.id, grid)
    return grid


def _probabilities(values: np.ndarray, what: str) -> np.ndarray:
    values = plane(values)
    if values.ndim != 2 or values.size == 0:
        raise StudyError(f"{what} has the shape {values.shape}; a map of probabilities has rows and columns.")
    if values.dtype == bool:
        return values.astype(np.float64)
    if np.issubdtype(values.dtype, np.unsignedinteger) and values.max() > 1:
        return values / np.iinfo(values.dtype).max
    values = values.astype(np.float64)
    known = values[~np.isnan(values)]
    if known.size == 0 or known.min() < 0 or known.max() > 1:
        low, high = (known.min(), known.max()) if known.size else (np.nan, np.nan)
        raise StudyError(f"{what} has values from {low:g} to {high:g}; probabilities are from 0 to 1.")
    return values


def _block_means(values: np.ndarray, image: ImageRecord, grid: Grid) -> pd.DataFrame:
    """Mean of a map that covers an image in each block: columns ``image_id, i, j, probability``."""
    h, w = values.shape
    rows = (np.arange(h) + 0.5) * image.height / h - 0.5
    cols = (np.arange(w) + 0.5) * image.width / w - 0.5
    i, j = grid.block_of(rows, cols)
    i0, j0, i1, j1 = grid.blocks_over((0, 0, image.height, image.width))
    flat = ((i - i0)[:, None] * (j1 - j0) + (j - j0)[None, :]).ravel()
    inside = ((i >= i0) & (i < i1))[:, None] & ((j >= j0) & (j < j1))[None, :]
    known = inside.ravel() & ~np.isnan(values.ravel())
    shape = (i1 - i0, j1 - j0)
    n = np.bincount(flat[known], minlength=shape[0] * shape[1]).reshape(shape)
    total = np.bincount(flat[known], values.ravel()[known], minlength=n.size).reshape(shape)
    # Where blocks are smaller than elements: the element that the middle of a block lies in.
    down = (grid.row0 + (np.arange(i0, i1) + 0.5) * grid.height) * h / image.height
    right = (grid.col0 + (np.arange(j0, j1) + 0.5) * grid.width) * w / image.width
    at = np.ix_(*(np.clip(a.astype(int), 0, size - 1) for a, size in ((down, h), (right, w))))
    probability = np.where(n > 0, total / np.maximum(n, 1), values[at])
    i, j = np.nonzero(~np.isnan(probability))
    return pd.DataFrame(
        {
            "image_id": image.id,
            "i": i + i0,
            "j": j + j0,
            "probability": np.clip(probability[i, j], 0, 1),
        }
    )


def _bins(probability: np.ndarray | pd.Series, edges: Sequence[float]) -> list[int]:
    values = np.asarray(probability, np.float64)
    return np.minimum(np.searchsorted(edges, values, side="right") - 1, len(edges) - 2).tolist()


def _ramp(names: Sequence[str]) -> dict[str, str]:
    """Colours from blue over pale yellow to red."""
    at = np.linspace(0, 1, len(names)) if len(names) > 1 else np.array([1.0])
    stops = np.array([_FROM, _OVER, _TO], float).T
    channels = np.rint([np.interp(at, [0, 0.5, 1], stop) for stop in stops]).astype(int).T
    return {n: "#" + "".join(f"{v:02x}" for v in rgb) for n, rgb in zip(names, channels, strict=True)}


def export_statistics_csv(study: Study, path: Path | str) -> int:
    """Export the statistics as a table with columns ``block_class,mask_class,mean,spread,source``.

    Returns
    -------
    int
        How many rows were written.

    Raises
    ------
    StudyError
        If the file cannot be written.
    """
    table = study.statistics()
    with written_whole(Path(path)) as stream:
        table.to_csv(stream, index=False, lineterminator="\n")
    return len(table)


def import_statistics_csv(study: Study, path: Path | str) -> ImportReport:
    """Import statistics from a table with columns ``block_class,mask_class,mean,spread``.

    Parameters
    ----------
    study : Study
    path : path
        `mean` and `spread` are parts of one, or with a percent sign of a hundred. A column `source` is taken
        if present, else it is ``expert``. Rows that the table lacks stay as they are. A study that has no
        coarse or no exact class yet gets those of the table.

    Raises
    ------
    StudyError
        If a column is missing, a class is unknown, or a number not valid. Then nothing was imported.
    """
    path = Path(path)
    table = read_table(path, ["block_class", "mask_class", "mean", "spread"], "statistics")
    new = table[["block_class", "mask_class"]].copy()
    for column in ("mean", "spread"):
        percent = table[column].str.endswith("%")
        numbers = floats(table[column].str.removesuffix("%").str.strip(), path)
        new[column] = np.where(percent, np.array(numbers) / 100, numbers)
    new["source"] = table["source"].replace("", "expert") if "source" in table else "expert"
    pairs = ["block_class", "mask_class"]
    created: list[str] = []
    with study.edit(f"Imported {path.name}"):
        for column, kind in zip(pairs, (BLOCK, MASK), strict=True):
            if not study.classes(kind):  # the background of exact classes makes itself
                wanted = [name for name in new[column] if name.lower() != "background"]
                created += make_classes(study, wanted, {}, kind)[1]
            new[column] = [study.class_named(name, kind).name for name in new[column]]
        if new.duplicated(pairs).any():
            raise StudyError(f"{path.name} names a pair of a coarse and an exact class twice.")
        old = study.statistics()
        study.set_statistics(pd.concat([old, new]).drop_duplicates(pairs, keep="last"))
    merged = new.merge(old, on=pairs, how="left", suffixes=("", "_old"))
    known = merged["mean_old"].notna()
    same = known & (merged["mean"] == merged["mean_old"]) & (merged["spread"] == merged["spread_old"])
    counts = int((~known).sum()), int(same.sum()), int((known & ~same).sum())
    return ImportReport(*counts, classes_created=tuple(created), noun="statistic")
