"""Bring a whole study of somebody else into one's own: nothing twice, one edit to undo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from napari_mtssl.study.merge import ImportReport, merge_cells
from napari_mtssl.study.merge_labels import (
    joined,
    mask_report,
    merge_blocks,
    merge_image_classes,
    merge_regions,
)
from napari_mtssl.study.names import first_part
from napari_mtssl.study.records import MASK, StudyError, plural
from napari_mtssl.study.study import Study


def merge_study(study: Study, other: Study | Path | str) -> list[ImportReport]:
    """Bring in the images, classes and labels of another study, in one edit.

    An image of the same content is the same image. Where both studies say something of the same place, the
    other's word is taken, and the report counts it; statistics and the split of an image stay one's own.

    Parameters
    ----------
    study : Study
        Changed.
    other : Study or path
        Read.

    Returns
    -------
    list of ImportReport
        One for each sort of label that there is.

    Raises
    ------
    StudyError
        If an image of the other study is gone, or the study cannot be written. Then nothing was brought in.
    """
    if not isinstance(other, Study):
        with Study.open(other) as opened:
            return merge_study(study, opened)
    if other.path == study.path:
        raise StudyError(f"'{study.name}' is this study itself: name another one.")
    reports = []
    with study.edit(f"Brought in the study {other.name}"):
        _bring_classes(study, other)
        images = _bring_images(study, other)
        if len(cells := other.cells()):
            cells["image_id"] = cells["image_id"].map(images)
            columns = ["image_id", "row", "col", "class", "source", "status", "confidence"]
            reports.append(merge_cells(study, cells[columns], "Brought in cells"))
        reports += _bring_blocks(study, other, images)
        masks = [_bring_mask(study, other, old, new) for old, new in images.items()]
        reports += [joined(found)] if (found := [m for m in masks if m is not None]) else []
        if len(labels := other.image_classes()):
            labels["image_id"] = labels["image_id"].map(images)
            reports.append(merge_image_classes(study, labels, "Brought in classes of images"))
        _bring_statistics(study, other)
    return reports


def _bring_classes(study: Study, other: Study) -> None:
    for kind in other.kinds():
        known = {c.name.lower() for c in study.classes(kind)}
        taken = {c.key for c in study.classes(kind)}
        for theirs in other.classes(kind):
            if theirs.name.lower() not in known:
                key = theirs.key if theirs.key not in taken else None
                made = study.add_class(theirs.name, theirs.colour, key, kind=kind, note=theirs.note)
                known |= {c.name.lower() for c in study.classes(kind)}
                taken.add(made.key)


def _bring_images(study: Study, other: Study) -> dict[int, int]:
    """Add the images that the study lacks: number there to number here."""
    known = {image.checksum: image.id for image in study.images()}
    out = {}
    for image in other.images():
        if image.checksum not in known:
            if image.url is None and not image.path.exists():
                raise StudyError(f"{image.name} of the study '{other.name}' is no longer at {image.path}.")
            # what its name gave there may be the group of another folder's image here
            own = image.group == first_part(image.path)
            known[image.checksum] = study.add_image(
                image.location,
                height=image.height,
                width=image.width,
                pixel_size_um=image.pixel_size_um,
                group=None if own else image.group,
                split=image.split,
            ).id
        out[image.id] = known[image.checksum]
    return out


def _bring_blocks(study: Study, other: Study, images: dict[int, int]) -> list[ImportReport]:
    blocks, regions = [], []
    for old, new in images.items():
        grid, own = other.grid(old), study.grid(new)
        if grid is not None and own is None:
            study.set_grid(new, grid)
            own = grid
        for i, j, name in other.blocks(old).itertuples(index=False):
            if grid == own:
                blocks.append((new, i, j, name))
            elif grid is not None:  # blocks of another grid keep their place as regions
                row0, col0, row1, col1 = np.array(grid.edges(i, j)) - 0.5
                corners = np.array([[row0, col0], [row0, col1], [row1, col1], [row1, col0]])
                regions.append((new, corners, name))
        regions += [(new, row.polygon, row[3]) for row in other.regions(old).itertuples()]
    reports = []
    if blocks:
        frame = pd.DataFrame(blocks, columns=["image_id", "i", "j", "class"])
        reports.append(merge_blocks(study, frame, "Brought in blocks"))
    if regions:
        frame = pd.DataFrame(regions, columns=["image_id", "polygon", "class"])
        reports.append(merge_regions(study, frame, "Brought in regions"))
    return reports


def _bring_mask(study: Study, other: Study, old: int, new: int) -> ImportReport | None:
    theirs, ours = other.mask_state(old), study.mask_state(new)
    if not (theirs.painted or theirs.complete):
        return None
    codes = {c.name.lower(): c.code for c in study.classes(MASK)}
    table = np.zeros(2**16, np.uint16)
    for found in other.classes(MASK):
        table[found.code] = codes[found.name.lower()]
    patch = table[other.mask(old)]
    before = study.mask(new)
    if theirs.painted:
        assert theirs.source is not None
        study.paint_mask(new, 0, 0, patch, where=patch > 0, source=theirs.source)
    if theirs.complete:
        study.set_mask_complete(new, True)
    return mask_report(study, new, before, ours)


def _bring_statistics(study: Study, other: Study) -> None:
    both = pd.concat([study.statistics(), _named_as_here(study, other)])
    study.set_statistics(both.drop_duplicates(["block_class", "mask_class"], keep="first"))


def _named_as_here(study: Study, other: Study) -> pd.DataFrame:
    table = other.statistics()
    for column, kind in (("block_class", "block"), ("mask_class", "mask")):
        table[column] = [study.class_named(name, kind).name for name in table[column]]
    return table


def summary(reports: list[ImportReport]) -> str:
    """Say in one sentence what came in."""
    said = [f"{plural(r.added, r.noun)} added, {r.unchanged:,} already there" for r in reports]
    return "; ".join(said) + "." if said else "no labels."
