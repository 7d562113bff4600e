"""Chunks that came over a network, kept within a bound that all remote images share."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mtssl.images.image import ImageError
from napari_mtssl.images.sources import window

if TYPE_CHECKING:
    from napari_mtssl.images.image import Source

MAX_BYTES = 256 * 2**20

_numbers = itertools.count()


class ChunkCache:
    """Recently used chunks of any sources, up to a number of bytes; safe to share between threads.

    Parameters
    ----------
    max_bytes : int
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.held = 0
        self._chunks: OrderedDict[tuple[int, int, int], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int, int]) -> np.ndarray | None:
        """Give a chunk if it is here."""
        with self._lock:
            chunk = self._chunks.get(key)
            if chunk is not None:
                self._chunks.move_to_end(key)
            return chunk

    def put(self, key: tuple[int, int, int], chunk: np.ndarray) -> None:
        """Keep a chunk, and forget those that were not used for longest."""
        with self._lock:
            if key not in self._chunks:
                self._chunks[key] = chunk
                self.held += chunk.nbytes
            while self.held > self.max_bytes:
                self.held -= self._chunks.popitem(last=False)[1].nbytes


SHARED = ChunkCache()


class Cached:
    """A source whose chunks are read once and kept as long as there is room.

    Parameters
    ----------
    source : Source
    url : str
        Where it is, for messages.
    cache : ChunkCache
    """

    nbytes_held = 0  # the cache has a bound of its own

    def __init__(self, source: Source, url: str, cache: ChunkCache = SHARED) -> None:
        self._source, self._url, self._cache = source, url, cache
        self._number = next(_numbers)  # an id() could be used again after this source is gone
        self.shape, self.dtype, self.chunks = source.shape, source.dtype, source.chunks
        self.ndim = len(self.shape)

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        row0, row1, col0, col1, rest = window(region, self.shape)
        out = np.empty((row1 - row0, col1 - col0, *self.shape[2:]), self.dtype)
        high, wide = self.chunks
        for i in range(row0 // high, -(-row1 // high)):
            for j in range(col0 // wide, -(-col1 // wide)):
                top, left = max(i * high, row0), max(j * wide, col0)
                bottom, right = min((i + 1) * high, row1), min((j + 1) * wide, col1)
                part = self._chunk(i, j)[
                    top - i * high : bottom - i * high, left - j * wide : right - j * wide
                ]
                out[top - row0 : bottom - row0, left - col0 : right - col0] = part
        return out[rest]

    def _chunk(self, i: int, j: int) -> np.ndarray:
        key = (self._number, i, j)
        chunk = self._cache.get(key)
        if chunk is None:
            high, wide = self.chunks
            where: tuple[Any, ...] = (slice(i * high, (i + 1) * high), slice(j * wide, (j + 1) * wide))
            try:
                chunk = np.asarray(self._source[where])
            except Exception as error:  # every store has errors of its own
                why = " ".join(str(error).split()) or type(error).__name__
                raise ImageError(f"{self._url} cannot be read ({why}); does the server answer?") from error
            self._cache.put(key, chunk)
        return chunk
