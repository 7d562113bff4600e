"""How large the pixels of slides are where their files do not tell: asked once, then remembered."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from napari_mtssl.cli.console import UsageError, notes

if TYPE_CHECKING:
    from napari_mtssl.images import Image
    from napari_mtssl.study import Study

REMEMBERED = "pixel-sizes.json"  # in the folder of results, for images of no study


def recall(images: Sequence[Image], study: Study, out: Path) -> None:
    """Give images the pixel sizes that the study, or an earlier prediction into the same folder, knows.

    Also where the study keeps corrected masks of their tissue.
    """
    from napari_mtssl.images.tissue import tissue_file

    records = {record.location: record for record in study.images()}
    remembered = _remembered(out)
    for image in images:
        record = records.get(image.location)
        if record is not None:
            image.tissue_file = tissue_file(study.path, record.id)
        if image.pixel_size_um is None:
            known = None if record is None else record.pixel_size_um
            image.pixel_size_um = known if known is not None else remembered.get(image.path.name)


def settle(images: Sequence[Image], study: Study, out: Path) -> None:
    """Ask, once for all of them, how large the pixels of slides are, and remember it.

    Raises
    ------
    UsageError
        If one does not tell, and nobody can be asked.
    """
    silent = [image for image in images if image.pixel_size_um is None]
    size = ask(silent)
    if size is None:
        return
    records = {record.location: record for record in study.images()}
    remembered = _remembered(out)
    for image in silent:
        image.pixel_size_um = size
        record = records.get(image.location)
        if record is not None:
            study.set_pixel_size(record.id, size)
        else:
            remembered[image.path.name] = size
    if remembered:
        (out / REMEMBERED).write_text(json.dumps(remembered, indent=1) + "\n")


def ask(silent: Sequence[Image], *, must: bool = True) -> float | None:
    """Ask for the pixel size of slides that do not tell it.

    Parameters
    ----------
    silent : sequence of Image
    must : bool
        Whether nothing can be done without.

    Returns
    -------
    float or None
        Micrometres; None if there are no such slides, or nobody can be asked and it need not be.

    Raises
    ------
    UsageError
        If it must be known, and nobody can be asked.
    """
    if not silent:
        return None
    name = silent[0].path.name
    others = f" (nor do {len(silent) - 1} others)" if len(silent) > 1 else ""
    sentence = f"{name} does not say how large its pixels are{others}"
    if not sys.stdin.isatty():
        if must:
            raise UsageError(f"{sentence}; say it with --pixel-size UM.")
        notes.print(f"{sentence}; --pixel-size UM tells it.")
        return None
    size: float = typer.prompt(f"{sentence}. How many micrometres is a pixel wide?", type=float, err=True)
    if not 0 < size < float("inf"):
        raise UsageError(f"A pixel size of {size:g} um is not possible; give a positive number.")
    return size


def _remembered(out: Path) -> dict[str, float]:
    """Read what was said when images were predicted into this folder before."""
    try:
        return {str(name): float(size) for name, size in json.loads((out / REMEMBERED).read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}
