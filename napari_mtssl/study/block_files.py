"""Blocks and what their classes mean, as tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from napari_mtssl.study.files import written_whole
from napari_mtssl.study.merge import ImportReport, make_classes
from napari_mtssl.study.merge_labels import merge_blocks
from napari_mtssl.study.records import BLOCK, MASK, Grid, ImageRecord, StudyError
from napari_mtssl.study.study import Study
from napari_mtssl.study.tables import floats, image_ids, image_names, indices, read_table

BLOCK_COLUMNS = ["image", "row", "col", "class"]
_GRID_COLUMNS = ["height", "width", "row0", "col0"]


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
            "image_id": image_ids(study, table["image"], path),
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
            lay_grid(study, study.image(int(image_id)), own)
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
    study.check_no_image(path)
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


def lay_grid(study: Study, image: ImageRecord, grid: Grid | None) -> Grid:
    """Return the grid of an image; it is laid now if the image had none."""
    own = study.grid(image.id)
    if own is not None:
        return own
    if grid is None:
        raise StudyError(f"{image.name} has no grid: say how large its blocks are.")
    study.set_grid(image.id, grid)
    return grid


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
    study.check_no_image(path)
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
        bare = table[column].str.removesuffix("%").str.strip()
        numbers = floats(bare, path, table.attrs["decimal"])
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
