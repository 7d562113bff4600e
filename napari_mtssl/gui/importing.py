"""Labels from a layer of napari: points, or the objects of a Labels layer (StarDist, Cellpose, a brush)."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels, Points

from napari_mtssl.gui.tasks import CELL
from napari_mtssl.gui.workspace import Workspace, WorkspaceError


def import_layer(workspace: Workspace, layer: Any) -> str:
    """Add the objects of a layer to the image on screen; say what was done.

    Points keep the class in their feature ``class``; everything else gets the active class.
    """
    from napari_mtssl.study.exchange import import_labels, import_points

    study, image = workspace.study, workspace.image
    if study is None or image is None:
        raise WorkspaceError("Open a study and show an image first (step 1).")
    if not isinstance(layer, Points | Labels) or "mtssl" in layer.metadata:
        raise WorkspaceError("Select a Points or Labels layer of your own in the layer list first.")
    if isinstance(layer, Labels):
        report = import_labels(study, np.asarray(layer.data), image.id, workspace.active_of(CELL))
    else:
        has_class = "class" in layer.features
        classes = [str(name) for name in layer.features["class"]] if has_class else workspace.active_of(CELL)
        report = import_points(study, np.asarray(layer.data), image.id, classes)
    return str(report)
