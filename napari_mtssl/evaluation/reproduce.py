"""HydraMix-Net's table on public images: methods by number of labels, over several draws of the labels.

The paper's own images are private. Classes here are epithelial, inflammatory and background of
CRCHistoPhenotypes; whole images are scored on all four kinds of nuclei.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from napari_mtssl import __version__
from napari_mtssl.evaluation import protocol
from napari_mtssl.evaluation.readers import FIRST, KINDS, DataError, FieldOfView, read_crchistophenotypes
from napari_mtssl.evaluation.series import Progress, Tell, Trial, run_trials, summed_up, write
from napari_mtssl.study.files import checksum

ROWS = ("hydramix", "no-sce", "cnn", "random-forest")
PATCHES, WHOLE = "patches", "whole images"


def reproduce_hydramix(
    train_dir: str | Path,
    test_dir: str | Path,
    *,
    labels: Sequence[int] = (50, 100, 300),
    seeds: int = 3,
    methods: Sequence[str] = ROWS,
    whole_images: Sequence[int] = (300,),
    out: str | Path | None = None,
    preset: str = "robust",
    overrides: Mapping[str, Any] | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Train every method on every budget and draw, and score it on images nobody learnt from.

    Parameters
    ----------
    train_dir, test_dir : path-like
        Folders in CRCHistoPhenotypes' layout, without a common image.
    labels : sequence of int
        Labelled patches, balanced over the classes.
    seeds : int
        Draws of the labels; all methods learn from the same ones.
    methods : sequence of str
        Of `ROWS`.
    whole_images : sequence of int
        Budgets of `labels` for which cells are also found in whole images, with as many clicks.
    out : path-like, optional
        Folder for single trials' scores and weights, from which one that was killed goes on; also gets
        ``table.json``, ``table.md`` and ``table.png``. By default nothing is kept.
    preset : str
        Of HydraMix-Net.
    overrides : mapping, optional
        Single settings of HydraMix-Net, such as ``{"steps": 300}``.
    device : str
    threads : int, optional
        CPU threads; by default one less than there are cores.
    progress : callable, optional

    Returns
    -------
    dict
        ``{"results": {ROW: {BUDGET: {METRIC: {"mean", "sd", "runs"}}}}, "settings": ..., "seconds": ...}``;
        ``seconds`` is the sum over all trials, also those done before an interruption.

    Raises
    ------
    DataError
        If a folder is not as published, or the two share an image, or a budget or method is not possible.
    MethodError
        If a setting is not valid or a training fails.
    """
    budgets = _check(labels, seeds, methods)
    train, test = read_crchistophenotypes(train_dir), read_crchistophenotypes(test_dir)
    sums = check_no_leak(train, test)
    tasks = {PATCHES: budgets, WHOLE: [b for b in budgets if b in whole_images]}
    cells = ((seed, task, budget) for seed in range(seeds) for task in tasks for budget in tasks[task])
    trials = [Trial(row, budget, seed, task) for seed, task, budget in cells for row in methods]
    with tempfile.TemporaryDirectory(prefix="mtssl-") as scratch:
        folder = Path(out) if out else Path(scratch)
        runner = _Runner(train, test, sums, folder, preset, overrides or {}, device, threads)
        runner.check_draws(tasks, seeds)
        entries = run_trials(trials, runner.one, runner.key, runner.folder, progress)
        result = summed_up(entries, runner.settings(budgets, seeds, methods, whole_images))
    if out is not None:
        write(result, Path(out))
    return result


def check_no_leak(train: Sequence[FieldOfView], test: Sequence[FieldOfView]) -> dict[str, str]:
    """Make sure that no image is both learnt from and scored on, whatever its name.

    Returns
    -------
    dict of str to str
        ``train`` and ``test``: one fingerprint of all images of each, with their nuclei.

    Raises
    ------
    DataError
        Naming an image that is in both.
    """
    seen = {checksum(view.path): view for view in train}
    held = {checksum(view.path): view for view in test}
    common = sorted(held[key].path for key in seen.keys() & held.keys())
    if common:
        raise DataError(f"{common[0]} is also among the images to learn from; score on other images.")
    return {name: " ".join(map(_fingerprint, views)) for name, views in (("train", train), ("test", test))}


def _fingerprint(view: FieldOfView) -> str:
    """Of an image and all that is known of it."""
    digest = hashlib.sha256(checksum(view.path).encode())
    for points in (*(view.centroids[kind] for kind in KINDS), view.nuclei):
        digest.update(f"{len(points)}:".encode() + np.ascontiguousarray(points, dtype=float).tobytes())
    return digest.hexdigest()[:16]


def _check(labels: Sequence[int], seeds: int, methods: Sequence[str]) -> list[int]:
    """Budgets in order, once every setting is known to be possible."""
    unknown = [row for row in methods if row not in ROWS]
    if unknown:
        raise DataError(f"There is no method '{unknown[0]}' in this table. Choose of: {', '.join(ROWS)}.")
    if not methods or not labels or seeds < 1:
        raise DataError("A table needs at least one method, one number of labels and one seed.")
    least = len(protocol.CLASSES)
    few = [budget for budget in labels if budget < least]
    if few:
        raise DataError(f"{few[0]} labels are too few for {least} classes; use at least {least}.")
    return sorted(set(labels))


class _Runner:
    """Runs trials and keeps their scores."""

    def __init__(
        self,
        train: list[FieldOfView],
        test: list[FieldOfView],
        sums: Mapping[str, str],
        folder: Path,
        preset: str,
        overrides: Mapping[str, Any],
        device: str,
        threads: int | None,
    ) -> None:
        from napari_mtssl.engine.devices import pick_device
        from napari_mtssl.evaluation.trials import Sets

        self.device = str(pick_device(device))
        self.sets = Sets(train, test, self.device)
        self.sums = sums
        self.folder = folder
        self.preset = preset
        self.overrides = dict(overrides)
        self.threads = threads or max(1, (os.cpu_count() or 2) - 1)

    def check_draws(self, budgets: Mapping[str, Sequence[int]], seeds: int) -> None:
        """See that there are labels enough for every trial, before anything is learnt; raises DataError."""
        for seed, (task, chosen) in product(range(seeds), budgets.items()):
            draw = self.sets.labelled if task == PATCHES else self.sets.clicks
            if chosen:  # a smaller draw is part of a larger one
                draw(max(chosen), seed)

    def one(self, trial: Trial, tell: Tell) -> Mapping[str, float]:
        """Run one trial."""
        from napari_mtssl.evaluation import trials as run

        if trial.row == "random-forest":
            forest = run.forest_patches if trial.task == PATCHES else run.forest_detection
            return forest(self.sets, trial.budget, trial.seed)
        hydra = run.hydra_patches if trial.task == PATCHES else run.hydra_detection
        run_dir = self.folder / "runs" / trial.name
        return hydra(self.sets, self.config(trial), trial.budget, run_dir, self.threads, tell)

    def config(self, trial: Trial) -> Any:
        """HydraMix-Net's settings for a trial."""
        from napari_mtssl.methods.hydramix import HydraMix

        return HydraMix.configure(self.preset, **{**self.overrides, "variant": trial.row, "seed": trial.seed})

    def key(self, trial: Trial) -> dict[str, Any]:
        """Everything that decides a trial's outcome: kept scores are used only if none of it changed."""
        forest = trial.row == "random-forest"
        return {
            "version": __version__,
            "images": self.sums,
            "protocol": _constants(),
            "device": self.device,
            "config": None if forest else self.config(trial).model_dump(mode="json"),
        }

    def settings(
        self, budgets: Sequence[int], seeds: int, methods: Sequence[str], whole_images: Sequence[int]
    ) -> dict[str, Any]:
        """Tell what a reader of the table must know."""
        rows = [row for row in methods if row != "random-forest"]
        configs = {
            row: self.config(Trial(row, budgets[0], 0, PATCHES)).model_dump(mode="json", exclude={"seed"})
            for row in rows
        }
        return {
            "version": __version__,
            "data": "CRCHistoPhenotypes layout",
            "train_images": len(self.sets.train),
            "test_images": len(self.sets.test),
            "test_patches": len(self.sets.test_places),
            "labels": list(budgets),
            "seeds": seeds,
            "whole_images": [budget for budget in budgets if budget in whole_images],
            "protocol": _constants(),
            "preset": self.preset,
            "configs": configs,
            "device": self.device,
            "threads": self.threads,
        }


def _constants() -> dict[str, Any]:
    """Numbers of the protocol."""
    return {
        "classes": list(protocol.CLASSES),
        "whole_image_classes": [protocol.BACKGROUND, *KINDS],
        "patch_px": protocol.PATCH,
        "first_pixel": FIRST,
        "jitter_px": protocol.JITTER,
        "background_px_from_nuclei": protocol.CLEAR,
        "match_radius_px": protocol.RADIUS,
        "whole_image_background_share": round(1 / protocol.BACKGROUND_EVERY, 3),
    }
