"""From a path to an `Image`: one table from suffix to opener."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from napari_mtssl.images.dicom import is_dicom, open_dicom
from napari_mtssl.images.image import FlatImageError, Image, ImageError
from napari_mtssl.images.ome_zarr import open_ome_zarr
from napari_mtssl.images.plain import open_plain
from napari_mtssl.images.slides import SUFFIXES as SLIDES
from napari_mtssl.images.slides import open_slide
from napari_mtssl.images.tiff import open_tiff

Opener = Callable[[Path], Image]

# Pixels up to which an image without a pyramid can be looked at: a viewer has to load all of it.
LARGEST_FLAT = 2**28

SUFFIXES: dict[str, Opener] = {}
"""Lower-case suffix (with its dot) to the function that opens such a file."""


def register(suffixes: Iterable[str], opener: Opener) -> None:
    """Say which function opens files with these suffixes; the longest suffix that fits a name wins.

    Parameters
    ----------
    suffixes : iterable of str
        Such as ``".svs"``; case does not matter.
    opener : callable
        From a path to an `Image`; raises `ImageError`. It should import its decoding library when called.
    """
    for suffix in suffixes:
        SUFFIXES[suffix.lower()] = opener


register([".png", ".jpg", ".jpeg", ".bmp"], open_plain)
register([".tif", ".tiff", ".ome.tif", ".ome.tiff"], open_tiff)
register([".dcm", ".dicom"], open_dicom)
register([".zarr", ".ome.zarr"], open_ome_zarr)
register(SLIDES, open_slide)


def is_image(path: str | Path) -> bool:
    """Whether it looks like an image that `open_image` can open.

    The name says it; of a file whose name says nothing, as scanners write DICOM, the first bytes.
    """
    return _opener(Path(path)) is not None


def open_image(
    path: str | Path, *, pixel_size_um: float | None = None, flat_limit: int | None = LARGEST_FLAT
) -> Image:
    """Open an image lazily: only its header is read.

    Parameters
    ----------
    path : path-like
        A PNG, JPEG, BMP, TIFF, OME-TIFF or DICOM file, a whole slide, the folder of an OME-Zarr image, or the
        URL of one (``https://``, ``s3://`` and what else fsspec knows).
    pixel_size_um : float, optional
        Side of a pixel in micrometres, where the file does not tell or is wrong.
    flat_limit : int, optional
        Most pixels that an image without a pyramid may have; None for any number.

    Returns
    -------
    Image

    Raises
    ------
    ImageError
        If there is no such file, it is no image, or no image that can be labelled; the message says what
        to change.
    """
    url = "://" in str(path)
    image = _open_url(str(path)) if url else _open_file(Path(path).expanduser())
    if flat_limit is not None and len(image.sources) == 1 and image.height * image.width > flat_limit:
        raise FlatImageError(
            f"{image.path.name} has {image.height} x {image.width} pixels and no pyramid, so that all of it "
            f"would have to be loaded; make one with: napari-mtssl convert {path} {image.path.stem}.ome.zarr"
        )
    if pixel_size_um is not None:
        if not (math.isfinite(pixel_size_um) and pixel_size_um > 0):
            raise ImageError(f"A pixel size of {pixel_size_um} um is not possible; give a positive number.")
        image.pixel_size_um = float(pixel_size_um)
    return image


def _open_url(url: str) -> Image:
    """Open what is not a file of this computer."""
    name = PurePosixPath(url.split("://", 1)[1].split("?")[0]).name
    if _opener(Path(name)) is not open_ome_zarr:
        raise ImageError(
            f"Only OME-Zarr can be read from a URL, and {url} does not end in .zarr; "
            "convert the image to OME-Zarr or copy it here."
        )
    image = open_ome_zarr(Path(name), url)
    image.url = url
    return image


def _open_file(path: Path) -> Image:
    """Open a file or folder."""
    if not path.exists():
        if re.match(r"[a-z][a-z0-9+]+:/", path.as_posix()):  # a path has one slash of an address's two
            raise ImageError(f"{path} is no path of a file, and an address has two slashes; give it as text.")
        raise ImageError(f"There is no file {path}; check the path.")
    opener = _opener(path)
    if opener is None:
        if path.is_dir():
            raise ImageError(f"{path} is a folder, not an image; choose a file inside it.")
        known = ", ".join(sorted(SUFFIXES))
        raise ImageError(
            f"{path.name} is not an image of a known kind; use DICOM, or a file that ends in {known}."
        )
    if path.is_file() and path.stat().st_size == 0:
        raise ImageError(f"{path.name} is empty (0 bytes); copy the file again.")
    if path.is_dir() and opener is not open_ome_zarr:
        raise ImageError(f"{path.name} is a folder, not an image; choose a file inside it.")
    if path.is_file() and opener is open_ome_zarr:
        raise ImageError(f"{path.name} is a file, but an OME-Zarr image is a folder; unpack it first.")
    try:
        return opener(path)
    except PermissionError as error:
        raise ImageError(f"{path.name} may not be read; change its permissions.") from error


def _opener(path: Path) -> Opener | None:
    """Find the opener of the longest suffix that fits; without one, DICOM is known by its first bytes."""
    name = path.name.lower()
    fitting = [suffix for suffix in SUFFIXES if name.endswith(suffix) and len(name) > len(suffix)]
    if fitting:
        return SUFFIXES[max(fitting, key=len)]
    return open_dicom if path.is_file() and is_dicom(path) else None
