"""The published systems, found through the entry-point group ``napari_mtssl.methods``."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_mtssl.methods.base import Method

GROUP = "napari_mtssl.methods"


class UnknownMethodError(ValueError):
    """No installed package registers a method of that name."""


def method_names() -> list[str]:
    """Names of all registered methods, sorted; imports none of them."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def get_method(name: str) -> type[Method]:
    """Import and return the method class registered as `name`.

    Raises
    ------
    UnknownMethodError
        If no installed package registers it.
    """
    for point in entry_points(group=GROUP):
        if point.name == name:
            return point.load()
    known = ", ".join(method_names()) or "none"
    raise UnknownMethodError(f"There is no method '{name}'. Installed methods: {known}.")
