"""Files become images of a study: all that can be read, as one edit. Knows no Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_mtssl.images import Image, ImageError, open_planes
from napari_mtssl.study.addresses import check_url, fingerprint, is_url, shown
from napari_mtssl.study.files import checksum
from napari_mtssl.study.records import StudyError, plural

if TYPE_CHECKING:
    from napari_mtssl.study import ImageRecord, Study


def add_files(
    study: Study,
    paths: Sequence[Path | str],
    split: str = "train",
    patiently: Callable[[Callable[[], Any], str], Any] = lambda work, text: work(),
) -> tuple[list[ImageRecord], ImageError | None]:
    """Register image files or URLs, and each plane of stacks.

    Parameters
    ----------
    study : Study
    paths : sequence of Path or str
    split : str
    patiently : callable
        Gets what reads one address, or all files, and a text for who waits; reads it.

    Returns
    -------
    records : list of ImageRecord
        Also of those that were in the study already.
    unread : ImageError or None
        What is wrong with the first file that cannot be read, and the names of the others that were left out:
        one of a folder must not keep the rest out.

    Raises
    ------
    ImageError
        If the user gave up waiting for files; nothing was added then.
    """
    opened: list[tuple[Image, str | None]] = []
    unread: list[tuple[str, ImageError]] = []
    for far, group in groupby(paths, is_url):
        if not far:
            files = [Path(path) for path in group]
            for path, found in patiently(partial(_read, files), f"Reading {plural(len(files), 'file')} …"):
                if isinstance(found, ImageError):
                    unread.append((path.name, found))
                else:
                    opened += found
            continue
        for address in map(str, group):
            try:
                url = check_url(address)
                opened.append(patiently(partial(_asked, url), f"Reading {shown(url)} …"))
            except ImageError as error:
                unread.append((shown(address), error))
    records: list[ImageRecord] = []
    if opened:
        with study.edit(f"Added {plural(len(opened), 'image')}"):
            records = [
                study.add_image(
                    image.location,
                    height=image.height,
                    width=image.width,
                    pixel_size_um=image.pixel_size_um,
                    split=split,
                    fingerprint=known,
                )
                for image, known in opened
            ]
    return records, _left_out(unread, len(records)) if unread else None


def _left_out(unread: Sequence[tuple[str, ImageError]], added: int) -> ImageError:
    """Say what is wrong with the first file, which others were left out, and how many were not."""
    if len(unread) + added == 1:
        return unread[0][1]
    said, others = [str(unread[0][1])], [name for name, _ in unread[1:]]
    if others:
        said.append(f"Left out, too: {', '.join(others)}.")
    if added:
        said.append("The other one was added." if added == 1 else f"The other {added:,} were added.")
    return ImageError(" ".join(said))


def _read(files: Sequence[Path]) -> list[tuple[Path, list[tuple[Image, str | None]] | ImageError]]:
    """Open files; of each give its images, with what it is known by, or what is wrong with it."""
    found: list[tuple[Path, list[tuple[Image, str | None]] | ImageError]] = []
    for path in files:
        try:
            planes = open_planes(path)
            found.append((path, [(image, checksum(Path(image.location))) for image in planes]))
        except (ImageError, StudyError) as error:
            found.append((path, ImageError(str(error))))
    return found


def _asked(url: str) -> tuple[Image, str]:
    """Open an image at a URL, and ask its server for everything that it is known by, too."""
    (image,) = open_planes(url)
    return image, fingerprint(url)
