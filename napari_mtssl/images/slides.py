"""Whole slides through OpenSlide: Aperio, Hamamatsu, Leica, 3DHISTECH, Ventana, Philips and others."""

from __future__ import annotations

import threading
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mtssl.images.image import Image, ImageError
from napari_mtssl.images.sources import grown_tile, window, without_alpha
from napari_mtssl.images.units import square_pixel_um

if TYPE_CHECKING:
    import openslide

SUFFIXES = (".svs", ".ndpi", ".scn", ".mrxs", ".bif", ".vms", ".vmu", ".svslide")
# Decoded tiles that all slides together keep, bytes.
CACHE = 128 * 2**20
# Kinds of TIFF that carry no maker's layout: tifffile reads those, and faster.
PLAIN = "generic-tiff"


def open_slide(path: Path) -> Image:
    """Open a slide with OpenSlide: all its levels, pixel size, magnification and associated images.

    Raises
    ------
    ImageError
        If OpenSlide does not know the file, or it is damaged.
    """
    slide = _Slide(path)
    handle = slide.handle()
    sources = [_Level(slide, level) for level in range(handle.level_count)]
    facts = handle.properties
    pixel_size = square_pixel_um(
        _number(facts.get("openslide.mpp-y")), _number(facts.get("openslide.mpp-x")), "um"
    )
    return Image(
        path,
        sources,
        pixel_size,
        magnification=_number(facts.get("openslide.objective-power")),
        associated={name: partial(slide.associated, name) for name in handle.associated_images},
    )


def maker(path: Path) -> str | None:
    """Name of the maker whose layout a file has, as OpenSlide calls it; None for a plain TIFF or no slide."""
    try:
        import openslide
    except (ImportError, OSError):  # no OpenSlide for this platform: what tifffile reads can still be read
        return None
    vendor = openslide.OpenSlide.detect_format(str(path))
    return None if vendor in (None, PLAIN) else str(vendor)


class _Slide:
    """An open file that is opened again after an error: OpenSlide's handles are of no use after one.

    OpenSlide reads from several threads at once, so the lock is only for opening.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._open: openslide.OpenSlide | None = None

    def handle(self) -> openslide.OpenSlide:
        """Give the open file."""
        try:
            import openslide
        except (ImportError, OSError) as error:
            raise ImageError(
                f"{self.path.name} needs OpenSlide, which does not load here ({error}); "
                "install openslide-bin or convert the slide to OME-Zarr elsewhere."
            ) from error
        with self._lock:
            if self._open is None:
                try:
                    self._open = openslide.OpenSlide(str(self.path))
                except openslide.OpenSlideUnsupportedFormatError as error:
                    raise ImageError(
                        f"{self.path.name} is not a slide that OpenSlide can read, or is cut short; "
                        "copy it again, with the files that belong to it."
                    ) from error
                except (openslide.OpenSlideError, OSError) as error:
                    raise ImageError(f"{self.path.name} cannot be opened as a slide: {error}.") from error
                self._open.set_cache(_cache())
            return self._open

    def forget(self) -> None:
        """Have the file opened anew the next time."""
        with self._lock:
            self._open = None

    def read(self, level: int, row0: int, col0: int, height: int, width: int) -> np.ndarray:
        """Pixels of a level (height, width, 3), what the scanner left out in white."""
        import openslide

        handle = self.handle()
        factor_cols = handle.dimensions[0] / handle.level_dimensions[level][0]
        factor_rows = handle.dimensions[1] / handle.level_dimensions[level][1]
        corner = (round(col0 * factor_cols), round(row0 * factor_rows))
        try:
            pixels = np.asarray(handle.read_region(corner, level, (width, height)))
        except (openslide.OpenSlideError, OSError) as error:
            self.forget()
            raise ImageError(f"{self.path.name} cannot be decoded ({error}); it may be damaged.") from error
        return without_alpha(pixels)

    def associated(self, name: str) -> np.ndarray:
        """One of the pictures beside the slide, (h, w, 3)."""
        import openslide

        try:
            return without_alpha(np.asarray(self.handle().associated_images[name]))
        except (openslide.OpenSlideError, OSError) as error:
            self.forget()
            raise ImageError(f"The {name} of {self.path.name} cannot be decoded ({error}).") from error


class _Level:
    """One level of a slide (a `Source`)."""

    nbytes_held = 0  # the cache that all slides share has a bound of its own
    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, slide: _Slide, level: int) -> None:
        self._slide, self._level = slide, level
        handle = slide.handle()
        width, height = handle.level_dimensions[level]
        self.shape: tuple[int, ...] = (height, width, 3)
        self.ndim = 3
        tile = [
            handle.properties.get(f"openslide.level[{level}].tile-{side}") for side in ("height", "width")
        ]
        self.chunks = (
            grown_tile(int(_number(tile[0]) or 256), height),
            grown_tile(int(_number(tile[1]) or 256), width),
        )

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        row0, row1, col0, col1, rest = window(region, self.shape)
        if row1 == row0 or col1 == col0:
            pixels = np.empty((row1 - row0, col1 - col0, 3), self.dtype)
        else:
            pixels = self._slide.read(self._level, row0, col0, row1 - row0, col1 - col0)
        return pixels[rest]


@cache
def _cache() -> openslide.OpenSlideCache:
    """Make the one cache of decoded tiles that all slides share."""
    import openslide

    return openslide.OpenSlideCache(CACHE)


def _number(text: str | None) -> float | None:
    """Read a positive number, if the text is one."""
    try:
        value = float(text) if text is not None else 0.0
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None
