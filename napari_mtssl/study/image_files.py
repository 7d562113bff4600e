"""Tables of images: their classes, group and split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from napari_mtssl.study.classes import image_kind
from napari_mtssl.study.files import written_whole
from napari_mtssl.study.merge import ImportReport
from napari_mtssl.study.merge_labels import merge_image_classes
from napari_mtssl.study.records import BLOCK, CELL, MASK, ORIGIN, SPLITS, StudyError
from napari_mtssl.study.study import Study
from napari_mtssl.study.tables import image_ids, image_names, read_table

HEAD = "diagnosis"  # the head of a column `class`, where the study has none yet
_NO_HEADS = {"image", "group", "split", "path", "source", "status", "confidence", "annotator", "time"}
_NO_HEADS |= {"mask_painted"}  # which the window's table of areas has
_OTHERS = {  # as published tables call them
    "image": ("file", "filename", "file name", "name"),
    "group": ("patient", "patient id", "patient_id"),
}
_PREDICTED = ("_predicted", "_probability")
_OURS = (*_PREDICTED, "_pixels", "_percent", "_mm2")  # ends of columns that are written here, and not read


def heads(study: Study) -> list[str]:
    """Kinds of classes that label whole images."""
    return [kind for kind in study.kinds() if kind not in (CELL, BLOCK, MASK)]


def import_image_classes(study: Study, path: Path | str, *, kind: str | None = None) -> ImportReport:
    """Import classes of whole images, and their groups and splits, from a table.

    Parameters
    ----------
    study : Study
    path : path
        With a column ``image`` (a name, with or without suffix, or a path; also called ``file`` or ``name``),
        and ``class`` or one column for each head (``pattern,intensity``); ``group`` (or ``patient``),
        ``split`` and ``origin`` are taken if present. An empty field says nothing.
    kind : str, optional
        The head of the column ``class``; by default the study's only one, else ``diagnosis``.

    Raises
    ------
    StudyError
        If a column is missing or there twice, an image unknown, a split none, or images of one group would
        part. Then nothing was imported.
    """
    path = Path(path)
    table = read_table(path, ["image"], "images", others=_OTHERS, heads=True)
    columns = _columns_of_heads(study, table, path, kind)
    ids = image_ids(study, table["image"], path)
    repeated = table["image"][ids.duplicated()]
    if len(repeated):
        raise StudyError(f"{path.name}, line {repeated.index[0]}: {repeated.iloc[0]} is there twice.")
    parts = [
        pd.DataFrame({"image_id": ids, "kind": head, "class": table[column]})[table[column] != ""]
        for head, column in columns.items()
    ]
    before, parted = _places(study), study.parted_groups()
    with study.edit(f"Imported {path.name}"):
        for (line, image_id), row in zip(ids.items(), table.to_dict("records"), strict=True):
            if row.get("split"):
                if row["split"].lower() not in SPLITS:
                    raise StudyError(
                        f"{path.name}, line {line}: '{row['split']}' is no split. "
                        f"Choose one of: {', '.join(SPLITS)}."
                    )
                study.set_split(image_id, row["split"].lower())
            if row.get("group"):
                study.set_group(image_id, row["group"])
        for group, splits in study.parted_groups().items():
            if parted.get(group) != splits:
                raise StudyError(
                    f"{path.name} would put images of the group '{group}' into {' and '.join(splits)}, but "
                    "images of one group (patient) never part: give all of them the same split, also those "
                    "that the file does not name."
                )
        frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["kind"])
        report = merge_image_classes(study, frame, f"Imported {path.name}")
        return replace(report, moved=len(_places(study) - before))


def _places(study: Study) -> set[tuple[int, str, str]]:
    """Group and split of every image."""
    return {(image.id, image.group, image.split) for image in study.images()}


def _columns_of_heads(study: Study, table: pd.DataFrame, path: Path, kind: str | None) -> dict[str, str]:
    """Column of each head."""
    if "class" in table:
        own = [head for head in heads(study) if head != ORIGIN]
        columns = {image_kind(kind or (own[0] if len(own) == 1 else HEAD)): "class"}
        return {ORIGIN: ORIGIN, **columns} if ORIGIN in table else columns
    if kind is not None and kind in table:
        return {image_kind(kind): kind}
    columns = {}
    for column in table:
        name = str(column).lower().replace(" ", "_")
        if name not in _NO_HEADS and name and not name.endswith(_OURS):
            columns[image_kind(name)] = str(column)
    if not columns and not {"group", "split"} & set(table):
        raise StudyError(
            f"{path.name} needs a column class, or one column for each head (as pattern,intensity), "
            f"beside image (it has: {', '.join(map(str, table.columns))})."
        )
    return columns


def export_image_classes(
    study: Study, path: Path | str, *, kind: str | None = None, predictions: bool = False
) -> int:
    """Export classes of whole images as a table, a row for each image of the study.

    Parameters
    ----------
    study : Study
    path : path
        Replaced whole, or left as it was.
    kind : str, optional
        The only head: columns ``image,class,group,split``. By default all: these columns if there is one
        head (and ``origin``, where the study names it), else a column for each, as
        ``image,pattern,intensity,group,split``.
    predictions : bool
        Also write ``HEAD_predicted`` and ``HEAD_probability``.

    Returns
    -------
    int
        How many images were written.

    Raises
    ------
    StudyError
        If the study has no such head, or the file cannot be written.
    """
    study.check_no_image(path)
    own = heads(study)
    if kind is not None and kind not in own:
        raise StudyError(
            f"The study '{study.name}' has no classes of the kind '{kind}'; "
            f"it has: {', '.join(own) or 'none'}."
        )
    # where an image comes from is said last, whenever it was said
    wanted = [kind] if kind is not None else sorted(own, key=lambda head: head == ORIGIN)
    images = study.images()
    table = pd.DataFrame({"id": [i.id for i in images]})
    table["image"] = table["id"].map(image_names(study))
    said = study.image_classes()
    columns = ["image"]
    for head in wanted:
        column = "class" if [head] == [h for h in wanted if h != ORIGIN] else head
        by_image = said[said["kind"] == head].set_index("image_id")["class"]
        table[column] = table["id"].map(by_image)
        columns.append(column)
    table["group"], table["split"] = [i.group for i in images], [i.split for i in images]
    columns += ["group", "split"]
    if predictions:
        found = (
            study.image_predictions()
            .sort_values("probability")
            .drop_duplicates(["image_id", "kind"], keep="last")
        )
        for head in (head for head in wanted if head != ORIGIN):  # which nobody predicts
            best = found[found["kind"] == head].set_index("image_id")
            for column, of in zip(_PREDICTED, ("class", "probability"), strict=True):
                table[head + column] = table["id"].map(best[of])
                columns.append(head + column)
    with written_whole(Path(path)) as stream:
        table[columns].to_csv(stream, index=False, lineterminator="\n")
    return len(table)
