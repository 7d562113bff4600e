"""DICOM: one grey or colour frame, as its window shows it. Who the patient is is never read."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mtssl.images.image import Image, ImageError, StackError
from napari_mtssl.images.sources import Decoded, without_alpha
from napari_mtssl.images.units import square_pixel_um

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

# All that is read of a file. Names, ids and dates are not in it, so that they cannot get any further.
TAGS = [
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence",
    "PixelSpacing", "ImagerPixelSpacing", "PixelPaddingValue",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
]  # fmt: skip
# What is not said is done without.
SPARE = ("PixelSpacing", "ImagerPixelSpacing", "WindowCenter", "WindowWidth", "PixelPaddingValue")
UNDECODED = (
    ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError, struct.error,
)  # fmt: skip
# Enhanced DICOM says some of it in groups, for all frames or for each. They hold more (dates, other files),
# and only this is kept of them.
SHARED, EACH = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
GROUPS = {
    "PixelMeasuresSequence": ("PixelSpacing",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
}
GREY = ("MONOCHROME1", "MONOCHROME2")
PREAMBLE, MAGIC = 128, b"DICM"  # what a DICOM file begins with
OLD = (b"\x02\0", b"\x08\0", b"\0\x08")  # the first group, which old files begin with instead
INDEX = "DICOMDIR"  # lists the files of a disc, and holds no image
COARSEST = 5000.0  # micrometres; a detector's or a scanner's pixel, never a printer's
TOP = 65535

# Compressions that pydicom needs another package for, and who decodes them here.
CODECS = {
    "1.2.840.10008.1.2.4.50": "jpeg_decode",
    "1.2.840.10008.1.2.4.51": "jpeg_decode",
    "1.2.840.10008.1.2.4.57": "ljpeg_decode",
    "1.2.840.10008.1.2.4.70": "ljpeg_decode",
    "1.2.840.10008.1.2.4.80": "jpegls_decode",
    "1.2.840.10008.1.2.4.81": "jpegls_decode",
    "1.2.840.10008.1.2.4.90": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.91": "jpeg2k_decode",
}


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does, whatever it is called: scanners give names without an ending."""
    try:
        with path.open("rb") as file:
            return path.name.upper() != INDEX and file.read(PREAMBLE + len(MAGIC))[PREAMBLE:] == MAGIC
    except OSError:
        return False


def open_dicom(path: Path) -> Image:
    """Open a DICOM file of one frame: the header now, the pixels on first use.

    Grey becomes 16 bit: the stored values through the rescaling and the first window (or table) that the file
    gives, or from the least to the greatest without one; bright is what the screen shows bright, also where
    the file stores the negative (MONOCHROME1).

    Raises
    ------
    ImageError
        If it is no DICOM image, one of several frames, without pixels, or cut short.
    """
    header = _read(path, pixels=False)
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise StackError(f"{path.name} holds {frames} frames; export the one to label as a file of its own.")
    rows, cols, kind = header.get("Rows"), header.get("Columns"), header.get("PhotometricInterpretation")
    if not rows or not cols or not kind:
        raise ImageError(f"{path.name} is a DICOM file without an image; choose one that holds pixels.")
    if path.stat().st_size < _least_bytes(header):
        raise ImageError(f"{path.name} is cut short (pixels beyond its end); copy the file again.")
    grey = str(kind) in GREY
    shape = (int(rows), int(cols)) if grey else (int(rows), int(cols), 3)
    deep = grey or int(header.get("BitsAllocated") or 8) > 8 or str(kind) == "PALETTE COLOR"
    dtype = np.dtype(np.uint16 if deep else np.uint8)
    image = Image(path, [Decoded(shape, dtype, lambda: _decode(path, shape, dtype))], _pixel_size(header))
    image.shown = (0.0, float(TOP)) if grey else None  # the window is applied already
    return image


def _least_bytes(header: Dataset) -> int:
    """Bytes that the pixels of a file alone need; 0 where they are compressed."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    plain = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
    if header.file_meta.TransferSyntaxUID not in plain:
        return 0
    # colour may be stored with one value of each hue for two pixels
    samples = (
        2 if "_422" in str(header.PhotometricInterpretation) else int(header.get("SamplesPerPixel") or 1)
    )
    bits = int(header.Rows) * int(header.Columns) * samples * int(header.get("BitsAllocated") or 8)
    return bits // 8


def frames(path: Path) -> Iterator[np.ndarray]:
    """Grey frames of a DICOM file as the screen shows them, 16 bit.

    All go through the same rescaling and window, unless the file gives each its own. Without a window, black
    and white are the least and the greatest value of all frames.

    Raises
    ------
    ImageError
        If they are in colour, or cannot be decoded.
    """
    file = _read(path, pixels=True)
    if str(file.get("PhotometricInterpretation")) not in GREY:
        raise ImageError(f"{path.name} holds frames in colour; export those to label as files of their own.")
    try:
        stored = _stored(path, file).reshape(-1, int(file.Rows), int(file.Columns))
        # a group that is given for one frame is given for all (PS3.3 C.7.6.16), so that none keeps another's
        own = file.get(EACH) or [{}] * len(stored)
        spans = []
        for frame, group in zip(stored, own, strict=True):
            file.update(group)
            spans.append(_span(file, frame))
        lows, highs = zip(*spans, strict=True)
        for frame, group in zip(stored, own, strict=True):
            file.update(group)
            yield _displayed(file, frame, (min(lows), max(highs)))
    except UNDECODED as error:
        raise ImageError(f"{path.name} cannot be decoded; it may be damaged.") from error


def pixel_size_of(path: Path) -> float | None:
    """Side of a pixel in micrometres, None if the file does not tell."""
    return _pixel_size(_read(path, pixels=False))


def _read(path: Path, *, pixels: bool) -> Dataset:
    """Read what `TAGS` names of the file; of its pixels, if not `pixels`, only that there are some."""
    import pydicom
    from pydicom.errors import BytesLengthException, InvalidDicomError
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    unreadable = (
        InvalidDicomError, BytesLengthException, OSError, EOFError, ValueError, KeyError, TypeError,
        NotImplementedError, struct.error,
    )  # fmt: skip
    tags: list[Any] = [tag for tag in (*TAGS, SHARED, EACH) if pixels or tag != "PixelData"]
    try:
        with path.open("rb") as stream:
            old = stream.read(2) in OLD
            stream.seek(0)
            file = pydicom.dcmread(stream, specific_tags=tags, stop_before_pixels=not pixels, force=old)
            ended = not pixels and not stream.read(1)
        if old and "Rows" not in file:
            raise InvalidDicomError  # it only happened to begin alike
        _name_syntax(file)
        _flatten(file)
        _check_numbers(file)
    except unreadable as error:
        raise ImageError(f"{path.name} is not a DICOM file that can be read, or is cut short.") from error
    # what is deflated is read to its end to be unpacked
    if ended and file.file_meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
        raise ImageError(
            f"{path.name} is a DICOM file without pixels; choose one that holds an image, or copy it again."
        )
    return file


def _flatten(file: Dataset) -> None:
    """Put what the groups of an enhanced file say of all frames, and of the first, where other files do."""
    shared, each = ([_told(group) for group in file.get(name) or []] for name in (SHARED, EACH))
    for name in (SHARED, EACH):
        file.pop(name, None)
    for group in shared[:1] + each[:1]:
        file.update(group)
    if each:
        setattr(file, EACH, each)


def _told(group: Dataset) -> Dataset:
    """Take what `GROUPS` names out of a group, without the sequences around it."""
    from pydicom import Dataset

    told = Dataset()
    for sequence, names in GROUPS.items():
        for item in group.get(sequence) or []:
            told.update({item[name].tag: item[name] for name in names if name in item})
    return told


def _check_numbers(file: Dataset) -> None:
    """Unpack all values, so that what is damaged shows here; a number that is not needed is left out."""
    for element in [element for element in file if element.VR in ("DS", "IS")]:
        said = element.value not in (None, "")
        try:
            np.atleast_1d(element.value if said else 0).astype(float)
        except ValueError:
            if element.keyword not in SPARE:
                raise
            said = False
        if not said:
            del file[element.tag]


def _name_syntax(file: Dataset) -> None:
    """Say how the values of a file are written if it does not: as pydicom found when it read them."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "TransferSyntaxUID" not in file.file_meta:
        implicit, little = file.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        file.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _pixel_size(header: Dataset) -> float | None:
    """Side of a pixel in micrometres: in the patient if calibrated, else on the detector."""
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        spacing = np.atleast_1d(header.get(name) or [])
        if len(spacing) == 2:
            return square_pixel_um(float(spacing[0]), float(spacing[1]), "mm", COARSEST)
    return None


def _decode(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """All pixels as the screen shows them, (H, W) or (H, W, 3)."""
    from pydicom.pixels import apply_color_lut

    file = _read(path, pixels=True)
    stored = _stored(path, file)
    try:
        if len(shape) == 2:
            return _displayed(file, stored.reshape(shape))
        if str(file.PhotometricInterpretation) == "PALETTE COLOR":
            stored = apply_color_lut(stored, file)
            if stored.dtype == np.uint8:
                stored = stored.astype(np.uint16) * 257
        return without_alpha(stored.reshape(*shape[:2], -1)).astype(dtype, copy=False).reshape(shape)
    except UNDECODED as error:
        raise ImageError(f"{path.name} cannot be decoded; it may be damaged.") from error


def _stored(path: Path, file: Dataset) -> np.ndarray:
    """Pixels as they are stored."""
    syntax = file.file_meta.TransferSyntaxUID
    try:
        try:
            return np.asarray(file.pixel_array)
        except (RuntimeError, NotImplementedError, ImportError):
            # pydicom has no decoder for this compression, or not for this kind of it; ours may
            return _decompressed(file, CODECS[str(syntax)])
    except (RuntimeError, ImportError, ValueError, AttributeError, KeyError, OSError) as error:
        if isinstance(error, KeyError | ImportError) and not _is_decoded_by_pydicom(syntax):
            raise ImageError(
                f"{path.name} is compressed ({syntax.name}) and no codec for it is installed; "
                "install pylibjpeg with its plugins, or save the image uncompressed."
            ) from error
        raise ImageError(f"{path.name} cannot be decoded; it may be cut short or damaged.") from error


def _is_decoded_by_pydicom(syntax: UID) -> bool:
    """Whether pydicom has all it needs for a compression, so that only the stream can be at fault."""
    from pydicom.pixels import get_decoder

    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _decompressed(file: Dataset, codec: str) -> np.ndarray:
    """Pixels of all frames, in the shape and with the signs that `Dataset.pixel_array` has."""
    import imagecodecs
    from pydicom.encaps import generate_frames

    decode = getattr(imagecodecs, codec)
    count = int(file.get("NumberOfFrames") or 1)
    pixels = np.stack([decode(frame) for frame in generate_frames(file.PixelData, number_of_frames=count)])
    if file.PixelRepresentation == 1:
        # The codecs know no signs: the highest of the bits that are stored is one.
        unused = file.BitsAllocated - file.BitsStored
        size = file.BitsAllocated // 8
        pixels = (pixels.astype(f"u{size}") << unused).view(f"i{size}") >> unused
    return pixels if count > 1 else pixels[0]


def _displayed(file: Dataset, stored: np.ndarray, span: tuple[float, float] | None = None) -> np.ndarray:
    """Grey as 16 bit, through the rescaling and the window of the file, or all of a span of values."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    values = apply_modality_lut(stored, file)
    if file.get("VOILUTSequence"):
        values = apply_voi_lut(values, file, index=0, prefer_lut=True)
        table = file.VOILUTSequence[0].LUTDescriptor
        low, high = 0.0, float(2 ** int(table[2]) - 1)
    else:
        low, high = _window(file) or span or _span(file, stored)
        high = high if high > low else low + 1.0
    values = values.astype(np.float64)
    if _is_sigmoid(file):
        unit = 1 / (1 + np.exp(-4 * (values - (low + high) / 2) / (high - low)))
    else:
        unit = np.clip((values - low) / (high - low), 0, 1)
    if file.PhotometricInterpretation == "MONOCHROME1":
        unit = 1 - unit
    return np.rint(unit * TOP).astype(np.uint16)


def _is_sigmoid(file: Dataset) -> bool:
    """Whether the window is to be applied as a smooth curve."""
    return file.get("VOILUTFunction") == "SIGMOID" and not file.get("VOILUTSequence")


def _window(file: Dataset) -> tuple[float, float] | None:
    """Values that the first window of a file shows black and white (PS3.3 C.11.2.1.2)."""
    centres, widths = (np.atleast_1d(file.get(name) or []) for name in ("WindowCenter", "WindowWidth"))
    if len(centres) and len(widths):
        centre, width = float(centres[0]), float(widths[0])
        if file.get("VOILUTFunction") in ("LINEAR_EXACT", "SIGMOID") and width > 0:
            return centre - width / 2, centre + width / 2
        if width > 1 and math.isfinite(centre):
            return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    return None


def _span(file: Dataset, stored: np.ndarray) -> tuple[float, float]:
    """Least and greatest value that occurs, rescaled, but for what only pads the image."""
    from pydicom.pixels import apply_modality_lut

    values = apply_modality_lut(stored, file)
    padding = file.get("PixelPaddingValue")
    there = values if padding is None else values[stored != padding]  # which is not rescaled
    there = there if there.size else values
    return float(there.min()), float(there.max())
