"""The mask of a slide, tile by tile, by a network that learnt from whole images.

Its normalisation keeps the statistics of training, so that a tile with as much around it as the network can
see equals the whole. What class the image is of stays the answer to the image as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_mtssl.methods.base import Geometry, Prediction

if TYPE_CHECKING:
    from napari_mtssl.methods.joint_unet.method import JointUNetMethod


class SlideMask:
    """What the prediction of slides needs of a method; the rest is the method's own.

    Parameters
    ----------
    method : JointUNetMethod
        One that learnt a mask.
    """

    whole_image = False

    def __init__(self, method: JointUNetMethod) -> None:
        self._method = method
        net = method.teacher
        self._reach = net.reach
        self.geometry = Geometry(stride=1, halo=net.reach, window=1, margin=0, align=net.align)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    @torch.no_grad()
    def predict(self, tile: torch.Tensor) -> dict[str, torch.Tensor]:
        """``probs`` (1, K, h, w) of the mask's classes, without the halo."""
        probs, _ = self._method.predict_batch(tile, exact=True)
        assert probs is not None
        reach = self._reach
        return {"probs": probs[..., reach:-reach, reach:-reach]}

    def decode(self, maps: Mapping[str, np.ndarray], box: tuple[int, int, int, int]) -> Prediction:
        """Give the probabilities as a mask, and the picture ``uncertainty``: their entropy, 1 at most."""
        probs = np.asarray(maps["probs"], np.float32)
        entropy = -(probs * np.log(probs.clip(1e-8))).sum(0) / math.log(len(probs))
        return Prediction(mask=probs, pictures={"uncertainty": entropy.astype(np.float32)})
