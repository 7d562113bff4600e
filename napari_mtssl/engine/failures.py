"""One sentence for the user, whatever went wrong."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

import torch

from napari_mtssl.engine.devices import is_out_of_memory
from napari_mtssl.images import ImageError
from napari_mtssl.methods import UnknownMethodError
from napari_mtssl.methods.base import MethodError
from napari_mtssl.study import StudyError

# Mistakes and circumstances whose message already says what to change.
USER_ERRORS = (MethodError, UnknownMethodError, ImageError, StudyError)
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows knows no quota


def is_mendable(error: BaseException) -> bool:
    """Whether the user can put right what went wrong, and resume: no fault of the program's."""
    full = isinstance(error, OSError) and error.errno in FULL
    return full or isinstance(error, USER_ERRORS)


def explain(error: BaseException, run_dir: Path | None = None, device: torch.device | None = None) -> str:
    """Say in one sentence why training cannot go on.

    Parameters
    ----------
    error : Exception
        Our own errors (`MethodError`, `ImageError`, `StudyError`) already carry such a sentence.
    run_dir : Path, optional
        Folder of the run; that it is gone explains most other errors.
    device : torch.device, optional
    """
    if run_dir is not None and not run_dir.is_dir():
        return f"The folder {run_dir} is gone: the study was moved or deleted while training. Open it again."
    if is_out_of_memory(error):
        where = f" of {device}" if device is not None else ""
        return f"The memory{where} is not enough; choose a smaller network or batch, or close other programs."
    if isinstance(error, OSError):
        if error.errno in FULL:
            return "The disk is full: free some space, then resume the run."
        what = f": {error.filename}" if error.filename else ""
        return f"A file could not be read or written ({error.strerror or error}){what}."
    if isinstance(error, USER_ERRORS):
        return str(error)
    return traceback.format_exception_only(error)[-1].strip()
