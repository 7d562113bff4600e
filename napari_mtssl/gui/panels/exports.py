"""Menu of what can be exported of the coarse labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QWidget

from napari_mtssl.gui.exporting import ask_where
from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.panels.menus import MenuButton
from napari_mtssl.gui.workspace import Workspace

if TYPE_CHECKING:
    from napari_mtssl.study import ImageRecord, Study

# Filter for files, end of the suggested name, what writes it and says how many of what, for one image or all.
Export = tuple[str, str, Callable[["Study", Path, "ImageRecord"], str]]


class ExportButton(MenuButton):
    """A button with a menu of exports.

    Parameters
    ----------
    workspace : Workspace
    items : mapping of str to Export
        By what the menu says; a name that is suggested begins with that of the image or of the study.
    """

    def __init__(
        self, workspace: Workspace, items: Mapping[str, Export], parent: QWidget | None = None
    ) -> None:
        super().__init__("Export", workspace, items, parent)

    @guarded
    def choose(self, text: str) -> None:
        """Ask where, and write it."""
        study, image = self._workspace.need_study(), self._workspace.need_image()
        wanted, end, write = self._items[text]
        first = image.path.stem if "this image" in text else study.name
        path = ask_where(self, text, f"{first}{end}", wanted)
        if path is not None:
            show_info(f"Written: {write(study, path, image)} in {path}.")


def block_exports() -> dict[str, Export]:
    """List the exports of tissue; masks are exported in step 4."""

    def blocks(study: Study, path: Path, image: ImageRecord) -> str:
        from napari_mtssl.study.block_files import export_blocks_csv

        return f"{export_blocks_csv(study, path, details=True):,} blocks"

    def shapes(study: Study, path: Path, image: ImageRecord) -> str:
        from napari_mtssl.study.polygon_files import export_regions_geojson

        return f"{export_regions_geojson(study, image.id, path):,} blocks and regions"

    def statistics(study: Study, path: Path, image: ImageRecord) -> str:
        from napari_mtssl.study.block_files import export_statistics_csv

        return f"{export_statistics_csv(study, path):,} lines"

    return {
        "Blocks of all images: CSV …": ("CSV (*.csv)", "-blocks.csv", blocks),
        "Blocks and regions of this image: GeoJSON for QuPath …": (
            "GeoJSON (*.geojson)",
            "-blocks.geojson",
            shapes,
        ),
        "What the classes mean: CSV …": ("CSV (*.csv)", "-statistics.csv", statistics),
    }
