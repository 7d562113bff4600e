"""The active class, or the classes of the image, written on the canvas for a moment after they changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

from napari_mtssl.gui.workspace import Workspace

if TYPE_CHECKING:
    import napari

SHOWN_MS = 4000  # text on the canvas costs a third of a frame where there is no graphics card


class ClassOverlay:
    """Shows name and key of the active class in napari's text overlay; restores it at the end."""

    def __init__(self, viewer: napari.viewer.Viewer, workspace: Workspace) -> None:
        self._overlay = viewer.canvas.overlays.text
        self._workspace = workspace
        self._before = {
            name: getattr(self._overlay, name)
            for name in ("text", "visible", "color", "font_size", "box", "position")
        }
        self._signals = (
            workspace.active_changed,
            workspace.study_changed,
            workspace.image_changed,
            workspace.classes_changed,
            workspace.image_classes_changed,
            workspace.image_predicted,
        )  # fmt: skip
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._hide)
        for signal in self._signals:
            signal.connect(self._show)

    def _show(self) -> None:
        said = None if self._workspace.image is None else self._words()
        if said is None:
            self._overlay.visible = False
            return
        self._overlay.text, self._overlay.color = said
        self._overlay.font_size = 13
        self._overlay.box = True
        self._overlay.position = "top_left"
        self._overlay.visible = True
        self._timer.start(SHOWN_MS)

    def _words(self) -> tuple[str, str] | None:
        """Text and colour: of whole images what they are, given or predicted, else the active class."""
        workspace = self._workspace
        if workspace.study is not None and workspace.kind in workspace.heads():
            line = next(workspace.image_table([workspace.image.id]).itertuples(), None)
            if line is None:  # it was taken out of the study
                return None
            colour = next((colour for colour, _ in line.colours if colour), "#ffffff")
            return f"● {line.said}", colour
        found = next((c for c in workspace.classes() if c.name == workspace.active), None)
        if found is None:
            return None
        key = f"  [{found.key}]" if found.key else ""
        return f"● {found.name}{key}", found.colour

    def _hide(self) -> None:
        self._overlay.visible = False

    def close(self) -> None:
        """Put back what was there."""
        self._timer.stop()
        for signal in self._signals:
            signal.disconnect(self._show)
        for name, value in self._before.items():
            setattr(self._overlay, name, value)
