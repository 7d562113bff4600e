"""Layers that are drawn quickly: filled at once, and quiet while the view moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_mtssl.gui.notify import show_info

if TYPE_CHECKING:
    from napari.layers import Layer, Points


def calm(layer: Layer) -> None:
    """Do not have the layer list painted in every frame of a zoom.

    The list listens to every event of every layer; this one only serves text on points, of which we have
    none.
    """
    if not layer.events.scale_factor.blocked():
        layer.events.scale_factor.block()


def quiet(layer: Points) -> None:
    """Mark points under the cursor only while the user selects points.

    napari works out the marks anew for every points layer in every frame of a zoom, which without a
    graphics card costs more than the frame.
    """
    layer.events.highlight.block()
    layer.events.mode.connect(_on_mode)


def _on_mode(event: Any) -> None:
    highlight = event.source.events.highlight
    while highlight.blocked():
        highlight.unblock()
    if event.source.mode != "select":
        highlight.block()


def held(layer: Layer) -> None:
    """Let nobody turn or shift a layer by hand: places of labels are those of the image's pixels."""
    layer.events.mode.disconnect(_hold)
    layer.events.mode.connect(_hold)


def _hold(event: Any) -> None:
    if event.source.mode == "transform":
        event.source.mode = "pan_zoom"
        show_info("The image stays where it is: labels are tied to its pixels.")


@contextmanager
def heard(layer: Points) -> Iterator[None]:
    """Show a change of the selection although the layer is quiet."""
    blocked = layer.events.highlight.blocked()
    if blocked:
        layer.events.highlight.unblock()
    try:
        yield
    finally:
        if blocked:
            layer.events.highlight.block()


def put(layer: Points, coordinates: np.ndarray, features: pd.DataFrame) -> None:
    """Set data and features together, without telling listeners (who would take it for the user's edit)."""
    if layer.selected_data:
        with heard(layer):
            layer.selected_data = set()
    with ExitStack() as blocked:
        # Data, face and border would each be sliced and sent to the graphics card anew: once is enough.
        for name in ("data", "features", "properties", "thumbnail", "set_data", "face_color", "border_color"):
            blocked.enter_context(layer.events[name].blocker())
        with layer.events.loaded.blocker():  # the layer list would look at every layer for it
            with _unrefreshed(layer):
                # A copy of our own: a drag writes into it, and pandas hands out read-only arrays.
                layer.data = np.array(coordinates, dtype=float)
            layer.set_view_slice()  # colours are drawn with it, as soon as features change
            layer.features = features
    with layer.events.loaded.blocker():
        layer.refresh(thumbnail=False, highlight=False)


def _unrefreshed(layer: Points) -> AbstractContextManager[Any]:
    """Have napari not slice points whose features are still the old ones; a newer one may do it in vain."""
    bare = getattr(layer, "__wrapped__", layer)  # plugins get a proxy that warns of everything private
    made: AbstractContextManager[Any] = getattr(bare, "_block_refresh", nullcontext)()
    return made


def with_classes(frame: pd.DataFrame, cycle: Mapping[str, str]) -> pd.DataFrame:
    """Features with `class` as a category, so that an absent class shifts no colour."""
    columns: dict[str, Any] = {name: frame[name].to_numpy() for name in frame}
    # -1, no class: one that was renamed just now has no colour until it is read again.
    codes = pd.Index(list(cycle), dtype=object).get_indexer(columns["class"])
    columns["class"] = pd.Categorical.from_codes(codes, categories=list(cycle))
    return pd.DataFrame(columns, copy=False)
