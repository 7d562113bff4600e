"""How the files of each image in a folder of results are called, from one prediction into it to the next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_mtssl.cli.console import UsageError
from napari_mtssl.study.files import written_whole
from napari_mtssl.study.names import unique_names

if TYPE_CHECKING:
    from napari_mtssl.images import Image

NAMES = "images.json"  # no result of an image ends on .json


def names_in(out: Path, images: Sequence[Image]) -> list[str]:
    """Name the files of each image, like those of no other image that was predicted into this folder.

    Keeps the names there, so that results of ``PAT2/IM0001`` do not replace those of ``PAT1/IM0001`` that
    were made before; results of the same image do.

    Parameters
    ----------
    out : Path
        A folder.
    images : sequence of Image

    Returns
    -------
    list of str

    Raises
    ------
    UsageError
        If the names there cannot be read.
    StudyError
        If they cannot be written.
    """
    path = out / NAMES
    given = _read(path) if path.exists() else {}
    fresh = list(dict.fromkeys(image.location for image in images if image.location not in given))
    named = unique_names([Path(location) for location in (*given, *fresh)])[len(given) :]
    given |= dict(zip(fresh, named, strict=True))
    with written_whole(path) as stream:
        json.dump({name: location for location, name in given.items()}, stream, indent=1)
    return [given[image.location] for image in images]


def _read(path: Path) -> dict[str, str]:
    """Name by location."""
    try:
        return {str(location): str(name) for name, location in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{path} does not say which image is called how: predict into another folder."
        ) from error
