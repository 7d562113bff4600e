"""Files become images of a study: all that can be read, as one edit. Knows no Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_mtssl.images import Image, ImageError, open_planes
from napari_mtssl.study.addresses import check_url, fingerprint, is_url, shown
from napari_mtssl.study.records import plural

if TYPE_CHECKING:
    from napari_mtssl.study import ImageRecord, Study


def add_files(
    study: Study,
    paths: Sequence[Path | str],
    split: str = "train",
    waited: Callable[[str | None, Callable[[], Any]], Any] = lambda url, work: work(),
) -> tuple[list[ImageRecord], ImageError | None]:
    """Register image files or URLs, and each plane of stacks.

    Parameters
    ----------
    study : Study
    paths : sequence of Path or str
    split : str
    waited : callable
        Gets the address, if it is one, and what opens it, and opens it.

    Returns
    -------
    records : list of ImageRecord
        Also of those that were in the study already.
    unread : ImageError or None
        What is wrong with the first file that cannot be read, and the names of the others that were left out:
        one of a folder must not keep the rest out.
    """
    opened: list[tuple[Image, str | None]] = []
    unread: list[tuple[str, ImageError]] = []
    for path in paths:
        try:
            url = check_url(str(path)) if is_url(path) else None
            opened += waited(url, partial(_opened, path, url))
        except ImageError as error:
            unread.append((shown(str(path)) if is_url(path) else Path(path).name, error))
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


def _opened(path: Path | str, url: str | None) -> list[tuple[Image, str | None]]:
    """Open a file or a URL; of a URL everything that its server is asked for, to know the image again too."""
    images = open_planes(url or path)
    known = None if url is None else fingerprint(url)
    return [(image, known) for image in images]
