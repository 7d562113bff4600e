"""Menus of what can be imported for blocks, masks and images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QFileDialog, QWidget

from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.panels.bins import BinsDialog
from napari_mtssl.gui.panels.menus import MenuButton
from napari_mtssl.gui.tasks import MASK
from napari_mtssl.gui.workspace import Workspace, WorkspaceError

if TYPE_CHECKING:
    from napari_mtssl.study import Study

MAPS = "Images and tables (*.png *.tif *.tiff *.jpg *.bmp *.npy *.csv *.tsv *.txt)"
FOLDER = ""  # instead of a filter for files
Import = tuple[str, Callable[["Study", Path, int], Any]]


class ImportButton(MenuButton):
    """A button with a menu of imports.

    Parameters
    ----------
    workspace : Workspace
    items : mapping of str to (filter, function)
        By what the menu says; a function takes the study, the path and the id of the image on screen.
    """

    def __init__(
        self, workspace: Workspace, items: Mapping[str, Import], parent: QWidget | None = None
    ) -> None:
        super().__init__("Import", workspace, items, parent)

    @guarded
    def choose(self, text: str) -> None:
        """Ask for the file or folder, and import it."""
        self._workspace.need_image()
        wanted, _ = self._items[text]
        if wanted == FOLDER:
            path = QFileDialog.getExistingDirectory(self, text)
        else:
            path, _ = QFileDialog.getOpenFileName(self, text, "", wanted)
        if path:
            self.read(text, Path(path))

    def read(self, text: str, path: Path) -> None:
        """Import a file or folder, and say what was done."""
        study, image = self._workspace.need_study(), self._workspace.need_image()
        report = self._items[text][1](study, path, image.id)
        if report is None:  # the user thought better of it
            return
        self._workspace.everything_changed()
        show_info(str(report))


def block_imports(workspace: Workspace, parent: QWidget) -> dict[str, Import]:
    """List the imports for tissue."""

    def blocks(study: Study, path: Path, image_id: int) -> Any:
        from napari_mtssl.study.block_files import import_blocks_csv

        return import_blocks_csv(study, path)

    def probabilities(study: Study, path: Path, image_id: int) -> Any:
        from napari_mtssl.methods.superres.statistics import explain_bins
        from napari_mtssl.study import Grid
        from napari_mtssl.study.probability_maps import import_probability_map, read_probabilities

        found, image = read_probabilities(study, path), study.image(image_id)
        images = [image_id] if found.table is None else found.table["image_id"].unique().tolist()
        bare = [number for number in images if study.grid(number) is None]
        blocks = found.sides(image) if bare else None
        exact = [item.name for item in study.classes(MASK) if not item.background]
        um = image.pixel_size_um
        bins = BinsDialog.ask("Bins of the probability", exact, blocks, um, parent, about=found.said)
        if bins is None:
            return None
        grid = None if bins.sides is None else Grid(*bins.sides)
        with study.edit(f"Imported {path.name}"):
            if bins.exact not in workspace.colours(MASK):
                study.add_class(bins.exact, kind=MASK)
            report = import_probability_map(study, found, image_id, edges=bins.edges, grid=grid)
            explain_bins(study, bins.exact)
            return report

    def regions(study: Study, path: Path, image_id: int) -> Any:
        from napari_mtssl.study.polygon_files import import_regions_geojson

        return import_regions_geojson(study, path, image_id)

    def statistics(study: Study, path: Path, image_id: int) -> Any:
        from napari_mtssl.methods.superres.statistics import floored
        from napari_mtssl.study.block_files import import_statistics_csv

        report = import_statistics_csv(study, path)
        return " ".join([str(report), *floored(study.statistics())])

    return {
        "Blocks: CSV (image, row, col, class) …": ("CSV (*.csv)", blocks),
        "Probability map of this image, in bins …": (
            MAPS,
            probabilities,
        ),
        "Probability map of this image, Zarr, in bins …": (FOLDER, probabilities),
        "Blocks and regions of this image: GeoJSON from QuPath …": ("GeoJSON (*.geojson *.json)", regions),
        "What the classes mean: CSV …": ("CSV (*.csv)", statistics),
        "Exact classes of this image, outlines: GeoJSON from QuPath …": (
            "GeoJSON (*.geojson *.json)",
            outlines,
        ),
        "Exact classes: masks, a folder of PNGs …": (FOLDER, partial(masks, workspace)),
        "Exact classes of this image: OME-Zarr labels …": (FOLDER, labels),
    }


def outlines(study: Study, path: Path, image_id: int) -> Any:
    """Paint outlines of exact classes."""
    from napari_mtssl.study.polygon_files import import_mask_geojson

    return import_mask_geojson(study, path, image_id)


def masks(workspace: Workspace, study: Study, path: Path, image_id: int) -> Any:
    """Take masks of all images from a folder; those that do not say their class get the active one."""
    from napari_mtssl.study.mask_files import import_masks

    if (path / "classes.csv").exists():
        return import_masks(study, path)
    inside = [item.name for item in study.classes(MASK) if not item.background]
    if not inside:
        raise WorkspaceError("Add a class of masks first: that which is painted in these.")
    active = workspace.active_of(MASK)
    said = active if active in inside else inside[0]  # a mask of background would erase what is painted
    return f"{import_masks(study, path, said)} What is inside them is {said}."


def labels(study: Study, path: Path, image_id: int) -> Any:
    """Take the mask of one image from OME-Zarr labels."""
    from napari_mtssl.study.mask_zarr import import_mask_zarr

    return import_mask_zarr(study, path, image_id)


def image_imports(workspace: Workspace) -> dict[str, Import]:
    """List the imports for images as wholes."""

    def classes(study: Study, path: Path, image_id: int) -> Any:
        from napari_mtssl.study.image_files import heads, import_image_classes

        before = set(heads(study))
        report = str(import_image_classes(study, path))
        new = [head for head in heads(study) if head not in before]
        return f"{report} New question{'s' * (len(new) > 1)}: {', '.join(new)}." if new else report

    return {
        "Classes: CSV (image, class, group, split) …": ("CSV (*.csv)", classes),
        "Masks: a folder of PNGs …": (FOLDER, partial(masks, workspace)),
        "Mask of this image: OME-Zarr labels …": (FOLDER, labels),
        "Mask of this image: GeoJSON from QuPath …": ("GeoJSON (*.geojson *.json)", outlines),
    }
