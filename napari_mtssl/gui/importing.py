"""Labels from files, and from layers of napari: points, or the objects of a Labels layer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels, Points

from napari_mtssl.gui.tasks import CELL
from napari_mtssl.gui.workspace import Workspace, WorkspaceError

if TYPE_CHECKING:
    from napari.layers import Image, Layer

    from napari_mtssl.study import Study
    from napari_mtssl.study.exchange import ImportReport


def import_file(
    workspace: Workspace, path: Path, read: Callable[[Study, Path], ImportReport]
) -> ImportReport:
    """Import a file with a window that lives meanwhile: hundreds of thousands of cells take a while.

    Parameters
    ----------
    workspace : Workspace
    path : Path
    read : callable
        Imports it into a study; runs in a thread, with a connection of its own.

    Raises
    ------
    WorkspaceError
        If the user gave up; then nothing was imported.
    StudyError
        If there is something wrong with the file.
    """
    from napari_mtssl.images import ImageError

    study, given_up = workspace.need_study(), threading.Event()

    def work() -> ImportReport:
        with study.reopen() as own, own.edit(f"Imported {path.name}"):
            report = read(own, path)
            if given_up.is_set():
                raise WorkspaceError(f"{path.name} was not imported.")  # which takes back what was written
            return report

    try:
        return workspace.patiently(work, f"Importing {path.name} …")
    except ImageError as error:
        given_up.set()
        raise WorkspaceError(f"{path.name} was not imported.") from error


def import_layer(workspace: Workspace, layer: Any, image: Image | None) -> str:
    """Add the objects of a layer to the image on screen, where they are seen on it; say what was done.

    Points keep the class in their feature ``class``; everything else gets the active class.

    Parameters
    ----------
    workspace : Workspace
    layer : Points or Labels
    image : Image or None
        The layer of the image on screen.

    Raises
    ------
    WorkspaceError
        If there is no image, or the layer is none to import.
    StudyError
        If an object lies outside the image, or there is none.
    """
    from napari_mtssl.study.exchange import import_points, labels_to_frame

    study, record = workspace.study, workspace.image
    if study is None or record is None:
        raise WorkspaceError("Open a study and show an image first (step 1).")
    if image is None:
        raise WorkspaceError("The image's layer is gone: press 'Show layers' (step 2) first.")
    if not isinstance(layer, Points | Labels) or "mtssl" in layer.metadata:
        raise WorkspaceError("Select a Points or Labels layer of your own in the layer list first.")
    classes: str | list[str] = workspace.active_of(CELL)
    if isinstance(layer, Labels):
        labels = np.asarray(layer.data[0] if layer.multiscale else layer.data)
        places = labels_to_frame(labels, classes)[["row", "col"]].to_numpy(float)
    else:
        places = np.asarray(layer.data, float)
        if "class" in layer.features:
            classes = [str(name) for name in layer.features["class"]]
    return str(import_points(study, places_on(image, layer, places), record.id, classes))


def places_on(image: Image, layer: Layer, places: np.ndarray) -> np.ndarray:
    """Return where on an image places (N, D) of a layer are seen, in the image's pixels (N, 2)."""
    units = layer.units[-2:]
    # napari shows lengths in one unit, and what has none as it is
    factors = [
        float((1 * unit).to(wanted).magnitude) if unit.is_compatible_with(wanted) else 1.0
        for unit, wanted in zip(units, image.units[-2:], strict=True)
    ]

    def seen(place: np.ndarray) -> np.ndarray:
        return np.asarray(image.world_to_data(np.array(layer.data_to_world(place))[-2:] * factors))[-2:]

    # All of it is affine: where the origin and the unit vectors go says where everything goes.
    origin = seen(np.zeros(places.shape[1]))
    return places @ np.array([seen(unit) - origin for unit in np.eye(places.shape[1])]) + origin
