"""Asking for bins of a share: where they end, of which exact class, and how large blocks are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from qtpy.QtWidgets import QComboBox, QDialog, QDialogButtonBox, QLineEdit, QVBoxLayout, QWidget

from napari_mtssl.gui.panels.grid import BlockSize
from napari_mtssl.gui.rows import note, row
from napari_mtssl.gui.workspace import WorkspaceError

USUAL = "0, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100"  # per cent: the paper's
NEW_CLASS = "tumour"


@dataclass(frozen=True)
class Bins:
    """What was asked for.

    Attributes
    ----------
    edges : tuple of float
        From 0 to 1.
    exact : str
        Class whose share it is.
    sides : tuple of float or None
        Height and width of blocks in pixels, if they were asked for.
    """

    edges: tuple[float, ...]
    exact: str
    sides: tuple[float, float] | None = None

    @property
    def names(self) -> list[str]:
        """Names of the classes, in per cent."""
        return [f"{100 * low:g}-{100 * high:g}" for low, high in pairwise(self.edges)]


def edges_of(text: str) -> tuple[float, ...]:
    """Read the edges of bins, in per cent.

    Raises
    ------
    WorkspaceError
        If they are no numbers, or do not rise from 0 to 100.
    """
    words = text.replace(";", " ").replace(",", " ").replace("%", " ").split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise WorkspaceError("Write the edges as numbers in per cent: 0, 20, 50, 100.") from None
    if len(values) < 2 or any(high <= low for low, high in pairwise(values)):
        raise WorkspaceError("Every edge must be larger than the one before: 0, 20, 50, 100.")
    if values[0] != 0 or values[-1] != 100:
        raise WorkspaceError("The first edge is 0 and the last one 100: every share has its bin.")
    return tuple(round(value / 100, 6) for value in values)


class BinsDialog(QDialog):
    """Edges of bins, with the classes that come of them, or what is wrong with them.

    Parameters
    ----------
    exact : sequence of str
        Exact classes of the study but the background; the first is meant unless the user chooses.
    blocks : tuple of float or None
        Ask for the size of blocks, too, and begin with this one, in pixels.
    pixel_size_um : float, optional
    about : str
        What is to be binned, in a sentence.
    """

    def __init__(
        self,
        title: str,
        exact: list[str],
        blocks: tuple[float, float] | None = None,
        pixel_size_um: float | None = None,
        parent: QWidget | None = None,
        *,
        about: str = "",
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setMinimumWidth(430)
        self._um = pixel_size_um
        self.exact = QComboBox()
        self.exact.setEditable(not exact)  # the study's first exact class is named here
        self.exact.addItems(exact or [NEW_CLASS])
        self.exact.setToolTip("The class whose outline you want")
        self.edges = QLineEdit(USUAL)
        self.edges.setToolTip("Where bins begin and end, in per cent; fewer are quicker to give by eye")
        self.edges.textChanged.connect(self._check)
        self.said = note()
        self.size: BlockSize | None = None
        layout = QVBoxLayout(self)
        self.about = note(about)
        self.about.setVisible(bool(about))
        layout.addWidget(self.about)
        layout.addWidget(row("Share of a block that is", self.exact, None))
        layout.addWidget(row("Bins, in per cent", self.edges))
        layout.addWidget(self.said)
        if blocks is not None:
            self.size = BlockSize()
            self.size.set_pixel_size(pixel_size_um)
            self.size.show_sides(*blocks)
            layout.addWidget(note("There is no grid yet: how large are the blocks?"))
            layout.addWidget(self.size)
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        layout.addWidget(self.buttons)
        self._check()

    def _check(self) -> None:
        try:
            names = Bins(edges_of(self.edges.text()), "").names
            self.said.setText(f"{len(names)} class{'' if len(names) == 1 else 'es'}: {', '.join(names)}")
        except WorkspaceError as error:
            self.said.setText(f"⚠ {error}")
        good = not self.said.text().startswith("⚠")
        self.buttons.button(QDialogButtonBox.StandardButton.Ok).setEnabled(good)

    def bins(self) -> Bins:
        """Return what was asked for."""
        sides = None if self.size is None else self.size.sides(self._um, "this image")
        exact = self.exact.currentText().strip() or NEW_CLASS
        return Bins(edges_of(self.edges.text()), exact, sides)

    @classmethod
    def ask(
        cls,
        title: str,
        exact: list[str],
        blocks: tuple[float, float] | None = None,
        pixel_size_um: float | None = None,
        parent: QWidget | None = None,
        *,
        about: str = "",
    ) -> Bins | None:
        """Ask; None if the user thinks better of it."""
        dialog = cls(title, exact, blocks, pixel_size_um, parent, about=about)
        return dialog.bins() if dialog.exec() else None
