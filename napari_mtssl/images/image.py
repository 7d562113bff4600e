"""What the rest of the program sees of an image: its size, its pixels as RGB, and its pixel size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import dask.array as da

    from napari_mtssl.images.tissue import TissueMask

# Patches are cut from blocks of this side, so that neighbours share one read of the file.
BLOCK = 1024
# Times as many rows as the next level: then one in between is made.
FAR = 2.5
# An image with more pixels than this is taken as a slide.
LARGE = 2**26


class ImageError(ValueError):
    """An image cannot be used; the message says what to change."""


class StackError(ImageError):
    """A file holds several planes; see `images.stacks`."""


class FlatImageError(ImageError):
    """An image is too large to be opened without a pyramid; one can be written."""


class Source(Protocol):
    """One level of an image as its file stores it: what a format's opener provides.

    Attributes
    ----------
    shape : tuple of int
        ``(H, W)`` for grey or ``(H, W, 3)`` for RGB.
    dtype : numpy.dtype
        ``uint8`` or ``uint16``.
    chunks : tuple of int
        ``(rows, columns)`` that are cheap to read together.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, int]

    @property
    def nbytes_held(self) -> int:
        """Bytes of decoded pixels kept in memory at present."""

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        """Pixels of ``[row0:row1, col0:col1]`` (steps of one), always as wide as `shape` says."""


class Image:
    """An opened image, read region by region.

    Parameters
    ----------
    path : Path
        Of an image at a URL, only the name means anything.
    sources : sequence of Source
        Levels of the pyramid, finest first.
    pixel_size_um : float, optional
        Side of a level-0 pixel in micrometres; None if the file does not tell.
    magnification : float, optional
        Of the objective, as the file tells it.
    associated : mapping of str to callable, optional
        Names of the pictures beside the image (thumbnail, label, macro) to functions that read them as
        (h, w, 3). A label may show who the patient is: it is read only when somebody asks.
    scale : tuple of float
        Level-0 pixels of the file per pixel of this image, other than one for what `at` gives.

    Notes
    -----
    Reading is safe from several threads at once.
    """

    def __init__(
        self,
        path: Path,
        sources: Sequence[Source],
        pixel_size_um: float | None = None,
        *,
        magnification: float | None = None,
        associated: Mapping[str, Callable[[], np.ndarray]] | None = None,
        scale: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        self.path = path
        self.sources = tuple(sources)
        self.pixel_size_um = pixel_size_um
        self.magnification = magnification
        self.associated = dict(associated or {})
        self.scale = scale
        self.tissue_file: Path | None = None  # where a corrected mask of its tissue is, if there is one
        self.tissue: tuple[object, TissueMask] | None = None  # kept by `find_tissue`
        self.url: str | None = None  # where it is, if it is not a file of this computer
        self.shown: tuple[float, float] | None = None  # values of black and white, if the file says them
        self._levels: list[da.Array] | None = None

    def __repr__(self) -> str:
        size = "unknown" if self.pixel_size_um is None else f"{self.pixel_size_um:g} um"
        return (
            f"<Image {self.path.name}: {self.height} x {self.width}, {self.channels} x {self.dtype}, {size}>"
        )

    @property
    def location(self) -> str:
        """Absolute path or URL: what opens it again, and what a study knows it by."""
        return self.url or str(self.path.absolute())

    @property
    def height(self) -> int:
        """Rows of level 0."""
        return self.sources[0].shape[0]

    @property
    def width(self) -> int:
        """Columns of level 0."""
        return self.sources[0].shape[1]

    @property
    def is_slide(self) -> bool:
        """Whether it is too large for all of it to be held, or for a part to stand for it."""
        return is_slide(self.height, self.width)

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB; an alpha channel is already composited on white)."""
        return 3 if len(self.sources[0].shape) == 3 else 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """``uint8`` or ``uint16``."""
        return self.sources[0].dtype

    @property
    def nbytes_held(self) -> int:
        """Bytes of decoded pixels kept in memory at present."""
        return sum(source.nbytes_held for source in self.sources)

    @property
    def levels(self) -> list[da.Array]:
        """The pyramid as dask arrays, finest first: ``(H, W)`` for grey, ``(H, W, 3)`` for RGB.

        Where a level of the file is more than half as small again as the one before, one in between is made
        as it is read: a viewer takes the level that is just fine enough, which else were up to sixteen times
        as many pixels as the screen has.
        """
        if self._levels is None:
            import dask.array as da  # a second to import: only the window needs it

            from napari_mtssl.images.polite import Polite

            self._levels = [
                da.from_array(
                    Polite(source),
                    chunks=(*source.chunks, *source.shape[2:]),
                    name=f"{self.path.name}-{level}-{id(source)}",
                    asarray=False,
                    lock=False,
                    meta=np.empty((0,) * len(source.shape), source.dtype),
                )
                for level, source in enumerate(_closer(self.sources))
            ]
        return self._levels

    def read(self, row0: int, col0: int, height: int, width: int) -> np.ndarray:
        """Read a rectangle of level 0 as RGB, wherever it lies.

        Parameters
        ----------
        row0, col0 : int
            First pixel; may be negative.
        height, width : int
            Size of the rectangle; what lies outside the image is padded by reflection (numpy's ``reflect``),
            for any overhang.

        Returns
        -------
        ndarray, shape (height, width, 3), of the image's dtype
            Grey is repeated three times.

        Raises
        ------
        ImageError
            If the file cannot be decoded, or the rectangle is empty.
        """
        if height < 1 or width < 1:
            raise ImageError(f"A region of {height} x {width} pixels is empty; ask for at least 1 x 1.")
        rows = reflect_index(int(row0), height, self.height)
        cols = reflect_index(int(col0), width, self.width)
        top, left = int(rows.min()), int(cols.min())
        region = self.sources[0][top : int(rows.max()) + 1, left : int(cols.max()) + 1]
        if region.shape[:2] != (height, width) or rows[0] != top or cols[0] != left:
            region = region[np.ix_(rows - top, cols - left)]
        if region.ndim == 2:
            region = np.broadcast_to(region[..., None], (*region.shape, 3))
        return np.array(region)  # a copy: what the caller does must not reach the pixels we hold

    def at(self, um_per_px: float) -> Image:
        """Give this image with pixels of another size: resampled as it is read, from the level that fits.

        Parameters
        ----------
        um_per_px : float
            Side of a pixel in micrometres. If a level of the file has it within 1 %, that level is taken as
            it is.

        Returns
        -------
        Image
            Row ``r`` of it is centred at row ``(r + 0.5) * scale[0] - 0.5`` of this one's level 0.

        Raises
        ------
        ImageError
            If the pixel size is not known, or is more than twice as large as what is asked for.
        """
        from napari_mtssl.images.scaled import Scaled

        if self.pixel_size_um is None:
            raise ImageError(
                f"{self.path.name} does not say how large its pixels are; give their size in micrometres."
            )
        if not um_per_px > 0 or um_per_px < self.pixel_size_um / 2:
            raise ImageError(
                f"{self.path.name} has {self.pixel_size_um:g} um a pixel, which is too coarse for "
                f"{um_per_px:g} um; use an image scanned at a higher magnification."
            )
        wanted = um_per_px / self.pixel_size_um
        factors = [(self.height / s.shape[0], self.width / s.shape[1]) for s in self.sources]
        fitting = [level for level, factor in enumerate(factors) if max(factor) <= wanted * 1.01]
        level = fitting[-1] if fitting else 0
        source, factor = self.sources[level], factors[level]
        if abs(wanted / max(factor) - 1) > 0.01:
            source = Scaled(source, (wanted / factor[0], wanted / factor[1]))
            factor = (wanted, wanted)
        sources = [source, *(s for s in self.sources[level + 1 :] if s.shape[0] < source.shape[0])]
        size = self.pixel_size_um * math.sqrt(factor[0] * factor[1])
        view = Image(self.path, sources, size, magnification=self.magnification, scale=factor)
        view.url = self.url
        return view

    def read_at(self, um_per_px: float, row: float, col: float, height: int, width: int) -> np.ndarray:
        """Read a rectangle around a place with pixels of another size.

        Parameters
        ----------
        um_per_px : float
            Side of a pixel of the result in micrometres; see `at`.
        row, col : float
            Level-0 pixel in the middle of the result.
        height, width : int
            Pixels of the result; what lies outside the image is padded by reflection.

        Returns
        -------
        ndarray, shape (height, width, 3), of the image's dtype

        Raises
        ------
        ImageError
            As `at` and `read`.
        """
        view = self.at(um_per_px)
        middle = [(place + 0.5) / scale for place, scale in zip((row, col), view.scale, strict=True)]
        return view.read(round(middle[0] - height / 2), round(middle[1] - width / 2), height, width)

    def thumbnail(self, longest: int = 1024) -> np.ndarray:
        """Read the whole image with its longer side reduced to at most `longest` pixels, in bounded memory.

        Returns
        -------
        ndarray, shape (h, w) or (h, w, 3), of the image's dtype
        """
        from napari_mtssl.images.scaled import Scaled

        level = [s for s in self.sources if max(s.shape[:2]) >= longest]
        source = level[-1] if level else self.sources[0]
        factor = max(max(source.shape[:2]) / longest, 1.0)
        height, width = (max(round(n / factor), 1) for n in source.shape[:2])
        if factor > 1:
            source = Scaled(source, (source.shape[0] / height, source.shape[1] / width))
        return np.array(source[slice(0, height), slice(0, width)])

    def resized(self, height: int, width: int) -> np.ndarray:
        """Read the whole image at another size, without aliasing, whatever its shape becomes.

        Parameters
        ----------
        height, width : int
            Size of the result; the outer edges of both fall together, so that pixel ``i`` of the result is
            centred at ``(i + 0.5) * self.height / height - 0.5`` of level 0.

        Returns
        -------
        ndarray of float32, shape (height, width) for grey or (height, width, 3), values in [0, 1]

        Raises
        ------
        ImageError
            If the file cannot be decoded, or the size is empty.

        Notes
        -----
        It is made from the coarsest level that is no smaller than the result.
        """
        from napari_mtssl.images.whole import resized

        if height < 1 or width < 1:
            raise ImageError(f"An image of {height} x {width} pixels is empty; ask for at least 1 x 1.")
        fine = [s for s in self.sources if s.shape[0] >= height and s.shape[1] >= width]
        return resized(fine[-1] if fine else self.sources[0], height, width)

    def patches(self, centres: np.ndarray, size: int) -> np.ndarray:
        """Cut square patches around centres.

        Parameters
        ----------
        centres : ndarray, shape (N, 2)
            ``(row, col)`` in level-0 pixels.
        size : int
            Side in pixels.

        Returns
        -------
        ndarray, shape (N, size, size, 3), of the image's dtype
            Pixel ``(i, j)`` of a patch is pixel ``(round(row) - size // 2 + i, round(col) - size // 2 + j)``
            of level 0; what lies outside the image is padded by reflection.

        Raises
        ------
        ImageError
            If a centre is not finite, or the file cannot be decoded.
        """
        centres = np.asarray(centres, dtype=float).reshape(-1, 2)
        if not np.isfinite(centres).all():
            raise ImageError(
                f"A patch of {self.path.name} has a centre that is not a number; remove that cell."
            )
        corners = np.rint(centres).astype(np.int64) - size // 2
        patches = np.empty((len(centres), size, size, 3), self.dtype)
        blocks, member = np.unique(corners // BLOCK, axis=0, return_inverse=True)
        member = member.reshape(-1)
        for block in range(len(blocks)):
            indices = np.flatnonzero(member == block)
            low = corners[indices].min(axis=0)
            high = corners[indices].max(axis=0) + size
            region = self.read(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
            for index in indices:
                row, col = corners[index] - low
                patches[index] = region[row : row + size, col : col + size]
        return patches


def _closer(sources: Sequence[Source]) -> list[Source]:
    """Levels of which each has about half the rows and columns of the one before."""
    from napari_mtssl.images.scaled import Scaled

    found: list[Source] = []
    for fine, coarse in zip(sources, [*sources[1:], None], strict=True):
        found.append(fine)
        while coarse is not None and min(found[-1].shape[:2]) > FAR * min(coarse.shape[:2]):
            factor = fine.shape[0] / found[-1].shape[0] * 2
            found.append(Scaled(fine, (factor, factor)))
    return found


def is_slide(height: int, width: int) -> bool:
    """Whether an image of this size is taken as a slide; see `Image.is_slide`."""
    return height * width > LARGE


def reflect_index(start: int, length: int, size: int) -> np.ndarray:
    """Positions ``start .. start + length`` folded into ``[0, size)`` as numpy's ``reflect`` padding does.

    Returns
    -------
    ndarray of int, shape (length,)
    """
    positions = np.arange(start, start + length)
    if start >= 0 and start + length <= size:
        return positions
    period = max(2 * (size - 1), 1)
    positions %= period
    return np.minimum(positions, period - positions) if size > 1 else np.zeros_like(positions)


def to_float(array: np.ndarray) -> np.ndarray:
    """Scale pixels to [0, 1] by their type.

    Parameters
    ----------
    array : ndarray of uint8 or uint16

    Returns
    -------
    ndarray of float32, same shape

    Raises
    ------
    ImageError
        For any other type.
    """
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            f"Pixels of type {array.dtype} have no known range; convert them to 8 or 16 bit (unsigned)."
        )
    return array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
