"""The report's tables and pictures: accuracy in each fold, confusion matrices, ROC curves, loss curves."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from napari_mtssl.evaluation import metrics, series, table
from napari_mtssl.evaluation.specimens import CAPTIONS, Plan, epochs_of

PANELS = ("loss/", "balance/weight/", "validation/")
FORM = {"Mask": "mask_accuracy", "Label": "label_accuracy", "Intensity": "intensity_accuracy"}


def write(result: Mapping[str, Any], plan: Plan) -> None:
    """Write ``table.json``, ``table.md``, ``report.md`` and the pictures into the plan's folder."""
    folder = plan.folder
    series.write(result, folder, CAPTIONS)
    parts = ["# Joint U-Net, cross-validated by patient", "", _setting(result["settings"]), ""]
    parts += [means(result["results"]), by_fold(result["results"]), by_epoch(plan)]
    parts += [table.markdown(result["results"], CAPTIONS)]
    for kind in plan.data.heads:
        found = outcomes(folder, kind)
        parts += [confusions(found, plan.data.vocabulary[kind], kind)]
        if len(plan.data.vocabulary[kind]) == 2 and found:
            draw_roc(found, folder / f"roc_{kind}.png", kind)
            parts += [f"![ROC curves of {kind}](roc_{kind}.png)", ""]
    if draw_curves(folder / "runs", folder / "curves.png"):
        parts += ["![Losses and weights of the tasks](curves.png)", ""]
    (folder / "report.md").write_text("\n".join(parts), encoding="utf-8")


def _setting(settings: Mapping[str, Any]) -> str:
    return (
        f"{settings['data']}: {settings['images']} images of {settings['patients']} patients at "
        f"{settings['size']} pixels, {settings['folds']} folds by patient (seed {settings['fold_seed']})."
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


def by_epoch(plan: Plan) -> str:
    """Losses of each task epoch by epoch, in the first fold: the report's Table VIII, for every model."""
    parts = []
    for file in sorted((plan.folder / "runs").glob("*-0/metrics.csv")):
        epochs = epochs_of(file.parent.name, plan)
        steps = yaml.safe_load((file.parent / "config.yaml").read_text(encoding="utf-8"))["config"]["steps"]
        curves = {
            name.removeprefix("loss/"): np.array(points)
            for name, points in read_curves(file).items()
            if name.startswith("loss/") and "guess" not in name
        }
        if epochs < 1 or not curves:
            continue
        lines = [f"### Losses of {file.parent.name.removesuffix('-0')}, first fold", ""]
        lines += [f"| Epoch | {' | '.join(curves)} |", f"|---|{'---|' * len(curves)}"]
        for epoch in range(1, int(epochs) + 1):
            begin, end = (steps * number / epochs for number in (epoch - 1, epoch))
            cells = []
            for points in curves.values():
                here = points[(points[:, 0] > begin) & (points[:, 0] <= end), 1]
                cells.append(f"{here.mean():.4g}" if len(here) else "")
            lines.append(f"| {epoch} | {' | '.join(cells)} |")
        parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)


def by_fold(results: table.Results) -> str:
    """Accuracy of mask, label and intensity in each fold, one table for each row and budget."""
    parts = []
    for row, cells in results.items():
        for budget, cell in cells.items():
            have = {title: cell[name] for title, name in FORM.items() if name in cell}
            if not have:
                continue
            count = len(next(iter(have.values()))["runs"])
            names = [f"Fold{chr(65 + number)}" for number in range(count)]
            lines = [f"### {row}, {budget} labelled images", ""]
            lines += [f"| Accuracy | {' | '.join(names)} | mean ± sd |", f"|---|{'---|' * (count + 1)}"]
            for title, values in have.items():
                runs = ["" if run is None else f"{run:.3f}" for run in values["runs"]]
                mean = "" if values["mean"] is None else f"{values['mean']:.3f} ± {values['sd']:.3f}"
                lines.append(f"| {title} | {' | '.join(runs)} | {mean} |")
            parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)


def outcomes(folder: Path, kind: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Probabilities and truths of one head over all folds, by row and budget."""
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for path in sorted((folder / "outcomes").glob("*.npz")):
        with np.load(path) as kept:
            if f"probs_{kind}" in kept:
                known = kept[f"truth_{kind}"] >= 0
                pair = (kept[f"probs_{kind}"][known], kept[f"truth_{kind}"][known])
                found.setdefault(path.stem.rsplit("-", 1)[0], []).append(pair)
    return {
        name: (np.concatenate([p for p, _ in pairs]), np.concatenate([t for _, t in pairs]))
        for name, pairs in found.items()
    }


def confusions(found: Mapping[str, tuple[np.ndarray, np.ndarray]], classes: Sequence[str], kind: str) -> str:
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


def draw_roc(found: Mapping[str, tuple[np.ndarray, np.ndarray]], path: Path, kind: str) -> None:
    """ROC curves over all folds, with the area below each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from sklearn.metrics import roc_auc_score, roc_curve

    figure = Figure(figsize=(5, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, (probs, truth) in found.items():
        if len(np.unique(truth)) < 2:
            continue
        wrong, right, _ = roc_curve(truth == 1, probs[:, 1])
        axes.plot(wrong, right, label=f"{name}: {roc_auc_score(truth == 1, probs[:, 1]):.3f}")
    axes.plot([0, 1], [0, 1], ":", color="grey", linewidth=1)
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    axes.set_title(kind, fontsize=10)
    axes.legend(fontsize=7, loc="lower right")
    figure.savefig(path, dpi=150)


def draw_curves(runs: Path, path: Path) -> bool:
    """Losses, weights of the tasks, and scores on held-out patients if there are any, over the steps.

    Returns
    -------
    bool
        False if there is no run to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    files = sorted(runs.glob("*-0/metrics.csv"))
    if not files:
        return False
    every = {file: read_curves(file) for file in files}
    shown = [p for p in PANELS if any(_drawn(name, p) for curves in every.values() for name in curves)]
    figure = Figure(figsize=(4.5 * len(shown), 2.6 * len(files)), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (file, curves) in enumerate(every.items()):
        for side, prefix in enumerate(shown):
            axes = figure.add_subplot(len(files), len(shown), len(shown) * number + side + 1)
            for name, points in curves.items():
                if _drawn(name, prefix):
                    axes.plot(*zip(*points, strict=True), label=name.removeprefix(prefix), linewidth=1)
            axes.set_title(f"{file.parent.name}: {prefix.strip('/')}", fontsize=8)
            if axes.lines:
                axes.legend(fontsize=6)
    figure.savefig(path, dpi=120)
    return True


def _drawn(name: str, prefix: str) -> bool:
    """Whether a curve belongs into a panel; of the scores, only accuracies and Dice."""
    return name.startswith(prefix) and (prefix != PANELS[2] or name.endswith(("_accuracy", "_dice")))


def read_curves(file: Path) -> dict[str, list[tuple[int, float]]]:
    """Curves of one run's ``metrics.csv``."""
    curves: dict[str, list[tuple[int, float]]] = {}
    with file.open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            curves.setdefault(row["name"], []).append((int(row["step"]), float(row["value"])))
    return curves
