"""The Joint U-Net as a method: mask and image classes from few labels, balanced, with a teacher."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from napari_mtssl.learning.precision import half_precision
from napari_mtssl.learning.pseudo_labels import MeanTeacher
from napari_mtssl.methods.base import Method, MethodError, Samples, StepOutput, vocabulary_of
from napari_mtssl.methods.joint_unet.config import PRESETS, JointUNetConfig
from napari_mtssl.methods.joint_unet.samples import (
    MASK,
    UNKNOWN,
    ImageSet,
    check_images,
    learnable,
    read_images,
    resized,
)
from napari_mtssl.methods.joint_unet.scores import Outcome, scores
from napari_mtssl.methods.joint_unet.tiles import SlideMask
from napari_mtssl.methods.joint_unet.views import Views, cut_and_paste, dihedral, mask_loss
from napari_mtssl.methods.labels import taught
from napari_mtssl.methods.prediction import Prediction
from napari_mtssl.nets.joint_unet import JointUNet
from napari_mtssl.nets.resnet34 import WeightsError, check_weights, load_encoder

if TYPE_CHECKING:
    from napari_mtssl.images import Image, ImagePool
    from napari_mtssl.methods.config import MethodConfig
    from napari_mtssl.study import Study

TEACHER_LAPS = 20  # how often a run is longer than its teacher's memory, at least
AT_ONCE = 16  # images in one pass of a prediction
Guess = tuple[torch.Tensor | None, dict[str, torch.Tensor]]  # logits of masks and of each head
BRIGHT = 0.5  # mean above which images are stained tissue on white, not fluorescence on black


class JointUNetMethod(Method):
    """Specimens: a mask and any number of image classes, learnt together by one network."""

    name: ClassVar[str] = "joint-unet"
    title: ClassVar[str] = "Specimens (Joint U-Net)"
    config_class = JointUNetConfig
    kinds: ClassVar[tuple[str, ...]] = (MASK, "image")
    whole_image: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    config: JointUNetConfig

    def __init__(
        self, config: JointUNetConfig, vocabulary: Mapping[str, Sequence[str]], device: torch.device
    ) -> None:
        super().__init__(config, vocabulary, device)
        counts = {kind: len(names) for kind, names in self.vocabulary.items()}
        self._learnt = learnable(self.vocabulary, config.only)
        self.heads = tuple(kind for kind in self._learnt if kind != MASK)
        self._of_brightness = {name.strip() for name in config.brightness_kinds.split(",")}
        outputs = counts[MASK] if MASK in self._learnt else 0
        torch.manual_seed(config.seed)
        network = JointUNet(
            {kind: counts[kind] for kind in self.heads},
            1 if outputs == 2 else outputs,
            config.encoder,
            config.base,
            config.dropout,
            pooling=config.pooling,
            bright=sorted(self._of_brightness),
        )
        self._network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._teacher, self._follow = self._network, None
        if config.ema > 0:
            self._teacher = copy.deepcopy(self._network).eval().requires_grad_(False)
            # a short run must not be averaged with its own beginning
            memory = min(config.ema, max(0.5, 1 - TEACHER_LAPS / config.steps))
            self._follow = MeanTeacher(self._teacher, self._network, memory)
        self._memory = _Memory().to(device)
        # what images without labels teach, and what it counts against labels
        counting = dict.fromkeys(self.heads, config.class_consistency) | {MASK: 1.0}
        self._guessed = {kind: config.consistency * counting[kind] for kind in self._learnt if counting[kind]}
        self._updates: int | None = None
        self._views = Views(config)

    @classmethod
    def vocabulary_of(cls, study: Study) -> dict[str, tuple[str, ...]]:
        """Classes of the kinds that training images have labels of; see `taught`."""
        return taught(study, super().vocabulary_of(study))

    @classmethod
    def check_labels(cls, study: Study, config: MethodConfig) -> None:
        """Say what is missing before anything slow begins; see `Method.check_labels`."""
        assert isinstance(config, JointUNetConfig)
        check_images(study, vocabulary_of(study, cls.kinds), config.only)
        try:
            check_weights(config.weights)
        except WeightsError as error:
            raise MethodError(str(error)) from error

    # -- training ------------------------------------------------------------------------------------------

    @property
    def network(self) -> JointUNet:
        """The network that is optimised."""
        return self._network

    @property
    def teacher(self) -> JointUNet:
        """The moving average, or the network itself if there is none."""
        return self._teacher

    @property
    def tasks(self) -> tuple[str, ...]:
        """What is to be balanced: the mask and kinds of image class that shape the features all share."""
        return tuple(kind for kind in self._learnt if kind not in self._network.bright)

    @property
    def shared(self) -> Sequence[nn.Parameter]:
        """Last convolution of the bottleneck, the last layer that every task uses."""
        return [self._network.encoder.last]

    @property
    def task_settings(self) -> Mapping[str, Any]:
        """Losses of a network that knows nothing; the mask's backward pass is the long one."""
        theory = {kind: math.log(len(self.vocabulary[kind])) for kind in self._learnt}
        if MASK in theory:
            theory[MASK] = {"bce": theory[MASK], "dice": 0.5, "both": theory[MASK] + 0.5}[
                self.config.mask_loss
            ]
        return {"theory": theory, "heavy": MASK}

    def samples(self, study: Study, images: ImagePool, split: Literal["train", "validation"]) -> ImageSet:
        """Read all images of a split at the network's size, and what is said of them."""
        config = self.config
        budget = config.labels if split == "train" else 0
        return read_images(
            study, images, split, self.vocabulary, config.size, self.device, budget, config.seed
        )

    def prepare(self, samples: Samples) -> None:
        """Take the channels' means and one spread over all images, so that intensities stay comparable.

        One spread for all channels: a dark channel, as red and blue are in green fluorescence, would be
        blown up to little but noise and the tint of single slides, which a network learns by heart.
        """
        if bool(self._network.fitted):
            return
        self._take_weights()
        pixels = _images(samples).images[:, :, ::4, ::4].float() / 255
        mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
        std = std.max().expand_as(std)
        for network in {self._network, self._teacher}:
            network.normalise_with(mean, std)

    def _take_weights(self) -> None:
        """Begin with an encoder of the user's own.

        Not when the method is made: one that has learnt is made anew from its own weights to predict, also
        where the file that it began with is not any more.
        """
        if not self.config.weights:
            return
        try:
            for network in {self._network, self._teacher}:
                load_encoder(network.encoder, self.config.weights)
        except WeightsError as error:
            raise MethodError(str(error)) from error

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam (the report), or AdamW with weight decay on every kernel."""
        config = self.config
        kernels = [p for p in self._network.parameters() if p.ndim > 1]
        rest = [p for p in self._network.parameters() if p.ndim <= 1]
        groups = [
            {"params": kernels, "weight_decay": config.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        if config.optimiser_name == "adamw":
            return torch.optim.AdamW(groups, lr=config.learning_rate)
        return torch.optim.Adam(groups, lr=config.learning_rate)

    def learning_rate(self, progress: float) -> float:
        """Linear warm-up, then half a cosine down to the final rate."""
        config = self.config
        low = config.learning_rate * config.final_rate
        rate = low + 0.5 * (config.learning_rate - low) * (1.0 + math.cos(math.pi * min(progress, 1.0)))
        return rate * min(1.0, (progress * config.steps + 1.0) / max(1, config.warmup))

    def step(self, samples: Samples, progress: float, batch_size: int) -> StepOutput:
        """One batch of labelled images, and of images to guess for; one pass through the network."""
        found, config = _images(samples), self.config
        bright = self._bright
        chosen = self._draw(found, batch_size)
        images, masks = self._views.warped(found.images[chosen].float() / 255, found.masks[chosen])
        assert masks is not None
        images, dimmed = self._views.regained(self._views.coloured(images, bright), bright)
        guess = None
        count = round(batch_size * config.unlabelled_ratio) if any(self._guessed.values()) else 0
        ramp = min(1.0, progress / config.ramp) if config.ramp else 1.0
        if self._follow is not None and count and len(found.unlabelled_index):
            strong, guess, telling = self._asked(found, count)
            images = torch.cat([images, strong])
        self._network.train()
        with self._precision():
            mask_logits, logits = self._network(images)
        n = len(chosen)
        losses, weights = {}, {}
        here = found.masked[chosen]
        if mask_logits is not None and bool(here.any()):
            losses[MASK] = mask_loss(mask_logits[:n][here], masks[here], config.mask_loss)
        for kind in self.heads:
            truth = found.labels[kind][chosen]
            if kind in self._of_brightness:
                truth = torch.where(dimmed, -1, truth)
            if bool((truth >= 0).any()):
                losses[kind] = F.cross_entropy(logits[kind][:n].float(), truth, ignore_index=-1)
        for kind in losses:
            weights[kind] = config.mask_weight if kind == MASK else config.class_weight
        if guess is not None:
            said = self._agreement(guess, mask_logits, logits, n, telling)
            for kind, loss in said.items():
                if kind not in losses:
                    continue  # what is never taught is not guessed either
                losses[f"{kind}_guess"] = loss
                weights[f"{kind}_guess"] = weights[kind] * self._guessed[kind] * ramp
        of = {name: name.removesuffix("_guess") for name in losses}
        return StepOutput(
            losses, weights, {}, {name: kind for name, kind in of.items() if kind in self.tasks}
        )

    def _asked(self, found: ImageSet, count: int) -> tuple[torch.Tensor, Guess, dict[str, torch.Tensor]]:
        """Strong views of images to guess for, what the teacher says of weak ones, which tell of a class."""
        pick = torch.randint(len(found.unlabelled_index), (count,), device=self.device)
        pick = found.unlabelled_index[pick]
        views, _ = self._views.warped(found.images[pick].float() / 255)
        with torch.no_grad(), self._precision():
            mask, classes = self._teacher(views)
        images, dimmed = self._views.regained(self._views.strong(views, self._bright), self._bright)
        telling = torch.ones_like(dimmed)
        if mask is not None and self.config.pasted:
            images, mask, mixed = cut_and_paste(images, mask, self.config.pasted)
            telling = ~mixed
        return (
            images,
            (mask, classes),
            {kind: telling & ~dimmed if kind in self._of_brightness else telling for kind in self.heads},
        )

    def _agreement(
        self,
        guess: Guess,
        mask_logits: torch.Tensor | None,
        logits: dict[str, torch.Tensor],
        n: int,
        telling: Mapping[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Losses against what the teacher is sure of, for images that tell of a class."""
        sure, sure_pixel = self.config.threshold, self.config.mask_threshold
        losses = {}
        if guess[0] is not None and mask_logits is not None:
            own, theirs = mask_logits[n:].float(), guess[0].float()
            if own.shape[1] == 1:
                probs = torch.sigmoid(theirs)
                trust = ((probs - 0.5).abs() + 0.5 >= sure_pixel).float()
                cost = F.binary_cross_entropy_with_logits(own, (probs > 0.5).float(), reduction="none")
            else:
                best, target = theirs.softmax(1).max(1)
                trust = (best >= sure_pixel).float()
                cost = F.cross_entropy(own, target, reduction="none")
            losses[MASK] = (cost * trust).mean()
        for kind in self.heads:
            if kind not in self._guessed:
                continue
            best, target = guess[1][kind].float().softmax(1).max(1)
            cost = F.cross_entropy(logits[kind][n:].float(), target, reduction="none")
            losses[kind] = (cost * ((best >= sure) & telling[kind])).mean()
        return losses

    def _draw(self, found: ImageSet, count: int) -> torch.Tensor:
        """Choose labelled images in the order of shuffled rounds; half with a mask where masks are rare."""
        if self._updates is None:
            self._updates = int(self._memory.updates)
        pools = [(found.labelled_index, count)]
        if MASK in self._learnt and 0 < 2 * len(found.masked_index) < len(found.labelled_index):
            pools = [(found.masked_index, count // 2), (found.labelled_index, count - count // 2)]
        chosen = []
        for salt, (pool, number) in enumerate(pools):
            places = torch.arange(self._updates * number, (self._updates + 1) * number)
            for lap in torch.unique(places // len(pool)).tolist():
                rng = torch.Generator().manual_seed(self.config.seed * 100_003 + lap * 2 + salt)
                order = torch.randperm(len(pool), generator=rng)
                mine = places[places // len(pool) == lap] % len(pool)
                chosen.append(pool[order[mine].to(pool.device)])
        return torch.cat(chosen)

    def _precision(self) -> torch.autocast:
        """Half precision where it is asked for and quick."""
        return half_precision(self.config.precision, self.device)

    @property
    def _bright(self) -> bool:
        return float(self._network.mean.mean()) > BRIGHT

    def after_step(self) -> None:
        """Let the teacher follow the network."""
        if self._updates is None:
            self._updates = int(self._memory.updates)
        self._updates += 1
        self._memory.updates.fill_(self._updates)
        if self._follow is not None:
            self._follow.update(self._updates)

    def describe(self, samples: Samples, pseudo: Mapping[str, torch.Tensor]) -> pd.DataFrame:
        """Guesses of whole images have no place: always empty."""
        return pd.DataFrame({name: [] for name in ("image_id", "row", "col", "class", "confidence")})

    def evaluate(self, samples: Samples) -> dict[str, float]:
        """Mean of all tasks first, then Dice, IoU and accuracy of the mask, accuracy and F1 of each head."""
        found = _images(samples)
        return scores(self.outcome(found), {k: self.vocabulary[k] for k in self._learnt})

    @torch.no_grad()
    def outcome(self, found: ImageSet) -> Outcome:
        """Collect what the teacher says of images, beside what is known of them."""
        masks, classes = [], []
        for start in range(0, len(found.images), AT_ONCE):
            mask, probs = self.predict_batch(found.images[start : start + AT_ONCE].float() / 255)
            if mask is not None:
                masks.append(mask.argmax(1).to(torch.uint8).cpu().numpy())
            classes.append({kind: p.cpu().numpy() for kind, p in probs.items()})
        return Outcome(
            np.concatenate(masks) if masks else None,
            found.masks.cpu().numpy(),
            {kind: np.concatenate([part[kind] for part in classes]) for kind in self.heads},
            {kind: found.labels[kind].cpu().numpy() for kind in self.heads},
        )

    # -- prediction ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict_batch(
        self, images: torch.Tensor, *, exact: bool = False
    ) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """Probabilities of mask classes (N, K, S, S) and of each head (N, C), mean over turned views.

        Parameters
        ----------
        images : Tensor, shape (N, 3, S, S), values in [0, 1]
        exact : bool
            In full precision: tiles must fit together.
        """
        self._teacher.eval()
        masks: list[torch.Tensor] = []
        heads: dict[str, list[torch.Tensor]] = {kind: [] for kind in self.heads}
        for number in range(self.config.tta):
            with nullcontext() if exact else self._precision():
                mask, logits = self._teacher(dihedral(images, number))
            if mask is not None:
                mask = mask.float()
                if mask.shape[1] == 1:
                    inside = torch.sigmoid(mask)
                    mask = torch.cat([1 - inside, inside], 1)
                else:
                    mask = mask.softmax(1)
                masks.append(dihedral(mask, number, back=True))
            for kind in self.heads:
                heads[kind].append(logits[kind].float().softmax(1))
        mean = torch.stack(masks).mean(0) if masks else None
        return mean, {kind: torch.stack(parts).mean(0) for kind, parts in heads.items()}

    def slide_um(self, notes: Mapping[str, Any]) -> float | None:
        """Micrometres a pixel: those of the learnt images as the network saw them, all of it at its size."""
        extent = notes.get("extent_um")
        return None if extent is None else float(extent) / self.config.size

    def on_slide(self) -> Method | None:
        """Give what predicts the mask of a slide tile by tile; None if no mask is learnt."""
        return cast(Method, SlideMask(self)) if self._teacher.mask is not None else None

    def predict_image(self, image: Image) -> Prediction:
        """Mask, its uncertainty, and the probability of each class of each head, of a whole image."""
        pixels = torch.from_numpy(resized(image, self.config.size)).to(self.device)
        mask, probs = self.predict_batch(pixels.permute(2, 0, 1)[None].float() / 255)
        rows = [
            {"kind": kind, "class": name, "probability": float(p)}
            for kind in self.heads
            for name, p in zip(self.vocabulary[kind], probs[kind][0].tolist(), strict=True)
        ]
        frame = pd.DataFrame(rows, columns=["kind", "class", "probability"])
        if mask is None:
            return Prediction(image=frame)
        whole = mask[0].cpu().numpy().astype(np.float32)
        entropy = -(whole * np.log(whole.clip(1e-8))).sum(0) / math.log(len(whole))
        return Prediction(mask=whole, pictures={"uncertainty": entropy}, image=frame)

    # -- checkpoint ----------------------------------------------------------------------------------------

    def state(self) -> dict[str, torch.Tensor]:
        """Weights of network and teacher, the balancer's, and the number of updates."""
        return super().state() | {f"memory.{k}": v for k, v in self._memory.state_dict().items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Inverse of `state`."""
        super().load_state(state)
        memory = {k.removeprefix("memory."): v for k, v in state.items() if k.startswith("memory.")}
        if memory:
            self._memory.load_state_dict(memory)
        self._updates = None


class _Memory(nn.Module):
    """What training steps remember besides weights."""

    updates: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("updates", torch.tensor(0))


def _images(samples: Samples) -> ImageSet:
    if not isinstance(samples, ImageSet):
        raise TypeError(f"The Joint U-Net learns from an ImageSet, not from {type(samples).__name__}.")
    return samples


__all__ = ["UNKNOWN", "JointUNetMethod"]
