"""Names of the rows of the Joint U-Net's tables, and the settings that they stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.evaluation.table import Captions

BALANCERS = ("fixed", "equal", "tuned", "uncertainty", "famo", "dbmtl")
TUNED = (0.3, 1.0, 3.0)  # weights of the mask, against 1 of each class, that the row `tuned` chooses from
LOSSES = ("bce", "dice", "both")
SINGLE = "single-task"
SUPERVISED = "-supervised"
ALPHA = r"\d+(?:\.\d+)?"
# The report's eight trainings: its Tables II to X.
REPORT = tuple(
    f"gradnorm-{alpha}-{loss}-{epochs}ep"
    for alpha, epochs in (("0.6", 30), ("0.6", 15), ("0.06", 15), ("6", 15))
    for loss in ("dice", "bce")
)
FIGURES = ("mask_dice", "label_f1", "label_accuracy", "intensity_accuracy")  # that delta_m compares

CAPTIONS = Captions(
    budget="labelled images",
    rows={
        SINGLE: "single-task networks",
        "equal": "equal weights",
        "fixed": "weights as set",
        "tuned": "fixed weights, tuned",
    },
    metrics={
        "mask_dice": "Mask: Dice",
        "mask_iou": "Mask: IoU",
        "mask_accuracy": "Mask: accuracy of pixels",
        "label_accuracy": "Label: accuracy",
        "label_f1": "Label: macro-F1",
        "label_auroc": "Label: AUROC",
        "intensity_accuracy": "Intensity: accuracy",
        "intensity_f1": "Intensity: macro-F1",
        "intensity_auroc": "Intensity: AUROC",
        "auroc": "AUROC",
        "delta_m": "Mean relative change against single-task networks (%)",
        "seconds": "Seconds to train",
    },
    panels=("mask_dice", "label_accuracy", "auroc"),
)


def rows(
    alphas: Sequence[str], losses: Sequence[str], balancers: Sequence[str], single: bool = True
) -> list[str]:
    """Names of the rows of a table: GradNorm at each alpha, the other rules, each with each loss of the mask.

    Raises
    ------
    DataError
        If a loss or a balancer does not exist, or an alpha is no number.
    """
    for alpha in alphas:
        if re.fullmatch(ALPHA, alpha) is None:
            raise DataError(f"'{alpha}' is no alpha: write numbers such as 0.06,0.6,6.")
    for known, given, what in ((LOSSES, losses, "loss"), ((*BALANCERS, "gradnorm"), balancers, "balancer")):
        wrong = [name for name in given if name not in known]
        if wrong:
            raise DataError(f"There is no {what} '{wrong[0]}'. Choose of: {', '.join(known)}.")
    found = []
    if "gradnorm" in balancers and not alphas:
        raise DataError("GradNorm needs an alpha, such as 0.6.")
    for loss in losses:
        for name in balancers:
            if name == "gradnorm":
                found += [f"gradnorm-{alpha}-{loss}" for alpha in alphas]
            else:
                found.append(name if len(losses) == 1 else f"{name}-{loss}")
    return [*found, SINGLE] if single else found


def settings_of(row: str) -> dict[str, Any]:
    """Read the settings that a row's name stands for.

    Raises
    ------
    DataError
        If no row has such a name.
    """
    name = row
    out: dict[str, Any] = {}
    if name.endswith(SUPERVISED):
        name, out = name.removesuffix(SUPERVISED), {"unlabelled_ratio": 0.0}
    found = re.fullmatch(
        rf"(?:gradnorm-(?P<alpha>{ALPHA})(?:-(?P<form>raw|clamped|softmax))?"
        rf"|(?P<rule>{'|'.join(BALANCERS)}|{SINGLE}))(?:-(?P<loss>{'|'.join(LOSSES)}))?(?:-\d+ep)?",
        name,
    )
    if found is None:
        raise DataError(f"There is no row '{row}'; rows are such as gradnorm-0.6-bce, equal and {SINGLE}.")
    if found["alpha"]:
        out |= {"balance": "gradnorm", "balance_alpha": float(found["alpha"])}
        if found["form"]:
            out["balance_form"] = found["form"]
    elif found["rule"] != SINGLE:
        out |= {"balance": "fixed" if found["rule"] == "tuned" else found["rule"]}
    return out | ({"mask_loss": found["loss"]} if found["loss"] else {})


def is_single(row: str) -> bool:
    """Whether a row is of one network for each task."""
    return row.startswith(SINGLE)


def is_tuned(row: str) -> bool:
    """Whether a row's weights are chosen on patients held out of training."""
    return row.split("-")[0] == "tuned"


def epochs_of(row: str, otherwise: float) -> float:
    """Say for how many rounds over the labelled images a row is trained: its own ``30ep``, or others."""
    found = re.search(r"-(\d+)ep\b", row)
    return float(found[1]) if found else otherwise
