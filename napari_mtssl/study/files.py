"""Files of images as a study sees them: their fingerprint, and files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from napari_mtssl.study.records import StudyError

_WHOLE = 64 * 2**20  # bytes up to which a file is read whole
_BLOCK = 2**20
_LARGEST = 500_000_000  # pixels of a picture


def checksum(path: Path) -> str:
    """Fingerprint of an image file or OME-Zarr folder.

    Files above 64 MiB (whole slides) are sampled: 64 blocks of 1 MiB, evenly spread, the first and the last
    among them, and the size. Of a folder, the names and sizes of all files, and the content of small ones
    (metadata).

    Returns
    -------
    str
        BLAKE2b with 128 bits, in hexadecimal.

    Raises
    ------
    StudyError
        If nothing can be read there.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        if path.is_dir():
            for file in sorted(p for p in path.rglob("*") if p.is_file()):
                size = file.stat().st_size
                digest.update(f"{file.relative_to(path).as_posix()}\0{size}\0".encode())
                if size <= _BLOCK and file.suffix in {".json", ".zattrs", ".zgroup", ".zarray", ""}:
                    digest.update(file.read_bytes())
        else:
            _digest_file(path, digest)
    except OSError as error:
        raise StudyError(f"The image {path} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()


def _digest_file(path: Path, digest: hashlib.blake2b) -> None:
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size <= _WHOLE:
            while block := stream.read(_BLOCK):
                digest.update(block)
            return
        digest.update(str(size).encode())
        for i in range(64):
            stream.seek((size - _BLOCK) * i // 63)
            digest.update(stream.read(_BLOCK))


def stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of last change in nanoseconds: a cheap hint that content has changed.

    Raises
    ------
    StudyError
        If there is nothing at `path`.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise StudyError(f"There is no image at {path}.") from error
    return found.st_size, found.st_mtime_ns


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without byte-order mark.

    Raises
    ------
    StudyError
        If it is not there, or no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(f"{path.name} is no text in UTF-8; save it so.") from error
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror}.") from error


def read_array(path: Path, what: str = "an image", *, indexed: bool = False) -> np.ndarray:
    """Read an array from a file: TIFF, PNG and other images, ``.npy``, a Zarr array or OME-Zarr image.

    Parameters
    ----------
    path : Path
    what : str
        What it should be, for messages.
    indexed : bool
        Of a picture with a palette of colours take the numbers, not the colours: masks come so, too.

    Raises
    ------
    StudyError
        If it is not there, or no such file.
    """
    if not path.exists():
        raise StudyError(f"There is no file {path}.")
    try:
        if path.is_dir():
            return _read_zarr(path)
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix.lower() in {".tif", ".tiff"}:
            import tifffile

            return plane(tifffile.imread(path))
        import imageio.v3

        with _large_pictures():
            numbers = _indices(path) if indexed else None
            return imageio.v3.imread(path) if numbers is None else numbers
    except StudyError:
        raise
    except Exception as error:  # every format has errors of its own: struct.error, SyntaxError, ...
        raise StudyError(f"{path.name} cannot be read as {what}: {_why(error)}.") from error


def _indices(path: Path) -> np.ndarray | None:
    """Give the numbers of a picture whose palette has colours; None of any other, also of one in grey."""
    import PIL.Image

    with PIL.Image.open(path) as file:
        palette = np.reshape(file.getpalette() or [], (-1, 3)) if file.mode == "P" else np.zeros((0, 3))
        return np.asarray(file) if (palette != palette[:, :1]).any() else None


@contextmanager
def _large_pictures() -> Iterator[None]:
    """Have Pillow open pictures that are as large as the masks that are written."""
    import PIL.Image

    before = PIL.Image.MAX_IMAGE_PIXELS
    PIL.Image.MAX_IMAGE_PIXELS = max(_LARGEST, before or _LARGEST)
    try:
        yield
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = before


def _why(error: Exception) -> str:
    """Say in a few words why a reader gave up."""
    text = " ".join(str(error).split())
    if "backend" in text or isinstance(error, struct.error):  # imageio lists what one might install
        return "it has no format that is known"
    if "pickle" in text:
        return "it holds no plain numbers"
    return text.split(". ")[0].rstrip(".") or type(error).__name__


def _read_zarr(path: Path) -> np.ndarray:
    """Read a Zarr array, or the first level of an OME-Zarr image, without axes of length one."""
    import zarr

    try:
        found = zarr.open(path, mode="r")
    except FileNotFoundError as error:
        raise StudyError(f"The folder {path.name} is no Zarr array and no OME-Zarr image.") from error
    if isinstance(found, zarr.Group):
        attributes = dict(found.attrs)
        try:
            described = attributes.get("ome", attributes)["multiscales"][0]
            level = described["datasets"][0]["path"]
        except (KeyError, IndexError, TypeError) as error:
            held = ", ".join(sorted(found.keys())) or "nothing"
            raise StudyError(
                f"{path.name} is a Zarr group but no OME-Zarr image; choose an array in it (it holds {held})."
            ) from error
        found = found[level]
    return plane(np.asarray(found[...]))


def plane(values: np.ndarray) -> np.ndarray:
    """Drop axes of length one until two are left, the first ones first."""
    while values.ndim > 2 and 1 in values.shape:
        values = np.squeeze(values, values.shape.index(1))
    return values


@contextmanager
def written_whole(path: Path) -> Iterator[IO[str]]:
    """Open a text file for writing that replaces `path` only when the block has ended well.

    A link stays one, to the new file. What is no file, as ``/dev/stdout`` or a pipe, is written to as it is.

    Raises
    ------
    StudyError
        If the folder does not exist or cannot be written, or the disk is full; `path` is then as it was.
    """
    if path.parent == Path("/dev") or (path.exists() and not path.is_file()):
        yield from _straight(path)
        return
    path = path.resolve()
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        with open(handle, "w", encoding="utf-8", newline="") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o666 & ~umask())  # mkstemp's files are for their owner alone
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StudyError(f"{path} cannot be written: {error.strerror}.") from error
        raise


def _straight(path: Path) -> Iterator[IO[str]]:
    """Open what cannot be replaced."""
    try:
        with path.open("w", encoding="utf-8", newline="") as stream:
            yield stream
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror}.") from error


def umask() -> int:
    """Return the permissions that new files of this process do without."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
