"""MultiMix: a mask and a class for whole images from few masks and few classes.

Haque, Imran, Wang, Terzopoulos: MultiMix, sparingly-supervised, extreme multitask learning from medical
images, ISBI 2021. Where paper and released code contradict each other, the configuration says what is done.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from napari_mtssl.learning.precision import half_precision
from napari_mtssl.learning.pseudo_labels import MeanTeacher
from napari_mtssl.learning.radiograph import add_air, move, normalise
from napari_mtssl.learning.saliency import HOW, class_map, evaluating, input_gradient, to_range
from napari_mtssl.methods.base import Method, MethodError, Samples, StepOutput, vocabulary_of
from napari_mtssl.methods.labels import taught
from napari_mtssl.methods.multimix import losses as loss
from napari_mtssl.methods.multimix.batch import Batch, Memory, split
from napari_mtssl.methods.multimix.config import PRESETS, MultiMixConfig
from napari_mtssl.methods.multimix.objective import add_class_losses, add_mask_losses
from napari_mtssl.methods.multimix.reader import check_fields, learnable, read_fields, resized
from napari_mtssl.methods.multimix.refine import refine
from napari_mtssl.methods.multimix.samples import FieldBank, guesses_table
from napari_mtssl.methods.multimix.scores import field_scores
from napari_mtssl.methods.multimix.slide import SlideFields
from napari_mtssl.methods.multimix.views import Views, inside, move_mask
from napari_mtssl.methods.prediction import Prediction, no_image_classes
from napari_mtssl.nets.multimix import Classifier, MultiMixNet

if TYPE_CHECKING:
    from napari_mtssl.images import Image, ImagePool
    from napari_mtssl.methods.config import MethodConfig
    from napari_mtssl.study import Study

AT_ONCE = 16  # images, in prediction
SHOWN = 256  # least side of predicted grids, so that boundaries show no steps


class MultiMix(Method):
    """Masks and classes of whole images by semi-supervised multi-task learning."""

    name: ClassVar[str] = "multimix"
    title: ClassVar[str] = "Lungs (MultiMix)"
    config_class = MultiMixConfig
    kinds: ClassVar[tuple[str, ...]] = ("mask", "image")
    whole_image: ClassVar[bool] = True
    divided: ClassVar[tuple[str, ...]] = ("encode", "classify", "scores", "decode")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    config: MultiMixConfig

    def __init__(
        self, config: MultiMixConfig, vocabulary: Mapping[str, Sequence[str]], device: torch.device
    ) -> None:
        super().__init__(config, vocabulary, device)
        self.mask_classes, self.heads = learnable(self.vocabulary, config)
        torch.manual_seed(config.seed)
        network = MultiMixNet(
            config.channels,
            [len(names) for names in self.heads.values()],
            max(len(self.mask_classes) - 1, 0),
            bridge=config.parts.bridge and bool(self.heads),
            dropout=config.dropout,
        )
        self._network = network.to(device)
        self._teacher = self._network
        self._follow: MeanTeacher | None = None
        if config.ema > 0:
            self._teacher = copy.deepcopy(self._network).eval().requires_grad_(False)
            self._follow = MeanTeacher(self._teacher, self._network, config.ema)
        self._memory = Memory(
            config.channels, [len(names) for names in self.heads.values()], config.alignment
        ).to(device)
        self._updates: int | None = None
        self._views = Views(config)
        self._seen: dict[tuple[int, str], np.ndarray] = {}

    @classmethod
    def vocabulary_of(cls, study: Study) -> dict[str, tuple[str, ...]]:
        """Classes of the kinds that training images have labels of; see `taught`."""
        return taught(study, super().vocabulary_of(study))

    @classmethod
    def check_labels(cls, study: Study, config: MethodConfig) -> None:
        """Say what is missing before anything slow begins; see `Method.check_labels`."""
        assert isinstance(config, MultiMixConfig)
        check_fields(study, vocabulary_of(study, cls.kinds), config)

    # -- training ------------------------------------------------------------------------------------------

    @property
    def network(self) -> MultiMixNet:
        """The network that is optimised."""
        return self._network

    @property
    def teacher(self) -> MultiMixNet:
        """The moving average, or the network itself if there is none."""
        return self._teacher

    def samples(self, study: Study, images: ImagePool, split: Literal["train", "validation"]) -> FieldBank:
        """Read masks, classes and pixels of one split; see `read_fields`."""
        learnt = dict(self.heads)
        if self.mask_classes:
            learnt["mask"] = self.mask_classes
        return read_fields(study, images, split, learnt, self.config, self.device, self._seen)

    def prepare(self, samples: Samples) -> None:
        """Take mean and deviation of the grey values from the first samples seen."""
        bank = _bank(samples)
        if not self._memory.fitted:
            self._memory.fit(bank.pixels(torch.arange(0, len(bank.images), max(1, len(bank.images) // 500))))

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam, or AdamW with weight decay on every kernel."""
        config, parameters = self.config, list(self._network.parameters())
        if config.optimiser_name == "adam":
            return torch.optim.Adam(parameters, config.learning_rate, weight_decay=config.weight_decay)
        kernels, others = ([p for p in parameters if (p.ndim > 1) == kernel] for kernel in (True, False))
        groups = [
            {"params": kernels, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99))

    def learning_rate(self, progress: float) -> float:
        """Rate at `progress` in [0, 1]: a cosine, or a tenth after each third; after the warm-up."""
        config = self.config
        if config.schedule == "steps":
            rate = config.learning_rate * 0.1 ** min(int(progress * 3), 2)
        else:
            rate = super().learning_rate(progress)
        return rate * min(1.0, (progress * config.steps + 1.0) / max(1, config.warmup))

    def step(self, samples: Samples, progress: float, batch_size: int) -> StepOutput:
        """One batch: five streams through the encoder at once, masks of two of them through the decoder.

        References
        ----------
        .. [1] Haque et al., MultiMix, ISBI 2021, Algorithm 1 and Eqs. 1 to 4.
        """
        bank = _bank(samples)
        self._network.train()
        batch = self._draw(bank, batch_size, progress)
        images = [part for part in batch.streams() if part is not None]
        sizes = [len(part) for part in images]
        ramp = min(1.0, progress / self.config.ramp) if self.config.ramp > 0 else 1.0
        output = StepOutput({}, {})
        with half_precision(self.config.precision, self.device):
            features = self._network.encode(torch.cat(images))
            of = dict(zip(batch.names(), split(features, sizes), strict=True))
            add_class_losses(
                output, self._network, bank, batch, of, ramp, self.heads, self._memory, self.config
            )
            add_mask_losses(output, self._network, batch, of, ramp, self._bridge, self.config)
        for name in output.losses:
            output.tasks[name] = "class" if name.startswith("class") else "mask"
        return output

    @property
    def mirrors(self) -> bool:
        """Whether a prediction is averaged with that of the mirror image."""
        return self.config.mirror and self.config.flips

    @property
    def tasks(self) -> tuple[str, ...]:
        """Classes of images and masks, where both are learnt; a balancer may weigh them."""
        return ("class", "mask") if self.heads and self.mask_classes else ()

    @property
    def shared(self) -> Sequence[torch.nn.Parameter]:
        """Last convolution of the encoder, the last layer that both tasks use."""
        kernels = [p for p in self._network.encoder[-1].parameters() if p.ndim == 4]
        return kernels[-1:]

    def after_step(self) -> None:
        """Let the teacher follow the network."""
        if self._updates is None:
            self._updates = int(self._memory.updates)  # once after a start or a resume
        self._updates += 1
        self._memory.updates.fill_(self._updates)
        if self._follow is not None:
            self._follow.update(self._updates)

    def _draw(self, bank: FieldBank, batch_size: int, progress: float) -> Batch:
        """Draw the streams of one step."""
        config, parts = self.config, self.config.parts
        batch = Batch()
        if self.mask_classes and len(bank.masked):
            chosen = bank.draw_masked(batch_size)
            images, grid = self._views.labelled(
                bank.pixels(bank.masked[chosen]), config.labelled_views, progress
            )
            batch.masks = move_mask(bank.masks[chosen].float() / 255, grid)
            batch.seg_labelled = self.normal(add_air(images, 1 - batch.masks[:, :1], config.air))
            batch.known = torch.where(
                inside(grid) > 0, move(bank.known[chosen].float(), grid).round(), torch.ones(1).to(grid)
            )
            if parts.consistency and config.seg_consistency != "none" and len(bank.mask_pool):
                self._draw_unmasked(bank, config.unlabelled_masks or batch_size, batch)
        if self.heads and len(bank.classed):
            count = config.class_batch or batch_size
            batch.classed = bank.draw_classed(count, config.balanced)
            images, _ = self._views.labelled(bank.pixels(batch.classed), config.class_views, progress)
            batch.cls_labelled = self.normal(images)
            if parts.guesses and len(bank.class_pool):
                batch.unclassed = bank.draw_from(bank.class_pool, config.unlabelled_classes or count)
                pixels = bank.pixels(batch.unclassed)
                weak = self._views.weak(pixels)[0]
                strong = self._views.labelled(pixels, config.guess_views, 0.0)[0]
                batch.cls_strong = self.normal(strong)
                if self._teacher is self._network:
                    batch.cls_weak = self.normal(weak)
                else:
                    with torch.no_grad(), half_precision(config.precision, self.device):
                        batch.guessed = [z.softmax(1) for z in self._teacher.scores(self.normal(weak))]
        if not batch.names():
            raise MethodError("There is no label to learn from; paint a mask or give an image its class.")
        return batch

    def _draw_unmasked(self, bank: FieldBank, count: int, batch: Batch) -> None:
        """Images without a mask, and with a teacher its guess of theirs."""
        pixels = bank.pixels(bank.draw_from(bank.mask_pool, count))
        if self.config.seg_consistency != "teacher":
            batch.seg_unlabelled = self.normal(self._views.weak(pixels)[0])
            return
        with torch.no_grad():
            with half_precision(self.config.precision, self.device):
                guess = self._masks_of(self._teacher, self.normal(pixels))
            strong, grid = self._views.strong(pixels)
            batch.guessed_masks, batch.guessed_inside = move_mask(guess, grid), inside(grid)
            batch.seg_unlabelled = self.normal(
                add_air(strong, 1 - batch.guessed_masks[:, :1], self.config.air)
            )

    # -- the network on images -----------------------------------------------------------------------------

    def normal(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise images (N, C, S, S) in [0, 1]: the same for every stream and in prediction."""
        if self.config.normalisation == "dataset":
            return (images - self._memory.mean) / self._memory.std
        return normalise(images, equalise=self.config.normalisation == "equalised")

    def saliency(
        self, images: torch.Tensor, head: int = 0, network: MultiMixNet | None = None
    ) -> torch.Tensor:
        """Absolute input gradient of the greatest raw score, (N, 1, S, S), for normalised images."""
        network = network or self._teacher
        with evaluating(network):
            return input_gradient(lambda pixels: network.scores(pixels)[head], images)

    def _bridge(self, network: MultiMixNet, images: torch.Tensor) -> torch.Tensor | None:
        """Make what the decoder is shown of normalised images, None if it has no bridge."""
        if not network.bridged:
            return None
        if self.config.bridge == "zeros":
            return network.reduce(images, torch.zeros_like(images[:, :1]))
        shown = self.saliency(images, network=network)
        if self.config.saliency_norm == "minmax":
            shown = to_range(shown)
        if self.config.bridge == "shuffled":
            shown = shown.roll(1, 0).flip(2)  # of another image; of a single one, upside down
        return network.reduce(images, shown)

    def _masks_of(self, network: MultiMixNet, images: torch.Tensor) -> torch.Tensor:
        """Mask probabilities (N, K + 1, S, S) of normalised images."""
        return loss.probabilities(network.decode(network.encode(images), self._bridge(network, images)))

    @torch.no_grad()
    def predict_fields(self, images: torch.Tensor) -> tuple[torch.Tensor | None, dict[str, torch.Tensor]]:
        """Mask probabilities and class probabilities of images.

        Parameters
        ----------
        images : Tensor, shape (N, C, S, S), values in [0, 1]

        Returns
        -------
        masks : Tensor, shape (N, K + 1, S, S), or None
        classes : dict of str to Tensor, shape (N, classes)
        """
        self._teacher.eval()
        masks, classes = [], []
        for start in range(0, len(images), AT_ONCE):
            part = images[start : start + AT_ONCE].to(self.device).float()
            views = [part, part.flip(3)] if self.mirrors else [part]
            mask, scores = [], []
            for turned, view in enumerate(views):
                seen = self.normal(view)
                features = self._teacher.encode(seen)
                scores.append([z.softmax(1) for z in self._teacher.classify(features[-1])])
                if self.mask_classes:
                    logits = self._teacher.decode(features, self._bridge(self._teacher, seen))
                    found = loss.probabilities(logits)
                    mask.append(found.flip(3) if turned else found)
            if mask:
                masks.append(torch.stack(mask).mean(0))
            classes.append([torch.stack(each).mean(0) for each in zip(*scores, strict=True)])
        found_classes = {
            kind: torch.cat([part[head] for part in classes]) for head, kind in enumerate(self.heads)
        }
        return (torch.cat(masks) if masks else None), found_classes

    # -- whole images --------------------------------------------------------------------------------------

    def predict_image(self, image: Image) -> Prediction:
        """Masks, their uncertainty, the saliency, and the probability of each class, of a whole image."""
        pixels = self.pixels_of(image)
        masks, classes = self.predict_fields(pixels)
        rows = [
            {"kind": kind, "class": name, "probability": float(p)}
            for kind, probs in classes.items()
            for name, p in zip(self.heads[kind], probs[0].tolist(), strict=True)
        ]
        pictures: dict[str, np.ndarray] = {}
        if self.heads:
            pictures["saliency"] = _enlarged(to_range(self.saliency(self.normal(pixels))))[0]
        mask = None
        if masks is not None:
            refined = refine(masks[0].cpu().numpy(), self.config)
            mask = _enlarged(torch.from_numpy(refined)[None])
            entropy = -(mask * np.log(mask.clip(1e-8))).sum(0) / np.log(len(mask))
            pictures["uncertainty"] = entropy.astype(np.float32)
        frame = pd.DataFrame(rows) if rows else no_image_classes()
        return Prediction(mask=mask, pictures=pictures, image=frame)

    def slide_um(self, notes: Mapping[str, Any]) -> float | None:
        """Micrometres a pixel: those of the learnt images as the network saw them, all of it at its size."""
        extent = notes.get("extent_um")
        return None if extent is None else float(extent) / self.config.size

    def on_slide(self) -> Method | None:
        """Give what predicts the mask of a slide tile by tile; None if no mask is learnt.

        Nor if the decoder was shown the saliency of other images, as a control: a tile has no such image.
        """
        if not self.mask_classes or (self._teacher.bridged and self.config.bridge == "shuffled"):
            return None
        return cast(Method, SlideFields(self))

    def explain(
        self, image: Image, kind: str | None = None, class_name: str | None = None, how: str = "gradient"
    ) -> np.ndarray:
        """Show where in an image the network sees a class.

        Parameters
        ----------
        image : Image
        kind, class_name : str, optional
            By default the first kind of image class, and the class that is most probable.
        how : str
            ``gradient`` (the paper's), ``smooth-gradient`` or ``grad-cam``.

        Returns
        -------
        ndarray of float32, shape (h, w), values in [0, 1]
            Covers the image evenly.

        Raises
        ------
        MethodError
            If there is no such kind, class or way.
        """
        kind = kind or next(iter(self.heads), "")
        if kind not in self.heads or how not in HOW:
            raise MethodError(
                f"There is no map '{how}' of '{kind}'. Choose of {', '.join(HOW)}, "
                f"and of: {', '.join(self.heads) or 'no kind, for no image class is learnt'}."
            )
        head, names = list(self.heads).index(kind), self.heads[kind]
        if class_name is not None and class_name not in names:
            raise MethodError(f"There is no class '{class_name}' of {kind}; choose of: {', '.join(names)}.")
        seen = self.normal(self.pixels_of(image))
        index = None if class_name is None else names.index(class_name)
        return _enlarged(to_range(class_map(Classifier(self._teacher, head), seen, index, how)))[0]

    def pixels_of(self, image: Image) -> torch.Tensor:
        """One image (1, C, S, S) in [0, 1]."""
        pixels = resized(image, self.config)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].to(self.device)

    def describe(self, samples: Samples, pseudo: Mapping[str, torch.Tensor]) -> pd.DataFrame:
        """Guessed classes of whole images; row and col are those of the image's corner."""
        return guesses_table(_bank(samples), pseudo, next(iter(self.heads.values()), ()))

    def evaluate(self, samples: Samples) -> dict[str, float]:
        """Dice of the masks and accuracy of the classes, and their mean first."""
        bank = _bank(samples)
        return field_scores(bank, *self.predict_fields(bank.images))

    # -- checkpoint ----------------------------------------------------------------------------------------

    def state(self) -> dict[str, torch.Tensor]:
        """Weights of network and teacher, and what the steps remember."""
        return super().state() | {f"memory.{k}": v for k, v in self._memory.state_dict().items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Inverse of `state`."""
        super().load_state(state)
        memory = {k.removeprefix("memory."): v for k, v in state.items() if k.startswith("memory.")}
        if memory:
            self._memory.load_state_dict(memory)
        self._updates = None


def _enlarged(maps: torch.Tensor) -> np.ndarray:
    """First of maps (1, K, S, S) as float32 (K, s, s), s at least `SHOWN`."""
    if maps.shape[-1] < SHOWN:
        maps = F.interpolate(maps, size=(SHOWN, SHOWN), mode="bilinear", align_corners=False)
    return maps[0].float().cpu().numpy()


def _bank(samples: Samples) -> FieldBank:
    """Check that these are whole images."""
    if not isinstance(samples, FieldBank):
        raise TypeError(f"MultiMix learns from a FieldBank, not from {type(samples).__name__}.")
    return samples
