"""Lengths in micrometres."""

from __future__ import annotations

import math

MICROMETRES = {
    "m": 1e6, "meter": 1e6, "metre": 1e6,
    "cm": 1e4, "centimeter": 1e4, "centimetre": 1e4,
    "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3,
    "um": 1.0, "µm": 1.0, "μm": 1.0, "\\u00b5m": 1.0, "micron": 1.0, "microns": 1.0,
    "micrometer": 1.0, "micrometre": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3,
    "pm": 1e-6, "picometer": 1e-6, "picometre": 1e-6,
    "angstrom": 1e-4, "å": 1e-4,
    "inch": 25400.0, "in": 25400.0,
}  # fmt: skip

# 600 dots an inch is 42 um: what is coarser than this is how large to print, not what a microscope saw.
COARSEST = 40.0
# Pixels that differ more than this in height and width are not square.
TOLERANCE = 0.02


def square_pixel_um(
    height: float | None, width: float | None, unit: str | None, coarsest: float = COARSEST
) -> float | None:
    """Side of a pixel in micrometres from what a file says of it.

    Parameters
    ----------
    height, width : float or None
        Extent of a pixel along rows and columns.
    unit : str or None
        Name or symbol of the unit.
    coarsest : float
        A larger pixel is taken as one meant for printing, micrometres.

    Returns
    -------
    float or None
        None if the file gives no length, an unknown unit, a size meant for printing, or pixels that are not
        square.
    """
    factor = MICROMETRES.get((unit or "").strip().lower())
    if factor is None or not height or not width:
        return None
    rows, cols = height * factor, width * factor
    if not (math.isfinite(rows) and math.isfinite(cols)) or min(rows, cols) <= 0:
        return None
    if max(rows, cols) > coarsest or abs(rows - cols) > TOLERANCE * max(rows, cols):
        return None
    return (rows + cols) / 2
