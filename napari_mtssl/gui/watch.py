"""Twice a second: where the user looks, what others did to the study, and whether it is still there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtWidgets import QApplication

from napari_mtssl.gui.notify import guarded, show_warning

if TYPE_CHECKING:
    from napari_mtssl.gui.dock import Dock
    from napari_mtssl.study import Study

LOOK_EVERY = 500  # ms
OF_GONE = "of a study that is gone"


class Watch(QObject):
    """Looks after a dock's study while nobody touches the window.

    Parameters
    ----------
    dock : Dock
    """

    def __init__(self, dock: Dock) -> None:
        super().__init__(dock)
        self._dock = dock
        self._taken_in: tuple[Study | None, int] = (None, 0)
        self._said = ""
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.look)
        self._timer.start(LOOK_EVERY)

    def stop(self) -> None:
        """Look no more."""
        self._timer.stop()

    @guarded
    def look(self) -> None:
        """Tell the training what the user sees; notice what happened to the study without this window."""
        dock, workspace = self._dock, self._dock.workspace
        if workspace.study is not None and not workspace.on_disk:
            self._gone()
            return
        if workspace.study is not None:
            self._take_in_others(workspace.study)
        if dock.runner.busy:
            dock.runner.look(dock.seen())
        if workspace.image is not None:
            dock.review_panel.follow(dock.layers.viewport())
            dock.regions.follow()
            for painting in dock.paintings:
                painting.follow()

    def _take_in_others(self, study: Study) -> None:
        """Show what another window, or another program, changed in the same study."""
        from napari_mtssl.study import StudyError

        if self._drawing():
            return  # the next time will do
        try:
            edits = study.edits_elsewhere()
        except StudyError as error:  # as of a file that was replaced: said once, and not twice a second
            if str(error) != self._said:
                self._said = str(error)
                show_warning(self._said)
            return
        known, self._taken_in = self._taken_in, (study, edits)
        if edits != (known[1] if known[0] is study else 0):
            self._dock.workspace.everything_changed()

    def _drawing(self) -> bool:
        """Whether a stroke, a drag or a polygon may be half done, which filling its layer would end."""
        regions, paintings = self._dock.regions.layer, [painting.layer for painting in self._dock.paintings]
        outline = regions is not None and str(regions.mode).startswith("add_")
        outline = outline or any(layer is not None and layer.mode == "polygon" for layer in paintings)
        return outline or QApplication.mouseButtons() != Qt.MouseButton.NoButton

    def _gone(self) -> None:
        dock = self._dock
        name = dock.workspace.study.path
        dock.runner.stop()
        with dock.layers.busy():
            dock.let_go()
            dock.layers.leave_labels(f"Labels {OF_GONE}")
            dock.rasters.leave(OF_GONE)
            dock.regions.leave(OF_GONE)
        dock.workspace.close()
        show_warning(
            f"The folder {name} is gone: it was moved or deleted. Put it back and open it again; this image "
            "and its labels stay in the viewer and can be saved with File > Save Selected Layers."
        )
