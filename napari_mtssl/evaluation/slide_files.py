"""Made-up slides as files: Aperio's SVS, a tiled TIFF, OME-TIFF and OME-Zarr, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_mtssl.evaluation.slide_generator import MadeSlide, grid
from napari_mtssl.images import ImageError

TILE = 512
SMALLEST = 1024  # pixels along the longer side, at which a pyramid ends
CACHED = 1024  # encoded tiles that are kept, for most of a large slide repeats


def write_slide(slide: MadeSlide, path: Path, *, tile: int = TILE, lossless: bool = False) -> Path:
    """Write a made-up slide as its suffix says.

    Parameters
    ----------
    slide : MadeSlide
    path : Path
        Ends in ``.svs`` (levels reduced by 4, with thumbnail, label and macro), ``.tif`` or ``.ome.tif``
        (levels reduced by 2) or ``.ome.zarr``.
    tile : int
        Side of the tiles or chunks, a multiple of 16.
    lossless : bool
        Compress TIFF tiles with deflate instead of JPEG.

    Returns
    -------
    Path

    Raises
    ------
    ImageError
        If the suffix is another one.
    """
    name = path.name.lower()
    if name.endswith(".zarr"):
        _write_zarr(slide, path, tile)
    elif name.endswith((".ome.tif", ".ome.tiff")):
        _write_ome_tiff(slide, path, tile, lossless)
    elif name.endswith(".svs"):
        _write_svs(slide, path, tile, lossless)
    elif name.endswith((".tif", ".tiff")):
        _write_tiff(slide, path, tile, lossless)
    else:
        raise ImageError(f"{path.name} is no kind of slide that can be made; use .svs, .tif or .ome.zarr.")
    return path


def levels_of(slide: MadeSlide, every: int = 1) -> list[int]:
    """Reductions, as powers of two, of a pyramid that ends where it is small."""
    levels = [0]
    while max(slide.level_shape(levels[-1])) > SMALLEST:
        levels.append(levels[-1] + every)
    return levels


class _Encoder:
    """Tiles of a slide as bytes; equal tiles are made once."""

    def __init__(self, slide: MadeSlide, tile: int, lossless: bool) -> None:
        self.slide, self.tile, self.lossless = slide, tile, lossless
        self.cache: dict[tuple[int, ...], bytes] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """What `TiffWriter.write` must know of the bytes."""
        shared = {"tile": (self.tile, self.tile), "dtype": np.uint8}
        if self.lossless:
            return shared | {"compression": "adobe_deflate", "photometric": "rgb"}
        return shared | {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 2)}

    def tiles(self, level: int) -> Iterator[bytes]:
        """Encode the tiles of a level, row by row."""
        for row0, col0 in grid(self.slide.level_shape(level), self.tile):
            key = self.slide.tile_key(row0, col0, self.tile, level)
            data = None if key is None else self.cache.get(key)
            if data is None:
                data = self._encode(self.slide.read(row0, col0, self.tile, self.tile, level))
                if key is not None and len(self.cache) < CACHED:
                    self.cache[key] = data
            yield data

    def _encode(self, pixels: np.ndarray) -> bytes:
        import imagecodecs

        if self.lossless:
            return bytes(imagecodecs.zlib_encode(pixels.tobytes(), level=1))
        return bytes(
            imagecodecs.jpeg8_encode(
                pixels, level=85, colorspace="RGB", outcolorspace="YCBCR", subsampling="420"
            )
        )


def _resolution(slide: MadeSlide, level: int) -> dict[str, Any]:
    per_cm = 1e4 / (slide.pixel_size_um * 2**level)
    return {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}


def _writer(slide: MadeSlide, path: Path, **settings: Any) -> Any:
    import tifffile

    return tifffile.TiffWriter(path, bigtiff=slide.height * slide.width > 2**30, **settings)


def _write_tiff(slide: MadeSlide, path: Path, tile: int, lossless: bool) -> None:
    encoder = _Encoder(slide, tile, lossless)
    with _writer(slide, path) as file:
        for level in levels_of(slide):
            file.write(
                encoder.tiles(level),
                shape=slide.level_shape(level),
                subfiletype=0 if level == 0 else 1,
                metadata=None,
                **encoder.settings,
                **_resolution(slide, level),
            )


def _write_svs(slide: MadeSlide, path: Path, tile: int, lossless: bool) -> None:
    encoder = _Encoder(slide, tile, lossless)
    levels = levels_of(slide, every=2)
    height, width = slide.height, slide.width
    about = f"|AppMag = {slide.magnification:g}|MPP = {slide.pixel_size_um:.4f}|Filename = made"
    head = f"Aperio Image Library v12.0.0\r\n{width}x{height} [0,0 {width}x{height}] ({tile}x{tile})"
    rows, cols, _ = slide.level_shape(levels[-1])
    thumbnail = slide.read(0, 0, rows, cols, levels[-1])
    plain = {"photometric": "rgb", "metadata": None, "rowsperstrip": 16}
    with _writer(slide, path) as file:
        for index, level in enumerate(levels):
            h, w, _ = slide.level_shape(level)
            file.write(
                encoder.tiles(level),
                shape=slide.level_shape(level),
                description=head + (f" -> {w}x{h}" if level else "") + f" JPEG/RGB Q=85{about}",
                metadata=None,
                **encoder.settings,
            )
            if index == 0:  # Aperio's second page is the thumbnail
                file.write(thumbnail, description=f"{head} -> {cols}x{rows} - {about}", **plain)
        label = np.full((64, 96, 3), 255, np.uint8)
        file.write(label, description=f"{head}\r\nlabel 96x64", subfiletype=1, **plain)
        file.write(thumbnail, description=f"{head}\r\nmacro {cols}x{rows}", subfiletype=9, **plain)


def _write_ome_tiff(slide: MadeSlide, path: Path, tile: int, lossless: bool) -> None:
    encoder = _Encoder(slide, tile, lossless)
    levels = levels_of(slide)
    size = slide.pixel_size_um
    about = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeY": size, "Name": "made"}
    with _writer(slide, path, ome=True) as file:
        for level in levels:
            first = {"subifds": len(levels) - 1, "metadata": about}
            file.write(
                encoder.tiles(level),
                shape=slide.level_shape(level),
                **(first if level == 0 else {"subfiletype": 1, "metadata": None}),
                **encoder.settings,
                **_resolution(slide, level),
            )


def _write_zarr(slide: MadeSlide, path: Path, tile: int) -> None:
    from napari_mtssl.images.pyramids import create_pyramid

    arrays = create_pyramid(
        path,
        slide.shape,
        np.dtype(np.uint8),
        slide.pixel_size_um,
        chunk=tile,
        n_levels=len(levels_of(slide)),
    )
    for level, array in enumerate(arrays):
        for row0, col0 in grid(slide.level_shape(level), tile):
            height, width = (min(tile, n - at) for n, at in zip(array.shape[1:], (row0, col0), strict=True))
            pixels = slide.read(row0, col0, height, width, level)
            array[:, row0 : row0 + height, col0 : col0 + width] = pixels.transpose(2, 0, 1)
