"""Bring blocks, regions, masks and classes of images into a study: nothing twice, one edit to undo."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from napari_mtssl.study.merge import ImportReport, make_classes
from napari_mtssl.study.records import BACKGROUND, BLOCK, MASK, MaskState, Source, StudyError
from napari_mtssl.study.study import Study

SAME_OUTLINE = 0.01  # pixels by which outlines of the same region may differ


def merge_blocks(
    study: Study,
    frame: pd.DataFrame,
    what: str,
    *,
    colours: Mapping[str, str] | None = None,
    skipped: int = 0,
) -> ImportReport:
    """Give blocks their class, in one edit. The images have their grids.

    Parameters
    ----------
    study : Study
    frame : DataFrame
        Columns ``image_id, i, j, class``. Classes the study lacks are made. Of two rows for one block, the
        last counts.
    what : str
        For the edit log.
    colours : mapping of str to str, optional
        Class name to ``#rrggbb`` for classes that are made.
    skipped : int
        How many objects the reader left out, for the report.

    Raises
    ------
    StudyError
        If a block is outside its image's grid, or the study cannot be written. Then nothing was imported.
    """
    added = changed = 0
    with study.edit(what):
        names, created = make_classes(study, frame["class"], colours or {}, BLOCK)
        for image_id, rows in frame.groupby("image_id", sort=False):
            places = zip(rows["i"].tolist(), rows["j"].tolist(), strict=True)
            wanted = dict(zip(places, rows["class"].map(names), strict=True))
            there = study.blocks(int(image_id))
            old = dict(zip(zip(there["i"], there["j"], strict=True), there["class"], strict=True))
            study.set_blocks(int(image_id), wanted)
            added += sum(place not in old for place in wanted)
            changed += sum(place in old and old[place] != name for place, name in wanted.items())
    return ImportReport(added, len(frame) - added - changed, changed, skipped, created, "block")


def merge_regions(
    study: Study,
    frame: pd.DataFrame,
    what: str,
    *,
    colours: Mapping[str, str] | None = None,
    skipped: int = 0,
) -> ImportReport:
    """Add those regions that the study does not have, in one edit.

    Parameters
    ----------
    study : Study
    frame : DataFrame
        Columns ``image_id, polygon, class``. A region whose outline is that of one of the study, within 0.01
        pixels, is that one; if its class differs, the frame's is taken.
    what : str
        For the edit log.
    colours : mapping of str to str, optional
    skipped : int

    Raises
    ------
    StudyError
        If a region is outside its image, or the study cannot be written. Then nothing was imported.
    """
    added = changed = 0
    with study.edit(what):
        names, created = make_classes(study, frame["class"], colours or {}, BLOCK)
        for image_id, rows in frame.groupby("image_id", sort=False):
            known = _Outlines(study.regions(int(image_id)))
            for polygon, name in zip(rows["polygon"], rows["class"].map(names), strict=True):
                same = known.find(polygon)
                if same is None:
                    known.add(study.add_region(int(image_id), polygon, name), polygon, name)
                    added += 1
                elif known.classes[same] != name:
                    study.set_region_class(same, name)
                    known.classes[same] = name
                    changed += 1
    return ImportReport(added, len(frame) - added - changed, changed, skipped, created, "region")


class _Outlines:
    """Regions of an image, found by their outline."""

    def __init__(self, regions: pd.DataFrame) -> None:
        self.classes: dict[int, str] = {}
        self._by_box: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}
        for number, polygon, name in regions.itertuples(index=False):
            self.add(number, polygon, name)

    def add(self, number: int, polygon: np.ndarray, name: str) -> None:
        self.classes[number] = name
        self._by_box.setdefault(_box(polygon), []).append((number, polygon))

    def find(self, polygon: np.ndarray) -> int | None:
        from napari_mtssl.study.polygons import shape_of

        wanted = None
        for number, other in self._by_box.get(_box(polygon), []):
            if np.array_equal(other, polygon):
                return number
            wanted = shape_of(polygon) if wanted is None else wanted
            between = wanted.symmetric_difference(shape_of(other)).area
            if between <= SAME_OUTLINE * max(wanted.length, 1):
                return number
        return None


def _box(polygon: np.ndarray) -> tuple[int, ...]:
    """Whole pixels about a polygon, which few regions share."""
    return tuple(np.rint([*polygon.min(axis=0), *polygon.max(axis=0)]).astype(int).tolist())


def merge_mask(
    study: Study,
    image_id: int,
    values: np.ndarray,
    classes: Mapping[int, str],
    what: str,
    *,
    unsaid: int | None = None,
    colours: Mapping[str, str] | None = None,
    source: Source = "human",
) -> ImportReport:
    """Paint a whole image by a label image, in one edit.

    Parameters
    ----------
    study : Study
    image_id : int
    values : ndarray of int (height, width)
    classes : mapping of int to str
        Class of each value. Classes the study lacks are made.
    what : str
        For the edit log.
    unsaid : int, optional
        The value of pixels of which nothing is said: they stay as they are. If no pixel has it, the mask is
        complete, and background is what is left.
    colours : mapping of str to str, optional
        Class name to ``#rrggbb`` for classes that are made.
    source : {'human', 'model'}

    Raises
    ------
    StudyError
        If the shape is not the image's, or a value has no class. Then nothing was imported.
    """
    image = study.image(image_id)
    if values.shape != (image.height, image.width):
        raise StudyError(
            f"The mask has the shape {values.shape}, but {image.name} has {image.height} rows and "
            f"{image.width} columns."
        )
    found = [value for value in np.unique(values).tolist() if value != unsaid]
    unnamed = [value for value in found if value not in classes]
    if unnamed:
        raise StudyError(
            f"The mask of {image.name} has pixels of the value {unnamed[0]}, which has no class: say which."
        )
    before, state = study.mask(image_id), study.mask_state(image_id)
    with study.edit(what):
        names, made = make_classes(study, [classes[v] for v in found], colours or {}, MASK)
        created = tuple(name for name in made if name != BACKGROUND)
        codes = {c.name: c.code for c in study.classes(MASK)}
        said = values != unsaid if unsaid is not None else np.ones(values.shape, bool)
        patch = np.zeros(values.shape, np.uint16)
        for value in found:
            patch[values == value] = codes[names[classes[value]]]
        complete = bool(said.all())
        if complete:  # background need not be painted
            background = next((c.code for c in study.classes(MASK) if c.background), 0)
            patch[patch == background] = 0
        study.paint_mask(image_id, 0, 0, patch, where=said, source=source)
        if complete:
            study.set_mask_complete(image_id, True)
    return mask_report(study, image_id, before, state, created)


def mask_report(
    study: Study, image_id: int, before: np.ndarray, state: MaskState, created: tuple[str, ...] = ()
) -> ImportReport:
    """Say whether the mask of an image is new, as it was, or another than `before` and `state`."""
    fresh = not (state.painted or state.complete)
    same = study.mask_state(image_id).complete == state.complete and np.array_equal(
        before, study.mask(image_id)
    )
    return ImportReport(int(fresh), int(same and not fresh), int(not same and not fresh), 0, created, "mask")


def merge_image_classes(study: Study, frame: pd.DataFrame, what: str) -> ImportReport:
    """Give whole images their classes, in one edit.

    Parameters
    ----------
    study : Study
    frame : DataFrame
        Columns ``image_id, kind, class``, and if wanted ``source, status, confidence``. Classes the study
        lacks are made.
    what : str
        For the edit log.

    Raises
    ------
    StudyError
        If a value is not valid, or the study cannot be written. Then nothing was imported.
    """
    there = study.image_classes()
    old = dict(zip(zip(there["image_id"], there["kind"], strict=True), there["class"], strict=True))
    added = changed = 0
    created: tuple[str, ...] = ()
    with study.edit(what):
        for kind, rows in frame.groupby("kind", sort=False):
            names, made = make_classes(study, rows["class"], {}, str(kind))
            created += made
            for row in rows.to_dict("records"):
                name, place = names[row["class"]], (row["image_id"], kind)
                if old.get(place) == name:
                    continue
                changed += place in old
                added += place not in old
                old[place] = name
                confidence = row.get("confidence")
                study.set_image_class(
                    row["image_id"],
                    str(kind),
                    name,
                    source=row.get("source", "human"),
                    status=row.get("status", "accepted"),
                    confidence=None if confidence is None or np.isnan(confidence) else confidence,
                )
    unchanged = len(frame) - added - changed
    return ImportReport(added, unchanged, changed, 0, created, "image class")


def joined(reports: list[ImportReport]) -> ImportReport:
    """Make one report of several on the same kind of label."""
    created = tuple(dict.fromkeys(name for report in reports for name in report.classes_created))
    return ImportReport(
        sum(r.added for r in reports),
        sum(r.unchanged for r in reports),
        sum(r.changed for r in reports),
        sum(r.skipped for r in reports),
        created,
        reports[0].noun if reports else "mask",
    )
