"""What a method is to the engine: a configuration, samples, a training step, a prediction of a tile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch

from napari_mtssl.learning.balance import Balancer, BalanceSettings, make_balancer
from napari_mtssl.methods.config import MethodConfig, MethodError, validation_sentence
from napari_mtssl.methods.contract import Geometry, Samples, StepOutput
from napari_mtssl.methods.labels import PLACED, draw_labels, labels_of, vocabulary_of
from napari_mtssl.methods.prediction import Prediction

if TYPE_CHECKING:
    from napari_mtssl.images import Image, ImagePool
    from napari_mtssl.images.tissue import TissueMask
    from napari_mtssl.study import Study
    from napari_mtssl.study.records import Split

__all__ = [
    "PLACED",
    "Geometry",
    "Method",
    "MethodConfig",
    "MethodError",
    "Prediction",
    "Samples",
    "StepOutput",
    "draw_labels",
    "labels_of",
    "vocabulary_of",
]


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
    divided : tuple of str
        Functions of the network and the teacher that its steps call, besides what these call in turn: tensors
        (N, ...) in and out, in lists or dictionaries too, and nothing said of one of the N depends on others
        (but through batch normalisation), so that each of several devices can do a share. Empty: one device.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    config_class: ClassVar[type[MethodConfig]]
    kinds: ClassVar[tuple[str, ...]]
    whole_image: ClassVar[bool] = False
    divided: ClassVar[tuple[str, ...]] = ("forward",)
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
        return cls.configuration({"preset": preset, **cls.presets[preset], **overrides})

    @classmethod
    def configuration(cls, settings: Mapping[str, Any]) -> MethodConfig:
        """Build a configuration from settings alone, such as those that a checkpoint kept.

        A setting that is younger than the checkpoint gets its default, which must mean what was done before
        there was such a setting; presets are of today, and would give an old network parts that it never had.

        Raises
        ------
        MethodError
            If a setting's name or its value is not valid.
        """
        try:
            return cls.config_class(**settings)
        except ValueError as error:
            raise MethodError(validation_sentence(error, cls.config_class.model_fields)) from error

    # -- slides --------------------------------------------------------------------------------------------

    def slide_um(self, notes: Mapping[str, Any]) -> float | None:
        """Micrometres a pixel at which a slide is read.

        Parameters
        ----------
        notes : mapping
            What a checkpoint keeps of the images that were learnt from.

        Returns
        -------
        float or None
            None: as it is.
        """
        size = notes.get("pixel_size_um")
        return None if size is None else float(size)

    def on_slide(self) -> Method | None:
        """Give what predicts slides tile by tile: this method; None if it only predicts images whole."""
        return None if self.whole_image else self

    def look_over(self, view: Image, tissue: TissueMask) -> dict[str, np.ndarray]:
        """Take from a slide what every one of its tiles must know of all of it; nothing by default.

        It is asked for once, of what `on_slide` gave, is kept beside the tiles, and reaches every worker.

        Parameters
        ----------
        view : Image
            The slide at the pixel size that it is predicted at.
        tissue : TissueMask

        Raises
        ------
        ImageError
            If pixels cannot be read.
        """
        return {}

    def knowing(self, whole: Mapping[str, np.ndarray]) -> Method:
        """Give what predicts the tiles of a slide of which `look_over` gave this."""
        return self

    # -- labels --------------------------------------------------------------------------------------------

    @classmethod
    def vocabulary_of(cls, study: Study) -> dict[str, tuple[str, ...]]:
        """Class names of a study by kind, of the kinds this method learns."""
        return vocabulary_of(study, cls.kinds)

    @classmethod
    def labels_of(cls, study: Study, split: Split) -> dict[str, set[str]]:
        """Names of the classes that labels of a split have, by kind; kinds without a label are missing."""
        return labels_of(study, cls.kinds, split)

    @classmethod  # noqa: B027 - a method may leave it to `samples`
    def check_labels(cls, study: Study, config: MethodConfig) -> None:
        """Say what is missing before anything slow begins: from the labels alone, no image is read.

        What it lets through `samples` may still refuse; the sentences are the same.

        Raises
        ------
        MethodError
            If the classes or labels of a study do not allow training.
        """

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

        Labels of classes that are not in the vocabulary are left out: they were made after training began.

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
