"""Whole slides as layers of napari: lazy, with all their levels, in micrometres."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[Any]] | None:
    """Return a reader if all paths look like images that we open; no file is touched."""
    from napari_mtssl.images import is_image

    paths = path if isinstance(path, list) else [path]
    return read_slides if paths and all(is_image(one) for one in paths) else None


def read_slides(path: str | list[str]) -> list[tuple[Any, dict[str, Any], str]]:
    """Open images as layers, a pyramid each; what lies beside a slide, such as its label, is not shown.

    Raises
    ------
    ImageError
        With what to change; napari shows it.
    """
    from napari_mtssl.images import open_image

    layers = []
    for one in path if isinstance(path, list) else [path]:
        image = open_image(one)
        known = image.pixel_size_um is not None
        settings = {
            "name": image.path.name,
            "rgb": image.channels == 3,
            "multiscale": len(image.levels) > 1,
            "scale": [image.pixel_size_um or 1.0] * 2,
            "units": ["um" if known else "pixel"] * 2,
            "metadata": {"pixel_size_um": image.pixel_size_um, "magnification": image.magnification},
        }
        layers.append((image.levels if len(image.levels) > 1 else image.levels[0], settings, "image"))
    return layers
