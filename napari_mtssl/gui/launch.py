"""Open napari with the dock: what the command ``napari-mtssl`` does."""

from __future__ import annotations

from pathlib import Path

from napari_mtssl.gui.samples import PLUGIN, WIDGET


def open_window(study: Path | None = None) -> None:
    """Open napari with the dock, and in it a study; returns when the window is closed.

    Parameters
    ----------
    study : Path, optional
        Folder ``NAME.mtssl`` to open.
    """
    import napari

    viewer = napari.Viewer(title="napari-mtssl")
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    if study is not None:
        dock.open_study(study)
    napari.run()
