"""Where the images of a study are now."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_mtssl.cli.console import UsageError, notes

if TYPE_CHECKING:
    from napari_mtssl.study import ImageRecord, Study


def relocate(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder NAME.mtssl.")],
    where: Annotated[
        list[Path],
        typer.Argument(
            metavar="WHERE...", help="Where moved images are now: folders, with all below them, or files."
        ),
    ],
) -> None:
    """Find images again that were moved: files of their names, with the content that was labelled."""
    from napari_mtssl.study import Study

    with Study.open(study) as opened:
        moved = [problem.image for problem in opened.problems() if problem.kind == "moved"]
        if not moved:
            raise UsageError(f"All images of the study '{opened.name}' are where they were.")
        places = list(_named(where, {image.path.name for image in moved}))
        lost = [image for image in moved if not _found(opened, image, places)]
        still = ", ".join(image.location for image in lost)
        if len(lost) == len(moved):
            raise UsageError(
                f"None of these is there, of the same name and content: {still}. Name the folder they are in."
            )
        print(f"{len(moved) - len(lost)} of {len(moved)} moved images found again.")
        if lost:
            notes.print(f"Not found, of the same name and content: {still}.")


def _named(where: Iterable[Path], names: set[str]) -> Iterator[Path]:
    """Files, and OME-Zarr folders, of these names that are given or lie below the folders given."""
    for given in where:
        if not given.exists():
            raise UsageError(f"{given} does not exist; check the path.")
        if given.name in names:
            yield given
        for place, folders, files in os.walk(given):
            yield from (Path(place) / name for name in sorted((*folders, *files)) if name in names)
            folders[:] = sorted(name for name in folders if not name.endswith(".zarr"))


def _found(study: Study, image: ImageRecord, places: Iterable[Path]) -> bool:
    """Take over the first place where the image is; files of other content are other images of that name."""
    from napari_mtssl.study.files import checksum

    for place in places:
        if place.name == image.path.name and checksum(place) == image.checksum:
            study.relocate_image(image.id, place)
            return True
    return False
