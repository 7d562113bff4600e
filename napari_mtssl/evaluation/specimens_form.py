"""The tables of the report that the Joint U-Net comes from, in its own form, numbered as there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from napari_mtssl.evaluation import table
from napari_mtssl.evaluation.hep2 import MASK
from napari_mtssl.evaluation.specimens_plan import Plan
from napari_mtssl.evaluation.specimens_rows import REPORT

FORM = {"Mask": "mask_accuracy", "Label": "label_accuracy", "Intensity": "intensity_accuracy"}
NUMBERS = dict(zip(REPORT, ("II", "III", "IV", "V", "VI", "VII", "IX", "X"), strict=True))
# Its last two tables: the models, and what they are called there.
ELEVEN = {
    "gradnorm-0.6-dice-30ep": "Dice (30)",
    "gradnorm-0.6-dice-15ep": "Dice (15)",
    "gradnorm-0.6-bce-30ep": "BCE (30)",
    "gradnorm-0.6-bce-15ep": "BCE (15)",
}
TWELVE = {
    "gradnorm-0.06-dice-15ep": "Dice (0.06)",
    "gradnorm-0.06-bce-15ep": "BCE (0.06)",
    "gradnorm-6-dice-15ep": "Dice (6)",
    "gradnorm-6-bce-15ep": "BCE (6)",
}


def reports_tables(results: table.Results, plan: Plan) -> str:
    """Write Tables I to XII of the report, but VIII (losses by epoch), for those of its trainings there are.

    Returns
    -------
    str
        Markdown; empty if none of the eight is among the results.
    """
    cells = {row: results[row]["all"] for row in REPORT if "all" in results.get(row, {})}
    if not cells:
        return ""
    parts = ["## The report's tables\n", _folds(plan), _counts(plan)]
    names = [f"Fold{fold_letter(fold)}" for fold in plan.chosen]
    for row, cell in cells.items():
        _, alpha, loss, epochs = row.split("-")
        title = f"{'Dice' if loss == 'dice' else 'BCE'} accuracy for each fold using alpha {alpha}"
        lines = [f"### Table {NUMBERS[row]}: {title} and {epochs.removesuffix('ep')} epochs", ""]
        lines += [f"| Accuracy | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
        for name, metric in FORM.items():
            if metric in cell:
                lines.append(f"| {name} | {_listed(cell[metric]['runs'])} |")
        parts.append("\n".join([*lines, ""]))
    parts.append(_means("XI: mean accuracies using alpha 0.6, by the number of epochs", ELEVEN, cells))
    parts.append(_means("XII: mean accuracies at 15 epochs, by alpha", TWELVE, cells))
    return "\n".join(part for part in parts if part)


def fold_letter(fold: int) -> str:
    """Name a fold as the report does, A to E; after Z come AA, AB and so on."""
    return (fold_letter(fold // 26 - 1) if fold > 25 else "") + chr(65 + fold % 26)


def _folds(plan: Plan) -> str:
    """Table I: which fifths each fold learns from, and which it is tested on."""
    lines = ["### Table I: training and test sets in each fold", "", "| Folds | Train | Test | Images |"]
    lines.append("|---|---|---|---|")
    sizes = np.bincount(plan.fold_of(), minlength=plan.folds)
    for fold in range(plan.folds):
        others = ",".join(str(other + 1) for other in range(plan.folds) if other != fold)
        tested = int(sizes[fold])
        lines.append(f"| {fold_letter(fold)} | {others} | {fold + 1} | {len(plan.data) - tested}, {tested} |")
    return "\n".join([*lines, ""])


def _counts(plan: Plan) -> str:
    """How many images each class has, as the report lists them."""
    lines = []
    for kind, values in plan.data.labels.items():
        if kind != MASK:
            names = plan.data.vocabulary[kind]
            said = [f"{int((values == k).sum())} {name}" for k, name in enumerate(names)]
            lines.append(f"- {kind}: {', '.join(said)}")
    return "\n".join([*lines, ""])


def _means(title: str, names: dict[str, str], cells: Mapping[str, Mapping[str, Any]]) -> str:
    have = {row: name for row, name in names.items() if row in cells}
    if not have:
        return ""
    lines = [f"### Table {title}", "", "| Model | Mask accuracy | Label accuracy | Intensity accuracy |"]
    lines.append("|---|---|---|---|")
    for row, name in have.items():
        means = [cells[row][m]["mean"] if m in cells[row] else None for m in FORM.values()]
        lines.append(f"| {name} | {_listed(means)} |")
    return "\n".join([*lines, ""])


def _listed(values: Sequence[float | None]) -> str:
    return " | ".join("" if value is None else f"{value:.3f}" for value in values)
