import errno
import sqlite3

import torch

from napari_mtssl.engine.failures import explain
from napari_mtssl.methods.base import MethodError
from napari_mtssl.study import StudyError


def test_every_failure_is_one_sentence(tmp_path):
    cases = [
        (MethodError("Label some cells."), "Label some cells."),
        (StudyError("The study is locked."), "The study is locked."),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "The disk is full: free some space, then resume the run.",
        ),
        (FileNotFoundError(2, "No such file or directory", "a.png"), "a.png"),
        (MemoryError(), "memory of cpu is not enough"),
        (sqlite3.OperationalError("disk I/O error"), "sqlite3.OperationalError: disk I/O error"),
        (ValueError("operands could not be broadcast"), "ValueError: operands could not be broadcast"),
    ]
    for error, words in cases:
        reason = explain(error, tmp_path, torch.device("cpu"))
        assert words in reason and "\n" not in reason
    assert "is gone" in explain(KeyError("x"), tmp_path / "gone")
