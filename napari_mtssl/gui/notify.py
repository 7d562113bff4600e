"""Mistakes of the user and of the machine become one sentence in napari's notifications."""

from __future__ import annotations

import functools
import inspect
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from napari.utils import notifications
from psygnal import EmitLoopError

from napari_mtssl.gui.toasts import tidy

__all__ = ["guarded", "in_words", "show_info", "show_warning", "told"]


def show_info(message: str) -> None:
    """Say what was done; it gives way to what is said next."""
    notifications.show_info(message)
    tidy(message, passing=True)


def show_warning(message: str) -> None:
    """Say what went wrong and what to change."""
    notifications.show_warning(message)
    tidy(message, passing=False)


def in_words(error: BaseException) -> str | None:
    """Say what to change, or None if `error` is a defect of the program that must not be hidden.

    Parameters
    ----------
    error : BaseException
        Anything caught around an action of the user.

    Returns
    -------
    str or None
        Our own errors are ValueErrors whose message is already a sentence; the system's get one here.
    """
    if isinstance(error, EmitLoopError) and error.__cause__ is not None:
        return in_words(error.__cause__)
    if isinstance(error, ValueError) and type(error).__module__.startswith("napari_mtssl."):
        return str(error)
    if isinstance(error, sqlite3.Error):
        return f"The study could not be read or written ({error}). Check that its folder is still there."
    if isinstance(error, OSError):
        where = f" '{error.filename}'" if error.filename else ""
        return f"The file{where} could not be used: {error.strerror or error}."
    return None


@contextmanager
def told() -> Iterator[None]:
    """Turn a user's mistake raised inside into a notification; let defects through."""
    try:
        yield
    except Exception as error:
        sentence = in_words(error)
        if sentence is None:
            raise
        show_warning(sentence)


def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a slot in `told`; arguments that Qt passes (``checked``) and it does not take are dropped."""
    parameters = inspect.signature(method).parameters.values()
    takes = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters) - 1

    @functools.wraps(method)
    def slot(self: Any, *args: Any) -> Any:
        with told():
            return method(self, *args[:takes])
        return None

    return slot
