"""MultiMix's table on public images: rows of the paper by numbers of labelled classes and masks.

The paper's own sets need a registration. Any folder of images with masks and any folder of images by class
do: see `multimix_data`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_mtssl import __version__
from napari_mtssl.evaluation import multimix_data as data
from napari_mtssl.evaluation.multimix_data import Field
from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.evaluation.series import Progress, Tell, Trial, fingerprint, run_trials, summed_up, write
from napari_mtssl.evaluation.table import Captions
from napari_mtssl.study.files import checksum

if TYPE_CHECKING:
    from napari_mtssl.evaluation.multimix_trials import Side
    from napari_mtssl.methods.multimix import MultiMixConfig

Pair = tuple[list[Field], list[Field]]  # images with masks, and images with classes
FOREST = "random-forest"
# What the paper does, at the size, with the optimiser and for the steps of our preset: affine views of
# labelled images, RandAugment for guesses, no teacher, the raw gradient in the bridge.
AS_PUBLISHED: dict[str, Any] = {
    "labelled_views": "affine",
    "class_views": "affine",
    "guess_views": "strong",
    "strong_share": 1.0,
    "strong_views": "randaugment",
    "air": 0.0,
    "normalisation": "dataset",
    "saliency_norm": "none",
    "targets": "hard",
    "alignment": 0.0,
    "ema": 0.0,
    "guess_weight": 0.25,
    "mask_weight": 4.0,
    "seg_consistency": "paper",
    "consistency_weight": 0.01,
    "ramp": 0.0,
    "largest": 0,
    "smooth": 0.0,
    "mirror": False,
}
# Row to what is set besides the preset. `MultiMix` is the product's default, whatever that is.
ROWS: Mapping[str, Mapping[str, Any]] = {
    "U-Net": AS_PUBLISHED | {"variant": "u-net"},
    "Enc": AS_PUBLISHED | {"variant": "enc"},
    "Enc-SSL": AS_PUBLISHED | {"variant": "enc-ssl"},
    "UMTL": AS_PUBLISHED | {"variant": "umtl"},
    "UMTL-S": AS_PUBLISHED | {"variant": "umtl-s"},
    "UMTL-SSL": AS_PUBLISHED | {"variant": "umtl-ssl"},
    "UMTL-SSL-S": AS_PUBLISHED | {"variant": "umtl-ssl-s"},
    "MultiMix-paper": AS_PUBLISHED | {"variant": "multimix"},
    "MultiMix": {"variant": "multimix"},
}
EXTRA: Mapping[str, Mapping[str, Any]] = {
    "MultiMix-zeros": {"variant": "multimix", "bridge": "zeros"},
    "MultiMix-shuffled": {"variant": "multimix", "bridge": "shuffled"},
    "U-Net-ours": {"variant": "u-net"},
    "Enc-ours": {"variant": "enc"},
}
DEFAULT_ROWS = (*ROWS, FOREST)
CAPTIONS = Captions(
    budget="classes-masks",
    rows={
        FOREST: "random forest",
        "MultiMix-paper": "MultiMix as published",
        "MultiMix": "MultiMix (ours)",
        "MultiMix-zeros": "ours, bridge of zeros",
        "MultiMix-shuffled": "ours, another image's saliency",
        "U-Net-ours": "U-Net with our views",
        "Enc-ours": "Enc with our views",
    },
    metrics={
        prefix + name: title + where
        for prefix, where in (("", ""), ("cross_", ", other source"))
        for name, title in {
            "dice": "Dice",
            "jaccard": "Jaccard",
            "ssim": "SSIM of masks",
            "hausdorff_px": "Hausdorff distance (px)",
            "hd95_px": "HD95 (px)",
            "hd95_mm": "HD95 (mm)",
            "precision": "Precision of pixels",
            "recall": "Recall of pixels",
            "auroc": "AUROC",
            "accuracy": "Accuracy",
            "balanced_accuracy": "Balanced accuracy",
            "f1_normal": "F1 normal",
            "f1_abnormal": "F1 abnormal",
            "ece": "Calibration error",
        }.items()
    }
    | {"seconds": "Seconds to train", "cpu_seconds": "Processor seconds to train"},
    panels=("dice", "auroc", "cross_dice", "cross_auroc"),
    x_label="labelled images of each class - masks",
)
HELD = 0.4  # share of groups put aside to score on, where no folder is given for that


def reproduce_multimix(
    masks: str | Path,
    classes: str | Path,
    test_masks: str | Path | None = None,
    test_classes: str | Path | None = None,
    cross_masks: str | Path | None = None,
    cross_classes: str | Path | None = None,
    *,
    seg_labels: Sequence[int] = (10,),
    cls_labels: Sequence[int] = (40,),
    rows: Sequence[str] = DEFAULT_ROWS,
    seeds: int = 3,
    out: str | Path | None = None,
    preset: str = "robust",
    overrides: Mapping[str, Any] | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Train every row on every budget and draw, and score it on images nobody learnt from.

    Parameters
    ----------
    masks, classes : path-like
        Folders to learn from: see `multimix_data.read_masks` and `read_classes`.
    test_masks, test_classes : path-like, optional
        Folders to be scored on; images of their groups are not learnt from. Without one, or where it is the
        folder to learn from, a part of the groups there is put aside.
    cross_masks, cross_classes : path-like, optional
        Images of another source to be scored on.
    seg_labels, cls_labels : sequence of int
        Masks, and images of every class, that are labelled; each is combined with each.
    rows : sequence of str
        Of `ROWS`, `EXTRA` and ``random-forest``.
    seeds : int
        Draws of the labels; all rows learn from the same ones.
    out : path-like, optional
        Folder for single trials' scores and weights; also gets the table and the pictures.
    preset : str
    overrides : mapping, optional
        Single settings for all rows, such as ``{"steps": 300}``.
    device : str
    threads : int, optional
    progress : callable, optional

    Returns
    -------
    dict
        ``{"results": {ROW: {"CLS-SEG": {METRIC: {"mean", "sd", "runs"}}}}, "settings", "seconds"}``;
        metrics of the other source have ``cross_`` in front.

    Raises
    ------
    DataError
        If a folder is not as it should be, or a budget or row is not possible.
    MethodError
        If a setting is not valid or a training fails.
    """
    _check(rows, seg_labels, cls_labels, seeds)
    train, test, cross, left_out = _read(masks, classes, test_masks, test_classes, cross_masks, cross_classes)
    budgets = [(c, m) for m, c in product(sorted(set(seg_labels)), sorted(set(cls_labels)))]
    cells = [(row, c, m, seed) for seed in range(seeds) for c, m in budgets for row in rows]
    with tempfile.TemporaryDirectory(prefix="mtssl-") as scratch:
        folder = Path(out) if out else Path(scratch)
        runner = _Runner(train, test, cross, folder, preset, overrides or {}, device, threads)
        settings = runner.settings(rows, seg_labels, cls_labels, seeds) | {"left_out": left_out}
        return _table(runner, cells, settings, None if out is None else Path(out), progress)


def _table(
    runner: _Runner,
    cells: Sequence[tuple[str, int, int, int]],
    settings: Mapping[str, Any],
    out: Path | None,
    progress: Callable[[Progress], None] | None,
) -> dict[str, Any]:
    """Run what is not kept yet, sum up, and write table and pictures."""
    distinct = list(dict.fromkeys(_trial(*cell) for cell in cells))
    for trial in distinct:
        runner.draw(trial)  # what is not possible is said before anything is learnt
    entries = run_trials(distinct, runner.one, runner.key, runner.folder, progress)
    # a row that learns no classes is one and the same for all numbers of them
    shown = {Trial(row, f"{c}-{m}", seed): entries[_trial(row, c, m, seed)] for row, c, m, seed in cells}
    result = summed_up(shown, settings)
    result["seconds"] = round(sum(entry["trial_seconds"] for entry in entries.values()), 2)
    if out is not None:
        from napari_mtssl.evaluation.multimix_pictures import draw

        write(result, out, CAPTIONS)
        draw(runner.sets, runner.folder, {cell: _trial(*cell).name for cell in cells}, CAPTIONS)
    return result


def _trial(row: str, classes: int, masks: int, seed: int) -> Trial:
    """Make the trial of a cell; what a row does not learn does not count."""
    variant = {**ROWS, **EXTRA}.get(row, {}).get("variant", "")
    classes = 0 if variant == "u-net" else classes
    masks = 0 if variant in ("enc", "enc-ssl") else masks
    return Trial(row, f"{classes}-{masks}", seed)


def _numbers(trial: Trial) -> tuple[int, int]:
    """How many images of each class, and how many masks, a trial labels."""
    classes, masks = (int(part) for part in trial.budget.split("-"))
    return classes, masks


def _check(rows: Sequence[str], seg: Sequence[int], cls: Sequence[int], seeds: int) -> None:
    """Refuse what is not possible before anything is read."""
    known = (*DEFAULT_ROWS, *EXTRA)
    unknown = [row for row in rows if row not in known]
    if unknown:
        raise DataError(f"There is no row '{unknown[0]}' in this table. Choose of: {', '.join(known)}.")
    if not rows or not seg or not cls or seeds < 1:
        raise DataError("A table needs at least one row, one number of masks, one of classes and one seed.")
    if min(seg) < 1 or min(cls) < 1:
        raise DataError("At least one mask and one image of every class must be labelled.")


def _read(
    masks: str | Path,
    classes: str | Path,
    test_masks: str | Path | None,
    test_classes: str | Path | None,
    cross_masks: str | Path | None,
    cross_classes: str | Path | None,
) -> tuple[Pair, Pair, Pair | None, int]:
    """Images with masks and images with classes: to learn from, to be scored on, and of another source.

    A patient may be in several folders, once with a mask, once with a class: nobody scored is learnt from.
    The last is how many images were left out for that.
    """
    learn_masks, held_masks = _sides(data.read_masks, masks, test_masks)
    learn_classes, held_classes = _sides(data.read_classes, classes, test_classes)
    held = [*held_masks, *held_classes]
    cross = None
    if cross_masks or cross_classes:
        cross = (
            data.read_masks(cross_masks) if cross_masks else [],
            data.read_classes(cross_classes) if cross_classes else [],
        )
        held += [*cross[0], *cross[1]]
    learn = (data.without_groups_of(learn_masks, held), data.without_groups_of(learn_classes, held))
    left_out = len(learn_masks) + len(learn_classes) - len(learn[0]) - len(learn[1])
    return learn, (held_masks, held_classes), cross, left_out


def _sides(
    read: Callable[[str | Path], list[Field]], learn: str | Path, test: str | Path | None
) -> tuple[list[Field], list[Field]]:
    """Images to learn from and to be scored on, without a common group."""
    fields = read(learn)
    if test is None or Path(test).resolve() == Path(learn).resolve():
        return data.split_groups(fields, HELD)
    return fields, read(test)


class _Runner:
    """Runs trials and keeps their scores."""

    def __init__(
        self,
        train: Pair,
        test: Pair,
        cross: Pair | None,
        folder: Path,
        preset: str,
        overrides: Mapping[str, Any],
        device: str,
        threads: int | None,
    ) -> None:
        from napari_mtssl.engine.devices import pick_device
        from napari_mtssl.evaluation.multimix_trials import Sets, Side

        self.device = str(pick_device(device))
        self.sets = Sets(Side(*train), Side(*test), Side(*cross) if cross else None, self.device)
        self.folder = folder
        self.preset = preset
        self.overrides = dict(overrides)
        self.threads = threads or max(1, (os.cpu_count() or 2) - 1)
        sides = {"train": self.sets.train, "test": self.sets.test, "cross": self.sets.cross}
        self.sums = {name: _fingerprint(side) for name, side in sides.items() if side is not None}

    def draw(self, trial: Trial) -> None:
        """See that there is as much to learn from as a trial asks for; raises DataError."""
        self.sets.draw(*_numbers(trial), trial.seed)

    def one(self, trial: Trial, tell: Tell) -> Mapping[str, float]:
        """Run one trial."""
        from napari_mtssl.evaluation import multimix_trials as trials

        classes, masks = _numbers(trial)
        run_dir = self.folder / "runs" / trial.name
        if trial.row == FOREST:
            return trials.run_forest(self.sets, (classes, masks), trial.seed, run_dir)
        return trials.run(
            self.sets, self.config(trial), (classes, masks), run_dir, self.threads, tell, self.key(trial)
        )

    def config(self, trial: Trial) -> MultiMixConfig:
        """Make the settings of a trial."""
        from napari_mtssl.methods.multimix import MultiMix, MultiMixConfig

        row = {**ROWS, **EXTRA}[trial.row]
        if self.preset == "paper":  # which is as published already
            row = {"variant": row["variant"], **{k: v for k, v in row.items() if k == "bridge"}}
        config = MultiMix.configure(self.preset, **{**row, **self.overrides, "seed": trial.seed})
        if not isinstance(config, MultiMixConfig):
            raise TypeError("MultiMix's settings are of another type")
        return config

    def key(self, trial: Trial) -> dict[str, Any]:
        """Everything that decides a trial's outcome: kept scores are used only if none of it changed."""
        config = None if trial.row == FOREST else self.config(trial).model_dump(mode="json")
        return {
            "version": __version__,
            "images": self.sums,
            "budget": trial.budget,
            "device": self.device,
            "config": config,
        }

    def settings(
        self, rows: Sequence[str], seg: Sequence[int], cls: Sequence[int], seeds: int
    ) -> dict[str, Any]:
        """Tell what a reader of the table must know."""
        trials = [Trial(row, "1-1", 0) for row in rows if row != FOREST]
        sides = {"train": self.sets.train, "test": self.sets.test, "cross": self.sets.cross}
        return {
            "version": __version__,
            "images": {
                name: {"masks": len(side.masks), "classes": len(side.classes)}
                for name, side in sides.items()
                if side is not None
            },
            "classes": list(self.sets.names),
            "masks_labelled": list(seg),
            "images_labelled_of_each_class": list(cls),
            "seeds": seeds,
            "scored_at_px": 256,
            "preset": self.preset,
            "configs": {
                t.row: self.config(replace(t)).model_dump(mode="json", exclude={"seed"}) for t in trials
            },
            "device": self.device,
            "threads": self.threads,
        }


def _fingerprint(side: Side) -> str:
    """One text for what is known of a side's images, in order: the draw of labels takes them by number."""
    return fingerprint(
        [
            (item.group, item.kind, checksum(item.path), checksum(item.mask) if item.mask else "")
            for item in (*side.masks, *side.classes)
        ]
    )
