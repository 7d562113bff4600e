"""Pictures of a result: cells drawn on their image, and the curves of a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from napari_mtssl.images import Image


def overlay(
    image: Image,
    cells: pd.DataFrame,
    colours: Mapping[str, str],
    *,
    radius: float = 6.0,
    max_side: int = 4096,
) -> np.ndarray:
    """Draw a ring around every cell in the colour of its class.

    Parameters
    ----------
    image : Image
    cells : DataFrame
        With columns ``row, col, class`` in level-0 pixels.
    colours : mapping of str to str
        Class name to ``#rrggbb``; cells of a class that is not named are left out.
    radius : float
        Of the rings, in level-0 pixels.
    max_side : int
        A larger image is drawn smaller, so that its longer side has at most this many pixels.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
    """
    import numpy as np

    picture, scale = _thumbnail(image, max_side)
    rows, cols = _ring(max(radius / scale, 2.0))
    for name, colour in colours.items():
        places = cells.loc[cells["class"] == name, ["row", "col"]].to_numpy(dtype=float) / scale
        at = np.rint(places).astype(int)
        r = (at[:, :1] + rows).ravel()
        c = (at[:, 1:] + cols).ravel()
        inside = (r >= 0) & (r < picture.shape[0]) & (c >= 0) & (c < picture.shape[1])
        picture[r[inside], c[inside]] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return picture


def outlines(
    image: Image,
    labels: np.ndarray,
    names: Sequence[str],
    colours: Mapping[str, str],
    *,
    max_side: int = 4096,
) -> np.ndarray:
    """Draw the border of every region in the colour of its class.

    Parameters
    ----------
    image : Image
    labels : ndarray of int, shape (H, W)
        Index into `names` for every pixel of the image.
    names : sequence of str
    colours : mapping of str to str
        Class name to ``#rrggbb``; a class that is not named (the background) gets no border.
    max_side : int
        A larger image is drawn smaller.

    Returns
    -------
    ndarray of uint8, shape (h, w, 3)
    """
    import numpy as np
    from scipy.ndimage import binary_erosion

    picture, scale = _thumbnail(image, max_side)
    rows, cols = (
        np.minimum((np.arange(n) * scale + scale / 2).astype(int), m - 1)
        for n, m in zip(picture.shape[:2], labels.shape, strict=True)
    )
    small = labels[np.ix_(rows, cols)]
    for index, name in enumerate(names):
        if name in colours:
            inside = small == index
            border = inside & ~binary_erosion(inside, iterations=2, border_value=1)
            picture[border] = [int(colours[name][i : i + 2], 16) for i in (1, 3, 5)]
    return picture


def _ring(radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Offsets ``(1, n)`` of the pixels of a ring about two pixels wide."""
    import numpy as np

    reach = math.ceil(radius) + 1
    rows, cols = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    on = np.abs(np.hypot(rows, cols) - radius) <= 1.0
    return rows[on][None], cols[on][None]


def _thumbnail(image: Image, max_side: int) -> tuple[np.ndarray, float]:
    """RGB picture of at most `max_side` pixels a side, and the level-0 pixels per pixel of it.

    Files of 16 bits that use few of them (cameras of 12) are brightened.
    """
    import numpy as np

    from napari_mtssl.images import to_float

    pixels = image.thumbnail(max_side)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    unit = to_float(pixels)
    if pixels.dtype == np.uint16:
        top = float(np.quantile(unit, 0.999))
        unit = unit if top >= 0.5 or top == 0 else np.clip(unit / top, 0, 1)
    picture = np.rint(255 * unit).astype(np.uint8)
    return picture, image.height / picture.shape[0]


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture as PNG."""
    import imageio.v3 as iio

    iio.imwrite(path, picture)


def save_curves(metrics: Path, target: Path) -> None:
    """Plot a run's losses, and its held-out scores if it has any.

    Parameters
    ----------
    metrics : Path
        ``metrics.csv`` of the run: ``step, seconds, name, value``.
    target : Path
        PNG to write.
    """
    import pandas as pd
    from matplotlib.figure import Figure  # no pyplot: it would look for a display

    table = pd.read_csv(metrics)
    table[["kind", "term"]] = table["name"].str.split("/", n=1, expand=True).reindex(columns=[0, 1])
    titles = {"loss": "losses", "validation": "held-out scores"}
    kinds = [kind for kind in titles if (table["kind"] == kind).any()]
    figure = Figure(figsize=(6 * max(len(kinds), 1), 3.5), layout="constrained")
    for number, kind in enumerate(kinds, start=1):
        axes = figure.add_subplot(1, len(kinds), number)
        for term, rows in table[table["kind"] == kind].groupby("term", sort=False):
            axes.plot(rows["step"], rows["value"], label=term, linewidth=2 if term == "total" else 1)
        axes.set(xlabel="step", title=titles[kind])
        axes.legend(fontsize="small", frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=120)
