"""What the training loop says: small frozen records, read by the window, the command line and a log alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from napari_mtssl.methods.prediction import Prediction


@dataclass(frozen=True)
class Event:
    """Something that happened at training step `step` (0 before the first update)."""

    kind: ClassVar[str] = "event"
    step: int


@dataclass(frozen=True)
class Started(Event):
    """Training begins (or resumes at `step`)."""

    kind: ClassVar[str] = "started"
    total_steps: int
    device: str
    n_labelled: int
    n_unlabelled: int


@dataclass(frozen=True)
class Stepped(Event):
    """Mean losses since the last report, already read off the device.

    `losses` are the unweighted named terms, `weights` what multiplies each in `total`. Where a balancer
    weighs the tasks, `balance` has its ``weight`` of each task and, if it looks at gradients, their ``norm``.
    """

    kind: ClassVar[str] = "step"
    total_steps: int
    losses: Mapping[str, float]
    weights: Mapping[str, float]
    total: float
    steps_per_second: float
    seconds_left: float
    balance: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class PseudoLabels(Event):
    """What the network now believes of some unlabelled places.

    `frame` has columns ``image_id, row, col, class, confidence`` (level-0 pixels).
    """

    kind: ClassVar[str] = "pseudo_labels"
    frame: pd.DataFrame


@dataclass(frozen=True)
class Preview(Event):
    """A prediction of one tile while training goes on.

    Attributes
    ----------
    image_id : int
    box : tuple of int
        ``(row0, col0, row1, col1)``, half open, level-0 pixels: what this tile replaces on screen.
    prediction : Prediction
        Of the box; of its cells those inside.
    scale : tuple of float
        Level-0 pixels per element of the prediction's grids, along rows and columns.
    done, total : int
        Tiles done and tiles in all for this sweep over the image.
    """

    kind: ClassVar[str] = "preview"
    image_id: int
    box: tuple[int, int, int, int]
    prediction: Prediction
    scale: tuple[float, float] = (1.0, 1.0)
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Validated(Event):
    """Scores on held-out labels (groups of split ``validation``), higher is better unless named ``*_px``."""

    kind: ClassVar[str] = "validation"
    scores: Mapping[str, float]
    best: bool


@dataclass(frozen=True)
class CheckpointWritten(Event):
    """Weights are on disk at `path`; `which` is ``last`` or ``best``."""

    kind: ClassVar[str] = "checkpoint"
    path: Path
    which: str


@dataclass(frozen=True)
class LabelsChanged(Event):
    """New or corrected labels are used from the next step on."""

    kind: ClassVar[str] = "labels_changed"
    n_labelled: int
    added: int
    changed: int
    removed: int


@dataclass(frozen=True)
class ClassesLeftOut(Event):
    """Classes `names` are new since training began: without an output, and left out."""

    kind: ClassVar[str] = "classes_left_out"
    names: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class LossNotFinite(Event):
    """A loss was NaN or infinite; weights went back to those of step `restored_step`."""

    kind: ClassVar[str] = "loss_not_finite"
    restored_step: int
    message: str


@dataclass(frozen=True)
class OutOfMemory(Event):
    """The device's memory was not enough; the batch was halved from `old_batch` to `new_batch`."""

    kind: ClassVar[str] = "out_of_memory"
    old_batch: int
    new_batch: int
    message: str


@dataclass(frozen=True)
class Paused(Event):
    """Training waits until it is resumed or stopped."""

    kind: ClassVar[str] = "paused"


@dataclass(frozen=True)
class Resumed(Event):
    """Training goes on after a pause."""

    kind: ClassVar[str] = "resumed"


@dataclass(frozen=True)
class WorkerLost(Event):
    """The computer or process that trained went away; another one goes on from the checkpoint of `step`."""

    kind: ClassVar[str] = "worker_lost"
    message: str


@dataclass(frozen=True)
class Finished(Event):
    """Training ended by itself (``stopped=False``) or by request; last and best weights are in `run_dir`."""

    kind: ClassVar[str] = "finished"
    stopped: bool
    run_dir: Path
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Failed(Event):
    """Training cannot go on.

    Attributes
    ----------
    reason : str
        One sentence for the user.
    detail : str
        The traceback, for the log.
    mendable : bool
        Whether it is something in the labels, images or settings, so that `reason` says what to change.
    labels : bool
        Whether the labels are not enough (any more): with others the run goes on.
    """

    kind: ClassVar[str] = "failed"
    reason: str
    detail: str
    mendable: bool = False
    labels: bool = False


def to_json(event: Event) -> dict[str, Any]:
    """Flatten an event to JSON types; frames and arrays become their sizes."""
    return {"kind": event.kind, **_fields(event)}


def _fields(record: Event | Prediction) -> dict[str, Any]:
    return {name: _plain(value) for name, value in vars(record).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return {"rows": len(value)}
    if isinstance(value, np.ndarray):
        return list(value.shape)
    if isinstance(value, Prediction):
        return _fields(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
