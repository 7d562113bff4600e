"""A table of methods by label budgets: as JSON, as Markdown and as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_mtssl.study.files import written_whole

CONFUSION, TAKEN_FOR = "confusion/", " -> "  # in front of the true class, and of the predicted one
EVERYTHING = 10**9  # stands for the budget "all" where budgets are sorted


@dataclass(frozen=True)
class Captions:
    """Names for people, of one method's table; what is not named is shown as it is.

    Attributes
    ----------
    budget : str
        What budgets count, such as "labels".
    rows, metrics : mapping of str to str
        Titles; metrics are shown in this order.
    colours : mapping of str to str
        Of the rows, in the picture.
    panels : tuple of str
        Metrics that the picture shows.
    x_label : str
        Below the picture's panels; by default `budget`.
    """

    budget: str
    rows: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)
    panels: tuple[str, ...] = ()
    x_label: str = ""


CELLS = Captions(
    budget="labels",
    rows={
        "hydramix": "HydraMix-Net",
        "no-sce": "without SCE",
        "cnn": "simple CNN",
        "random-forest": "random forest",
    },
    metrics={
        "accuracy": "Accuracy of patches",
        "macro_f1": "Macro-F1 of patches",
        "centroid_px": "Centroid error (px)",
        "ece": "Calibration error",
        "detection_f1": "Detection F1",
        "detection_precision": "Detection precision",
        "detection_recall": "Detection recall",
        "weighted_f1": "Class-weighted F1, misses and false cells counted",
        "weighted_f1_found": "Class-weighted F1 of the cells found",
        "seconds": "Seconds to train",
        "detection_seconds": "Seconds to train for whole images",
    },
    colours={"hydramix": "#c1272d", "no-sce": "#f2a900", "cnn": "#0072b2", "random-forest": "#5a5a5a"},
    panels=("accuracy", "macro_f1", "centroid_px"),
    x_label="labelled patches",
)

Results = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation over runs, and the runs.

    Parameters
    ----------
    values : sequence of float
        One for each run; nan where a score does not exist.

    Returns
    -------
    dict
        ``mean`` and ``sd`` (of the sample; 0 for a single run) over the runs that have the score, None if
        none has; ``runs`` with None for nan, since JSON knows no nan.
    """
    known = [float(value) for value in values if not math.isnan(value)]
    mean = sum(known) / len(known) if known else None
    sd = None
    if mean is not None:
        sd = math.sqrt(sum((value - mean) ** 2 for value in known) / max(len(known) - 1, 1))
    return {"mean": mean, "sd": sd, "runs": [None if math.isnan(value) else float(value) for value in values]}


def write_json(table: Mapping[str, Any], path: Path) -> None:
    """Write JSON so that a reader, or a kill, never meets half a file.

    Raises
    ------
    StudyError
        If the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        json.dump(table, file, indent=2, allow_nan=False)
        file.write("\n")


def markdown(results: Results, captions: Captions = CELLS) -> str:
    """One table for each metric: a line for each method, a column for each budget. Confusions come last.

    Parameters
    ----------
    results : mapping
        ``{ROW: {BUDGET: {METRIC: {"mean", "sd", "runs"}}}}``.
    captions : Captions

    Returns
    -------
    str
    """
    budgets = _budgets(results)
    parts = []
    for metric in _metrics(results, captions):
        digits = 0 if metric.endswith("seconds") else 2 if metric.endswith("px") else 3
        title = captions.metrics.get(metric, metric)
        lines = [f"### {title}", "", f"| {captions.budget} | " + " | ".join(budgets) + " |"]
        lines.append("|---|" + "---|" * len(budgets))
        for row, cells in results.items():
            shown = [_cell(cells.get(budget, {}).get(metric), digits) for budget in budgets]
            if any(shown):
                lines.append(f"| {captions.rows.get(row, row)} | " + " | ".join(shown) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, *_confusions(results, captions)]) + "\n"


def _confusions(results: Results, captions: Captions) -> list[str]:
    """One table for each row and budget: the share of each true class that was taken for each class."""
    parts = []
    for row, cells in results.items():
        for budget in sorted(cells, key=_numbers):
            found = {
                tuple(m.removeprefix(CONFUSION).split(TAKEN_FOR, 1)): v
                for m, v in cells[budget].items()
                if m.startswith(CONFUSION)
            }
            names = list(dict.fromkeys(true for true, _ in found))
            if not names:
                continue
            title = f"### Confusions of {captions.rows.get(row, row)}, {budget} {captions.budget}"
            lines = [title, "", "| true, as | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
            for a in names:
                shares = " | ".join(_cell(found.get((a, b)), 3) for b in names)
                lines.append(f"| {a} | {shares} |")
            parts.append("\n".join(lines))
    return parts


def _cell(cell: Mapping[str, Any] | None, digits: int) -> str:
    """Mean and spread, empty if there is none."""
    if cell is None or cell["mean"] is None:
        return ""
    spread = f" ± {cell['sd']:.{digits}f}" if len(cell["runs"]) > 1 else ""
    return f"{cell['mean']:.{digits}f}{spread}"


def _budgets(results: Results) -> list[str]:
    """All budgets, smallest first."""
    return sorted({budget for cells in results.values() for budget in cells}, key=_numbers)


def _numbers(budget: str) -> tuple[int, ...]:
    """Numbers of a budget: one, or several as in ``40-10``; ``all`` is more than any."""
    return tuple(int(part) if part.isdigit() else EVERYTHING for part in budget.split("-"))


def _metrics(results: Results, captions: Captions) -> list[str]:
    """All metrics that occur but confusions, known ones first and in their order."""
    found = {metric for cells in results.values() for metrics in cells.values() for metric in metrics}
    found = {metric for metric in found if not metric.startswith(CONFUSION)}
    return [*(m for m in captions.metrics if m in found), *sorted(found - set(captions.metrics))]


def picture(
    results: Results, path: Path, metrics: Sequence[str] | None = None, captions: Captions = CELLS
) -> None:
    """Draw curves over the budgets, with every run as a point and the spread over runs as a band.

    Parameters
    ----------
    results : mapping
        As for `markdown`.
    path : Path
        Such as ``table.png``; the suffix says the format.
    metrics : sequence of str, optional
        One panel each; left out if no method has it. By default those that `captions` names.
    captions : Captions
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = _metrics(results, captions)
    shown = [metric for metric in (captions.panels if metrics is None else metrics) if metric in known]
    budgets = _budgets(results)
    if len(budgets) == 1 and len(results) > 1:
        _dots(results, shown, path, captions)
        return
    # one number lies where it belongs; budgets of several stand side by side
    single = all(len(_numbers(budget)) == 1 and budget.isdigit() for budget in budgets)
    place = {b: _numbers(b)[0] if single else i for i, b in enumerate(budgets)}
    figure = Figure(figsize=(4.2 * max(len(shown), 1), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, metric in enumerate(shown, start=1):
        axes = figure.add_subplot(1, len(shown), panel)
        for row, cells in results.items():
            have = [b for b in budgets if cells.get(b, {}).get(metric, {}).get("mean") is not None]
            if not have:
                continue
            colour = captions.colours.get(row)
            points = [cells[b][metric] for b in have]
            at = [place[b] for b in have]
            mean = [point["mean"] for point in points]
            (line,) = axes.plot(at, mean, marker="o", color=colour, label=captions.rows.get(row, row))
            low = [point["mean"] - point["sd"] for point in points]
            high = [point["mean"] + point["sd"] for point in points]
            axes.fill_between(at, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
            for budget, point in zip(have, points, strict=True):
                runs = [run for run in point["runs"] if run is not None]
                axes.plot(
                    [place[budget]] * len(runs), runs, ".", color=line.get_color(), alpha=0.5, markersize=4
                )
        if single:
            axes.set_xscale("log")
        axes.set_xticks([place[budget] for budget in budgets], budgets)
        axes.minorticks_off()
        axes.set_xlabel(captions.x_label or captions.budget)
        axes.set_title(captions.metrics.get(metric, metric), fontsize=10)
        axes.grid(alpha=0.3)
        if panel == 1:
            axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _dots(results: Results, shown: Sequence[str], path: Path, captions: Captions) -> None:
    """Draw rows below each other: of one budget, curves would be points in one place."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wide, high = 1.8 + 3.0 * max(len(shown), 1), 1.2 + 0.32 * len(results)
    figure = Figure(figsize=(wide, high), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, metric in enumerate(shown, start=1):
        axes = figure.add_subplot(1, len(shown), panel)
        for at, (row, cells) in enumerate(results.items()):
            point = next(iter(cells.values()), {}).get(metric, {})
            if point.get("mean") is None:
                continue
            colour = captions.colours.get(row, f"C{at % 10}")
            runs = [run for run in point["runs"] if run is not None]
            axes.errorbar(point["mean"], at, xerr=point["sd"] or 0, marker="o", capsize=3, color=colour)
            axes.plot(runs, [at] * len(runs), "|", color=colour, alpha=0.6, markersize=9)
        axes.set_yticks(range(len(results)), [captions.rows.get(r, r) for r in results] if panel == 1 else [])
        axes.set_ylim(len(results) - 0.5, -0.5)
        axes.set_title(captions.metrics.get(metric, metric), fontsize=10)
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
