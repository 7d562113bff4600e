"""What all tests share: settings of their own, the real images, and where a window cannot be opened."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

# Before anything imports napari or torch: the user's own settings are neither read nor written, slicing is
# synchronous, and test processes that run side by side do not fight over the cores.
_CONFIG = tempfile.TemporaryDirectory(prefix="napari-mtssl-tests-")
os.environ["NAPARI_CONFIG"] = str(Path(_CONFIG.name) / "napari.yaml")
os.environ["XDG_CONFIG_HOME"] = _CONFIG.name
os.environ["NAPARI_ASYNC"] = "0"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items):
    """Skip what opens a window where there is none, with the way to run it."""
    on_linux = sys.platform.startswith("linux")
    if not on_linux or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    ):
        return
    reason = "opens a window and there is no display: run with xvfb-run, as `make test` does"
    no_display = pytest.mark.skip(reason=reason)
    for item in items:
        if item.get_closest_marker("gui"):
            item.add_marker(no_display)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real images, from MTSSL_DATA."""
    folder = Path(os.environ.get("MTSSL_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"There are no real images at {folder}: point MTSSL_DATA at the folder that holds them.")
    return folder


@pytest.fixture(scope="session")
def crchistophenotypes(data_dir: Path) -> Path:
    """CRCHistoPhenotypes, with folders `train` and `validation` of `imgN/imgN.bmp`."""
    folder = data_dir / "crchistophenotypes"
    missing = [name for name in ("train", "validation") if not (folder / name).is_dir()]
    if missing:
        pytest.skip(
            f"There is no {' and no '.join(missing)} in {folder}: "
            "CRCHistoPhenotypes comes from the Tissue Image "
            "Analytics Centre, Warwick (Sirinukunwattana et al., IEEE TMI 2016)."
        )
    return folder
