"""The Tissue table on public images: outlines learnt from blocks, against what else blocks can be used for.

The paper's own slides and annotations are private. Here blocks are laid over glands of the colon (GlaS),
patients are split, and every row learns from the same blocks.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_mtssl import __version__
from napari_mtssl.evaluation.glas import GlandImage, read_glas, split_by_patient
from napari_mtssl.evaluation.outlines import OutlineScores, with_outlines
from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.evaluation.series import Progress, Tell, Trial, fingerprint, run_trials, summed_up, write
from napari_mtssl.evaluation.table import Captions
from napari_mtssl.methods.superres.config import SuperResConfig
from napari_mtssl.study.files import checksum

ROWS = (
    "low-resolution",
    "intra",
    "inter",
    "intra+inter",
    "ours",
    "u-net-on-blocks",
    "random-forest",
    "all-pixels",
    "block-fractions",
)
LABELS = ("exact", "noisy")
SHOWN = 4  # test images in the picture
CAPTIONS = Captions(
    budget="block side",
    rows={
        "low-resolution": "low resolution model",
        "ours": "ours (preset robust)",
        "u-net-on-blocks": "U-Net on blocks",
        "random-forest": "random forest on pure blocks",
        "all-pixels": "U-Net on all pixels",
        "block-fractions": "true shares of the test blocks",
    },
    metrics={
        "masked_iou": "IoU near the outline",
        "masked_dice": "Dice near the outline",
        "iou": "IoU",
        "dice": "Dice",
        "image_masked_iou": "IoU near the outline, mean over images",
        "image_dice": "Dice, mean over images",
        "seconds": "Seconds to learn and predict",
    },
    panels=("masked_iou", "dice"),
    x_label="block side, pixels",
)

# Settings of the rows that are not `ours`: the same network, crops, colours and optimiser, other losses.
_PLAIN = {"guess_weight": 0.0, "smooth_weight": 0.0}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "ours": {},
    "intra": {**_PLAIN, "loss": "intra", "statistics_weight": 1.0},
    "inter": {**_PLAIN, "loss": "inter", "statistics_weight": 1.0},
    "intra+inter": {**_PLAIN, "loss": "intra+inter", "statistics_weight": 1.0},
    "u-net-on-blocks": {**_PLAIN, "statistics_weight": 0.0, "blocks_weight": 1.0},
    "all-pixels": {**_PLAIN, "statistics_weight": 0.0, "exact_weight": 1.0},
}


def reproduce_superres(
    train_dir: str | Path,
    test_dir: str | Path,
    *,
    blocks: Sequence[int] = (64,),
    labels: str = "exact",
    seeds: int = 3,
    test_patients: Sequence[str] = (),
    rows: Sequence[str] = ROWS,
    distance: float = 40.0,
    shrink: int = 2,
    out: str | Path | None = None,
    preset: str = "robust",
    overrides: Mapping[str, Any] | None = None,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Train every row on the same blocks and score it on images of other patients.

    Parameters
    ----------
    train_dir, test_dir : path-like
        Folders in GlaS's layout; may be the same with `test_patients`.
    blocks : sequence of int
        Sides of the blocks, in pixels after shrinking.
    labels : {"exact", "noisy"}
        Coarse labels from the true share of a block, or from a patch classifier that learnt from other
        patients; then the statistics are those of 12 blocks of each coarse class.
    seeds : int
        Of weights, crops and forests.
    test_patients : sequence of str
        Who is scored on.
    rows : sequence of str
        Of `ROWS`.
    distance : float
        Pixels, after shrinking, from the true outline for the masked scores.
    shrink : int
        Images are read at one so-manieth of their size.
    out : path-like, optional
        Folder for single trials, ``table.json``, ``table.md``, ``table.png`` and ``outlines.png``.
    preset : str
    overrides : mapping, optional
        Single settings of all rows that are networks.
    threads : int, optional
    progress : callable, optional

    Returns
    -------
    dict
        As of every table, see `series.summed_up`.

    Raises
    ------
    DataError
        If a folder is not as published, the two share a patient, or a row or budget is not possible.
    MethodError
        If a setting is not valid or a training fails.
    """
    trials = _trials(rows, blocks, labels, seeds)
    train, test = split_by_patient(read_glas(train_dir), read_glas(test_dir), test_patients)
    with tempfile.TemporaryDirectory(prefix="mtssl-") as scratch:
        folder = Path(out) if out else Path(scratch)
        runner = _Runner(
            train, test, labels, distance, shrink, folder, preset, dict(overrides or {}), threads
        )
        result = runner.table(trials, progress)
        if out is not None:
            write(result, folder, CAPTIONS)
            runner.picture(folder / "outlines.png", rows, min(blocks))
    return result


class _Runner:
    """Runs trials, and keeps their masks of some test images for the picture."""

    def __init__(
        self,
        train: list[GlandImage],
        test: list[GlandImage],
        labels: str,
        distance: float,
        shrink: int,
        folder: Path,
        preset: str,
        overrides: dict[str, Any],
        threads: int | None,
    ) -> None:
        self.train, self.test = train, test
        self.labels, self.distance, self.shrink = labels, distance, shrink
        self.folder, self.preset, self.overrides = folder, preset, overrides
        self.threads = threads or max(1, (os.cpu_count() or 2) - 1)
        self.sums = {
            name: fingerprint([(v.patient, checksum(v.path), checksum(v.mask_path)) for v in views])
            for name, views in (("train", train), ("test", test))
        }
        self._sets: dict[int, Any] = {}

    def table(self, trials: Sequence[Trial], progress: Callable[[Progress], None] | None) -> dict[str, Any]:
        """Run all trials that are not done yet, and sum up."""
        entries = run_trials(trials, self.one, self.key, self.folder, progress)
        rows, seeds = list(dict.fromkeys(trial.row for trial in trials)), {trial.seed for trial in trials}
        return summed_up(entries, self.settings(rows, len(seeds)))

    def sets(self, side: int) -> Any:
        """Images and blocks of one side, read when first needed."""
        from napari_mtssl.evaluation.tissue_sets import TissueSets

        if side not in self._sets:
            self._sets[side] = TissueSets(self.train, self.test, side, self.labels, self.shrink)
        return self._sets[side]

    def one(self, trial: Trial, tell: Tell) -> dict[str, float]:
        """Run one trial."""
        import time

        begin = time.monotonic()
        sets = self.sets(trial.budget)
        masks = self.masks(trial, tell)
        seconds = time.monotonic() - begin
        tally = OutlineScores(self.distance)
        for mask, view in zip(masks, sets.test, strict=True):
            tally.add(mask, view.mask)
        if trial.seed == 0:
            kept = self._kept(trial)
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(kept, **{sets.test[i].name: masks[i] for i in self._shown()})  # type: ignore[arg-type]
        return tally.scores() | {"seconds": seconds}

    def masks(self, trial: Trial, tell: Tell) -> list[np.ndarray]:
        """Masks of the test images."""
        from napari_mtssl.evaluation import tissue_rows as run

        sets = self.sets(trial.budget)
        if trial.row == "block-fractions":
            return run.block_fractions(sets)
        if trial.row == "low-resolution":
            return run.low_resolution(sets, trial.seed, tell)
        if trial.row == "random-forest":
            return run.random_forest(sets, trial.seed)
        config = self.config(trial)
        run_dir = self.folder / "runs" / trial.name
        return run.network(sets, config, run_dir, self.threads, tell, painted=trial.row == "all-pixels")

    def config(self, trial: Trial) -> SuperResConfig:
        """Make the settings of a row that is a network."""
        from napari_mtssl.methods.superres import SuperRes

        settings = {**VARIANTS[trial.row], **self.overrides, "seed": trial.seed}
        config = SuperRes.configure(self.preset, **settings)
        assert isinstance(config, SuperResConfig)
        return config

    def key(self, trial: Trial) -> dict[str, Any]:
        """Everything that decides a trial's outcome."""
        config = self.config(trial).model_dump(mode="json") if trial.row in VARIANTS else None
        return {
            "version": __version__,
            "images": self.sums,
            "labels": self.labels,
            "distance": self.distance,
            "shrink": self.shrink,
            "config": config,
        }

    def settings(self, rows: Sequence[str], seeds: int) -> dict[str, Any]:
        """Tell what a reader of the table must know."""
        configs = {
            row: self.config(Trial(row, 0, 0)).model_dump(mode="json", exclude={"seed"})
            for row in rows
            if row in VARIANTS
        }
        return {
            "version": __version__,
            "data": "GlaS layout",
            "train_images": len(self.train),
            "test_images": len(self.test),
            "train_patients": sorted({view.patient for view in self.train}),
            "test_patients": sorted({view.patient for view in self.test}),
            "labels": self.labels,
            "distance_px": self.distance,
            "shrink": self.shrink,
            "seeds": seeds,
            "preset": self.preset,
            "configs": configs,
            "threads": self.threads,
        }

    def picture(self, path: Path, rows: Sequence[str], side: int) -> None:
        """Draw some test images: the truth in green, each row's mask in yellow beside it."""
        import imageio.v3 as iio

        sets = self.sets(side)
        lines = []
        for index in self._shown():
            view = sets.test[index]
            line = [with_outlines(view.pixels, [(view.mask, (0, 255, 0))])]
            for row in rows:
                kept = self._kept(Trial(row, side, 0))
                if kept.is_file():
                    with np.load(kept) as masks:
                        if view.name in masks:
                            drawn = [(view.mask, (0, 255, 0)), (masks[view.name], (255, 255, 0))]
                            line.append(with_outlines(view.pixels, drawn))
            lines.append(np.concatenate(line, axis=1))
        width = max(line.shape[1] for line in lines)
        lines = [np.pad(line, ((0, 4), (0, width - line.shape[1]), (0, 0))) for line in lines]
        iio.imwrite(path, np.concatenate(lines))

    def _shown(self) -> list[int]:
        """Test images that are in the picture."""
        return np.unique(np.linspace(0, len(self.test) - 1, SHOWN).astype(int)).tolist()

    def _kept(self, trial: Trial) -> Path:
        return self.folder / "masks" / f"{trial.name}.npz"


def _trials(rows: Sequence[str], blocks: Sequence[int], labels: str, seeds: int) -> list[Trial]:
    """List the trials of a table, if it is one that can be made."""
    unknown = [row for row in rows if row not in ROWS]
    if unknown:
        raise DataError(f"There is no row '{unknown[0]}' in this table. Choose of: {', '.join(ROWS)}.")
    if not rows or not blocks or seeds < 1:
        raise DataError("A table needs at least one row, one side of blocks and one seed.")
    if min(blocks) < 8:
        raise DataError(f"Blocks of {min(blocks)} pixels are too small; use at least 8.")
    if labels not in LABELS:
        raise DataError(f"There are no labels '{labels}'; choose exact or noisy.")
    return [Trial(row, side, seed) for side in sorted(set(blocks)) for seed in range(seeds) for row in rows]
