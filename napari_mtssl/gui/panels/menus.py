"""A button with a menu of what can be read or written."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from qtpy.QtWidgets import QMenu, QPushButton, QWidget

from napari_mtssl.gui.workspace import Workspace


class MenuButton(QPushButton):
    """A button whose menu has one line for each item.

    Parameters
    ----------
    title : str
    workspace : Workspace
    items : mapping of str to tuple
        By what the menu says.
    """

    def __init__(
        self,
        title: str,
        workspace: Workspace,
        items: Mapping[str, tuple[Any, ...]],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(title, parent)
        self._workspace, self._items = workspace, dict(items)
        menu = QMenu(self)
        for text in self._items:
            menu.addAction(text, partial(self.choose, text))
        self.setMenu(menu)

    def choose(self, text: str) -> None:
        """Do what the menu says."""
        raise NotImplementedError
