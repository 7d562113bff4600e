"""Long work in napari's threads, ended by asking and never by force.

Rules for what runs in such a thread (everything handed to `start`):

* it touches no viewer, layer, widget or the window's study connection; it yields, and the main thread acts;
* it opens its own study connection, in the thread, and closes it there;
* it ends soon after `quit`: the worker is never abandoned between two yields, because a generator that is
  thrown away would run its ``finally`` in the main thread, where SQLite refuses.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from napari.qt.threading import GeneratorWorker, create_worker
from qtpy.QtCore import QThreadPool

from napari_mtssl.gui.notify import in_words

NICENESS = 10


@dataclass(frozen=True)
class Broken:
    """Yielded last when the work raised: one sentence for the user, the traceback for the log."""

    reason: str
    detail: str


class AskingWorker(GeneratorWorker):
    """A generator worker whose `quit` asks the work to end instead of dropping it."""

    asks: Callable[[], None] | None = None

    def quit(self) -> None:
        """Ask the work to end; it yields its last words and finishes."""
        if self.asks is not None:
            self.asks()


def start(
    work: Callable[[], Iterable[Any]],
    *,
    on_event: Callable[[Any], None],
    on_end: Callable[[], None],
    ask_to_end: Callable[[], None],
) -> AskingWorker:
    """Run `work` in a thread.

    Parameters
    ----------
    work : callable
        Makes the iterable, in the thread; what it yields reaches `on_event` on the main thread, in order.
    on_event : callable
        Bound methods of QObjects only, so that Qt calls them on the main thread and drops them with their
        owner.
    on_end : callable
        Called on the main thread after the last event.
    ask_to_end : callable
        Makes `work` end soon; called from any thread, also by napari when its window closes.
    """
    worker = create_worker(_reporting, work, _worker_class=AskingWorker, _start_thread=False)
    worker.asks = ask_to_end
    worker.yielded.connect(on_event)
    worker.finished.connect(on_end)
    worker.start()
    return worker


def _reporting(work: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    """Yield what `work` yields; an exception becomes a last event, so that none leaves the thread."""
    give_way()
    try:
        yield from work()
    except Exception as error:  # noqa: BLE001 (said in words on the main thread, and whole in the log)
        words = in_words(error)
        if words is not None:
            yield Broken(words, "")
            return
        words = f"Something went wrong that should not: {type(error).__name__}: {error}"
        yield Broken(words, traceback.format_exc())


def give_way() -> None:
    """Let the window go first: on Linux a thread has a priority of its own.

    What this thread starts (torch's own threads) inherits it.
    """
    if sys.platform.startswith("linux"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def wait_for_all(milliseconds: int = 3000) -> bool:
    """Wait until no worker runs, at most so long; the window's last act."""
    return QThreadPool.globalInstance().waitForDone(milliseconds)
