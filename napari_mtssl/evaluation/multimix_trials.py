"""One trial of MultiMix's table: learn from one draw of labels, be scored on images nobody learnt from."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from napari_mtssl.engine.checkpoint import find, load, write_atomically
from napari_mtssl.engine.control import Control
from napari_mtssl.engine.devices import pick_device, seeded, training_threads
from napari_mtssl.engine.events import CheckpointWritten, Failed, Stepped
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.source import FixedSource
from napari_mtssl.engine.train import train
from napari_mtssl.evaluation import multimix_forest as forest
from napari_mtssl.evaluation.multimix_data import Field, class_names, grey, mask_shares, spacing_mm
from napari_mtssl.evaluation.multimix_scores import CUT, class_scores, mask_scores, mean_scores
from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.evaluation.series import Tell
from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.multimix import FieldBank, MultiMix, MultiMixConfig
from napari_mtssl.methods.multimix.refine import refine

SCORED = 256  # side at which masks are compared, as in the paper
KIND = "diagnosis"
MASK = ("background", "lung")


@dataclass
class Side:
    """Images of one source to learn from or to be scored on: some with masks, some with classes."""

    masks: list[Field]
    classes: list[Field]
    _cache: dict[Any, np.ndarray] = field(default_factory=dict, repr=False)

    def images(self, part: str, size: int) -> np.ndarray:
        """Grey images (N, size, size) of ``masks`` or ``classes``."""
        return self._once((part, size), lambda: [grey(item.path, size) for item in getattr(self, part)])

    def shares(self, size: int) -> np.ndarray:
        """Share of each pixel that the mask covers, (N, size, size)."""
        return self._once(("shares", size), lambda: [mask_shares(f.mask, size) for f in self.masks if f.mask])

    def kinds(self, names: Sequence[str]) -> np.ndarray:
        """Class index of each image of `classes`."""
        unknown = {item.kind for item in self.classes} - set(names)
        if unknown:
            raise DataError(f"Class {sorted(unknown)[0]} is not among those to learn: {', '.join(names)}.")
        return np.array([list(names).index(item.kind) for item in self.classes], dtype=np.int64)

    def spacing(self) -> list[tuple[float, float] | None]:
        """Size of a pixel in millimetres, of each image of `masks` at the scored size."""
        return [spacing_mm(item.path, SCORED) for item in self.masks]

    def _once(self, key: Any, make: Any) -> np.ndarray:
        if key not in self._cache:
            parts = make()
            side = key[1]
            self._cache[key] = np.stack(parts) if parts else np.empty((0, side, side), np.float32)
        return self._cache[key]


@dataclass
class Sets:
    """What is learnt from, and what is scored on: images of the same source, and perhaps of another."""

    train: Side
    test: Side
    cross: Side | None = None
    device: str = "auto"

    @property
    def names(self) -> tuple[str, ...]:
        """Classes, the normal one first."""
        return class_names(self.train.classes)

    def draw(self, classes: int, masks: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the labelled images: `classes` of every class, and `masks`.

        Raises
        ------
        DataError
            If there are not so many.
        """
        rng = np.random.default_rng(seed)
        if masks > len(self.train.masks):
            raise DataError(f"There are {len(self.train.masks)} masks to learn from, not {masks}; use fewer.")
        painted = rng.permutation(len(self.train.masks))[:masks]
        kinds, chosen = self.train.kinds(self.names), []
        for index, name in enumerate(self.names):
            members = rng.permutation(np.flatnonzero(kinds == index))
            if classes > len(members):
                raise DataError(f"There are {len(members)} images of {name}, not {classes}; use fewer.")
            chosen.append(members[:classes])
        return painted, np.concatenate(chosen) if chosen else np.empty(0, np.int64)

    def bank(self, size: int, classes: int, masks: int, seed: int) -> FieldBank:
        """Images to learn from, of which only the drawn ones have a label."""
        painted, chosen = self.draw(classes, masks, seed)
        with_mask, with_class = self.train.images("masks", size), self.train.images("classes", size)
        covered = self.train.shares(size)
        index = np.full(len(with_mask) + len(with_class), -1)
        index[len(with_mask) + chosen] = self.train.kinds(self.names)[chosen]
        rest = np.setdiff1d(np.arange(len(with_class)), chosen) + len(with_mask)
        return FieldBank.from_arrays(
            np.concatenate([with_mask, with_class]),
            {int(i): np.stack([1 - covered[i], covered[i]]) for i in painted},
            {KIND: index.tolist()},
            class_pool=rest.tolist(),
            device=pick_device(self.device),
        )


class Clock:
    """Time that a trial took, on the wall and of the processor, over interruptions.

    Parameters
    ----------
    run_dir : Path
        Made anew, unless a trial of the same key was interrupted there.
    key : mapping
        Everything that decides the outcome, as JSON types.
    """

    def __init__(self, run_dir: Path, key: Mapping[str, Any]) -> None:
        self._file, self._key = run_dir / "trial.json", json.loads(json.dumps(key))
        kept: dict[str, Any] = {}
        with suppress(OSError, ValueError):  # there is none, or it is damaged: the trial is made anew
            kept = json.loads(self._file.read_bytes())
        self._before = {"seconds": 0.0, "cpu_seconds": 0.0}
        if kept.get("key") == self._key:
            self._before = kept["spent"]
        else:
            shutil.rmtree(run_dir, ignore_errors=True)
            run_dir.mkdir(parents=True)
        self._begun = time.monotonic(), time.process_time()
        self.keep()

    def read(self) -> dict[str, float]:
        """Seconds since the trial first began, without those between an interruption and going on."""
        now = time.monotonic(), time.process_time()
        spent = dict(zip(self._before, (b - a for a, b in zip(self._begun, now, strict=True)), strict=True))
        return {name: self._before[name] + value for name, value in spent.items()}

    def keep(self) -> None:
        """Write the time down."""
        write_atomically(self._file, json.dumps({"spent": self.read(), "key": self._key}).encode())


def run(
    sets: Sets,
    config: MultiMixConfig,
    budget: tuple[int, int],
    run_dir: Path,
    threads: int,
    tell: Tell,
    key: Mapping[str, Any],
) -> dict[str, float]:
    """Train one row and score it; what pictures need is kept in ``details.npz``.

    A trial that was interrupted goes on from its last weights, and ends as if nothing had been.

    Parameters
    ----------
    budget : tuple of int
        Labelled images of every class, and masks.
    key : mapping
        Everything that decides the outcome: weights of another trial are not gone on with.
    """
    clock = Clock(run_dir, key)
    bank = sets.bank(config.size, *budget, config.seed)
    method = _fit(sets, config, bank, run_dir, threads, tell, clock)
    spent = clock.read()

    def predict(images: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        pixels = torch.from_numpy(images)[:, None].expand(-1, config.channels, -1, -1)
        masks, classes = method.predict_fields(pixels)
        refined = None
        if masks is not None:
            refined = np.stack([refine(mask, config)[1] for mask in masks.cpu().numpy()])
        return refined, classes[KIND].cpu().numpy() if KIND in classes else None

    return _scores(sets, config.size, predict, run_dir, budget) | spent


def run_forest(sets: Sets, budget: tuple[int, int], seed: int, run_dir: Path) -> dict[str, float]:
    """Train and score the random forests."""
    begin = time.monotonic()
    painted, chosen = sets.draw(*budget, seed)
    trees = forest.FieldForest(seed)
    if len(painted):
        images, shares = sets.train.images("masks", forest.SIZE), sets.train.shares(forest.SIZE)
        trees.fit_masks(images[painted], shares[painted])
    if len(chosen):
        images = sets.train.images("classes", forest.SIZE)
        trees.fit_classes(images[chosen], sets.train.kinds(sets.names)[chosen])
    seconds = time.monotonic() - begin

    def predict(images: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        masks = trees.masks(images) if len(painted) else None
        return masks, trees.classes(images, len(sets.names)) if len(chosen) else None

    return _scores(sets, forest.SIZE, predict, run_dir, budget) | {"seconds": seconds}


def _fit(
    sets: Sets,
    config: MultiMixConfig,
    bank: FieldBank,
    run_dir: Path,
    threads: int,
    tell: Tell,
    clock: Clock,
) -> MultiMix:
    """Train by the engine, as the window and the command line do.

    Raises
    ------
    MethodError
        If training fails.
    """
    device = pick_device(sets.device)
    with seeded(config.seed, device):
        method = MultiMix(config, {"mask": MASK, KIND: sets.names}, device)
    begun = (run_dir / "last.safetensors").is_file()
    if begun:
        saved = load(find(run_dir, "last"))
        if saved.step >= config.steps:
            method.load_state(saved.state)
            return method
    options = TrainOptions(
        config.steps + 1,
        max(25, config.steps // 40),  # kept so often, for the table of an hour that is interrupted
        report_seconds=1.0,
        pseudo_seconds=0,
        preview_seconds=0,
    )
    events = train(
        method, FixedSource(bank), run_dir=run_dir, control=Control(), options=options, resume=begun
    )
    with training_threads(threads), closing(events):
        for event in events:
            if isinstance(event, Stepped):
                tell(event.step, event.total_steps)
            elif isinstance(event, CheckpointWritten):
                clock.keep()
            elif isinstance(event, Failed):
                raise MethodError(event.reason)
    return method


def _scores(sets: Sets, size: int, predict: Any, run_dir: Path, budget: tuple[int, int]) -> dict[str, float]:
    """Scores on the same source, and with ``cross_`` in front on the other one."""
    scores: dict[str, float] = {}
    details: dict[str, Any] = {}
    for prefix, side in (("", sets.test), ("cross_", sets.cross)):
        if side is None:
            continue
        if budget[1] and side.masks:
            found = predict(side.images("masks", size))[0]
            if found is not None:
                truth, inside = side.shares(SCORED) > CUT, enlarge(found) > CUT
                each = mask_scores(truth, inside, side.spacing())
                scores |= {prefix + name: value for name, value in mean_scores(each).items()}
                details |= {prefix + name: values for name, values in each.items()}
                details[prefix + "area"], details[prefix + "area_true"] = (
                    inside.sum((1, 2)),
                    truth.sum((1, 2)),
                )
                details[prefix + "masks"] = np.packbits(inside, axis=-1)
        if budget[0] and side.classes:
            probabilities = predict(side.images("classes", size))[1]
            if probabilities is not None:
                kinds = side.kinds(sets.names)
                found_scores: Mapping[str, float] = class_scores(probabilities, kinds)
                scores |= {prefix + name: value for name, value in found_scores.items()}
                details |= {prefix + "probabilities": probabilities, prefix + "kinds": kinds}
    run_dir.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(run_dir / "details.npz", **details)
    return scores


def enlarge(found: np.ndarray) -> np.ndarray:
    """Bring masks (N, h, w) to the size at which they are compared, without steps."""
    large = F.interpolate(
        torch.from_numpy(found)[:, None], size=(SCORED, SCORED), mode="bilinear", align_corners=False
    )
    return large[:, 0].numpy()
