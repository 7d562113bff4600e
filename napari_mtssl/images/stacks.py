"""Stacks: files of several planes, each of which becomes an image of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from napari_mtssl.images import dicom
from napari_mtssl.images.image import Image, ImageError, StackError
from napari_mtssl.images.opening import open_image
from napari_mtssl.images.sources import check_pixels, to_plane

PLANES = ".planes"  # end of the folder, beside the stack, that its planes are written to


def open_planes(path: str | Path, *, pixel_size_um: float | None = None) -> list[Image]:
    """Open an image, or each plane of a stack (TIFF, or DICOM of several frames).

    The planes of ``chest.tif`` are written to ``chest.tif.planes/chest_000.tif`` and so on, once: a study
    keeps the path of each.

    Parameters
    ----------
    path : path-like
    pixel_size_um : float, optional
        Side of a pixel in micrometres, where the file does not tell or is wrong.

    Raises
    ------
    ImageError
        If the image cannot be read, is a stack of another format or of more than one axis, or its planes
        cannot be written.
    """
    try:
        return [open_image(path, pixel_size_um=pixel_size_um)]
    except StackError as error:
        stack = Path(path).expanduser()
        if stack.suffix.lower() in (".tif", ".tiff"):
            size, planes = _size_of_pages(stack), _pages(stack)
        elif stack.suffix.lower() in (".dcm", ".dicom") or dicom.is_dicom(stack):
            size, planes = dicom.pixel_size_of(stack), dicom.frames(stack)
        else:
            raise ImageError(str(error)) from error
    folder = stack.with_name(stack.name + PLANES)
    if not _is_written(folder, stack):
        _write(stack, folder, planes)
    files = sorted(folder.glob("*.tif"))
    return [open_image(file, pixel_size_um=pixel_size_um or size) for file in files]


def _is_written(folder: Path, stack: Path) -> bool:
    """Whether planes lie in the folder that are no older than their stack, and not all of them are spoilt."""
    if not folder.is_dir() or folder.stat().st_mtime < stack.stat().st_mtime:
        return False
    return any(_can_be_opened(file) for file in sorted(folder.glob("*.tif")))


def _can_be_opened(path: Path) -> bool:
    """Whether a plane is an image."""
    try:
        open_image(path, flat_limit=None)
    except ImageError:
        return False
    return True


def _write(stack: Path, folder: Path, planes: Iterator[np.ndarray]) -> None:
    """Write planes as TIFF files: all of them, or none."""
    import tifffile

    part = folder.with_name(folder.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        for number, plane in enumerate(planes):
            tifffile.imwrite(part / f"{stack.stem}_{number:03d}.tif", plane)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    except OSError as error:
        raise ImageError(
            f"The planes of {stack.name} cannot be written beside it ({error.strerror}): "
            "copy the stack to a folder that can be written to."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)  # of planes that could not all be read


def _size_of_pages(path: Path) -> float | None:
    """Pixel size of a TIFF stack, micrometres."""
    import tifffile

    from napari_mtssl.images.tiff import pixel_size

    with tifffile.TiffFile(path) as file:
        return pixel_size(file, file.series[0])


def _pages(path: Path) -> Iterator[np.ndarray]:
    """Planes of a TIFF stack."""
    import tifffile
    import zarr

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        stacked = [n for n, axis in enumerate(series.axes) if axis not in "YXCS" and series.shape[n] > 1]
        if len(stacked) > 1:
            raise ImageError(
                f"{path.name} is a stack of several axes ({series.axes}); save the planes to label as one."
            )
        axis = stacked[0]
        axes = series.axes[:axis] + series.axes[axis + 1 :]
        shape = series.shape[:axis] + series.shape[axis + 1 :]
        check_pixels(path.name, np.dtype(series.dtype or "V"), axes, shape)
        array = zarr.open_array(series.aszarr(level=0), mode="r")
        for number in range(series.shape[axis]):
            index = (*[slice(None)] * axis, number)
            yield to_plane(np.asarray(array[index]), axes)
