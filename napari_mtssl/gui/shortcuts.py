"""Every key the plugin listens to, in one table: what binds them, and what the help shows, both read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from napari.layers import Layer

Scope = Literal["labels", "predictions", "blocks", "regions", "masks", "images"]
BOTH: tuple[Scope, ...] = ("labels", "predictions")
ALL: tuple[Scope, ...] = ("labels", "predictions", "blocks", "regions", "masks", "images")
PIXELS: tuple[Scope, ...] = ("masks", "images")


@dataclass(frozen=True)
class ShortcutSpec:
    """One key (or the digits) and what it does.

    Attributes
    ----------
    action : str
        Name that the dock maps to a function.
    keys : tuple of str
        In napari's notation.
    scopes : tuple of str
        On which of our layers the key works.
    text : str
        One line for the help.
    argument : str or None
        Handed to the function (the digit).
    """

    action: str
    keys: tuple[str, ...]
    scopes: tuple[Scope, ...]
    text: str
    argument: str | None = None


_DIGITS = tuple(
    ShortcutSpec(
        "digit", (digit,), ALL, f"Class with key {digit}: label with it, or give it to the selection", digit
    )
    for digit in "1234567890"
)

SHORTCUTS: tuple[ShortcutSpec, ...] = (
    *_DIGITS,
    ShortcutSpec("undo", ("Control-Z",), ALL, "Undo the last edit of the study"),
    ShortcutSpec("redo", ("Control-Shift-Z",), ALL, "Do it again"),
    ShortcutSpec("delete", ("Delete", "Backspace"), ("labels",), "Delete the selected labels"),
    ShortcutSpec("no_paste", ("Control-V",), (*BOTH, "regions"), "(labels cannot be pasted)"),
    ShortcutSpec("suggest", ("G",), ALL, "Go to the next suggested place"),
    ShortcutSpec("next_image", ("PageDown",), ALL, "Next image"),
    ShortcutSpec("previous_image", ("PageUp",), ALL, "Previous image"),
    ShortcutSpec(
        "accept", ("Y",), (*BOTH, "images"), "Review: accept the prediction in focus, or the image's classes"
    ),
    ShortcutSpec("reject", ("N",), BOTH, "Review: reject it (it becomes background)"),
    ShortcutSpec("reject", ("Delete", "Backspace"), ("predictions",), "Review: reject what is selected"),
    ShortcutSpec("next_prediction", ("Right",), BOTH, "Review: next prediction"),
    ShortcutSpec("previous_prediction", ("Left",), BOTH, "Review: previous prediction"),
    ShortcutSpec("next_image", ("Right",), ("images",), "Images: the next one"),
    ShortcutSpec("previous_image", ("Left",), ("images",), "Images: the one before"),
    ShortcutSpec("unlabelled", ("U",), ("images",), "Images: the next one that lacks a class or a mask"),
    ShortcutSpec("next_kind", ("T",), PIXELS, "Images: the digits give classes of the next table"),
    ShortcutSpec("complete", ("C",), ("images",), "Images: the mask is complete, or is not"),
    ShortcutSpec("use_predicted", ("P",), PIXELS, "Take the predicted mask; correct it then"),
    ShortcutSpec("add_missed", ("M",), BOTH, "Add missed cells: click them with the active class of cells"),
)


class Bindings:
    """Keys bound on layer instances, never on classes; `release` takes them all away."""

    def __init__(self, actions: Mapping[str, Callable[..., Any]]) -> None:
        missing = {spec.action for spec in SHORTCUTS} - set(actions)
        if missing:
            raise KeyError(f"No function for the shortcuts {sorted(missing)}.")
        self._actions = dict(actions)
        self._bound: list[tuple[Layer, str]] = []

    def bind(self, layer: Layer, scope: Scope) -> None:
        """Bind every shortcut of `scope` on this layer."""
        for spec in SHORTCUTS:
            if scope in spec.scopes:
                for key in spec.keys:
                    layer.bind_key(key, self._callback(spec, scope), overwrite=True)
                    self._bound.append((layer, key))

    def release(self, layer: Layer | None = None) -> None:
        """Unbind all keys, or those of one layer."""
        kept = []
        for owner, key in self._bound:
            if layer is None or owner == layer:
                owner.bind_key(key, None)
            else:
                kept.append((owner, key))
        self._bound = kept

    def _callback(self, spec: ShortcutSpec, scope: Scope) -> Callable[[Layer], None]:
        function = self._actions[spec.action]

        def on_key(layer: Layer) -> None:
            if spec.argument is None:
                function()
            else:
                function(spec.argument, scope)

        on_key.__doc__ = spec.text
        return on_key


def help_table() -> str:
    """Write the table of keys as rich text for the help dialog; one line for each key."""
    texts: dict[str, list[str]] = {}
    for spec in SHORTCUTS:
        if spec.action == "no_paste" or (spec.action == "digit" and spec.argument != "1"):
            continue
        keys = "1 … 9, 0" if spec.action == "digit" else " or ".join(spec.keys).replace("Control", "Ctrl")
        text = (
            "Label with the class of that key, or give it to what is selected"
            if spec.action == "digit"
            else spec.text
        )
        texts.setdefault(keys, []).append(text)
    rows = [
        f"<tr><td><b>{keys}</b>&nbsp;&nbsp;</td><td>{'. '.join(said)}</td></tr>"
        for keys, said in texts.items()
    ]
    return (
        "<p>Keys work while one of the plugin's layers is selected in the layer list.</p>"
        f"<table cellpadding='3'>{''.join(rows)}</table>"
        "<p>Drag a label in select mode to move it. A click on a label gives it the active class. "
        "A click on a prediction brings it into focus: the keys settle it.</p>"
        "<p>Regions: Choose one, then press a class's key, or Delete. Esc ends drawing.</p>"
    )
