"""Cells to take along: for QuPath, or as a table."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_mtssl.gui.exporting import ask_where
from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.rows import button, heading, row
from napari_mtssl.gui.workspace import Workspace


class CellsExport(QWidget):
    """Two buttons, and whether predictions go out, too."""

    def __init__(self, workspace: Workspace, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._workspace = workspace
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(heading("Export"))
        self.with_predictions = QCheckBox("With predictions not reviewed yet")
        self.with_predictions.setToolTip(
            "GeoJSON: predictions go out as detections, labels as annotations. "
            "CSV: a column says given or predicted, another one the probability"
        )
        layout.addWidget(self.with_predictions)
        self.geojson_button = button(
            "GeoJSON for QuPath …",
            self.export_geojson,
            "Cells of this image, with classes and colours: drop the file onto QuPath",
        )
        self.csv_button = button("CSV …", self.export_csv, "Cells of all images: image, row, col, class")
        layout.addWidget(row(self.geojson_button, self.csv_button, None))
        for signal in (workspace.study_changed, workspace.image_changed, workspace.images_changed):
            signal.connect(self._show)
        self._show()

    def _show(self) -> None:
        self.geojson_button.setEnabled(self._workspace.image is not None)
        for widget in (self.with_predictions, self.csv_button):
            widget.setEnabled(self._workspace.study is not None)

    @guarded
    def export_geojson(self) -> None:
        """Ask where, and write the cells of this image for QuPath."""
        image = self._workspace.need_image()
        path = ask_where(self, "Export for QuPath", f"{image.path.stem}.geojson", "GeoJSON (*.geojson)")
        if path is not None:
            self.write_geojson(path)

    def write_geojson(self, path: Path) -> None:
        """Write the cells of this image for QuPath."""
        from napari_mtssl.study.geojson import export_geojson

        study, image = self._workspace.need_study(), self._workspace.need_image()
        export_geojson(study, image.id, path, predictions=self.with_predictions.isChecked())
        show_info(f"Written: {path}. Drop it onto the image in QuPath.")

    @guarded
    def export_csv(self) -> None:
        """Ask where, and write the cells of all images."""
        study = self._workspace.need_study()
        path = ask_where(self, "Export cells", f"{study.name}.csv", "CSV (*.csv)")
        if path is not None:
            from napari_mtssl.study.cell_files import export_csv

            count = export_csv(study, path, predictions=self.with_predictions.isChecked())
            show_info(f"Written: {count:,} cells and background points in {path}.")
