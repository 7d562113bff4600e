"""Names of images: how their files are called, which image a file is of, and which group is its own."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from napari_mtssl.study.records import ImageRecord, StudyError

PLANES = ".planes"  # end of the folder that the planes of a stack lie in, see `napari_mtssl.images.stacks`
_TAILS = ("", "@", "_mask", "-mask", "_anno", "_label", "_labels", "_seg")  # what names of masks end on


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Name for the files of each image, without ending, which is that of no other of these images.

    It is the image's without suffix; where several have the same, that with suffix (``a.png`` and ``a.jpg``),
    or with as many folders in front as tell them apart (``PAT1_IM0001``).
    """
    ladders = [_ladder(path) for path in paths]
    folded = Counter(name for ladder in ladders for name in {step.casefold() for step in ladder})
    exact = Counter(name for ladder in ladders for name in set(ladder))
    names = []
    for ladder in ladders:  # a disk may hold a.png and A.png for one file
        apart = [name for name in ladder if folded[name.casefold()] == 1]
        names.append(next(iter([*apart, *(name for name in ladder if exact[name] == 1), ladder[-1]])))
    return names


def names_of(images: Sequence[ImageRecord]) -> dict[int, str]:
    """Give what `unique_names` says by the number of the image; needs all images of a study."""
    return dict(zip((i.id for i in images), unique_names([i.path for i in images]), strict=True))


def composed(name: str) -> str:
    """Name with each letter and its accents as one sign, as most write it; macOS takes them apart."""
    return unicodedata.normalize("NFC", name)


def is_called(image: ImageRecord, name: str) -> bool:
    """Whether a file of this image may have that name."""
    return composed(name) in _ladder(image.path)


class ImageNames:
    """Finds the image that a file of labels is of, by the file's name.

    Parameters
    ----------
    images : sequence of ImageRecord
        All of a study.
    """

    def __init__(self, images: Sequence[ImageRecord]) -> None:
        self._images = images
        self._own: dict[str, list[ImageRecord]] = {}
        self._longer: dict[str, list[ImageRecord]] = {}
        for image in images:
            own = {composed(image.path.stem), composed(image.path.name)}
            for name in set(_ladder(image.path)):
                (self._own if name in own else self._longer).setdefault(name, []).append(image)

    def owner(self, file: Path) -> ImageRecord | None:
        """Find the image of a file; None if there is none.

        Its name is that of the image, with or without suffix, or what `unique_names` gave; ``@``, ``_mask``,
        ``_anno``, ``_label`` and ``_seg`` at its end do not count, nor does the ``.ome`` of an OME-Zarr.

        Raises
        ------
        StudyError
            If it may be of several images: a mask must not go to another patient.
        """
        for stem in image_stems(file):
            found = self._own.get(stem) or self._longer.get(stem) or []
            if len(found) == 1:
                return found[0]
            if found:
                names, rest = names_of(self._images), composed(file.name).removeprefix(stem)
                more = f" (or {len(found) - 2} more)" if len(found) > 2 else ""
                raise StudyError(
                    f"{file.name} may be of the image {found[0].location} or of {found[1].location}{more}: "
                    f"rename it to {names[found[0].id]}{rest} or {names[found[1].id]}{rest}."
                )
        return None

    def planes(self, file: Path) -> dict[int, ImageRecord]:
        """Find the planes, by number, of the stack that a file of labels is of; none if there is none.

        Raises
        ------
        StudyError
            If it may be of several stacks.
        """
        for stem in image_stems(file):
            found = [
                image
                for image in self._images
                if image.path.parent.suffix == PLANES and composed(file_of(image.path).stem) == stem
            ]
            stacks = sorted({str(file_of(image.path)) for image in found})
            if len(stacks) > 1:
                raise StudyError(f"{file.name} may be of the stack {stacks[0]} or of {stacks[1]}.")
            if found:
                return {int(image.path.stem.rpartition("_")[2]): image for image in found}
        return {}


def own_group(path: Path, images: Sequence[ImageRecord]) -> str:
    """Group of an image of which nothing is said: its name, without suffix.

    A file of the same name in another folder is another patient's (scanners call them all ``IM0001``), so
    that folders are put in front of a name that is taken. Planes of a stack are a group.

    Parameters
    ----------
    path : Path
    images : sequence of ImageRecord
        What is in the study.
    """
    file = file_of(path)
    group = first_part(file)
    alike = [i for i in images if file.name in (i.path.name, i.path.parent.name.removesuffix(PLANES))]
    if all(file_of(image.path).parent == file.parent for image in alike):
        return group
    taken = {image.group for image in images if file_of(image.path).parent != file.parent}
    for folder in file.parents:
        if group not in taken:
            break
        group = f"{folder.name}_{group}"
    return group


def first_part(path: Path) -> str:
    """Name of a file up to its first dot; all of a DICOM number, which begins alike for all of a hospital."""
    name = file_of(path).name
    return name if re.fullmatch(r"\d+(\.\d+){3,}(\.dcm)?", name) else name.split(".")[0]


def folder_of(path: Path, levels: int) -> str:
    """Name of the folder that a file, or the stack of a plane, lies in (1), or of the one above it (2)."""
    folders = file_of(path).parents
    return folders[levels - 1].name if levels <= len(folders) else ""


def file_of(path: Path) -> Path:
    """Give the file that a user knows: that of an image, or the stack that it is a plane of."""
    path = Path(os.path.normpath(path))  # .. is no folder's name
    return path.parent.with_suffix("") if path.parent.suffix == PLANES else path


def _ladder(path: Path) -> list[str]:
    """All names that files of an image may have, the shortest first."""
    names = [composed(path.stem), composed(path.name)]
    for folder in file_of(path).parents:
        if folder.name:
            names += [f"{composed(folder.name)}_{name}" for name in names[-2:]]
    return names


def image_stems(file: Path) -> Iterator[str]:
    """Names, without suffix, that the image of a file of labels may have, its own first."""
    stems = [composed(file.stem)]
    if file.suffix.lower() == ".zarr" and file.stem.endswith(".ome"):
        stems.append(file.stem.removesuffix(".ome"))
    for stem in stems:
        for tail in _TAILS:
            if stem.endswith(tail):
                yield stem.removesuffix(tail)
