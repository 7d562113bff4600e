"""Two trainings of one run never go on at once."""

import subprocess
import sys

import pytest

from napari_mtssl.engine.run_lock import alone_in
from napari_mtssl.methods.base import MethodError


def test_a_run_is_held_by_one_in_this_program_and_in_others(tmp_path):
    other = (
        "import sys; from pathlib import Path; from napari_mtssl.engine.run_lock import alone_in\n"
        "with alone_in(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", other, str(tmp_path)]
    with alone_in(tmp_path), pytest.raises(MethodError, match="is being trained already"), alone_in(tmp_path):
        pass
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(MethodError, match="another window or program"), alone_in(tmp_path):
            pass
        process.kill()  # who is killed lets go
        process.wait()
        with alone_in(tmp_path):
            pass
