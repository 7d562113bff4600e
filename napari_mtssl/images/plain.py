"""PNG, JPEG and BMP: decoded as a whole on first use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_mtssl.images.image import Image, ImageError
from napari_mtssl.images.sources import Decoded, without_alpha

# Pillow's mode to the mode we decode to; the others hold no 8- or 16-bit intensities.
MODES = {
    "L": "L",
    "LA": "LA",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "I;16": "I;16",
    "I;16B": "I;16",
    "P": "RGBA",
    "PA": "RGBA",
    "CMYK": "RGB",
    "YCbCr": "RGB",
}
if TYPE_CHECKING:
    import PIL.ImageFile

COLOUR = ("RGB", "RGBA")


def open_plain(path: Path) -> Image:
    """Open a PNG, JPEG or BMP: the header now, the pixels on first use.

    Raises
    ------
    ImageError
        If it is no such file, is cut short, or holds something else than 8- or 16-bit grey or colour.
    """
    import PIL.Image

    try:
        with PIL.Image.open(path) as file:
            mode, (width, height), kind = file.mode, file.size, file.format
            frames = getattr(file, "n_frames", 1)
            raw = str(file.tile[0][3]) if file.tile else ""
            size = _bytes_of_bmp(file) if kind == "BMP" else 0
            if kind == "PNG":
                file.verify()  # checks every chunk's sum, decodes nothing
    except PIL.Image.DecompressionBombError as error:
        raise ImageError(
            f"{path.name} is too large to be decoded as a whole; save it as a tiled TIFF or as OME-Zarr."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(
            f"{path.name} is not an image that can be read, or is cut short: {error}."
        ) from error
    if kind == "JPEG" and not _has_end_of_jpeg(path):
        raise ImageError(f"{path.name} is cut short (a JPEG without its end); copy the file again.")
    if path.stat().st_size < size:
        raise ImageError(f"{path.name} is cut short (pixels beyond its end); copy the file again.")
    if frames > 1:
        raise ImageError(f"{path.name} is an animation of {frames} frames; save the one you want to label.")
    if mode not in MODES:
        held = {"1": "True/False", "F": "float32", "I": "32-bit"}.get(mode, mode)
        raise ImageError(f"{path.name} holds {held} pixels; convert it to 8-bit or 16-bit unsigned integers.")
    deep = kind == "PNG" and "16" in raw
    shape = (height, width, 3) if MODES[mode] in COLOUR else (height, width)
    dtype = np.dtype(np.uint16 if deep or MODES[mode] == "I;16" else np.uint8)
    decode = (lambda: _decode_deep_png(path)) if deep else (lambda: _decode(path, MODES[mode]))
    return Image(path, [Decoded(shape, dtype, decode)])


def _has_end_of_jpeg(path: Path, tail: int = 65536) -> bool:
    """Whether the end-of-image mark is near the end; cameras may append a little after it."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - tail, 0))
        return b"\xff\xd9" in file.read()


def _bytes_of_bmp(file: PIL.ImageFile.ImageFile) -> int:
    """Where the pixels of a BMP end, 0 where they are compressed."""
    codec, _, begin, options = file.tile[0]
    if codec != "raw" or not isinstance(options, tuple):
        return 0
    return int(begin) + int(options[1]) * file.height


def _decode(path: Path, mode: str) -> np.ndarray:
    """All pixels, (H, W) or (H, W, 3)."""
    import PIL.Image

    try:
        with PIL.Image.open(path) as file:
            pixels = np.asarray(file if file.mode == mode else file.convert(mode))
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(
            f"{path.name} cannot be decoded ({error}); it may be cut short or have moved."
        ) from error
    return without_alpha(pixels.reshape(*pixels.shape[:2], -1))


def _decode_deep_png(path: Path) -> np.ndarray:
    """All pixels of a 16-bit PNG; Pillow would drop the lower half of its colours."""
    import imagecodecs

    try:
        pixels = imagecodecs.png_decode(path.read_bytes())
    except (OSError, imagecodecs.PngError) as error:
        raise ImageError(
            f"{path.name} cannot be decoded ({error}); it may be cut short or have moved."
        ) from error
    return without_alpha(pixels.reshape(*pixels.shape[:2], -1))
