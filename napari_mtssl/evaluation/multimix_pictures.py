"""The pictures of MultiMix's paper: box plots, boundaries, masks, Bland-Altman, ROC, consistency curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_mtssl.evaluation.multimix_trials import CUT, SCORED, Sets, Side
from napari_mtssl.evaluation.table import Captions

Cell = tuple[str, int, int, int]  # row, classes, masks, seed
SHOWN = 6  # images whose boundaries are drawn
TRUE, FOUND = "#39b54a", "#ff3b30"  # boundaries
GREEN, RED, BLUE = (0.1, 0.75, 0.3), (1.0, 0.2, 0.15), (0.1, 0.45, 1.0)
PLACES = {"": "same source", "cross_": "other source"}


def draw(sets: Sets, folder: Path, trials: Mapping[Cell, str], captions: Captions) -> list[Path]:
    """Draw all pictures for which there are images, one set for each budget.

    Parameters
    ----------
    sets : Sets
    folder : Path
        With ``runs/TRIAL/details.npz``; the pictures go to ``pictures``.
    trials : mapping of Cell to str
        Name of the trial of each cell of the table.
    captions : Captions

    Returns
    -------
    list of Path
    """
    details = {name: _details(folder, name) for name in set(trials.values())}
    budgets = sorted({(classes, masks) for _, classes, masks, _ in trials})
    made: list[Path] = []
    for classes, masks in budgets:
        rows: dict[str, list[dict[str, np.ndarray]]] = {}
        for (row, c, m, _), name in trials.items():
            if (c, m) == (classes, masks) and details[name]:
                rows.setdefault(captions.rows.get(row, row), []).append(details[name])
        for prefix, side in (("", sets.test), ("cross_", sets.cross)):
            if side is not None:
                end = f"{classes}-{masks}{'-cross' if prefix else ''}.png"
                made += _set(rows, prefix, side, folder / "pictures", end)
    return made


def _set(
    rows: Mapping[str, list[dict[str, np.ndarray]]], prefix: str, side: Side, folder: Path, end: str
) -> list[Path]:
    """Draw the pictures of one budget and one source."""
    with_masks = {row: runs for row, runs in rows.items() if prefix + "dice" in runs[0]}
    with_classes = {row: runs for row, runs in rows.items() if prefix + "probabilities" in runs[0]}
    made = []
    folder.mkdir(parents=True, exist_ok=True)
    if with_masks:
        for name, make in (
            ("boxes", box_plots),
            ("bland-altman", bland_altman),
            ("consistency", consistency_curves),
        ):
            made.append(_save(make(with_masks, prefix), folder / f"{name}-{end}"))
        images = side.images("masks", SCORED)[:SHOWN], side.shares(SCORED)[:SHOWN] > CUT
        made.append(_save(boundaries(with_masks, prefix, *images), folder / f"boundaries-{end}"))
        made.append(_save(masks(with_masks, prefix, *images), folder / f"masks-{end}"))
    if with_classes and len(np.unique(next(iter(with_classes.values()))[0][prefix + "kinds"])) > 1:
        made.append(_save(roc_curves(with_classes, prefix), folder / f"roc-{end}"))
    return made


def box_plots(rows: Mapping[str, list[dict[str, np.ndarray]]], prefix: str = "") -> Any:
    """Boxes over all test images and runs of Dice, Jaccard, SSIM and HD95, one for each row."""
    names = {"dice": "Dice", "jaccard": "Jaccard", "ssim": "SSIM", "hd95_px": "HD95 (px)"}
    figure, panels = _figure(1, len(names), (3.4, 3.8), PLACES[prefix])
    for axes, (name, title) in zip(panels[0], names.items(), strict=True):
        values = [np.concatenate([run[prefix + name] for run in runs]) for runs in rows.values()]
        axes.boxplot(values, widths=0.6, flierprops={"markersize": 2})
        axes.set_xticks(range(1, len(rows) + 1), list(rows), rotation=60, ha="right", fontsize=7)
        axes.set_title(title, fontsize=10)
        axes.grid(axis="y", alpha=0.3)
    return figure


def bland_altman(rows: Mapping[str, list[dict[str, np.ndarray]]], prefix: str = "") -> Any:
    """Found area of masks less the true one, pixels of `SCORED`, over the mean of both, with its limits."""
    across = min(4, len(rows))
    down = -(-len(rows) // across)
    figure, panels = _figure(down, across, (3.2, 2.8), f"Area of masks at {SCORED} px: {PLACES[prefix]}")
    every = panels.ravel()
    for axes, (row, runs) in zip(every, rows.items(), strict=False):
        found = np.concatenate([run[prefix + "area"] for run in runs]).astype(float)
        true = np.concatenate([run[prefix + "area_true"] for run in runs]).astype(float)
        gap = found - true
        axes.plot((found + true) / 2, gap, ".", markersize=3, color="#0072b2")
        axes.axhline(0, color="#333333", linewidth=0.8, linestyle=":", label="no difference")
        for line, style, name in (
            (gap.mean(), "-", "mean difference"),
            (gap.mean() - 1.96 * gap.std(), "--", "mean \N{PLUS-MINUS SIGN} 1.96 SD"),
            (gap.mean() + 1.96 * gap.std(), "--", None),
        ):
            axes.axhline(line, color="#c1272d", linewidth=0.8, linestyle=style, label=name)
        axes.set_title(row, fontsize=9)
        axes.set_xlabel("mean of found and true area (px)", fontsize=8)
        axes.set_ylabel("found - true area (px)", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.locator_params(nbins=6)
    for axes in every[len(rows) :]:
        axes.set_axis_off()
    _legend(figure, every[0].get_legend_handles_labels()[0], across)
    return figure


def consistency_curves(rows: Mapping[str, list[dict[str, np.ndarray]]], prefix: str = "") -> Any:
    """Share of test images whose Dice is at least so high: a row that never fails stays on top."""
    figure, panels = _figure(1, 1, (4.6, 3.6), PLACES[prefix])
    axes = panels[0, 0]
    for row, runs in rows.items():
        dice = np.sort(np.concatenate([run[prefix + "dice"] for run in runs]))
        axes.plot(np.concatenate([[0], dice]), np.linspace(1, 0, len(dice) + 1), label=row)
    low = min(float(run[prefix + "dice"].min()) for runs in rows.values() for run in runs)
    axes.set_xlim(max(low - 0.02, 0), 1)
    axes.set_xlabel("Dice of an image")
    axes.set_ylabel("share of images at least as good")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    return figure


def roc_curves(rows: Mapping[str, list[dict[str, np.ndarray]]], prefix: str = "") -> Any:
    """ROC of not being normal, the probabilities of all runs pooled."""
    from sklearn.metrics import roc_auc_score, roc_curve

    figure, panels = _figure(1, 1, (4.2, 4.0), PLACES[prefix])
    axes = panels[0, 0]
    for row, runs in rows.items():
        sick = np.concatenate([run[prefix + "kinds"] > 0 for run in runs])
        score = np.concatenate([1 - run[prefix + "probabilities"][:, 0] for run in runs])
        false, true, _ = roc_curve(sick, score)
        each = [roc_auc_score(r[prefix + "kinds"] > 0, 1 - r[prefix + "probabilities"][:, 0]) for r in runs]
        axes.plot(false, true, label=f"{row}: {np.mean(each):.3f}", linewidth=1.2)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle="--")
    axes.set_xlabel("false alarms among normal images")
    axes.set_ylabel("abnormal images found")
    axes.legend(fontsize=7, title="AUROC, mean of runs", title_fontsize=7)
    axes.grid(alpha=0.3)
    return figure


def boundaries(
    rows: Mapping[str, list[dict[str, np.ndarray]]], prefix: str, images: np.ndarray, truth: np.ndarray
) -> Any:
    """Draw the true boundary (green) and found one (red) of the first run, a line of images for each row."""
    from matplotlib.lines import Line2D

    figure, panels = _figure(len(rows), len(images), (1.7, 1.75), PLACES[prefix])
    for line, (row, runs) in zip(panels, rows.items(), strict=True):
        found = np.unpackbits(runs[0][prefix + "masks"][: len(images)], axis=-1, count=SCORED)
        for axes, image, true, mask in zip(line, images, truth, found, strict=True):
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            for inside, colour in ((true, TRUE), (mask > 0, FOUND)):
                if 0 < inside.sum() < inside.size:
                    axes.contour(inside, levels=[0.5], colors=[colour], linewidths=0.9)
            axes.set_xticks([])
            axes.set_yticks([])
        line[0].set_ylabel(row, fontsize=7)
    _legend(figure, [Line2D([], [], color=c, label=n) for c, n in ((TRUE, "true"), (FOUND, "found"))], 2)
    return figure


def masks(
    rows: Mapping[str, list[dict[str, np.ndarray]]], prefix: str, images: np.ndarray, truth: np.ndarray
) -> Any:
    """Tint what the first run found rightly (green), wrongly (red) and missed (blue), a line for each row."""
    title = f"{PLACES[prefix]}: right green, wrong red, missed blue"
    figure, panels = _figure(len(rows), len(images), (1.7, 1.75), title)
    for line, (row, runs) in zip(panels, rows.items(), strict=True):
        found = np.unpackbits(runs[0][prefix + "masks"][: len(images)], axis=-1, count=SCORED) > 0
        for axes, image, true, mask in zip(line, images, truth, found, strict=True):
            shown = np.repeat(image[..., None].astype(np.float32), 3, axis=-1)
            for inside, colour in ((true & mask, GREEN), (mask & ~true, RED), (true & ~mask, BLUE)):
                shown[inside] = 0.55 * shown[inside] + 0.45 * np.array(colour, np.float32)
            axes.imshow(shown.clip(0, 1))
            axes.set_xticks([])
            axes.set_yticks([])
        line[0].set_ylabel(row, fontsize=7)
    return figure


def _figure(down: int, across: int, size: tuple[float, float], title: str) -> tuple[Any, np.ndarray]:
    """Make a figure of panels without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] * across, size[1] * down + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    return figure, figure.subplots(down, across, squeeze=False)


def _legend(figure: Any, handles: list[Any], columns: int) -> None:
    """Say below all panels what their lines are."""
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8)


def _save(figure: Any, path: Path) -> Path:
    """Write a figure."""
    figure.savefig(path, dpi=140)
    return path


def _details(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Read what a trial kept for pictures; nothing if its folder was tidied away."""
    path = folder / "runs" / name / "details.npz"
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as kept:
        return {key: kept[key] for key in kept.files}
