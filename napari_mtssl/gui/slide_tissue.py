"""Tissue of the slide on screen as a layer to paint on: what is erased is neither sampled nor predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mtssl.gui.notify import show_info, told
from napari_mtssl.images.tissue import TissueMask, find_tissue, in_study, tissue_file, write_tissue

if TYPE_CHECKING:
    from napari.layers import Labels

LAYER = "Tissue"
SMALLEST = 256  # elements: a field of tissue without glass is one element, too few to paint on


def edit_tissue() -> Labels | None:
    """Show the tissue of the dock's image; every stroke is kept in the study."""
    from napari_mtssl.gui.samples import open_dock
    from napari_mtssl.images import ImagePool

    dock = open_dock()
    if dock is None:
        return None
    study, record = dock.workspace.study, dock.workspace.image
    if study is None or record is None:
        show_info("Open a study with an image first.")
        return None
    with told():
        folder = study.path
        found = dock.workspace.waited(
            record.url, lambda: find_tissue(in_study(ImagePool()(record), folder, record.id))
        )
        return tissue_layer(dock.viewer, found, tissue_file(folder, record.id), record.pixel_size_um)
    return None


def tissue_layer(viewer: Any, found: TissueMask, path: Any, pixel_size_um: float | None) -> Labels:
    """Add the layer."""
    mask = found.mask
    if max(mask.shape) < SMALLEST:
        factor = SMALLEST / max(found.height, found.width)
        shape = [max(round(side * factor), 1) for side in (found.height, found.width)]
        rows, cols = (np.arange(n) * old // n for n, old in zip(shape, mask.shape, strict=True))
        mask = mask[np.ix_(rows, cols)]
    um = pixel_size_um or 1.0
    steps = [side / n for side, n in zip((found.height, found.width), mask.shape, strict=True)]
    layer = viewer.add_labels(
        mask.astype(np.uint8),
        name=LAYER,
        opacity=0.3,
        scale=[step * um for step in steps],
        translate=[(step - 1) / 2 * um for step in steps],
        units=["um" if pixel_size_um else "pixel"] * 2,
    )
    layer.brush_size = 20

    def keep() -> None:
        with told():
            write_tissue(TissueMask(np.asarray(layer.data) > 0, found.height, found.width), path)

    layer.events.labels_update.connect(keep)
    layer.events.paint.connect(keep)
    return layer
