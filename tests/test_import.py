"""What asking for a public name costs: libraries are loaded by what needs them, and by nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

import napari_mtssl

HEAVY = ("torch", "kornia", "napari", "qtpy", "PyQt5", "PyQt6")


def loaded_by(code):
    """Heavy libraries in memory after a fresh interpreter ran the code."""
    code += f"\nimport sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return out.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        "import napari_mtssl",
        "from napari_mtssl import Study, open_image",
        "from napari_mtssl import TrainingSession; TrainingSession('none.mtssl')",
        "import napari_mtssl.engine.control, napari_mtssl.engine.events, napari_mtssl.engine.options",
    ],
)
def test_no_torch_and_no_window_until_something_trains(code):
    assert loaded_by(code) == "[]"


def test_training_needs_torch_but_no_window():
    code = (
        "from napari_mtssl import TrainingSession\nfor event in TrainingSession('none.mtssl').events(): pass"
    )
    assert loaded_by(code) == "['torch']"


@pytest.mark.parametrize("name", [name for name in napari_mtssl.__all__ if name != "__version__"])
def test_every_public_name_is_there(name):
    assert name in dir(napari_mtssl)
    found = getattr(napari_mtssl, name)
    assert found.__name__ == name and found.__doc__


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        napari_mtssl.Trainer  # noqa: B018
