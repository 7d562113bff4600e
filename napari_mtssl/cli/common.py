"""What several commands take: a study, one of its images, and what to do with them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_mtssl.cli.console import UsageError, notes

if TYPE_CHECKING:
    from napari_mtssl.study import ImageRecord, Study

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study, NAME.mtssl.")]
ImageName = Annotated[
    str | None,
    typer.Option(
        "--image", metavar="NAME", help="Image of the study, by file name; needed if it has several."
    ),
]
HeadName = Annotated[
    str | None,
    typer.Option("--kind", metavar="HEAD", help="What the class of whole images is, as grade or diagnosis."),
]


class What(StrEnum):
    """What a file says, or shall say."""

    cells = "cells"
    blocks = "blocks"
    masks = "masks"
    image_classes = "image-classes"
    statistics = "statistics"
    probability_map = "probability-map"


class Split(StrEnum):
    """What an image is for."""

    train = "train"
    validation = "validation"
    test = "test"


def make_folder(path: Path) -> None:
    """Make a folder for results.

    Raises
    ------
    UsageError
        If there is a file of that name, or it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"The folder {path} cannot be made: {error.strerror}; choose another one."
        ) from error


def warn_of_changed(study: Study) -> None:
    """Say which images are not what was labelled: their files were changed since."""
    for problem in study.problems():
        if problem.kind == "changed":
            notes.print(f"Warning: {problem.message}")


def choose_image(study: Study, name: str | None, source: Path | None = None) -> ImageRecord:
    """Find the image that is meant.

    Parameters
    ----------
    study : Study
    name : str or None
        File name, with or without its ending.
    source : Path, optional
        A file of labels: without `name`, and if there are several images, the one that it is named after is
        meant.

    Raises
    ------
    UsageError
        If the study has no images, or it does not show which one is meant.
    StudyError
        If it has none of that name, or several.
    """
    from napari_mtssl.study.names import ImageNames
    from napari_mtssl.study.tables import image_names

    records = study.images()
    if not records:
        raise UsageError(f"The study {study.name} has no images; add some first.")
    if name is not None:
        return study.find_image(name)
    if len(records) == 1:
        return records[0]
    owner = None if source is None else ImageNames(records).owner(source)
    if owner is not None:
        return owner
    names = ", ".join(list(image_names(study).values())[:8]) + (", ..." if len(records) > 8 else "")
    raise UsageError(f"The study has {len(records)} images: say which one with --image NAME ({names}).")
