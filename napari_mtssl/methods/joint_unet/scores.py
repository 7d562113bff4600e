"""How good masks and image classes are, from plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MASK, UNKNOWN = "mask", 255


@dataclass(frozen=True)
class Outcome:
    """What was predicted of N images, beside the truth.

    Attributes
    ----------
    masks : ndarray of int, shape (N, S, S), or None
        Predicted class of each pixel.
    true_masks : ndarray of int, shape (N, S, S)
        255 where nobody knows.
    probs : mapping of str to ndarray, shape (N, C)
        By head.
    truth : mapping of str to ndarray of int, shape (N,)
        -1 where nobody knows.
    """

    masks: np.ndarray | None
    true_masks: np.ndarray
    probs: Mapping[str, np.ndarray]
    truth: Mapping[str, np.ndarray]


def scores(outcome: Outcome, vocabulary: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """``score`` (mean over tasks: Dice, or accuracy), then the scores of every task; nan where none can be.

    Parameters
    ----------
    outcome : Outcome
    vocabulary : mapping of str to sequence of str
        Classes of the tasks that were learnt.
    """
    found: dict[str, float] = {}
    main = []
    if outcome.masks is not None:
        found |= mask_scores(outcome.masks, outcome.true_masks, len(vocabulary[MASK]))
        main.append(found["mask_dice"])
    for kind, probs in outcome.probs.items():
        found |= {f"{kind}_{k}": v for k, v in class_scores(probs, outcome.truth[kind]).items()}
        main.append(found[f"{kind}_accuracy"])
    known = [value for value in main if value == value]
    return {"score": float(np.mean(known)) if known else float("nan"), **found}


def mask_scores(predicted: np.ndarray, truth: np.ndarray, classes: int) -> dict[str, float]:
    """Accuracy of pixels, Dice and IoU: of each image and class but the background, then their mean."""
    dice, iou, right = [], [], []
    for mine, theirs in zip(predicted, truth, strict=True):
        known = theirs != UNKNOWN
        if not known.any():
            continue
        right.append(float((mine[known] == theirs[known]).mean()))
        for k in range(1, classes):
            a, b = (mine == k) & known, (theirs == k) & known
            both, either = int((a & b).sum()), int((a | b).sum())
            if either:
                dice.append(2 * both / (both + either))
                iou.append(both / either)
    return {
        "mask_dice": float(np.mean(dice)) if dice else float("nan"),
        "mask_iou": float(np.mean(iou)) if iou else float("nan"),
        "mask_accuracy": float(np.mean(right)) if right else float("nan"),
    }


def class_scores(probs: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Accuracy, macro-F1 over the classes that occur, and AUROC (one class against the rest, mean)."""
    known = truth >= 0
    if not known.any():
        return {"accuracy": float("nan"), "f1": float("nan"), "auroc": float("nan")}
    probs, truth = probs[known], truth[known]
    best = probs.argmax(1)
    f1, area = [], []
    for k in range(probs.shape[1]):
        hit = int(((best == k) & (truth == k)).sum())
        wrong = int(((best == k) != (truth == k)).sum())
        if hit or wrong:
            f1.append(2 * hit / (2 * hit + wrong))
        if probs.shape[1] > 2 or k == 1:
            area.append(auroc(probs[:, k], truth == k))
    areas = [value for value in area if value == value]
    return {
        "accuracy": float((best == truth).mean()),
        "f1": float(np.mean(f1)),
        "auroc": float(np.mean(areas)) if areas else float("nan"),
    }


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Share of pairs of a positive and a negative that the score orders rightly, ties as half."""
    from scipy.stats import rankdata

    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    return float((rankdata(score)[positive].sum() - n * (n + 1) / 2) / (n * m))
