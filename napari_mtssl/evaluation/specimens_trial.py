"""One trial of the Joint U-Net's tables: a row trained on all folds but one, and scored on that one."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_mtssl.evaluation.hep2 import MASK, Specimens
from napari_mtssl.evaluation.series import Tell, Trial
from napari_mtssl.evaluation.specimens_plan import Plan, config_of, image_set
from napari_mtssl.evaluation.specimens_rows import TUNED, is_single, is_tuned


def run_trial(plan: Plan, trial: Trial, tell: Tell | None = None) -> dict[str, float]:
    """Train one row on the other folds and score it on this one.

    Raises
    ------
    MethodError
        If training cannot go on; the message says why.
    """
    from napari_mtssl.methods.joint_unet.scores import Outcome, scores

    here = plan.fold_of() == trial.seed % plan.folds
    train, test = plan.data[~here], plan.data[here]
    tasks: tuple[str, ...] = ("",)
    if is_single(trial.row):
        tasks = tuple(plan.data.vocabulary)
    tell = tell or (lambda *_: None)
    masks, own = None, {}
    probs: dict[str, np.ndarray] = {}
    begin = time.monotonic()
    if is_tuned(trial.row):
        own = {"mask_weight": _tuned(plan, trial, train, tell)}
    seconds = time.monotonic() - begin
    for task in tasks:
        outcome, spent = _fit(plan, trial, task, train, test, tell, own)
        masks = outcome.masks if masks is None else masks
        probs |= outcome.probs
        seconds += spent
    whole = Outcome(masks, test.masks, probs, test.labels)
    _keep(plan.folder / "outcomes" / f"{trial.name}.npz", whole, test)
    found = scores(whole, plan.data.vocabulary)
    found.pop("score")
    return {**_renamed(found, plan.data), "seconds": seconds}


def _tuned(plan: Plan, trial: Trial, train: Specimens, tell: Tell) -> float:
    """Weight of the mask that is best on patients held out of training; all other weights are 1."""
    from napari_mtssl.methods.joint_unet.scores import scores

    if MASK not in plan.data.vocabulary or not plan.data.heads:
        return 1.0  # there is nothing to weigh
    inner = plan.held_out(train)
    found = []
    for weight in TUNED:
        part = f"tuning{weight:g}"
        outcome, _ = _fit(
            replace(plan, validate=False),
            trial,
            "",
            train[~inner],
            train[inner],
            tell,
            {"mask_weight": weight},
            part,
        )
        found.append(scores(outcome, plan.data.vocabulary)["score"])
    return TUNED[int(np.nanargmax(found))] if np.isfinite(found).any() else 1.0


def _fit(
    plan: Plan,
    trial: Trial,
    task: str,
    train: Specimens,
    test: Specimens,
    tell: Tell,
    own: Mapping[str, Any],
    part: str = "",
) -> tuple[Any, float]:
    """Train one network; what it says of the test images, and the seconds it took."""
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
        inner = plan.held_out(train)
        train, held = train[~inner], image_set(train[inner], device=device)
    samples = image_set(train, trial.budget, trial.seed, device)
    config = config_of(plan, trial, samples.n_labelled, task, own)
    with seeded(config.seed, device):
        method = JointUNetMethod(config, plan.data.vocabulary, device)
    run_dir = plan.folder / "runs" / "-".join(name for name in (trial.name, task, part) if name)
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


def _keep(path: Path, outcome: Any, test: Specimens) -> None:
    """Keep what was predicted, for pictures and for figures over all folds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"probs_{kind}": values for kind, values in outcome.probs.items()}
    arrays |= {f"truth_{kind}": values for kind, values in outcome.truth.items()}
    np.savez_compressed(path, names=np.array(test.names), **arrays)
