"""The Joint U-Net's tables: balancers and losses by patient, against single-task networks."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from napari_mtssl import __version__
from napari_mtssl.evaluation import table
from napari_mtssl.evaluation.hep2 import MASK, UNKNOWN, Specimens
from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.evaluation.series import Progress, Tell, Trial, is_kept, run_trials, summed_up
from napari_mtssl.evaluation.specimens_cluster import Stopped, on_cluster
from napari_mtssl.evaluation.specimens_plan import Plan, config_of, image_set
from napari_mtssl.evaluation.specimens_rows import (
    CAPTIONS,
    FIGURES,
    REPORT,
    SINGLE,
    SUPERVISED,
    TUNED,
    is_single,
    is_tuned,
    rows,
    settings_of,
)
from napari_mtssl.evaluation.specimens_trial import run_trial

__all__ = [
    "CAPTIONS",
    "REPORT",
    "SINGLE",
    "SUPERVISED",
    "Plan",
    "Stopped",
    "default_threads",
    "image_set",
    "reproduce",
    "rows",
    "run_trial",
    "scratch",
    "settings_of",
]


def reproduce(
    plan: Plan,
    names: Sequence[str],
    budgets: Sequence[int | str] = ("all",),
    progress: Callable[[Progress], None] | None = None,
    cluster: str | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train every row on every budget and fold.

    Parameters
    ----------
    plan : Plan
    names : sequence of str
        Rows.
    budgets : sequence of int or "all"
        Labelled images among those of the other folds; the rest of them is there without labels.
    progress : callable, optional
    cluster : str, optional
        Address of a Dask cluster on which trials run side by side; its workers must see the plan's folder
        under the same path.
    stopped : callable
        Whether to end at the next report of a training; what is done is kept.

    Returns
    -------
    dict
        In the common form; see `summed_up`.

    Raises
    ------
    Stopped
        If `stopped` said so.
    DataError
        If there is no such row, fold or cluster, or there are too few patients.
    """
    trials = [Trial(row, b, seed) for seed in plan.seeds for b in budgets for row in names]
    for row in names:
        settings_of(row)
    _check_budgets(plan, budgets)
    digest = _digest(plan.data)

    def key(trial: Trial) -> dict[str, Any]:
        return _key(plan, trial, digest)

    def here(trial: Trial, tell: Tell) -> Any:
        def heard(step: int, steps: int) -> None:
            if stopped():
                raise Stopped
            tell(step, steps)

        heard(0, 0)
        return run_trial(plan, trial, heard)

    if cluster:
        left = [trial for trial in trials if not is_kept(plan.folder, trial, key(trial))]
        with on_cluster(plan, left, cluster, stopped) as there:
            entries = run_trials(trials, there, key, plan.folder, progress)
    else:
        entries = run_trials(trials, here, key, plan.folder, progress)
    result = summed_up(entries, _settings(plan, names, budgets))
    _add_relative_change(result["results"])
    return result


def _check_budgets(plan: Plan, budgets: Sequence[int | str]) -> None:
    """Refuse a number of labelled images that some fold does not leave."""
    data, fold_of, least = plan.data, plan.fold_of(), len(plan.data)
    told = np.any([values >= 0 for values in data.labels.values()], axis=0)
    told |= (data.masks != UNKNOWN).any((1, 2))
    for fold in plan.chosen:
        learnt = np.flatnonzero(fold_of != fold)
        if plan.validate:
            learnt = learnt[~plan.held_out(data[learnt])]
        least = min(least, int(told[learnt].sum()))
    many = [budget for budget in budgets if budget != "all" and int(budget) > least]
    if many:
        raise DataError(f"A fold leaves {least} labelled images to learn from, not {many[0]}; use fewer.")


def _add_relative_change(results: dict[str, Any]) -> None:
    """Add ``delta_m``: mean change, in percent, of each fold's figures against single-task networks."""
    for row, cells in results.items():
        # with the same loss of the mask, if there is such a row
        alone = results.get(f"{SINGLE}-{row.rsplit('-', 1)[-1]}", results.get(SINGLE, {}))
        for budget, cell in cells.items():
            base = alone.get(budget)
            if is_single(row) or base is None:
                continue
            names = [m for m in FIGURES if m in cell and m in base]
            changes = []
            for values in zip(
                *(zip(cell[m]["runs"], base[m]["runs"], strict=True) for m in names), strict=True
            ):
                known = [100 * (a - b) / b for a, b in values if a is not None and b]
                changes.append(float(np.mean(known)) if known else math.nan)
            if changes:
                cell["delta_m"] = table.summary(changes)


def _digest(data: Specimens) -> str:
    found = hashlib.sha256()
    for array in (data.images, data.masks, *data.labels.values()):
        found.update(np.ascontiguousarray(array).tobytes())
    found.update("\n".join(data.groups).encode())  # other patients are other folds
    return found.hexdigest()[:16]


def _key(plan: Plan, trial: Trial, digest: str) -> dict[str, Any]:
    labelled = len(plan.data) if trial.budget == "all" else int(trial.budget)
    found = {
        "version": __version__,
        "data": digest,
        "folds": plan.folds,
        "seed": plan.seed,
        "epochs": plan.epochs,
        "validate": plan.validate,
        "config": config_of(plan, trial, labelled).model_dump(mode="json"),
    }
    # those of other rows are as they were before there was this one
    return found | ({"tuned": list(TUNED)} if is_tuned(trial.row) else {})


def _settings(plan: Plan, names: Sequence[str], budgets: Sequence[int | str]) -> dict[str, Any]:
    return {
        "version": __version__,
        "data": plan.data.name,
        "images": len(plan.data),
        "patients": len(np.unique(plan.data.groups)),
        "classes": {kind: list(values) for kind, values in plan.data.vocabulary.items() if kind != MASK},
        "size": int(plan.data.images.shape[1]),
        "folds": plan.folds,
        "draws": plan.draws,
        "fold_seed": plan.seed,
        "rows": list(names),
        "budgets": [str(budget) for budget in budgets],
        "preset": plan.preset,
        "overrides": dict(plan.overrides),
        "epochs": plan.epochs,
        "validate": plan.validate,
    }


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Make a folder for trials that nobody wants to keep."""
    return tempfile.TemporaryDirectory(prefix="mtssl-")


def default_threads() -> int:
    """One less than there are cores."""
    return max(1, (os.cpu_count() or 2) - 1)
