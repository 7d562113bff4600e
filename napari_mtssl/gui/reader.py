"""Drop a study's folder onto napari, and the dock opens it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[Any]] | None:
    """Return a reader if `path` is the folder of one study."""
    one = path[0] if isinstance(path, list) and len(path) == 1 else path
    if isinstance(one, list) or not (Path(one) / "study.sqlite").exists():
        return None
    return read_study


def read_study(path: str | list[str]) -> list[Any]:
    """Open the dock, and in it the study; the dock adds the layers itself."""
    from napari_mtssl.gui.samples import image_layers, open_dock
    from napari_mtssl.study import Study

    folder = Path(path[0] if isinstance(path, list) else path)
    dock = open_dock()
    if dock is not None:
        dock.open_study(folder)
        return [(None,)]
    with Study.open(folder) as study:
        return image_layers(study)
