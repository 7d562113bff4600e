"""A first mask by brightness alone, to be corrected with the brush. Knows no Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_mtssl.gui.tasks import MASK
from napari_mtssl.gui.workspace import Workspace, WorkspaceError

if TYPE_CHECKING:
    from napari_mtssl.images import Image

MOST = 64_000_000  # pixels
SMOOTH = 300  # part of the shorter side that is smoothed over, one pixel at least
SPECK = 0.0005  # of the image: smaller holes and specks go


def brighter(image: Image, shift: float = 0.0) -> np.ndarray:
    """Pixels above Otsu's threshold, without specks and small holes.

    Parameters
    ----------
    image : Image
    shift : float
        Of the threshold, -1 (everything is above) to 1 (nothing is).

    Returns
    -------
    ndarray of bool, shape (height, width)
    """
    from scipy.ndimage import gaussian_filter
    from skimage.filters import threshold_otsu

    pixels = np.asarray(image.levels[0])
    if pixels.ndim == 3:
        pixels = pixels[..., :3].max(-1)  # one bright channel is bright, as green on black
    grey = gaussian_filter(pixels.astype(np.float32), max(min(pixels.shape) / SMOOTH, 1.0))
    low, high = float(grey.min()), float(grey.max())
    if high <= low:
        return np.zeros(grey.shape, bool)
    middle = float(threshold_otsu(grey))
    middle += shift * (high - middle if shift > 0 else middle - low)
    return _without_specks(grey > middle)


def _without_specks(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import label

    least = SPECK * mask.size
    for value in (True, False):
        labelled, _ = label(mask == value)
        sizes = np.bincount(labelled.ravel())
        small = sizes < least
        small[0] = False
        mask = np.where(small[labelled], not value, mask)
    return mask


class Threshold:
    """Fills the image on screen with the active mask class by brightness; the next try replaces this one."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._last: tuple[int, int] | None = None  # the image, and the study as our last fill left it

    def fill(self, *, bright: bool, shift: float = 0.0) -> int:
        """Paint what is bright, or dark, where nobody painted yet; return how many pixels that are.

        Raises
        ------
        WorkspaceError
            If there is no class to paint, the mask is complete already, or the image is too large.
        """
        study, image = self._workspace.need_study(), self._workspace.need_image()
        name = self._workspace.active_of(MASK)
        code = next((c.code for c in study.classes(MASK) if c.name == name), None)
        if code is None:
            raise WorkspaceError("Add a class first: it is what the threshold paints.")
        if image.height * image.width > MOST:
            raise WorkspaceError("This image is too large to paint its pixels.")
        if study.mask_state(image.id).complete:  # what nobody painted there is background, not free
            raise WorkspaceError(
                "This mask is complete: nothing is filled in it. Untick 'Mask is complete' (C) to begin anew."
            )
        if self._last == (image.id, study.change_counter()):
            study.undo()
        # Dark is what is not bright: its threshold moves the other way.
        above = brighter(self._workspace.pixels, shift if bright else -shift)
        where = (above == bright) & (study.mask(image.id) == 0)
        patch = np.full(where.shape, code, np.uint16)
        study.paint_mask(image.id, 0, 0, patch, where=where, what=f"Filled {name} by a threshold")
        self._last = (image.id, study.change_counter())
        self._workspace.mask_changed.emit()
        return int(where.sum())
