"""What the commands print with, and which errors are the user's to mend."""

from __future__ import annotations

import os
import sys

from rich.console import Console

# Progress and remarks go to standard error, so that what a command answers can be piped.
notes = Console(stderr=True, highlight=False, soft_wrap=True)


class UsageError(ValueError):
    """What was asked on the command line cannot be done; the message says what to change."""


def is_user_error(error: ValueError) -> bool:
    """Tell an error with a sentence for the user from a defect.

    Every room raises its own subclass of ValueError (StudyError, ImageError, MethodError, ...); a plain
    ValueError, or one of a library, is a defect and keeps its traceback.
    """
    return type(error).__module__.startswith("napari_mtssl.")


def complain(sentence: str) -> None:
    """Print one sentence on standard error, unwrapped and unstyled, so that it can be searched for."""
    print(f"Error: {' '.join(sentence.split())}", file=sys.stderr)


def has_display() -> bool:
    """Whether a window can be opened here."""
    if not sys.platform.startswith("linux"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
