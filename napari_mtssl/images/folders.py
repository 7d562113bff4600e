"""From what a user points at, files and folders, to images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from napari_mtssl.images.image import Image, ImageError
from napari_mtssl.images.opening import is_image
from napari_mtssl.images.stacks import open_planes

ZARR = (".zattrs", "zarr.json")  # what lies at the top of an OME-Zarr image
MASKS = ("@", "_mask")  # ends of the names of masks that lie beside their images


def image_files(paths: Iterable[Path | str]) -> list[Path | str]:
    """List images, URLs, and images in folders; files there whose names end on ``@`` or ``_mask`` are masks.

    A folder whose name is that of an OME-Zarr image is one image; what lies inside of such a folder means it.

    Raises
    ------
    ImageError
        If there are no images in a folder.
    """
    return list(dict.fromkeys(file for given in paths for file in _files(given)[0]))


def open_images(
    paths: Iterable[Path | str], *, pixel_size_um: float | None = None
) -> tuple[list[Image], list[ImageError]]:
    """Open images, URLs, the planes of stacks, and all that can be read of what lies in folders.

    Parameters
    ----------
    paths : iterable of path-like
        See `image_files`.
    pixel_size_um : float, optional
        Side of a pixel in micrometres, where the file does not tell or is wrong.

    Returns
    -------
    images : list of Image
        Each file once, however often it was named.
    left_out : list of ImageError
        What is wrong with files in folders that cannot be read: one must not keep the others out.

    Raises
    ------
    ImageError
        If a file that is named cannot be read, there are no images in a folder, or none can be read.
    """
    opened: dict[Path | str, list[Image]] = {}
    left_out: list[ImageError] = []
    for given in paths:
        files, within = _files(given)
        for file in files:
            if file in opened:
                continue
            try:
                opened[file] = open_planes(file, pixel_size_um=pixel_size_um)
            except ImageError as error:
                if not within:
                    raise
                left_out.append(error)
    if left_out and not opened:
        raise ImageError("; ".join(str(error).rstrip(".") for error in left_out) + ".")
    return [image for images in opened.values() for image in images], left_out


def _files(given: Path | str) -> tuple[list[Path | str], bool]:
    """Images that a path or URL means, and whether it is a folder that they lie in."""
    if "://" in str(given):
        return [str(given)], False
    path = around(Path(given))
    if not path.is_dir() or is_image(path):
        return [path], False
    inside: list[Path | str] = [
        p for p in sorted(path.iterdir()) if is_image(p) and not p.stem.endswith(MASKS)
    ]
    if inside:
        return inside, True
    if any((path / name).is_file() for name in ZARR):
        raise ImageError(
            f"The folder {path} looks like an OME-Zarr image, but its name does not end on .zarr: rename it."
        )
    below = list(islice(_with_images(path), 3))
    if below:
        more = " and others" if len(below) > 2 else ""
        raise ImageError(
            f"There are no images in the folder {path} itself, but in folders below it: name these "
            f"({', '.join(map(str, below[:2]))}{more})."
        )
    raise ImageError(f"There are no images in the folder {path}; name one that has some.")


def _with_images(folder: Path) -> Iterator[Path]:
    """Folders below one that images lie in; OME-Zarr images are no folders."""
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders.sort()
        images = [name for name in folders if is_image(here / name)]
        folders[:] = [name for name in folders if name not in images]
        if here != folder and (images or any(is_image(here / name) for name in files)):
            yield here


def around(path: Path) -> Path:
    """Return the OME-Zarr image that a path lies in (a level, its metadata), or the path itself."""
    zarr = next((p for p in path.parents if p.suffix.lower() == ".zarr" and p.is_dir()), None)
    return path if zarr is None else zarr
