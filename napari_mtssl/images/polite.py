"""Reading for a window: whoever decodes tiles lets the window's own thread go first."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari_mtssl.images.image import Source

NICENESS = 10
_given = threading.local()


class Polite:
    """A source that threads other than the main one read with low priority, on Linux, where a thread has one.

    Parameters
    ----------
    source : Source
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.shape, self.dtype, self.chunks = source.shape, source.dtype, source.chunks
        self.ndim = len(self.shape)

    @property
    def nbytes_held(self) -> int:
        """Bytes of decoded pixels kept in memory at present."""
        return self._source.nbytes_held

    def __getitem__(self, region: tuple[Any, ...]) -> np.ndarray:
        give_way()
        return self._source[region]


def give_way() -> None:
    """Lower the priority of this thread, once; the main thread keeps its own."""
    if getattr(_given, "way", False) or threading.current_thread() is threading.main_thread():
        return
    _given.way = True
    if sys.platform.startswith("linux"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
