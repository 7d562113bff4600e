"""The report's tables and pictures: accuracy in each fold, confusion matrices, ROC curves, loss curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from napari_mtssl.evaluation import metrics, series, table
from napari_mtssl.evaluation.specimens_form import fold_letter, reports_tables
from napari_mtssl.evaluation.specimens_pictures import Found, areas, draw_curves, draw_roc, read_curves
from napari_mtssl.evaluation.specimens_plan import Plan
from napari_mtssl.evaluation.specimens_rows import CAPTIONS, epochs_of

FORM = {"Mask": "mask_accuracy", "Label": "label_accuracy", "Intensity": "intensity_accuracy"}


def write(result: Mapping[str, Any], plan: Plan) -> None:
    """Write ``table.json``, ``table.md``, ``report.md`` and the pictures into the plan's folder."""
    folder = plan.folder
    series.write(result, folder, CAPTIONS)
    parts = ["# Joint U-Net, cross-validated by patient", "", _setting(result["settings"]), ""]
    parts += [_names(plan), ""] if plan.data.study else []
    parts += [means(result["results"]), by_fold(result["results"], plan.chosen)]
    models = [f"{row}-{budget}" for row, cells in result["results"].items() for budget in cells]
    parts += [reports_tables(result["results"], plan), by_epoch(plan, models)]
    parts += [table.markdown(result["results"], CAPTIONS)]
    for kind in plan.data.heads:
        found, classes = outcomes(folder, kind, models, plan.chosen), plan.data.vocabulary[kind]
        parts += [confusions(found, classes, kind), auroc_table(found, classes, kind)]
        if draw_roc(found, classes, folder / f"roc_{kind}.png", kind):
            parts += [f"![ROC curves of {kind}](roc_{kind}.png)", ""]
    runs = [folder / "runs" / f"{model}-{plan.chosen[0]}" for model in models]
    if draw_curves(runs, folder / "curves.png"):
        parts += ["![Losses and weights of the tasks](curves.png)", ""]
    (folder / "report.md").write_text("\n".join(parts), encoding="utf-8")


def _setting(settings: Mapping[str, Any]) -> str:
    return (
        f"{settings['data']}: {settings['images']} images of {settings['patients']} patients at "
        f"{settings['size']} pixels, {settings['folds']} folds by patient (seed {settings['fold_seed']})."
    )


def _names(plan: Plan) -> str:
    """Say what the words of the tables mean in a study."""
    label = next((kind for kind in plan.data.heads if kind != "intensity"), None)
    said = "" if label in (None, "label") else f"*Label* is the {label}. "
    return (
        f"{said}A row is called after who weighs the tasks (*fixed*: weights as set), and the loss of "
        "the mask (*dice*, *bce*: cross-entropy, *both*)."
    )


def means(results: table.Results) -> str:
    """Mean accuracy of each model, as the report's last two tables have it."""
    lines = ["| Model | " + " | ".join(f"{title} accuracy" for title in FORM) + " |", "|---|---|---|---|"]
    for row, cells in results.items():
        for budget, cell in cells.items():
            shown = [cell.get(name, {}).get("mean") for name in FORM.values()]
            model = row if budget == "all" else f"{row}, {budget} labelled"
            lines.append(f"| {model} | {' | '.join('' if v is None else f'{v:.3f}' for v in shown)} |")
    return "\n".join([*lines, ""])


def by_epoch(plan: Plan, models: Sequence[str]) -> str:
    """Losses of each task epoch by epoch, in the first fold: the report's Table VIII, for every model."""
    parts, first = [], plan.chosen[0]
    for model in models:
        file = plan.folder / "runs" / f"{model}-{first}" / "metrics.csv"
        if not file.is_file():
            continue  # a network for each task has no curve of all
        epochs = epochs_of(model, plan.epochs)
        steps = yaml.safe_load((file.parent / "config.yaml").read_text(encoding="utf-8"))["config"]["steps"]
        curves = {
            name.removeprefix("loss/"): np.array(points)
            for name, points in read_curves(file).items()
            if name.startswith("loss/") and "guess" not in name
        }
        if epochs < 1 or not curves:
            continue
        number = "Table VIII: losses" if model.startswith("gradnorm-6-dice-15ep") else "Losses"
        lines = [f"### {number} of {model}, fold {fold_letter(first)}", ""]
        lines += [f"| Epoch | {' | '.join(f'{name} loss' for name in curves)} |"]
        lines += [f"|---|{'---|' * len(curves)}"]
        for epoch in range(1, int(epochs) + 1):
            begin, end = (steps * edge / epochs for edge in (epoch - 1, epoch))
            means = [mean_between(line, begin, end) for line in curves.values()]
            lines.append(f"| {epoch} | {' | '.join('' if v != v else f'{v:.4g}' for v in means)} |")
        parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)


def mean_between(curve: np.ndarray, begin: float, end: float) -> float:
    """Mean of a curve over the steps from `begin` to `end`.

    Parameters
    ----------
    curve : ndarray, shape (N, 2)
        Steps, and the mean of the steps since the row before: a report may tell of more than an epoch.
    begin, end : float

    Returns
    -------
    float
        nan if the curve says nothing of these steps.
    """
    edges = np.append(0, curve[:, 0])
    shares = np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], begin), 0, None)
    return float((shares * curve[:, 1]).sum() / shares.sum()) if shares.any() else float("nan")


def by_fold(results: table.Results, folds: Sequence[int]) -> str:
    """Accuracy of mask, label and intensity in each fold, one table for each row and budget."""
    names = [f"Fold{fold_letter(number)}" for number in folds]
    parts = []
    for row, cells in results.items():
        for budget, cell in cells.items():
            have = {title: cell[name] for title, name in FORM.items() if name in cell}
            if not have:
                continue
            lines = [f"### {row}, {budget} labelled images", ""]
            lines += [f"| Accuracy | {' | '.join(names)} | mean ± sd |", f"|---|{'---|' * (len(names) + 1)}"]
            for title, values in have.items():
                runs = ["" if run is None else f"{run:.3f}" for run in values["runs"]]
                mean = "" if values["mean"] is None else f"{values['mean']:.3f} ± {values['sd']:.3f}"
                lines.append(f"| {title} | {' | '.join(runs)} | {mean} |")
            parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)


def outcomes(
    folder: Path, kind: str, models: Sequence[str], folds: Sequence[int]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Probabilities and truths of one head over all folds, by row and budget.

    Only of these models and folds: the folder keeps what was made before, perhaps with other folds, and an
    image must not be counted twice.
    """
    found = {}
    for model in models:
        pairs = []
        files = (folder / "outcomes" / f"{model}-{fold}.npz" for fold in folds)
        for path in filter(Path.is_file, files):
            with np.load(path) as kept:
                if f"probs_{kind}" in kept:
                    known = kept[f"truth_{kind}"] >= 0
                    pairs.append((kept[f"probs_{kind}"][known], kept[f"truth_{kind}"][known]))
        if pairs:
            found[model] = (np.concatenate([p for p, _ in pairs]), np.concatenate([t for _, t in pairs]))
    return found


def confusions(found: Found, classes: Sequence[str], kind: str) -> str:
    """Confusion matrices over all folds."""
    parts = []
    for name, (probs, truth) in found.items():
        counts = metrics.confusion_matrix(truth, probs.argmax(1), len(classes))
        lines = [f"### {kind}: {name}", "", f"| true \\ said | {' | '.join(classes)} |"]
        lines.append(f"|---|{'---|' * len(classes)}")
        for own, row in zip(classes, counts.tolist(), strict=True):
            lines.append(f"| {own} | {' | '.join(str(n) for n in row)} |")
        parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)


def auroc_table(found: Found, classes: Sequence[str], kind: str) -> str:
    """Area under the ROC curve over all folds: each class against the rest, and their mean (macro)."""
    if not found:
        return ""
    shown = list(classes) if len(classes) > 2 else [classes[1]]
    lines = [f"### {kind}: AUROC over all folds, one class against the rest", ""]
    lines += [f"| Model | {' | '.join(shown)} | macro |", f"|---|{'---|' * (len(shown) + 1)}"]
    for name, (probs, truth) in found.items():
        every = np.array(areas(probs, truth))
        macro = float(np.nanmean(every)) if np.isfinite(every).any() else float("nan")
        values = [*(every if len(classes) > 2 else every[1:]), macro]
        lines.append(f"| {name} | {' | '.join('' if v != v else f'{v:.3f}' for v in values)} |")
    return "\n".join([*lines, ""])
