"""Cells as a table, both ways; with what is predicted, if asked for, and never mistaken for a label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from napari_mtssl.study.files import written_whole
from napari_mtssl.study.merge import ImportReport, merge_cells, only_predictions
from napari_mtssl.study.records import GIVEN, PREDICTED, StudyError
from napari_mtssl.study.study import Study
from napari_mtssl.study.tables import floats, image_ids, image_names, read_table

CSV_COLUMNS = ["image", "row", "col", "class"]
LABEL, PROBABILITY = "label", "probability"  # columns of a table with predictions
_DETAILS = ["source", "status", "confidence"]


def import_csv(study: Study, path: Path | str, *, predictions: bool = False) -> ImportReport:
    """Import cells from a table with columns ``image,row,col,class``.

    Parameters
    ----------
    study : Study
    path : path
        Text in UTF-8; commas, semicolons, tabs or bars between the columns, and where these are no commas,
        decimal commas in numbers. `image` is the name of an image of the
        study, with or without suffix, or its path. Columns ``source, status, confidence`` are taken if
        present, others ignored. Rows whose `label` or `status` is ``predicted`` are predictions that nobody
        reviewed.
    predictions : bool
        Take these as labels, too; else they are left out, and the report says how many.

    Raises
    ------
    StudyError
        If a column is missing, an image unknown, a number unreadable, a place outside its image, there are no
        rows, or only predictions that are left out. Then nothing was imported.
    """
    path = Path(path)
    table = read_table(path, CSV_COLUMNS, "cells")
    said = [table[column].str.lower() == PREDICTED for column in (LABEL, "status") if column in table]
    guessed = pd.concat(said, axis=1).any(axis=1) if said else pd.Series(False, index=table.index)
    left_out = 0 if predictions else int(guessed.sum())
    if left_out == len(table):
        raise only_predictions(path, left_out)
    frame = table[["row", "col", "class", *(c for c in _DETAILS if c in table)]].copy()
    for column in ("row", "col", "confidence"):
        if column in frame:
            frame[column] = floats(table[column], path, table.attrs["decimal"])
    frame["image_id"] = image_ids(study, table["image"], path)
    outside = study.outside(*(frame[column].to_numpy() for column in ("image_id", "row", "col")))
    if outside is not None:
        raise StudyError(f"{path.name}, line {frame.index[outside[0]]}: {outside[1]}")
    if predictions and guessed.any():
        _as_labels(frame, guessed, table, path)
    elif left_out:
        frame = frame[~guessed]
    return merge_cells(study, frame, f"Imported {path.name}", skipped=left_out, predicted=left_out)


def _as_labels(frame: pd.DataFrame, guessed: pd.Series, table: pd.DataFrame, path: Path) -> None:
    """Have predictions say that they are the network's, and were taken."""
    for column, told in (("source", "human"), ("status", "accepted")):
        if column not in frame:
            frame[column] = told
    frame.loc[guessed, "source"], frame.loc[guessed, "status"] = "model", "accepted"
    if PROBABILITY in table and "confidence" not in frame:
        frame["confidence"] = floats(table[PROBABILITY], path, table.attrs["decimal"])


def export_csv(study: Study, path: Path | str, *, details: bool = False, predictions: bool = False) -> int:
    """Export all cells as a table with columns ``image,row,col,class``.

    Parameters
    ----------
    study : Study
    path : path
    details : bool
        Also write ``source, status, confidence, annotator, time``.
    predictions : bool
        Also write the predictions of all images that nobody has reviewed, and of every row ``label``, which
        is ``given`` or ``predicted``, and ``probability``: how sure the network was of the class, if it named
        it. Coming back in, predictions are no labels.

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
    columns = CSV_COLUMNS + ([LABEL, PROBABILITY] if predictions else [])
    columns += [*_DETAILS, "annotator", "time"] if details else []
    names, count = image_names(study), 0
    with written_whole(Path(path)) as stream:
        for at, part in enumerate(_parts(study, predictions)):
            part = part.assign(image=part["image_id"].map(names)).reindex(columns=columns)
            part.to_csv(stream, index=False, lineterminator="\n", header=at == 0)
            count += len(part)
    return count


def _parts(study: Study, predictions: bool) -> Iterator[pd.DataFrame]:
    """All labels, then what is predicted in one image after the other."""
    cells = study.cells()
    # of a prediction that was corrected, how sure the network was of another class says nothing
    yield cells.assign(label=GIVEN, probability=cells["confidence"].where(cells["status"] == "accepted"))
    for image in study.images() if predictions else ():
        pending = study.pending_predictions(image.id)
        yield pending.assign(
            image_id=image.id,
            label=PREDICTED,
            probability=pending["confidence"],
            source="model",
            status=PREDICTED,
        )
