"""What a method is to the engine: a configuration, samples, a training step, a prediction of a tile."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field

from napari_mtssl.learning.balance import Balancer, BalanceSettings, make_balancer
from napari_mtssl.methods.prediction import Prediction
from napari_mtssl.study.records import ORIGIN

if TYPE_CHECKING:
    from napari_mtssl.images import Image, ImagePool
    from napari_mtssl.study import Study
    from napari_mtssl.study.records import Split


# Kinds of classes that places of an image have; all other kinds are classes of a whole image.
PLACED = ("cell", "block", "mask")


class MethodError(ValueError):
    """The labels, images or settings do not allow training; the message says what to change."""


class MethodConfig(BaseModel):
    """Settings every method has: the one source of the dock's form, the command line and the checkpoint.

    Fields carry `title`, `description` and bounds; the form and ``--set key=value`` are made from them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    preset: str = Field("robust", description="Where the other settings came from.")
    steps: int = Field(1500, ge=1, title="Steps", description="Optimiser updates in one training run.")
    batch_size: int = Field(32, ge=2, title="Batch", description="Labelled samples in each step.")
    learning_rate: float = Field(1e-3, gt=0, title="Learning rate")
    labels: int = Field(
        0, ge=0, title="Labels", description="Learn from only so many labels, drawn by the seed; 0: from all."
    )
    seed: int = Field(0, ge=0, lt=2**63, title="Seed", description="One seed gives one result on the CPU.")
    balance: Literal["fixed", "equal", "gradnorm", "uncertainty", "famo", "dbmtl"] = Field(
        "fixed",
        title="Balance of tasks",
        description="What each task counts: the method's own weights, all alike, or a rule that learns it.",
    )
    balance_alpha: float = Field(
        0.6,
        ge=0,
        le=10,
        title="GradNorm's alpha",
        description="How strongly tasks are pulled back to a common rate of training.",
    )
    balance_rate: float = Field(
        0.01, gt=0, le=1, title="Rate of balancing", description="Learning rate of the tasks' weights."
    )
    balance_every: int = Field(
        1, ge=1, title="Balance every", description="Steps from one look at the tasks' gradients to the next."
    )
    balance_start: Literal["mean", "first", "theory"] = Field(
        "mean",
        title="GradNorm's L(0)",
        description="Mean of the first 20 losses, the first loss, or that of a network that knows nothing.",
    )
    balance_form: Literal["softmax", "clamped", "raw"] = Field(
        "softmax",
        title="GradNorm's weights",
        description="Positive by construction, the paper's kept above 0.001, or the paper's to the letter.",
    )


@dataclass(frozen=True)
class Geometry:
    """How a fully convolutional prediction lies on the pixels.

    A tile comes with `halo` extra pixels on each side. Output element ``(i, j)`` is centred at pixel
    ``(halo + (stride - 1) / 2 + i * stride, ...)`` of the tile, so outputs exactly cover the tile without its
    halo.

    Attributes
    ----------
    stride : int
        Input pixels between neighbouring output elements.
    halo : int
        Context, in pixels, that a tile needs on each side so that stitched tiles equal the whole image.
    window : int
        Side of the square of pixels that one output element classifies.
    margin : int
        Pixels beyond a box that `Method.decode` must see to find what is inside as if the box had no border.
    align : int
        Corners of tiles are multiples of this, so that a network that pools meets the same grid in every
        tile; `halo` must be a multiple of it too.
    """

    stride: int
    halo: int
    window: int
    margin: int
    align: int = 1

    @property
    def unit(self) -> int:
        """Pixels that corners and sides of a predicted box are multiples of."""
        return math.lcm(self.stride, self.align)


@dataclass
class StepOutput:
    """What one forward pass of a training step gives the loop.

    Attributes
    ----------
    losses : dict of str to Tensor
        Unweighted scalar losses, on the device, with gradient.
    weights : dict of str to float
        Weight of each loss in the total.
    pseudo : dict of str to Tensor
        Detached targets guessed for the unlabelled part of the batch, in the method's own words for its
        `Method.describe`; empty when the step used no unlabelled samples or has none to tell.
    tasks : dict of str to str
        Task (of `Method.tasks`) of each loss, for a balancer. A loss of no task keeps its weight; a task
        without labels in this batch has no loss here.
    """

    losses: dict[str, torch.Tensor]
    weights: dict[str, float]
    pseudo: dict[str, torch.Tensor] = field(default_factory=dict)
    tasks: dict[str, str] = field(default_factory=dict)


class Samples(ABC):
    """Training data of one method, resident on the device."""

    n_labelled: int
    n_unlabelled: int

    @abstractmethod
    def keys(self) -> Mapping[int, Any]:
        """Labelled sample identity to its target, so that two loads can be compared."""


class Method(ABC):
    """One published system.

    Parameters
    ----------
    config : MethodConfig
        Of the type `config_class`.
    vocabulary : mapping of str to sequence of str
        Class names by kind, as `vocabulary_of` finds them in a study; where a kind has a background, it comes
        first.
    device : torch.device

    Attributes
    ----------
    kinds : tuple of str
        Kinds of labels it learns from: ``cell``, ``block``, ``mask``; ``image`` stands for every kind of
        class that a whole image has.
    whole_image : bool
        Whether it predicts an image at once (`predict_image`) instead of tile by tile (`geometry`, `predict`,
        `decode`).
    divisible : bool
        Whether its steps use the network and the teacher only by calling them with images (N, 3, H, W) first,
        so that each of several devices can run them on a share of these.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    config_class: ClassVar[type[MethodConfig]]
    kinds: ClassVar[tuple[str, ...]]
    whole_image: ClassVar[bool] = False
    divisible: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]

    def __init__(
        self, config: MethodConfig, vocabulary: Mapping[str, Sequence[str]], device: torch.device
    ) -> None:
        self.config = config
        self.vocabulary = {kind: tuple(names) for kind, names in vocabulary.items()}
        self.device = device
        # Made when it is first asked for: tasks may follow from what a subclass sets up later.
        self._balancer: Balancer | None = None
        self._balancer_made = False

    @classmethod
    def configure(cls, preset: str = "robust", **overrides: Any) -> MethodConfig:
        """Build a configuration from a preset and single settings.

        Raises
        ------
        MethodError
            If the preset, a setting's name or its value is not valid.
        """
        if preset not in cls.presets:
            raise MethodError(f"There is no preset '{preset}'. Choose one of: {', '.join(cls.presets)}.")
        try:
            return cls.config_class(**{"preset": preset, **cls.presets[preset], **overrides})
        except ValueError as error:
            raise MethodError(_validation_sentence(error)) from error

    # -- labels --------------------------------------------------------------------------------------------

    @classmethod
    def vocabulary_of(cls, study: Study) -> dict[str, tuple[str, ...]]:
        """Class names of a study by kind, of the kinds this method learns."""
        return vocabulary_of(study, cls.kinds)

    @classmethod
    def labels_of(cls, study: Study, split: Split) -> dict[str, set[str]]:
        """Names of the classes that labels of a split have, by kind; kinds without a label are missing."""
        return labels_of(study, cls.kinds, split)

    # -- training ------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def network(self) -> torch.nn.Module:
        """The network that is optimised."""

    @property
    @abstractmethod
    def teacher(self) -> torch.nn.Module:
        """The network that predicts: the exponential moving average, or `network` itself."""

    @abstractmethod
    def samples(self, study: Study, images: ImagePool, split: Literal["train", "validation"]) -> Samples:
        """Read labels and pixels of one split from the study.

        Raises
        ------
        MethodError
            If the labels do not allow training (none, a single class, ...).
        """

    def prepare(self, samples: Samples) -> None:  # noqa: B027 - most methods need it, none must have it
        """Set what is computed once from the samples (normalisation); also called when labels change.

        Must not change what was set before the first step, or a resumed run would not equal an uninterrupted
        one.
        """

    @abstractmethod
    def optimiser(self) -> torch.optim.Optimizer:
        """Make the optimiser of `network`, at ``config.learning_rate``; the loop applies the schedule."""

    def learning_rate(self, progress: float) -> float:
        """Learning rate at `progress` in [0, 1] of the run; cosine to one hundredth by default."""
        low = self.config.learning_rate * 0.01
        return low + 0.5 * (self.config.learning_rate - low) * (
            1.0 + float(np.cos(np.pi * min(progress, 1.0)))
        )

    @abstractmethod
    def step(self, samples: Samples, progress: float, batch_size: int) -> StepOutput:
        """Draw one batch and return its losses.

        All randomness comes from torch's default generator, which the loop seeds from ``(seed, step)``
        before each step: a resumed run equals an uninterrupted one.
        """

    # -- balance of tasks ----------------------------------------------------------------------------------

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks between which a balancer may decide; fewer than two: none ever does."""
        return ()

    @property
    def shared(self) -> Sequence[torch.nn.Parameter]:
        """Weights of the last layer that all tasks share, whose gradients GradNorm compares."""
        return ()

    @property
    def task_settings(self) -> Mapping[str, Any]:
        """What a balancer must know besides the configuration: `theory` and `heavy` of `BalanceSettings`."""
        return {}

    @property
    def balancer(self) -> Balancer | None:
        """What weighs the tasks; None if the method's own weights hold."""
        if not self._balancer_made:
            config = self.config
            settings = BalanceSettings(
                config.balance_alpha,
                config.balance_rate,
                config.balance_every,
                config.balance_start,
                config.balance_form,
                **self.task_settings,
            )
            try:
                made = make_balancer(config.balance, self.tasks, settings)
            except ValueError as error:
                raise MethodError(str(error)) from error
            self._balancer = None if made is None else made.to(self.device)
            self._balancer_made = True
        return self._balancer

    def after_step(self) -> None:  # noqa: B027 - a method without a teacher has nothing to do
        """Update what follows the optimiser (the moving average)."""

    @abstractmethod
    def describe(self, samples: Samples, pseudo: Mapping[str, torch.Tensor]) -> pd.DataFrame:
        """Turn a step's `pseudo` into rows ``image_id, row, col, class, confidence`` (level-0 pixels)."""

    @abstractmethod
    def evaluate(self, samples: Samples) -> dict[str, float]:
        """Scores of the teacher on held-out samples; the first one is what ``best`` is chosen by."""

    # -- prediction ----------------------------------------------------------------------------------------

    @property
    def geometry(self) -> Geometry:
        """How `predict`'s outputs lie on the pixels."""
        raise NotImplementedError(f"{self.name} predicts whole images")

    def predict_image(self, image: Image) -> Prediction:
        """Prediction of a whole image; its grids cover the image at a resolution of the method's choice.

        Raises
        ------
        ImageError
            If pixels cannot be read.
        """
        raise NotImplementedError(f"{self.name} predicts tile by tile")

    def predict(self, tile: torch.Tensor) -> dict[str, torch.Tensor]:
        """Named dense outputs of the teacher for a tile.

        Parameters
        ----------
        tile : Tensor, shape (1, 3, H, W), values in [0, 1]
            With the halo of `geometry` around it; ``H - 2 * halo`` is a multiple of the geometry's unit.

        Returns
        -------
        dict of str to Tensor, each (1, K, (H - 2 * halo) / stride, (W - 2 * halo) / stride)
        """
        raise NotImplementedError(f"{self.name} predicts whole images")

    def decode(self, maps: Mapping[str, np.ndarray], box: tuple[int, int, int, int]) -> Prediction:
        """Turn stitched maps into cells, masks and pictures.

        Parameters
        ----------
        maps : mapping of str to ndarray, each (K, h, w)
            As from `predict`: element ``(i, j)`` is centred at level-0 pixel
            ``(box[0] + (stride - 1) / 2 + i * stride, box[1] + (stride - 1) / 2 + j * stride)``.
        box : tuple of int
            ``(row0, col0, row1, col1)`` in level-0 pixels that the maps cover.

        Returns
        -------
        Prediction
            Its grids have one element per stride.
        """
        raise NotImplementedError(f"{self.name} predicts whole images")

    # -- checkpoint ----------------------------------------------------------------------------------------

    def state(self) -> dict[str, torch.Tensor]:
        """All tensors that a checkpoint must hold besides the optimiser's."""
        state = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        if self.teacher is not self.network:
            state |= {f"teacher.{k}": v for k, v in self.teacher.state_dict().items()}
        if self.balancer is not None:
            state |= {f"balancer.{k}": v for k, v in self.balancer.state_dict().items()}
        return state

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Inverse of `state`."""
        modules = {"network.": self.network, "teacher.": self.teacher, "balancer.": self.balancer}
        for prefix, module in modules.items():
            part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            if part and module is not None:
                module.load_state_dict(part)


def vocabulary_of(study: Study, kinds: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Class names of a study by kind; ``image`` in `kinds` stands for every kind that whole images have.

    Where an image comes from (``origin``) is not to be learnt.
    """
    return {
        kind: tuple(item.name for item in study.classes(kind))
        for kind in study.kinds()
        if kind in kinds or ("image" in kinds and kind not in (*PLACED, ORIGIN))
    }


def labels_of(study: Study, kinds: Sequence[str], split: Split) -> dict[str, set[str]]:
    """Names of the classes that labels of a split have, by kind; kinds without a label are missing."""
    found: dict[str, set[str]] = {}
    if "cell" in kinds:
        found["cell"] = set(study.cells(split=split)["class"])
    if "block" in kinds:
        found["block"] = {
            name
            for image in study.images(split)
            for frame in (study.blocks(image.id), study.regions(image.id))
            for name in frame["class"]
        }
    if "mask" in kinds and study.masked_images(split):
        found["mask"] = {item.name for item in study.classes("mask")}
    if "image" in kinds:
        for kind, group in study.image_classes(split=split).groupby("kind"):
            if kind != ORIGIN:
                found[str(kind)] = set(group["class"])
    return {kind: names for kind, names in found.items() if names}


def draw_labels(cells: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Draw some of the labelled cells, of every class in turn, so that none is missing.

    Parameters
    ----------
    cells : DataFrame
        With a column ``class``.
    n : int
        How many; 0 for all.
    seed : int

    Returns
    -------
    DataFrame
        In the order they had.

    Raises
    ------
    MethodError
        If there are more classes than `n`.
    """
    if n == 0 or n >= len(cells):
        return cells
    if n < cells["class"].nunique():
        raise MethodError(f"{n} labels are too few for {cells['class'].nunique()} classes; use more.")
    shuffled = cells.iloc[np.random.default_rng(seed).permutation(len(cells))]
    turns = shuffled.groupby("class").cumcount().to_numpy()
    return shuffled.iloc[np.argsort(turns, kind="stable")[:n]].sort_index()


def _validation_sentence(error: ValueError) -> str:
    """One clear sentence from pydantic's error."""
    details = getattr(error, "errors", None)
    if details is None:
        return str(error)
    parts = []
    for item in details():
        name = ".".join(str(piece) for piece in item["loc"]) or "settings"
        reason = "no such setting" if item["type"] == "extra_forbidden" else str(item["msg"])
        parts.append(f"{name}: {reason[0].lower() + reason[1:]}")
    return "Setting not valid: " + "; ".join(parts) + "."
