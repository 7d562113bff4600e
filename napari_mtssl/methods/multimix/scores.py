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
        ``score`` (nan where nothing is held out), ``dice``, ``KIND_accuracy``; and with ``cross_`` in front
        those of images from elsewhere, which do not count in the mean while there are others.
    """
    here = _scores(bank, masks, classes, ~bank.foreign)
    there = {f"cross_{name}": v for name, v in _scores(bank, masks, classes, bank.foreign).items()}
    counted = list((here or there).values())
    return {"score": float(np.mean(counted)) if counted else float("nan"), **here, **there}


def _scores(
    bank: FieldBank, masks: torch.Tensor | None, classes: Mapping[str, torch.Tensor], which: torch.Tensor
) -> dict[str, float]:
    """Scores of some of the images."""
    scores: dict[str, float] = {}
    chosen = which[bank.masked]
    if masks is not None and bool(chosen.any()):
        found, truth = masks[bank.masked[chosen]][:, 1:], bank.masks[chosen, 1:].float() / 255
        cut = (found > 0.5).float(), (truth > 0.5).float()
        scores["dice"] = 1 - float(dice_loss(*cut, bank.known[chosen].float()))
    for kind, probs in classes.items():
        index = bank.classes.get(kind)
        if index is None:
            continue
        said = (index >= 0) & which
        if bool(said.any()):
            scores[f"{kind}_accuracy"] = float((probs.argmax(1) == index)[said].float().mean())
    return scores
