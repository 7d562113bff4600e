"""The Joint U-Net's tables: balancers and losses by patient, against single-task networks."""

from __future__ import annotations

import hashlib
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_mtssl import __version__
from napari_mtssl.evaluation.crossval import SEED, folds_by_group, inner_split
from napari_mtssl.evaluation.hep2 import MASK, UNKNOWN, Specimens
from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.evaluation.series import Progress, Tell, Trial, is_kept, run_trials, summed_up
from napari_mtssl.evaluation.table import Captions

BALANCERS = ("fixed", "equal", "uncertainty", "famo", "dbmtl")
LOSSES = ("bce", "dice", "both")
SINGLE = "single-task"
SUPERVISED = "-supervised"
# The report's eight trainings: its Tables II to X.
REPORT = tuple(
    f"gradnorm-{alpha}-{loss}-{epochs}ep"
    for alpha, epochs in (("0.6", 30), ("0.6", 15), ("0.06", 15), ("6", 15))
    for loss in ("dice", "bce")
)
FIGURES = ("mask_dice", "label_f1", "label_accuracy", "intensity_accuracy")  # that delta_m compares

CAPTIONS = Captions(
    budget="labelled images",
    rows={SINGLE: "single-task networks", "equal": "equal weights", "fixed": "fixed weights"},
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


@dataclass(frozen=True)
class Plan:
    """What is trained on what.

    Attributes
    ----------
    data : Specimens
        Learnt from and scored on, fold by fold.
    folds : int
    overrides : mapping
        Single settings of the method.
    preset, device : str
    epochs : float
        Rounds over the labelled images; 0: the preset's number of steps.
    validate : bool
        Hold a fifth of the training patients out for curves and the choice of the best weights.
    seed : int
        Of the folds.
    folder : Path
        For runs and outcomes.
    threads : int
    only : tuple of int
        Folds to run; empty for all.
    """

    data: Specimens
    folder: Path
    folds: int = 5
    overrides: Mapping[str, Any] = field(default_factory=dict)
    preset: str = "robust"
    device: str = "auto"
    epochs: float = 0
    validate: bool = False
    seed: int = SEED
    threads: int = 1
    only: tuple[int, ...] = ()

    def fold_of(self) -> np.ndarray:
        """Fold of each image."""
        return folds_by_group(self.data.groups, self.data.labels, self.folds, self.seed)


def rows(
    alphas: Sequence[str], losses: Sequence[str], balancers: Sequence[str], single: bool = True
) -> list[str]:
    """Names of the rows of a table: GradNorm at each alpha, the other rules, each with each loss of the mask.

    Raises
    ------
    DataError
        If a loss or a balancer does not exist.
    """
    for known, given, what in ((LOSSES, losses, "loss"), ((*BALANCERS, "gradnorm"), balancers, "balancer")):
        wrong = [name for name in given if name not in known]
        if wrong:
            raise DataError(f"There is no {what} '{wrong[0]}'. Choose of: {', '.join(known)}.")
    found = []
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
        rf"(?:gradnorm-(?P<alpha>\d+(?:\.\d+)?)(?:-(?P<form>raw|clamped|softmax))?"
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
        out |= {"balance": found["rule"]}
    return out | ({"mask_loss": found["loss"]} if found["loss"] else {})


def epochs_of(row: str, plan: Plan) -> float:
    """Say for how many rounds over the labelled images a row is trained: its own ``30ep``, or the plan's."""
    found = re.search(r"-(\d+)ep\b", row)
    return float(found[1]) if found else plan.epochs


def reproduce(
    plan: Plan,
    names: Sequence[str],
    budgets: Sequence[int | str] = ("all",),
    progress: Callable[[Progress], None] | None = None,
    cluster: str | None = None,
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
        Address of a Dask cluster on which folds run side by side.

    Returns
    -------
    dict
        In the common form; see `summed_up`.
    """
    which = plan.only or tuple(range(plan.folds))
    trials = [Trial(row, b, fold) for fold in which for b in budgets for row in names]
    for row in names:
        settings_of(row)
    digest = _digest(plan.data)

    def key(trial: Trial) -> dict[str, Any]:
        return _key(plan, trial, digest)

    def here(trial: Trial, tell: Tell) -> Any:
        return run_trial(plan, trial, tell)

    if cluster:
        left = [trial for trial in trials if not is_kept(plan.folder, trial, key(trial))]
        with _on_cluster(plan, left, cluster) as there:
            entries = run_trials(trials, there, key, plan.folder, progress)
    else:
        entries = run_trials(trials, here, key, plan.folder, progress)
    result = summed_up(entries, _settings(plan, names, budgets))
    _add_relative_change(result["results"])
    return result


def run_trial(plan: Plan, trial: Trial, tell: Tell | None = None) -> dict[str, float]:
    """Train one row on the other folds and score it on this one."""
    from napari_mtssl.methods.joint_unet.scores import Outcome, scores

    folds = plan.fold_of()
    train, test = plan.data[folds != trial.seed], plan.data[folds == trial.seed]
    tasks: tuple[str, ...] = ("",)
    if trial.row.removesuffix(SUPERVISED).split("-")[:2] == SINGLE.split("-"):
        tasks = tuple(plan.data.vocabulary)
    seconds, masks = 0.0, None
    probs: dict[str, np.ndarray] = {}
    for task in tasks:
        outcome, spent = _fit(plan, trial, task, train, test, tell or (lambda *_: None))
        masks = outcome.masks if masks is None else masks
        probs |= outcome.probs
        seconds += spent
    whole = Outcome(masks, test.masks, probs, test.labels)
    _keep(plan.folder / "outcomes" / f"{trial.name}.npz", whole, test)
    found = scores(whole, plan.data.vocabulary)
    found.pop("score")
    return {**_renamed(found, plan.data), "seconds": seconds}


def _fit(
    plan: Plan, trial: Trial, task: str, train: Specimens, test: Specimens, tell: Tell
) -> tuple[Any, float]:
    """Train one network; what it says of the test images, and the seconds it took."""
    import time

    from napari_mtssl.engine import checkpoint as ckpt
    from napari_mtssl.engine.control import Control
    from napari_mtssl.engine.devices import pick_device, seeded, training_threads
    from napari_mtssl.engine.events import Failed, Stepped
    from napari_mtssl.engine.options import TrainOptions
    from napari_mtssl.engine.source import FixedSource
    from napari_mtssl.engine.train import train as training
    from napari_mtssl.methods.base import MethodError
    from napari_mtssl.methods.joint_unet import JointUNetMethod

    device = pick_device(plan.device)
    held = None
    if plan.validate:
        inner = inner_split(train.groups, train.labels, seed=plan.seed)
        train, held = train[~inner], image_set(train[inner], device=device)
    samples = image_set(train, trial.budget, trial.seed, device)
    config = _config(plan, trial, samples.n_labelled, task)
    with seeded(config.seed, device):
        method = JointUNetMethod(config, plan.data.vocabulary, device)
    run_dir = plan.folder / "runs" / "-".join(part for part in (trial.name, task) if part)
    run_dir.mkdir(parents=True, exist_ok=True)
    every = max(1, config.steps // 20) if plan.validate else config.steps + 1
    options = TrainOptions(every, config.steps + 1, report_seconds=2.0, pseudo_seconds=0, preview_seconds=0)
    begin = time.monotonic()
    source = FixedSource(samples, held)
    events = training(method, source, run_dir=run_dir, control=Control(), options=options)
    with training_threads(plan.threads), closing(events):
        for event in events:
            if isinstance(event, Stepped):
                tell(event.step, event.total_steps)
            elif isinstance(event, Failed):
                raise MethodError(event.reason)
        seconds = time.monotonic() - begin
        if plan.validate:
            method.load_state(ckpt.load(ckpt.find(run_dir)).state)
        outcome = method.outcome(image_set(test, device=device))
    for file in run_dir.glob("*.safetensors"):
        file.unlink()  # hundreds of networks would fill a disk; curves and settings stay
    return outcome, seconds


def image_set(data: Specimens, budget: int | str = "all", seed: int = 0, device: Any = "cpu") -> Any:
    """Make samples of a set; beyond the budget, images keep no label."""
    from napari_mtssl.methods.joint_unet import ImageSet
    from napari_mtssl.methods.joint_unet.samples import draw_labelled

    masks, labels = data.masks.copy(), {kind: values.copy() for kind, values in data.labels.items()}
    if budget != "all":
        keep = draw_labelled(labels, (masks != UNKNOWN).any((1, 2)), int(budget), seed)
        drop = np.setdiff1d(np.arange(len(data)), keep)
        masks[drop] = UNKNOWN
        for values in labels.values():
            values[drop] = -1
    return ImageSet.from_arrays(data.images, masks, labels, device)


def _config(plan: Plan, trial: Trial, labelled: int, task: str = "") -> Any:
    from napari_mtssl.methods.joint_unet import JointUNetMethod

    own = {**plan.overrides, **settings_of(trial.row), "seed": trial.seed, "only": task}
    own.setdefault("size", plan.data.images.shape[1])
    config = JointUNetMethod.configure(plan.preset, **own)
    epochs = epochs_of(trial.row, plan)
    if epochs and "steps" not in plan.overrides:
        steps = max(1, math.ceil(epochs * labelled / config.batch_size))
        config = JointUNetMethod.configure(plan.preset, **own, steps=steps)
    return config


@contextmanager
def _on_cluster(plan: Plan, trials: Sequence[Trial], address: str) -> Iterator[Callable[[Trial, Tell], Any]]:
    """Hand all trials to a Dask cluster; a trial's scores are waited for when they are asked for."""
    try:
        from distributed import Client
    except ImportError as error:
        raise DataError(
            "A cluster needs Dask's 'distributed'; install it, or leave --cluster out."
        ) from error
    with Client(address) as client:
        data = client.scatter(plan, broadcast=True)
        waiting = {trial: client.submit(run_trial, data, trial, pure=False) for trial in trials}
        yield lambda trial, tell: waiting[trial].result()


def _renamed(found: Mapping[str, float], data: Specimens) -> dict[str, float]:
    """Metrics under the names of the common form: the first head that is no intensity is the label."""
    label = next((kind for kind in data.heads if kind != "intensity"), None)
    out = {}
    for name, value in found.items():
        if label is not None and name.startswith(f"{label}_"):
            name = f"label_{name.removeprefix(f'{label}_')}"
        out[name] = value
    if "intensity_auroc" in out or "label_auroc" in out:
        out["auroc"] = out.get("intensity_auroc", out.get("label_auroc", math.nan))
    return out


def _add_relative_change(results: dict[str, Any]) -> None:
    """Add ``delta_m``: mean change, in percent, of each fold's figures against single-task networks."""
    alone = results.get(SINGLE, {})
    from napari_mtssl.evaluation.table import summary

    for row, cells in results.items():
        for budget, cell in cells.items():
            base = alone.get(budget)
            if row == SINGLE or base is None:
                continue
            names = [m for m in FIGURES if m in cell and m in base]
            changes = []
            for values in zip(
                *(zip(cell[m]["runs"], base[m]["runs"], strict=True) for m in names), strict=True
            ):
                known = [100 * (a - b) / b for a, b in values if a is not None and b]
                changes.append(float(np.mean(known)) if known else math.nan)
            if changes:
                cell["delta_m"] = summary(changes)


def _keep(path: Path, outcome: Any, test: Specimens) -> None:
    """Keep what was predicted, for pictures and for figures over all folds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"probs_{kind}": values for kind, values in outcome.probs.items()}
    arrays |= {f"truth_{kind}": values for kind, values in outcome.truth.items()}
    np.savez_compressed(path, names=np.array(test.names), **arrays)


def _digest(data: Specimens) -> str:
    found = hashlib.sha256()
    for array in (data.images, data.masks, *data.labels.values()):
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def _key(plan: Plan, trial: Trial, digest: str) -> dict[str, Any]:
    labelled = len(plan.data) if trial.budget == "all" else int(trial.budget)
    return {
        "version": __version__,
        "data": digest,
        "folds": plan.folds,
        "seed": plan.seed,
        "epochs": plan.epochs,
        "validate": plan.validate,
        "config": _config(plan, trial, labelled).model_dump(mode="json"),
    }


def _settings(plan: Plan, names: Sequence[str], budgets: Sequence[int | str]) -> dict[str, Any]:
    return {
        "version": __version__,
        "data": plan.data.name,
        "images": len(plan.data),
        "patients": len(np.unique(plan.data.groups)),
        "classes": {kind: list(values) for kind, values in plan.data.vocabulary.items() if kind != MASK},
        "size": int(plan.data.images.shape[1]),
        "folds": plan.folds,
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
