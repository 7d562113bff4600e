"""HydraMix-Net: cells found and classified from few labelled and many unlabelled places.

Bashir, Qaiser, Raza, Rajpoot: HydraMix-Net, a deep multi-task semi-supervised learning approach for cell
detection and classification, 2020. Where the paper is silent or contradicts itself, the configuration says
what is done.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from napari_mtssl.learning.losses import centroid_loss, cross_entropy, symmetric_cross_entropy
from napari_mtssl.learning.precision import has_bfloat16
from napari_mtssl.learning.pseudo_labels import (
    DistributionAlignment,
    MeanTeacher,
    SoftThreshold,
    average,
    hard_threshold,
    sharpen,
)
from napari_mtssl.methods.base import Geometry, Method, MethodError, Samples, StepOutput
from napari_mtssl.methods.hydramix.config import PRESETS, HydraMixConfig
from napari_mtssl.methods.hydramix.samples import PatchBank, SampleReader, check_clicks, enough, to_unit
from napari_mtssl.methods.hydramix.scores import patch_scores
from napari_mtssl.methods.hydramix.views import ClassDraw, Targets, Views, brightening
from napari_mtssl.methods.hydramix.votes import class_probabilities, entropy, peaks, vote_maps
from napari_mtssl.methods.prediction import Prediction
from napari_mtssl.nets import HydraNet, WideResNet, for_inference, frozen_statistics, turned

if TYPE_CHECKING:
    from napari_mtssl.images import ImagePool
    from napari_mtssl.methods.config import MethodConfig
    from napari_mtssl.study import Study

EVALUATE_AT_ONCE = 256  # patches
TYPED_FROM = 3  # classes of cells; two were told apart no better by a head of their own (docs/experiments.md)


class HydraMix(Method):
    """Cell detection and classification by semi-supervised multi-task learning."""

    name: ClassVar[str] = "hydramix"
    title: ClassVar[str] = "Cells (HydraMix-Net)"
    config_class = HydraMixConfig
    kinds: ClassVar[tuple[str, ...]] = ("cell",)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    config: HydraMixConfig

    def __init__(
        self, config: HydraMixConfig, vocabulary: Mapping[str, Sequence[str]], device: torch.device
    ) -> None:
        super().__init__(config, vocabulary, device)
        self.classes = classes = enough(self.vocabulary["cell"])
        torch.manual_seed(config.seed)
        squeeze = {"hidden": 64, "squeeze": 16} if config.regression_head == "squeeze" else {}
        try:
            trunk = WideResNet(
                config.depth,
                config.widen,
                config.padding,
                tuple(int(s) for s in config.strides.split("-")),
                config.bn_momentum,
            )
            several = len(classes) - 1 >= TYPED_FROM
            typed = config.type_weight > 0 and config.variant != "cnn" and several
            network = HydraNet(trunk, len(classes), config.window, **squeeze, typed=typed)
        except ValueError as error:
            raise MethodError(str(error)) from error
        self._network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._teacher = self._network
        self._follow: MeanTeacher | None = None
        if config.ema > 0 and config.variant != "cnn":
            self._teacher = copy.deepcopy(self._network).eval().requires_grad_(False)
            self._follow = MeanTeacher(self._teacher, self._network, config.ema)
        self._half = config.precision == "auto" and has_bfloat16(device)
        self._dense: tuple[tuple[int, ...], HydraNet] | None = None
        # What steps remember besides weights; in the checkpoint, so that a resumed run goes on exactly.
        self._memory = _Memory(len(classes), config.alignment).to(device)
        self._updates: int | None = None
        self._reader = SampleReader(config, classes, device)
        self._views = Views(config)
        self._draw: ClassDraw | None = None

    @classmethod
    def check_labels(cls, study: Study, config: MethodConfig) -> None:
        """Say what is missing before anything slow begins; see `Method.check_labels`."""
        assert isinstance(config, HydraMixConfig)
        check_clicks(
            enough(cls.vocabulary_of(study)["cell"]),
            len(study.images("train")),
            study.cell_classes("train"),
            config,
        )

    # -- training ------------------------------------------------------------------------------------------

    @property
    def network(self) -> HydraNet:
        """The network that is optimised."""
        return self._network

    @property
    def teacher(self) -> HydraNet:
        """The moving average, or the network itself if there is none."""
        return self._teacher

    def samples(self, study: Study, images: ImagePool, split: Literal["train", "validation"]) -> PatchBank:
        """Read labelled and unlabelled patches of one split; see `SampleReader.read`."""
        return self._reader.read(study, images, split)

    def prepare(self, samples: Samples) -> None:
        """Take the normalisation from the first samples seen; later ones leave it as it is."""
        bank = _bank(samples, self.config.window)
        if not self._network.fitted:
            pixels = bank.unlabelled if bank.n_unlabelled else bank.patches
            pixels = to_unit(pixels[:: max(1, len(pixels) // 1000)])
            for network in {self._network, self._teacher}:
                network.normalise_with(pixels)
            self._memory.gain.fill_(brightening(pixels))
        self._views.gain = float(self._memory.gain)

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam with L2 on the dense kernels (the paper), or AdamW with weight decay on every kernel."""
        config = self.config
        heads = {id(p) for head in self._network.heads for p in head.parameters()}
        adamw = config.optimiser_name == "adamw"
        decayed: list[nn.Parameter] = []
        free: list[nn.Parameter] = []
        for parameter in self._network.parameters():
            kernel = parameter.ndim > 1 and (adamw or id(parameter) in heads)
            (decayed if kernel else free).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": free, "weight_decay": 0.0},
        ]
        if adamw:
            return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99))
        return torch.optim.Adam(groups, lr=config.learning_rate)

    def learning_rate(self, progress: float) -> float:
        """Linear warm-up, then half a cosine down to the final rate, at `progress` in [0, 1]."""
        config = self.config
        low = config.learning_rate * config.final_rate
        rate = low + 0.5 * (config.learning_rate - low) * (1.0 + float(np.cos(np.pi * min(progress, 1.0))))
        return rate * min(1.0, (progress * config.steps + 1.0) / max(1, config.warmup))

    def step(self, samples: Samples, progress: float, batch_size: int) -> StepOutput:
        """One batch: augment, guess, mix, and the joint loss.

        References
        ----------
        .. [1] Bashir et al., HydraMix-Net, 2020, Eqs. 1 to 5.
        """
        bank = _bank(samples, self.config.window)
        bank.advance(round(progress * self.config.steps))
        if self._draw is None or not self._draw.is_of(bank):
            self._draw = ClassDraw(bank, len(self.classes), self.config.balanced)
        self._network.train()
        chosen = self._draw(batch_size)
        labelled = self._views.labelled(bank, chosen, len(self.classes))
        typed = guessed = None
        if self._network.cell_type is not None:
            cells = self._draw.cells(batch_size)
            typed = self._views.labelled(bank, cells, len(self.classes), typing=True)
        pseudo: dict[str, torch.Tensor] = {}
        if self.config.variant != "cnn" and bank.n_unlabelled > 0:
            count = max(1, round(batch_size * self.config.unlabelled_ratio))
            guessed, pseudo = self._guess(bank, self._draw, count)
        losses, weights = self._losses(labelled, guessed, typed, progress)
        tasks = {name: "centroid" if name.endswith("centroid") else "class" for name in losses}
        return StepOutput(losses, weights, pseudo, tasks)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Which class, and where the cell is."""
        return ("class", "centroid")

    @property
    def shared(self) -> Sequence[nn.Parameter]:
        """Last convolution of the trunk."""
        return [self._network.trunk.blocks[-1].conv2.weight]

    @property
    def task_settings(self) -> Mapping[str, Any]:
        """Of a network that knows nothing: all classes alike, and the middle of the window."""
        squared = self.config.regression_loss == "squared"
        place = 2 / 12 if squared else 0.5  # of a uniform place: twice its variance, or its mean distance
        return {"theory": {"class": math.log(len(self.classes)), "centroid": place}}

    def after_step(self) -> None:
        """Let the teacher follow the network."""
        if self._updates is None:
            self._updates = int(self._memory.updates)  # once after a start or a resume
        self._updates += 1
        self._memory.updates.fill_(self._updates)
        if self._follow is not None:
            self._follow.update(self._updates)

    @torch.no_grad()
    def _guess(self, bank: PatchBank, draw: ClassDraw, count: int) -> tuple[Targets, dict[str, torch.Tensor]]:
        """Targets for `count` unlabelled places and the views to learn them from (Eqs. 1 and 2)."""
        config = self.config
        index = torch.randint(0, bank.n_unlabelled, (count,), device=self.device)
        source = to_unit(bank.unlabelled[index])
        views = self._views.weak(source)
        original = config.centroid_guess == "original"
        images = [image for image, _ in views] + ([self._views.crop(source)] if original else [])
        if self._teacher is self._network:
            with frozen_statistics(self._network):
                logits, centroids = self._network(torch.cat(images), half=self._half)
        else:
            logits, centroids = self._teacher(torch.cat(images), half=self._half)
        logits = logits.view(len(images), count, -1)
        centroids = centroids.view(len(images), count, 2)
        probs = self._memory.align(average(logits[: config.views]), draw.distribution)
        if original:
            centroid = self._views.to_source(centroids[-1], self._views.crop_matrix(source))
        else:
            pulled = [self._views.to_source(c, m) for c, (_, m) in zip(centroids, views, strict=True)]
            centroid = torch.stack(pulled).mean(0)
        trust = self._confidence(probs)
        targets = self._views.unlabelled(
            source, views, probs, sharpen(probs, config.temperature), centroid, trust
        )
        return targets, {"index": index, "probs": probs, "centroid": centroid}

    def _confidence(self, probs: torch.Tensor) -> torch.Tensor:
        """How much each guess (N, C) counts: (N,)."""
        if self.config.targets == "soft":
            return self._memory.trust(probs)
        if self.config.targets == "hard":
            return hard_threshold(probs, self.config.threshold)
        return torch.ones_like(probs[:, 0])

    def _losses(
        self, labelled: Targets, guessed: Targets | None, typed: Targets | None, progress: float
    ) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Mix everything with everything and compare (Eqs. 3 to 5); then what type clicked cells are of."""
        config = self.config
        batch = labelled if guessed is None else labelled + guessed
        if config.mixup > 0 and config.variant != "cnn":
            batch = batch.mixed(config.mixup, config.mixed_centroids)
        count = len(batch.images)
        images = batch.images if typed is None else torch.cat([batch.images, typed.images])
        kind, cell_type, place = self._network.outputs(images, half=self._half)
        logits, centroids = kind[:count].flatten(1), place[:count].flatten(1)
        unlabelled_cells = batch.cell * batch.trust
        foreground = None
        if config.regression_mask == "paper_product":
            foreground = 1.0 - F.softmax(logits, dim=1)[:, 0]
        losses, weights = {}, {}
        ramp = min(1.0, progress / config.ramp) if config.ramp else 1.0
        parts = [("labelled", slice(None, len(labelled.images)), 1.0)]
        if guessed is not None:
            parts.append(("unlabelled", slice(len(labelled.images), None), ramp * config.unlabelled_weight))
        for name, part, weight in parts:
            delta, rho = self._trust(name)
            loss = symmetric_cross_entropy(logits[part], batch.probs[part], delta, rho)
            losses[f"{name}_class"] = (batch.trust[part] * loss).mean()
            losses[f"{name}_centroid"] = centroid_loss(
                centroids[part],
                batch.centroids[part],
                unlabelled_cells[part],
                None if foreground is None else foreground[part],
                huber=1.0 / config.window if config.regression_loss == "huber" else None,
            )
            weights[f"{name}_class"] = config.mu * weight
            weights[f"{name}_centroid"] = (1.0 - config.mu) * config.regression_gain * weight
        if typed is not None and cell_type is not None and len(typed.images):
            losses["labelled_type"] = cross_entropy(cell_type[count:].flatten(1), typed.probs[:, 1:]).mean()
            weights["labelled_type"] = config.type_weight
        return losses, weights

    def _trust(self, part: str) -> tuple[float, float]:
        """Delta and rho of the symmetric cross-entropy; without it, 1 and 0."""
        if self.config.variant != "hydramix":
            return 1.0, 0.0
        if part == "labelled":
            return self.config.delta_labelled, self.config.rho_labelled
        return self.config.delta_unlabelled, self.config.rho_unlabelled

    def describe(self, samples: Samples, pseudo: Mapping[str, torch.Tensor]) -> pd.DataFrame:
        """Guesses as ``image_id, row, col, class, confidence``; background lies mid-patch."""
        columns = ["image_id", "row", "col", "class", "confidence"]
        if not pseudo:
            return pd.DataFrame({name: [] for name in columns})
        bank = _bank(samples, self.config.window)
        frame = bank.places.iloc[pseudo["index"].cpu().numpy()].reset_index(drop=True)
        probs, centroid = pseudo["probs"].cpu().numpy(), pseudo["centroid"].cpu().numpy()
        best = probs.argmax(1)
        shift = np.where(best[:, None] > 0, centroid - bank.unlabelled.shape[-1] // 2, 0.0)
        frame["row"] += shift[:, 0]
        frame["col"] += shift[:, 1]
        frame["class"] = np.asarray(self.classes, dtype=object)[best]
        frame["confidence"] = probs.max(1).astype(float)
        return frame[columns]

    def evaluate(self, samples: Samples) -> dict[str, float]:
        """Accuracy, macro-F1 and mean centroid error (pixels) of the teacher on labelled patches."""
        bank = _bank(samples, self.config.window)
        probs, centroids = self.predict_patches(bank.patches)
        offset = (bank.patches.shape[-1] - self.config.window) // 2
        truth = bank.centroids.cpu().numpy() - offset
        return patch_scores(probs, centroids, bank.classes.cpu().numpy(), truth)

    @torch.no_grad()
    def predict_patches(self, patches: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Class probabilities (N, C) and centroids (N, 2), in pixels of the window in each patch's middle.

        Parameters
        ----------
        patches : Tensor, shape (N, 3, S, S), uint8, or float in [0, 1]
        """
        self._teacher.eval()
        size = self.config.window
        offset = (patches.shape[-1] - size) // 2
        probs = np.empty((len(patches), len(self.classes)), np.float32)
        centroids = np.empty((len(patches), 2), np.float32)
        for start in range(0, len(patches), EVALUATE_AT_ONCE):
            part = slice(start, start + EVALUATE_AT_ONCE)
            crop = to_unit(patches[part, :, offset : offset + size, offset : offset + size].to(self.device))
            logits, places = turned(self._teacher, crop, self.config.turns)
            probs[part] = logits.flatten(1).softmax(1).cpu().numpy()
            centroids[part] = places.flatten(1).clamp(0, 1).mul(size).sub(0.5).cpu().numpy()
        return probs, centroids

    # -- prediction ----------------------------------------------------------------------------------------

    @property
    def geometry(self) -> Geometry:
        """Stride of the trunk, halo and window of the network, and how far away votes can matter."""
        net = self._network
        # half a window to the place that votes, four sigma of smoothing, a radius to the rival peak
        margin = net.window / 2 + 4 * self.config.vote_sigma + self.config.cell_radius
        return Geometry(stride=net.stride, halo=net.halo, window=net.window, margin=math.ceil(margin) + 1)

    @torch.no_grad()
    def predict(self, tile: torch.Tensor) -> dict[str, torch.Tensor]:
        """``logits`` (1, C, h, w) and ``centroid`` (1, 2, h, w; row and col in units of the window)."""
        logits, centroid = turned(self._quick(), tile, self.config.turns, dense=True)
        return {"logits": logits, "centroid": centroid}

    def _quick(self) -> HydraNet:
        """Give the teacher as whole images are run through it, made anew when training has moved it."""
        tensors = (*self._teacher.parameters(), *self._teacher.buffers())
        versions = tuple(tensor._version for tensor in tensors)
        if self._dense is None or self._dense[0] != versions:
            self._dense = (versions, for_inference(self._teacher, self._half))
        return self._dense[1]

    @torch.no_grad()
    def classify(self, patches: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of the teacher for patches (N, 3, window, window), to compare with `predict`."""
        self._teacher.eval()
        return turned(self._teacher, patches, self.config.turns)[0].flatten(1)

    def decode(self, maps: Mapping[str, np.ndarray], box: tuple[int, int, int, int]) -> Prediction:
        """Cells by votes, and the pictures ``uncertainty`` and ``foreground``."""
        config, stride = self.config, self._network.stride
        probs = class_probabilities(maps["logits"])
        shape = (box[2] - box[0], box[3] - box[1])
        votes = vote_maps(
            probs, maps["centroid"], shape, stride, config.window, config.vote_sigma, config.vote_reach
        )
        frame = peaks(votes, self.classes, config.cell_radius, config.min_votes)
        frame["row"] += box[0]
        frame["col"] += box[1]
        pictures = {"uncertainty": entropy(probs), "foreground": 1.0 - probs[0]}
        return Prediction(cells=frame, pictures=pictures)

    # -- checkpoint ----------------------------------------------------------------------------------------

    def state(self) -> dict[str, torch.Tensor]:
        """Weights of network and teacher, and what the steps remember."""
        return super().state() | {f"memory.{k}": v for k, v in self._memory.state_dict().items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Inverse of `state`."""
        super().load_state(state)
        memory = {k.removeprefix("memory."): v for k, v in state.items() if k.startswith("memory.")}
        if memory:
            self._memory.load_state_dict({"gain": torch.tensor(1.0), **memory})
        self._updates = None


class _Memory(nn.Module):
    """What training steps remember from one to the next, besides weights."""

    updates: torch.Tensor
    gain: torch.Tensor

    def __init__(self, classes: int, alignment: float) -> None:
        super().__init__()
        self.trust = SoftThreshold(classes)
        self.align = DistributionAlignment(classes, alignment)
        self.register_buffer("updates", torch.tensor(0))
        self.register_buffer("gain", torch.tensor(1.0))


def _bank(samples: Samples, window: int) -> PatchBank:
    """Check that these are patches large enough for the window."""
    if not isinstance(samples, PatchBank):
        raise TypeError(f"HydraMix-Net learns from a PatchBank, not from {type(samples).__name__}.")
    if samples.patches.shape[-1] < window:
        raise MethodError(
            f"Patches of {samples.patches.shape[-1]} pixels are smaller than the window of {window}; "
            "make 'patch' larger or 'window' smaller."
        )
    return samples
