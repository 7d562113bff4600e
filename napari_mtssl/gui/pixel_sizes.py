"""How large the pixels of slides are where their files do not tell: asked once, then the study knows it.

It is an edit like any other: it can be undone, and another size can be given at any time (step 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QInputDialog, QWidget

if TYPE_CHECKING:
    from napari_mtssl.gui.workspace import Workspace
    from napari_mtssl.study import ImageRecord, Study

USUAL, LEAST, MOST = 0.25, 0.01, 100.0  # micrometres: offered, smallest, largest


def ask_once(workspace: Workspace, parent: QWidget | None = None) -> None:
    """Ask for the pixel size of all slides of the study that do not tell it and were not asked about.

    Who does not know it can go on labelling; only a run that was trained at a known size needs it.
    """
    study = workspace.study
    if study is None or study.read_only:
        return
    silent = [record for record in silent_slides(study) if record.id not in workspace.asked_size]
    if silent:
        workspace.asked_size.update(record.id for record in silent)
        ask(workspace, silent, parent)


def silent_slides(study: Study) -> list[ImageRecord]:
    """Slides of a study of which nobody has said how large their pixels are."""
    from napari_mtssl.images import is_slide

    return [
        record
        for record in study.images()
        if record.pixel_size_um is None and is_slide(record.height, record.width)
    ]


def ask(workspace: Workspace, records: Sequence[ImageRecord], parent: QWidget | None = None) -> bool:
    """Ask how large the pixels of some images are, one answer for all; False if nobody knows."""
    first = records[0]
    others = f" (nor do {len(records) - 1} others)" if len(records) > 1 else ""
    said = f"{first.path.name} does not say how large its pixels are{others}."
    if first.pixel_size_um is not None:
        said = f"A pixel of {first.path.name} is taken as {first.pixel_size_um:g} µm wide."
    size, known = QInputDialog.getDouble(
        parent,
        "Pixel size",
        f"{said}\nHow many micrometres is a pixel wide?",
        first.pixel_size_um or USUAL,
        LEAST,
        MOST,
        4,
    )
    if known:
        study = workspace.need_study()
        with study.edit(f"Set the pixel size of {len(records)} image{'s' * (len(records) > 1)}"):
            for record in records:
                study.set_pixel_size(record.id, float(size))
        workspace.refresh_image()
    return bool(known)
