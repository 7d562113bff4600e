"""Open images, kept within bounds."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Protocol

from napari_mtssl.images.image import Image, ImageError
from napari_mtssl.images.opening import open_image

Key = tuple[str, int, int, float | None]


class Record(Protocol):
    """What the pool needs to know of a study's image."""

    @property
    def path(self) -> Path:
        """Where the file is."""

    @property
    def height(self) -> int:
        """Rows the study knows."""

    @property
    def width(self) -> int:
        """Columns the study knows."""

    @property
    def pixel_size_um(self) -> float | None:
        """Pixel size the study knows."""


class ImagePool:
    """Opens a study's images and keeps the recently used ones.

    Parameters
    ----------
    max_images : int
        Open images kept at most.
    max_bytes : int
        Decoded pixels kept at most, unless one image alone needs more.

    Notes
    -----
    Safe to share between threads. An image that leaves the pool stays usable for whoever holds it.
    """

    def __init__(self, max_images: int = 64, max_bytes: int = 1 << 30) -> None:
        self.max_images = max_images
        self.max_bytes = max_bytes
        self._open: OrderedDict[Key, Image] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, record: Record) -> Image:
        """Give the opened image of a record.

        Raises
        ------
        ImageError
            If the file is gone, cannot be read, or has another size than when it was added to the study.
        """
        path = Path(record.path)
        where, key = _key_of(record)
        with self._lock:
            image = self._open.pop(key, None)
            if image is not None:
                self._open[key] = image
                self._evict()  # it may have grown
                return image
        # a server may let one wait: the others' images are to be had meanwhile
        try:
            image = open_image(where, pixel_size_um=record.pixel_size_um)
        except ImageError as error:
            raise ImageError(
                f"{error} It was readable when it was added to the study: restore the file, or take "
                "the image out of the study."
            ) from error
        if (image.height, image.width) != (record.height, record.width):
            raise ImageError(
                f"{path.name} is now {image.height} x {image.width} pixels but was {record.height} x "
                f"{record.width} when it was added; restore the file or add it as a new image."
            )
        with self._lock:
            image = self._open.setdefault(key, image)  # somebody may have opened it, too
            self._evict()
        return image

    def _evict(self) -> None:
        """Forget the least recently used images until the bounds hold."""
        held = sum(image.nbytes_held for image in self._open.values())
        while len(self._open) > 1 and (len(self._open) > self.max_images or held > self.max_bytes):
            _, image = self._open.popitem(last=False)
            held -= image.nbytes_held

    def __len__(self) -> int:
        return len(self._open)

    def clear(self) -> None:
        """Forget all images."""
        with self._lock:
            self._open.clear()


def _key_of(record: Record) -> tuple[Path | str, Key]:
    """Tell what opens an image, and what is different of others and of what it was before."""
    url: str | None = getattr(record, "url", None)  # a record of files alone need not have it
    if url is not None:
        return url, (url, 0, 0, record.pixel_size_um)
    path = Path(record.path)
    try:
        stat = path.stat()
    except OSError as error:
        raise ImageError(
            f"The image {path} has moved or cannot be reached; say where it is now (step 1 of the dock, or "
            "'napari-mtssl relocate STUDY FOLDER')."
        ) from error
    return path, (str(path), stat.st_mtime_ns, stat.st_size, record.pixel_size_um)
