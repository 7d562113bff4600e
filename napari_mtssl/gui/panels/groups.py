"""A button that says which images are of one patient, specimen or slide."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qtpy.QtWidgets import QInputDialog, QLineEdit, QWidget

from napari_mtssl.gui.notify import guarded, show_info
from napari_mtssl.gui.panels.menus import MenuButton
from napari_mtssl.gui.workspace import Workspace, WorkspaceError
from napari_mtssl.study.records import plural

SELECTED, BY_NAME = "Of the selected images …", "From the names of the files …"


class GroupButton(MenuButton):
    """Puts the selected images into one group, or each into the group that its file's name begins with.

    Parameters
    ----------
    workspace : Workspace
    selected : callable
        Ids of the images selected in the list.
    """

    def __init__(
        self, workspace: Workspace, selected: Callable[[], Sequence[int]], parent: QWidget | None = None
    ) -> None:
        super().__init__("Group", workspace, {SELECTED: (), BY_NAME: ()}, parent)
        self._selected = selected
        self.setToolTip(
            "Say which images are of one patient, specimen or slide: they are held out together. "
            "Select several with Shift or Ctrl"
        )

    @guarded
    def choose(self, text: str) -> None:
        """Ask for the group, and put images into it."""
        study = self._workspace.need_study()
        if text == SELECTED:
            ids = list(self._selected())
            if not ids:
                raise WorkspaceError("Select images in the list first, several with Shift or Ctrl.")
            asked = f"Patient, specimen or slide of {plural(len(ids), 'image')}:"
            found = self._ask(asked, study.image(ids[0]).group)
            groups = None if found is None else dict.fromkeys(ids, found)
        else:
            found = self._ask("All images whose names are the same before this are of one patient:", "_")
            groups = None if found is None else self._by_name(found)
        if groups is None:
            return
        with study.edit(f"Put {plural(len(groups), 'image')} into groups"):
            for image_id, group in groups.items():
                study.set_group(image_id, group)
        self._workspace.refresh_image()
        self._workspace.images_changed.emit()
        different = len(set(groups.values()))
        show_info(f"{plural(len(groups), 'image')} in {plural(different, 'group')}; one Undo takes it back.")

    def _ask(self, text: str, default: str) -> str | None:
        answer, good = QInputDialog.getText(self, "Group", text, QLineEdit.EchoMode.Normal, default)
        if good and not answer.strip():
            raise WorkspaceError("A group needs a name.")
        return answer.strip() if good else None

    def _by_name(self, end: str) -> dict[int, str]:
        images = self._workspace.need_study().images()
        if not any(end in image.path.stem for image in images):
            raise WorkspaceError(f"There is no '{end}' in the name of any image.")
        return {image.id: image.path.stem.split(end)[0] for image in images}
