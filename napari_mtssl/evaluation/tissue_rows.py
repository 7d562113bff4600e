"""The rows of the Tissue table: each learns from the same blocks and gives a mask of each test image."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from napari_mtssl.engine.control import Control
from napari_mtssl.engine.devices import seeded, training_threads
from napari_mtssl.engine.events import Failed, Stepped
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.source import FixedSource
from napari_mtssl.engine.train import train
from napari_mtssl.evaluation.tissue_sets import BINS, CLASSES, TissueSets, blocks_of
from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.superres import SuperRes, SuperResConfig
from napari_mtssl.methods.superres.patches import as_patches

Tell = Callable[[int, int], None]
VOCABULARY = {"block": tuple(BINS), "mask": CLASSES}
PIXELS = 60_000  # that the random forest learns from


def low_resolution(sets: TissueSets, seed: int, tell: Tell) -> list[np.ndarray]:
    """Patch classifier on the blocks of each image: one answer for a block."""
    model = sets.low_resolution(seed, tell)
    masks = []
    for view in sets.test:
        boxes = blocks_of(view.mask, sets.side)
        shares = model.predict(as_patches([view.piece(box) for box in boxes]))[:, 1]
        masks.append(_filled(view.mask.shape, boxes, shares >= 0.5))
    return masks


def block_fractions(sets: TissueSets) -> list[np.ndarray]:
    """Give the true shares of the test blocks, thresholded at one half: all that coarse labels can say."""
    masks = []
    for view in sets.test:
        boxes = blocks_of(view.mask, sets.side)
        shares = np.array([view.share(box) for box in boxes])
        masks.append(_filled(view.mask.shape, boxes, shares >= 0.5))
    return masks


def random_forest(sets: TissueSets, seed: int) -> list[np.ndarray]:
    """Random forest on multi-scale features of single pixels, learnt from the purest blocks of each side."""
    from sklearn.ensemble import RandomForestClassifier

    labels, rng = sets.labelled(seed), np.random.default_rng(seed)
    pure = int(labels.coarse.min()), int(labels.coarse.max())
    if pure[0] == pure[1]:
        raise MethodError("A random forest needs blocks of two coarse classes to learn from.")
    block, found = sets.pixel_features
    chosen = [
        rng.choice(np.flatnonzero(labels.coarse[block] == kind), PIXELS // 2, replace=True) for kind in pure
    ]
    target = np.repeat([0, 1], PIXELS // 2)
    forest = RandomForestClassifier(50, max_depth=16, max_samples=0.3, random_state=seed)
    forest.fit(found[np.concatenate(chosen)], target)
    masks = []
    for view, features in zip(sets.test, sets.test_features, strict=True):
        share = forest.predict_proba(features.astype(np.float32))[:, 1]
        masks.append((share >= 0.5).reshape(view.mask.shape))
    return masks


def network(
    sets: TissueSets, config: SuperResConfig, run_dir: Path, threads: int, tell: Tell, painted: bool = False
) -> list[np.ndarray]:
    """Label super-resolution, or the same network with other losses.

    Raises
    ------
    MethodError
        If training fails.
    """
    method = fit(sets, config, run_dir, threads, tell, painted)
    with training_threads(threads):
        return [predict(method, view.pixels)[1] >= 0.5 for view in sets.test]


def fit(
    sets: TissueSets, config: SuperResConfig, run_dir: Path, threads: int, tell: Tell, painted: bool = False
) -> SuperRes:
    """Train on the blocks, or with `painted` on every pixel."""
    bank = sets.bank(config.seed, config.crop, painted)
    with seeded(config.seed, torch.device("cpu")):
        method = SuperRes(config, VOCABULARY, torch.device("cpu"))
    run_dir.mkdir(parents=True, exist_ok=True)
    never = config.steps + 1
    options = TrainOptions(never, never, report_seconds=1.0, pseudo_seconds=0, preview_seconds=0)
    events = train(method, FixedSource(bank), run_dir=run_dir, control=Control(), options=options)
    with training_threads(threads), closing(events):
        for event in events:
            if isinstance(event, Stepped):
                tell(event.step, event.total_steps)
            elif isinstance(event, Failed):
                raise MethodError(event.reason)
    return method


def predict(method: SuperRes, pixels: np.ndarray) -> np.ndarray:
    """Probabilities (L, h, w) for an image (h, w, 3) uint8."""
    tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    return method.probabilities(tensor)[0].numpy()


def _filled(shape: tuple[int, ...], boxes: list[tuple[int, int, int, int]], yes: np.ndarray) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for (row0, col0, row1, col1), value in zip(boxes, yes, strict=True):
        mask[row0:row1, col0:col1] = value
    return mask
