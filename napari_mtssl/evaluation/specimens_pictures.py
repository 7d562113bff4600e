"""Pictures of a cross-validation: ROC curves of any number of classes, losses, weights and scores by step."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_mtssl.methods.joint_unet.scores import auroc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = ("loss/", "balance/weight/", "validation/")
GRID = np.linspace(0, 1, 201)  # of false positive rates, on which curves of classes are averaged
Found = Mapping[str, tuple[np.ndarray, np.ndarray]]  # by model: probabilities (N, C) and classes (N,)


def areas(probs: np.ndarray, truth: np.ndarray) -> list[float]:
    """Area under the ROC curve of each class against the rest; nan where a class, or the rest, is missing."""
    return [auroc(probs[:, k], truth == k) for k in range(probs.shape[1])]


def roc_of(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give false and true positive rates over all thresholds, from (0, 0) to (1, 1)."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # ties move together
    right, wrong = (np.append(0, np.cumsum(hit[order])[last]) for hit in (positive, ~positive))
    return wrong / max(wrong[-1], 1), right / max(right[-1], 1)


def macro_roc(probs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean, over the classes that occur, of the true positive rates at the rates of `GRID`."""
    known = [k for k, area in enumerate(areas(probs, truth)) if area == area]
    lines = [np.interp(GRID, *roc_of(probs[:, k], truth == k)) for k in known]
    return np.concatenate([[0.0], np.mean(lines, 0)[1:]])


def draw_roc(found: Found, classes: Sequence[str], path: Path, kind: str) -> bool:
    """ROC curves over all folds, with the area below each.

    Of two classes there is one picture with a line for each model. Of more, each model has its own, with each
    class against the rest and their mean (macro).

    Returns
    -------
    bool
        False if no model has images of two classes.
    """
    known = {name: pair for name, pair in found.items() if len(np.unique(pair[1])) > 1}
    if not known:
        return False
    if len(classes) == 2:
        figure = _figure(1, 1, (5, 4.6))
        axes = _rates(figure.add_subplot(), kind)
        for name, (probs, truth) in known.items():
            area = auroc(probs[:, 1], truth == 1)
            axes.plot(*roc_of(probs[:, 1], truth == 1), label=f"{name}: {area:.3f}")
        axes.legend(fontsize=7, loc="lower right", title="AUROC", title_fontsize=7)
    else:
        wide = min(len(known), 3)
        tall = -(-len(known) // wide)
        figure = _figure(tall, wide, (4.4, 4.2))
        for number, (name, pair) in enumerate(known.items(), start=1):
            _classes(_rates(figure.add_subplot(tall, wide, number), f"{kind}: {name}"), *pair, classes)
    figure.savefig(path, dpi=130)
    return True


def _classes(axes: Axes, probs: np.ndarray, truth: np.ndarray, classes: Sequence[str]) -> None:
    """Each class against the rest, and their mean."""
    every = areas(probs, truth)
    for k, (name, area) in enumerate(zip(classes, every, strict=True)):
        if area == area:
            axes.plot(*roc_of(probs[:, k], truth == k), linewidth=1, label=f"{name}: {area:.3f}")
    macro = float(np.nanmean(every))
    axes.plot(GRID, macro_roc(probs, truth), color="black", linewidth=2, label=f"macro: {macro:.3f}")
    axes.legend(fontsize=6, loc="lower right", title="AUROC, one against the rest", title_fontsize=6)


def _rates(axes: Axes, title: str) -> Axes:
    axes.plot([0, 1], [0, 1], ":", color="grey", linewidth=1)
    axes.set_xlabel("false positive rate", fontsize=8)
    axes.set_ylabel("true positive rate", fontsize=8)
    axes.set_title(title, fontsize=9)
    return axes


def _figure(tall: int, wide: int, panel: tuple[float, float]) -> Figure:
    """Make a figure that needs no window, with room for so many panels (inches)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(panel[0] * wide, panel[1] * tall), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_curves(runs: Sequence[Path], path: Path) -> bool:
    """Losses, weights of the tasks, and scores on held-out patients if there are any, by step.

    Parameters
    ----------
    runs : sequence of Path
        Folders; those that keep no curves are left out.
    path : Path
        Of the picture.

    Returns
    -------
    bool
        False if there is no run to draw.
    """
    files = [run / "metrics.csv" for run in runs if (run / "metrics.csv").is_file()]
    if not files:
        return False
    every = {file: read_curves(file) for file in files}
    shown = [p for p in PANELS if any(_drawn(name, p) for curves in every.values() for name in curves)]
    figure = _figure(len(files), len(shown), (4.5, 2.6))
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
