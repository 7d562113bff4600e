"""One training at a time in the folder of a run, whoever begins it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_mtssl.methods.base import MethodError

FILE = ".lock"  # stays; it is the system that knows whether somebody holds it


@contextmanager
def alone_in(run_dir: Path) -> Iterator[None]:
    """Hold a run while the block lasts; a program that is killed lets go.

    Raises
    ------
    MethodError
        If another window, thread or program trains it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(run_dir / FILE, timeout=0, thread_local=False)  # a generator may be closed elsewhere
    try:
        lock.acquire()
    except Timeout as error:
        raise MethodError(
            f"The run '{run_dir.name}' is being trained already, in another window or program: "
            "stop it there, or begin a new network."
        ) from error
    try:
        yield
    finally:
        lock.release()
