"""TIFF and OME-TIFF: pyramids and tiles are read tile by tile, small plain files as a whole."""

from __future__ import annotations

import struct
import weakref
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mtssl.images.image import Image, ImageError, Source
from napari_mtssl.images.slides import maker, open_slide
from napari_mtssl.images.sources import Decoded, Tiled, check_pixels, plane_shape, to_plane
from napari_mtssl.images.units import square_pixel_um

if TYPE_CHECKING:
    import tifffile

# A file without tiles is decoded once and held up to this size; beyond it, strips are read as needed.
HOLD = 256 * 2**20


def open_tiff(path: Path) -> Image:
    """Open a TIFF or OME-TIFF (its first image, with all levels of its pyramid).

    Raises
    ------
    ImageError
        If it is no TIFF, is cut short, or holds something else than an 8- or 16-bit grey or RGB(A) plane.
    """
    import tifffile

    try:
        file = tifffile.TiffFile(path)
        tiled = not file.is_ome and file.pages.first.is_tiled
    except (tifffile.TiffFileError, OSError, struct.error, ValueError, IndexError) as error:
        raise ImageError(f"{path.name} is not a TIFF that can be read, or is cut short: {error}.") from error
    if tiled and maker(path) is not None:
        file.close()
        return open_slide(path)
    try:
        series = _first_series(file, path)
        sources = _sources(path, file, series)
        side = pixel_size(file, series)
    except BaseException:
        file.close()
        raise
    if all(isinstance(source, Decoded) for source in sources):
        file.close()
    return Image(path, sources, side)


def _first_series(file: tifffile.TiffFile, path: Path) -> tifffile.TiffPageSeries:
    """Take the first image of the file, after checking that all of it is there and is what we can read."""
    import tifffile

    try:
        series = file.series[0]
        keyframe = series.keyframe
    except (IndexError, RuntimeError, OSError, struct.error, ValueError, ElementTree.ParseError) as error:
        raise ImageError(f"{path.name} holds no image that can be read, or is cut short: {error}.") from error
    size = path.stat().st_size
    for page in series.pages:
        extents = () if page is None else zip(page.dataoffsets, page.databytecounts, strict=False)
        ends = [offset + count for offset, count in extents]
        if max(ends, default=size + 1) > size:
            raise ImageError(f"{path.name} is cut short (pixels beyond its end); copy the file again.")
    check_pixels(path.name, np.dtype(series.dtype or "V"), series.axes, series.shape)
    if keyframe.bitspersample not in (8, 16):
        raise ImageError(
            f"{path.name} holds {keyframe.bitspersample}-bit pixels; "
            "convert it to 8-bit or 16-bit unsigned integers."
        )
    if keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise ImageError(f"{path.name} uses a colour palette; convert it to RGB or grey.")
    known = (tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
    if keyframe.photometric not in (*known, tifffile.PHOTOMETRIC.YCBCR):  # four inks would be taken for RGBA
        kind = "CMYK" if keyframe.photometric == tifffile.PHOTOMETRIC.SEPARATED else keyframe.photometric.name
        raise ImageError(f"{path.name} has colours of the kind {kind}; convert it to RGB or grey.")
    return series


def _sources(path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Sequence[Source]:
    """One source for each level of the pyramid."""
    levels = [level for level in series.levels if level.axes == series.axes]
    if len(levels) == 1 and not series.keyframe.is_tiled and series.nbytes <= HOLD:
        shape = plane_shape(series.axes, series.shape)
        return [Decoded(shape, np.dtype(series.dtype).newbyteorder("="), lambda: _decode(path))]
    import zarr

    holder = _OpenFile(file)
    arrays = [zarr.open_array(series.aszarr(level=index), mode="r") for index in range(len(levels))]
    return [_TiffLevel(array, series.axes, array.chunks, holder, path) for array in arrays]


class _OpenFile:
    """Closes the file when the last level that reads from it is gone."""

    def __init__(self, file: tifffile.TiffFile) -> None:
        self.file = file
        weakref.finalize(self, file.close)


class _TiffLevel(Tiled):
    """A level whose decoding errors name the file."""

    def __init__(self, array: Any, axes: str, chunks: Sequence[int], keep: _OpenFile, path: Path) -> None:
        super().__init__(array, axes, chunks, keep)
        self._path = path

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        try:
            return super().__getitem__(region)
        except (RuntimeError, OSError, ValueError, struct.error) as error:
            raise ImageError(f"{self._path.name} cannot be decoded ({error}); it may be damaged.") from error


def _decode(path: Path) -> np.ndarray:
    """All pixels of a plain file, (H, W) or (H, W, 3)."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            return to_plane(series.asarray(), series.axes)
    except (tifffile.TiffFileError, OSError, RuntimeError, struct.error, ValueError) as error:
        raise ImageError(
            f"{path.name} cannot be decoded ({error}); it may be damaged or have moved."
        ) from error


def pixel_size(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> float | None:
    """Side of a pixel in micrometres: OME-XML before ImageJ's description before the resolution tags."""
    if file.ome_metadata:
        return _ome_pixel_size(file.ome_metadata)
    page = series.keyframe
    across, down = page.tags.get("XResolution"), page.tags.get("YResolution")
    if across is None or down is None:
        return None
    per_unit = [value[0] / value[1] if value[1] else 0.0 for value in (across.value, down.value)]
    if not all(per_unit):
        return None
    unit: str | None = {2: "inch", 3: "cm"}.get(int(page.resolutionunit))
    if file.imagej_metadata:
        unit = str(file.imagej_metadata.get("unit", ""))
    return square_pixel_um(1 / per_unit[1], 1 / per_unit[0], unit)


def _ome_pixel_size(xml: str) -> float | None:
    """PhysicalSizeX and -Y of the first image; the schema's default unit is the micrometre."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None  # no pixel size can be had from a description that is not XML
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return None
    lengths = []
    for axis in "YX":
        value = square_pixel_um(
            float(pixels.get(f"PhysicalSize{axis}", 0)),
            float(pixels.get(f"PhysicalSize{axis}", 0)),
            pixels.get(f"PhysicalSize{axis}Unit", "µm"),
        )
        lengths.append(value)
    return square_pixel_um(lengths[0], lengths[1], "um")
