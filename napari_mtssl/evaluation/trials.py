"""One trial: learn from one draw of labels, and be scored on images nobody learnt from."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from napari_mtssl import __version__
from napari_mtssl.engine import checkpoint
from napari_mtssl.engine.control import Control
from napari_mtssl.engine.dense import predict_image
from napari_mtssl.engine.devices import pick_device, seeded, training_threads
from napari_mtssl.engine.events import Failed, Stepped
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.runlog import read_events
from napari_mtssl.engine.source import FixedSource
from napari_mtssl.engine.train import train
from napari_mtssl.evaluation import baselines, metrics, protocol
from napari_mtssl.evaluation.protocol import Places
from napari_mtssl.evaluation.readers import KINDS, FieldOfView
from napari_mtssl.images import open_image
from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.hydramix import HydraMix, HydraMixConfig, PatchBank
from napari_mtssl.methods.hydramix.places import sample_places

REGIONS = 4  # pieces of each image that unlabelled places are taken from
REPORT_SECONDS = 1.0
CHECKPOINT_STEPS = 50  # a table that was stopped loses no more than these
Scores = dict[str, float]
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Sets:
    """Images to learn from and images to be scored on, read once for all trials.

    Attributes
    ----------
    train, test : list of FieldOfView
    device : str
    """

    train: list[FieldOfView]
    test: list[FieldOfView]
    device: str = "auto"
    _pools: dict[tuple[Any, ...], np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def test_places(self) -> Places:
        """The patches all methods are scored on."""
        return protocol.all_places(self.test, seed=0)

    @cached_property
    def test_features(self) -> np.ndarray:
        """Hand-made features of those patches."""
        test = self.test_places
        return baselines.patch_features(protocol.cut(self.test, test.image, test.centres, protocol.PATCH))

    def labelled(self, budget: int, seed: int) -> Places:
        """Draw the labelled patches of one trial."""
        places = protocol.all_places(self.train, seed)
        return places[protocol.draw_labelled(places, budget, seed)]

    def clicks(self, budget: int, seed: int) -> Places:
        """Draw clicks for whole images: a third on background, the others evenly on every kind of nucleus."""
        there = [name for name in KINDS if any(len(view.centroids[name]) for view in self.train)]
        places = protocol.all_places(self.train, seed, names=(protocol.BACKGROUND, *there), jitter=0)
        every = protocol.BACKGROUND_EVERY
        return places[protocol.draw_labelled(places, budget, seed, background_every=every)]

    def pool(self, config: HydraMixConfig) -> np.ndarray:
        """Unlabelled patches of the images to learn from; the same for all trials, whatever they label."""
        key = (config.pool, config.nuclear_share, config.patch)
        if key not in self._pools:
            rng = np.random.default_rng(0)
            parts = []
            for view in self.train:
                image = open_image(view.path)
                count = max(config.pool // len(self.train), 1)
                centres = sample_places(image, count, REGIONS, config.nuclear_share, rng)
                parts.append(image.patches(centres, config.patch))
            self._pools.clear()  # one pool is a hundred megabytes
            self._pools[key] = np.concatenate(parts)
        return self._pools[key]

    def score_detections(self, predict: Callable[[Any], pd.DataFrame], classes: tuple[str, ...]) -> Scores:
        """Compare the cells found in every image to score on with all its nuclei."""
        counts = [
            metrics.count_detections(view.truth(), predict(open_image(view.path)), classes, protocol.RADIUS)
            for view in self.test
        ]
        total = counts[0]
        for count in counts[1:]:
            total = total + count
        return total.scores()


def forest_patches(sets: Sets, budget: int, seed: int) -> Scores:
    """Random forest, scored on patches."""
    begin = time.monotonic()
    places, forest = sets.labelled(budget, seed), baselines.RandomForest(len(protocol.CLASSES), seed)
    patches = protocol.cut(sets.train, places.image, places.centres, protocol.PATCH)
    forest.fit(baselines.patch_features(patches), places.classes)
    seconds = time.monotonic() - begin
    probabilities = forest.predict(sets.test_features)
    return patch_scores(probabilities, sets.test_places.classes) | {"seconds": seconds}


def forest_detection(sets: Sets, budget: int, seed: int) -> Scores:
    """Random forest on dark blobs, scored on whole images."""
    begin = time.monotonic()
    places = sets.clicks(budget, seed)
    patches = protocol.cut(sets.train, places.image, places.centres, protocol.PATCH)
    forest = baselines.RandomForest(len(places.names), seed)
    forest.fit(baselines.patch_features(patches), places.classes)
    seconds = time.monotonic() - begin
    scores = sets.score_detections(
        lambda image: baselines.detect_cells(image, forest, places.names), places.names[1:]
    )
    return scores | {"detection_seconds": seconds}


def hydra_patches(
    sets: Sets, config: HydraMixConfig, budget: int, run_dir: Path, threads: int, tell: Tell
) -> Scores:
    """HydraMix-Net or one of its variants, scored on patches."""
    method = _fit(sets, config, sets.labelled(budget, config.seed), run_dir, threads, tell)
    test = sets.test_places
    size = max(protocol.PATCH, config.window)
    patches = protocol.cut(sets.test, test.image, test.centres, size)
    tensor = torch.from_numpy(np.ascontiguousarray(patches.transpose(0, 3, 1, 2)))
    probabilities, centroids = method.predict_patches(tensor)
    truth = test.in_patch(size) - (size - config.window) // 2
    scores = patch_scores(probabilities, test.classes)
    scores["centroid_px"] = metrics.centroid_error(truth, centroids, test.classes > 0)
    return scores | {"seconds": training_seconds(run_dir)}


def hydra_detection(
    sets: Sets, config: HydraMixConfig, budget: int, run_dir: Path, threads: int, tell: Tell
) -> Scores:
    """HydraMix-Net or one of its variants, scored on whole images."""
    places = sets.clicks(budget, config.seed)
    method = _fit(sets, config, places, run_dir, threads, tell)
    scores = sets.score_detections(
        lambda image: pd.concat([tile.prediction.cells for tile in predict_image(method, image)]),
        places.names[1:],
    )
    return scores | {"detection_seconds": training_seconds(run_dir)}


def _fit(
    sets: Sets, config: HydraMixConfig, places: Places, run_dir: Path, threads: int, tell: Tell
) -> HydraMix:
    """Train on these places and on unlabelled ones of the same images; go on with a training that was killed.

    Raises
    ------
    MethodError
        If training fails.
    """
    device = pick_device(sets.device)
    unlabelled = None if config.variant == "cnn" else sets.pool(config)
    bank = PatchBank.from_arrays(
        protocol.cut(sets.train, places.image, places.centres, config.patch),
        places.classes,
        places.in_patch(config.patch),
        unlabelled,
        device=device,
    )
    with seeded(config.seed, device):
        method = HydraMix(config, {"cell": places.names}, device)
    identity = {"napari_mtssl": __version__, "samples": _digest(bank)}
    saved = _kept(run_dir, method, identity)
    if saved is None:
        shutil.rmtree(run_dir, ignore_errors=True)  # a training of other settings or samples
        run_dir.mkdir(parents=True)
    elif saved.step >= config.steps:  # killed while it was scored
        method.load_state(saved.state)
        return method
    options = TrainOptions(
        validate_every=config.steps + 1,  # never: there are no held-out labels here
        checkpoint_every=CHECKPOINT_STEPS,
        report_seconds=REPORT_SECONDS,
        pseudo_seconds=0,
        preview_seconds=0,
    )
    events = train(
        method,
        FixedSource(bank),
        run_dir=run_dir,
        control=Control(),
        options=options,
        resume=saved is not None,
        notes=identity,
    )
    with training_threads(threads), closing(events):
        for event in events:
            if isinstance(event, Stepped):
                tell(event.step, event.total_steps)
            elif isinstance(event, Failed):
                raise MethodError(event.reason)
    return method


def _kept(run_dir: Path, method: HydraMix, identity: Mapping[str, str]) -> checkpoint.Checkpoint | None:
    """Weights of the same training, if it was begun before."""
    try:
        saved = checkpoint.load(run_dir / "last.safetensors")
    except MethodError:
        return None
    wanted = {**identity, "config": method.config.model_dump(mode="json")}
    return saved if all(saved.meta.get(name) == value for name, value in wanted.items()) else None


def _digest(bank: PatchBank) -> str:
    """Fingerprint of samples."""
    parts = (bank.patches, bank.classes, bank.centroids, bank.unlabelled)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def training_seconds(run_dir: Path) -> float:
    """How long a training took by its log, all pieces of one that was killed together."""
    total = last = 0.0
    for event in read_events(run_dir):
        if event["kind"] == "started":
            total, last = total + last, 0.0
        last = event["seconds"]
    return round(total + last, 3)


def patch_scores(probabilities: np.ndarray, truth: np.ndarray) -> Scores:
    """Accuracy, macro-F1, calibration error and confusions of class probabilities (N, C)."""
    confusion = metrics.confusion_matrix(truth, probabilities.argmax(axis=1), probabilities.shape[1])
    return {
        "accuracy": metrics.accuracy(confusion),
        "macro_f1": metrics.macro_f1(confusion),
        "ece": metrics.expected_calibration_error(probabilities, truth),
        **metrics.confusion_scores(confusion, protocol.CLASSES),
    }
