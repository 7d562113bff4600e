"""Bring cells from elsewhere into a study: nothing twice, nothing silently overwritten, one edit to undo."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from napari_mtssl.study.records import CELL, StudyError, plural
from napari_mtssl.study.study import Study

SAME_PLACE = 0.01  # pixels


@dataclass(frozen=True)
class ImportReport:
    """What an import did; as text, one sentence.

    Attributes
    ----------
    added : int
        New cells, points of the background included.
    unchanged : int
        Cells that the study had already: same image, same class, within 0.01 pixels; or twice in the file.
    changed : int
        Cells that the study had with another class; they have that of the file now.
    skipped : int
        Objects without a class, that are no places (lines), or predictions that nobody reviewed.
    classes_created : tuple of str
        Classes that the study did not have.
    noun : str
        What was imported, if not cells.
    background : int
        How many of the new cells are points of the background.
    predicted : int
        How many of what was left out are predictions that nobody reviewed.
    moved : int
        Images that were put into another group or split.
    strange : tuple of str
        Files of a folder that are of no image of the study.
    contradicted : int
        Cells at whose very place the file has one of another class, too.
    """

    added: int
    unchanged: int
    changed: int = 0
    skipped: int = 0
    classes_created: tuple[str, ...] = ()
    noun: str = "cell"
    background: int = 0
    predicted: int = 0
    moved: int = 0
    contradicted: int = 0
    strange: tuple[str, ...] = ()

    def __str__(self) -> str:
        points = plural(self.background, "background point") if self.background else ""
        counts = [plural(self.added - self.background, self.noun)] if self.added > self.background else []
        new = " and ".join([*counts, points] if points else counts) or plural(0, self.noun)
        parts = [f"{new} added", f"{self.unchanged:,} already there"]
        if self.changed:
            parts.append(f"{self.changed:,} given another class")
        if self.predicted:
            parts.append(f"{plural(self.predicted, 'prediction')} left out (nobody reviewed them)")
        if self.skipped > self.predicted:
            others = plural(self.skipped - self.predicted, "object")
            parts.append(f"{others} left out (no class or no place)")
        if self.contradicted:
            twice = plural(self.contradicted, self.noun)
            parts.append(f"{twice} where the file has one of another class, too (both kept)")
        if self.moved:
            parts.append(f"{plural(self.moved, 'image')} put into another group or split")
        if self.strange:
            more = ", ..." if len(self.strange) > 3 else ""
            named = ", ".join(self.strange[:3]) + more
            parts.append(f"{plural(len(self.strange), 'file')} of no image of the study ({named})")
        if self.classes_created:
            parts.append(f"new classes: {', '.join(self.classes_created)}")
        return ", ".join(parts) + "."


def only_predictions(path: Path, count: int) -> StudyError:
    """Make the error of a file in which nobody has said anything."""
    return StudyError(
        f"{path.name} has no labels, only {plural(count, 'prediction')} that nobody reviewed: review them in "
        "the study they are of, or import them with 'import --predictions', as if they were right."
    )


def merge_cells(
    study: Study,
    frame: pd.DataFrame,
    what: str,
    *,
    colours: Mapping[str, str] | None = None,
    skipped: int = 0,
    predicted: int = 0,
) -> ImportReport:
    """Add those cells that the study does not have, in one edit.

    A place within 0.01 pixels of a cell of the same image is that cell. If its class differs, the frame's is
    taken, and the report says how often.

    Parameters
    ----------
    study : Study
    frame : DataFrame
        As for `Study.add_cells`. Classes the study lacks are made; upper and lower case are the same.
    what : str
        For the edit log.
    colours : mapping of str to str, optional
        Class name to ``#rrggbb`` for classes that are made.
    skipped : int
        How many objects the reader left out, for the report.
    predicted : int
        How many of these are predictions.

    Raises
    ------
    StudyError
        If a place is outside its image, or the study cannot be written. Then nothing was imported.
    """
    frame = frame.reset_index(drop=True)
    with study.edit(what):
        names, created = make_classes(study, frame["class"], colours or {})
        frame["class"] = frame["class"].map(names)
        repeated = _repeated(frame)
        fresh = frame[~repeated].reset_index(drop=True)
        cells = study.cells()
        cells = cells[cells["image_id"].isin(fresh["image_id"])].reset_index(drop=True)
        same = _partners(fresh, cells, ["image_id", "class"])
        known = same >= 0
        # A cell that the file names with its own class is not also another one of the file's.
        others = cells.drop(index=same[known]).reset_index(drop=True)
        moved = _partners(fresh[~known].reset_index(drop=True), others, ["image_id"])
        differs = np.zeros(len(fresh), bool)
        differs[~known] = moved >= 0
        new_class = fresh["class"][differs].to_numpy()
        ids = others["id"].to_numpy()[moved[moved >= 0]]
        for name in np.unique(new_class):
            study.set_class(ids[new_class == name].tolist(), str(name))
        added = fresh[~known & ~differs]
        if len(added):
            study.add_cells(added)
    empty = [c.name for c in study.classes(CELL) if c.background]
    return ImportReport(
        added=len(added),
        background=int(added["class"].isin(empty).sum()),
        predicted=predicted,
        unchanged=int(known.sum() + repeated.sum()),
        changed=int(differs.sum()),
        skipped=skipped,
        classes_created=created,
        contradicted=_contradicted(fresh),
    )


def make_classes(
    study: Study, wanted: Iterable[str], colours: Mapping[str, str], kind: str = CELL
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Make the classes that the study lacks.

    Parameters
    ----------
    study : Study
    wanted : iterable of str
        Names in the file; upper and lower case are the same.
    colours : mapping of str to str
        Name to ``#rrggbb`` for classes that are made.
    kind : str

    Returns
    -------
    names : dict of str to str
        Name in the file to name in the study.
    created : tuple of str
        Classes that had to be made.
    """
    known = {c.name.lower(): c.name for c in study.classes(kind)}
    names, created = {}, []
    for name in dict.fromkeys(wanted):
        if name.strip().lower() not in known:
            made = study.add_class(name, colours.get(name), kind=kind).name
            known[made.lower()] = made
            created.append(made)
        names[name] = known[name.strip().lower()]
    return names, tuple(created)


def _repeated(frame: pd.DataFrame) -> np.ndarray:
    """Rows that say again, of the same image, place and class, what an earlier one said."""
    from scipy.spatial import cKDTree

    out = np.zeros(len(frame), bool)
    for rows in frame.groupby(["image_id", "class"]).indices.values():
        pairs = cKDTree(_places(frame, rows)).query_pairs(SAME_PLACE, output_type="ndarray")
        out[rows[pairs.max(axis=1)]] = True
    return out


def _contradicted(frame: pd.DataFrame) -> int:
    """How many rows have an earlier one of the same image and place, but another class."""
    from scipy.spatial import cKDTree

    count = 0
    for rows in frame.groupby("image_id").indices.values():
        pairs = cKDTree(_places(frame, rows)).query_pairs(SAME_PLACE, output_type="ndarray")
        count += len(np.unique(pairs.max(axis=1))) if len(pairs) else 0
    return count


def _partners(frame: pd.DataFrame, cells: pd.DataFrame, by: list[str]) -> np.ndarray:
    """For each row, find the cell at the same place with the same values of `by`; -1 if there is none.

    No cell is the partner of two rows.
    """
    from scipy.spatial import cKDTree

    out = np.full(len(frame), -1)
    groups = cells.groupby(by).indices
    for key, rows in frame.groupby(by).indices.items():
        if key not in groups:
            continue
        there = groups[key]
        distance, nearest = cKDTree(_places(cells, there)).query(
            _places(frame, rows), distance_upper_bound=SAME_PLACE
        )
        found = np.flatnonzero(np.isfinite(distance))
        _, first = np.unique(nearest[found], return_index=True)
        found = found[first]
        out[rows[found]] = there[nearest[found]]
    return out


def _places(frame: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
    places = frame[["row", "col"]].to_numpy(np.float64)[rows]
    if not np.isfinite(places).all():
        raise StudyError("A row or column is missing or infinite.")
    return places
