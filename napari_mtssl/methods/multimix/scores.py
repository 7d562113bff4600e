"""Scores of masks and classes on held-out images of a study."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from napari_mtssl.methods.multimix.losses import dice_loss
from napari_mtssl.methods.multimix.samples import FieldBank


def field_scores(
    bank: FieldBank, masks: torch.Tensor | None, classes: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """Dice of the masks and accuracy of each kind of class, their mean first.

    Parameters
    ----------
    bank : FieldBank
    masks : Tensor, shape (N, K + 1, S, S), or None
        Predicted probabilities for all images of the bank.
    classes : mapping of str to Tensor, shape (N, classes)

    Returns
    -------
    dict of str to float
        ``score`` (nan where nothing is held out), ``dice``, ``KIND_accuracy``.
    """
    scores: dict[str, float] = {}
    if masks is not None and len(bank.masked):
        found, truth = masks[bank.masked][:, 1:], bank.masks[:, 1:].float() / 255
        cut = (found > 0.5).float(), (truth > 0.5).float()
        scores["dice"] = 1 - float(dice_loss(*cut, bank.known.float()))
    for kind, probs in classes.items():
        index = bank.classes.get(kind)
        if index is not None and bool((index >= 0).any()):
            scores[f"{kind}_accuracy"] = float((probs.argmax(1) == index)[index >= 0].float().mean())
    return {"score": float(np.mean(list(scores.values()))) if scores else float("nan"), **scores}
