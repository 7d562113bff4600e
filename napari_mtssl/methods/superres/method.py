"""Label super-resolution: exact outlines learnt from blocks whose content is known only as a share.

Label super resolution with inter-instance loss, 2019, after Malkin et al., Label super-resolution networks,
ICLR 2019. Where the paper is silent, the configuration says what is done.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from napari_mtssl.learning.augment import ColourRange, jitter_colour
from napari_mtssl.learning.precision import half_precision
from napari_mtssl.learning.pseudo_labels import MeanTeacher
from napari_mtssl.methods.base import Geometry, Method, MethodError, Prediction, Samples, StepOutput
from napari_mtssl.methods.superres import scores
from napari_mtssl.methods.superres.bank import BlockBank, Crops, gain_for
from napari_mtssl.methods.superres.config import PRESETS, SuperResConfig
from napari_mtssl.methods.superres.counts import MemoryBank, count
from napari_mtssl.methods.superres.groups import GroupSampler
from napari_mtssl.methods.superres.objective import Objective
from napari_mtssl.methods.superres.reader import BankReader, check_blocks, check_exact
from napari_mtssl.nets.unet import UNet

if TYPE_CHECKING:
    from napari_mtssl.images import ImagePool
    from napari_mtssl.methods.config import MethodConfig
    from napari_mtssl.study import Study


class SuperRes(Method):
    """Segmentation by label super-resolution."""

    name: ClassVar[str] = "superres"
    title: ClassVar[str] = "Tissue (label super-resolution)"
    config_class = SuperResConfig
    kinds: ClassVar[tuple[str, ...]] = ("block", "mask")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    config: SuperResConfig

    def __init__(
        self, config: SuperResConfig, vocabulary: Mapping[str, Sequence[str]], device: torch.device
    ) -> None:
        super().__init__(config, vocabulary, device)
        self.block_classes = self.vocabulary.get("block", ())
        self.mask_classes = self.vocabulary.get("mask", ())
        check_exact(self.mask_classes)
        torch.manual_seed(config.seed)
        network = UNet(
            len(self.mask_classes), [int(width) for width in config.widths.split("-")], stem=config.stem
        )
        if config.crop % network.align:
            raise MethodError(
                f"A crop of {config.crop} pixels does not suit: take a multiple of {network.align}."
            )
        self._network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._teacher = self._network
        self._follow: MeanTeacher | None = None
        if config.ema > 0:
            self._teacher = copy.deepcopy(self._network).eval().requires_grad_(False)
            self._follow = MeanTeacher(self._teacher, self._network, config.ema)
        self._memory = _Memory(len(self.block_classes), len(self.mask_classes), config.memory).to(device)
        self._reader = BankReader(config, self.block_classes, self.mask_classes, device)
        self._objective = Objective(config)
        self._colour = ColourRange(config.stain, config.contrast, config.brightness, config.blur)

    @classmethod
    def check_labels(cls, study: Study, config: MethodConfig) -> None:
        """Say what is missing before anything slow begins; see `Method.check_labels`."""
        assert isinstance(config, SuperResConfig)
        vocabulary = cls.vocabulary_of(study)
        check_blocks(study, vocabulary.get("block", ()), vocabulary.get("mask", ()), "train")

    # -- training ------------------------------------------------------------------------------------------

    @property
    def network(self) -> UNet:
        """The network that is optimised."""
        return self._network

    @property
    def teacher(self) -> UNet:
        """The moving average, or the network itself if there is none."""
        return self._teacher

    def samples(self, study: Study, images: ImagePool, split: Literal["train", "validation"]) -> BlockBank:
        """Read the blocks, regions and paint of one split; see `BankReader.read`."""
        return self._reader.read(study, images, split, self.downsample or None)

    def prepare(self, samples: Samples) -> None:
        """Take resolution and normalisation from the first samples seen; later ones leave them."""
        bank = _bank(samples)
        if self._network.fitted:
            return
        self._memory.downsample.fill_(bank.downsample)
        pixels = bank.pixels()
        self._memory.gain.fill_(gain_for(pixels))
        for network in {self._network, self._teacher}:
            network.normalise_with(self._lit(pixels))

    @property
    def downsample(self) -> int:
        """Level-0 pixels to a pixel of the network; 0 before the first samples are seen."""
        return int(self._memory.downsample)

    def _lit(self, images: torch.Tensor) -> torch.Tensor:
        """Images in [0, 1] as bright as those that were learnt from are after `gain_for`."""
        gain = float(self._memory.gain)
        return images if gain == 1.0 else (images * gain).clamp_max(1.0)

    def optimiser(self) -> torch.optim.Optimizer:
        """RMSprop (the paper), or AdamW with weight decay on every kernel."""
        config = self.config
        if config.optimiser_name == "rmsprop":
            return torch.optim.RMSprop(
                self._network.parameters(), config.learning_rate, alpha=0.95, weight_decay=config.weight_decay
            )
        kernels = [p for p in self._network.parameters() if p.ndim > 1]
        others = [p for p in self._network.parameters() if p.ndim <= 1]
        groups = [
            {"params": kernels, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99))

    def learning_rate(self, progress: float) -> float:
        """Linear warm-up, then half a cosine down to the final rate, at `progress` in [0, 1]."""
        config = self.config
        low = config.learning_rate * config.final_rate
        rate = low + 0.5 * (config.learning_rate - low) * (1.0 + float(np.cos(np.pi * min(progress, 1.0))))
        return rate * min(1.0, (progress * config.steps + 1.0) / max(1, config.warmup))

    def step(self, samples: Samples, progress: float, batch_size: int) -> StepOutput:
        """One batch: draw crops, predict, match the statistics, and learn from guesses and paint."""
        bank = _bank(samples)
        bank.advance(round(progress * self.config.steps))
        crops = self._draw(bank, batch_size)
        self._network.train()
        precision = self.config.precision, self.device
        with half_precision(*precision):
            logits = self._network(jitter_colour(crops.images, self._colour)).float()
        guess = None
        if self._objective.wants_guesses(progress):
            with torch.no_grad(), half_precision(*precision):
                self._teacher.eval()
                guess = self._teacher(crops.images).float()
                self._network.train()
        losses, weights = self._objective(
            logits, guess, crops, bank.eta, bank.rho, self._memory.bank, progress
        )
        tasks = {"statistics": "coarse", "blocks": "coarse", "exact": "exact"}
        return StepOutput(losses, weights, {}, {name: tasks[name] for name in losses if name in tasks})

    @property
    def tasks(self) -> tuple[str, ...]:
        """What blocks say and what paint says; a balancer may weigh them where there is both."""
        return ("coarse", "exact")

    @property
    def shared(self) -> Sequence[torch.nn.Parameter]:
        """The last layer, which all losses share."""
        return [self._network.head.weight]

    def _draw(self, bank: BlockBank, batch_size: int) -> Crops:
        """Crops with blocks, and where somebody painted some there too."""
        size, parts = self.config.crop, []
        if len(bank.coarse):
            if self.config.sampler == "groups":
                groups = max(1, batch_size // self.config.group)
                blocks = GroupSampler(bank.coarse, self.config.group, groups)()
            else:
                blocks = torch.randint(0, len(bank.coarse), (batch_size,))
            parts.append(bank.around(blocks, size))
        # Where every field is painted, crops around blocks hold paint enough.
        if self.config.exact_weight > 0 and 0 < len(bank.painted) < len(bank.fields):
            parts.append(bank.around_paint(max(1, batch_size // 4), size))
        elif not parts:
            parts.append(bank.around_paint(batch_size, size))
        crops = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        return replace(crops, images=self._lit(crops.images))

    def after_step(self) -> None:
        """Let the teacher follow the network."""
        self._memory.updates += 1
        if self._follow is not None:
            self._follow.update(int(self._memory.updates))

    def describe(self, samples: Samples, pseudo: Mapping[str, torch.Tensor]) -> pd.DataFrame:
        """Nothing: guesses are of pixels, not of places."""
        return pd.DataFrame({name: [] for name in ("image_id", "row", "col", "class", "confidence")})

    @torch.no_grad()
    def evaluate(self, samples: Samples) -> dict[str, float]:
        """Dice where pixels are painted, and how near the teacher counts to what blocks say."""
        bank = _bank(samples)
        tally = scores.Tally(len(self.mask_classes))
        for field in bank.fields:
            probs = self.probabilities(field.pixels)[0]
            tally.add(probs, field, count(probs[None], field.ids[None], len(bank.coarse)), bank)
        return tally.scores()

    # -- prediction ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def probabilities(self, pixels: torch.Tensor) -> torch.Tensor:
        """Probabilities (1, L, h, w) for pixels (3, h, w) at the network's resolution, of any size."""
        unit = (pixels.float() / 255.0 if pixels.dtype == torch.uint8 else pixels.float())[None]
        height, width = unit.shape[-2:]
        align = self._network.align
        grown = F.pad(unit, (0, -width % align, 0, -height % align), mode="replicate").to(self.device)
        return self._viewed(grown)[..., :height, :width]

    def _viewed(self, image: torch.Tensor) -> torch.Tensor:
        """Mean probability over mirrored and turned views of an image (1, 3, H, W)."""
        self._teacher.eval()
        image = self._lit(image)
        total = torch.zeros(())
        for number in range(self.config.views):
            flips = [-1] * (number & 1) + [-2] * (number >> 1 & 1)
            turn = number >> 2 & 1
            view = image.transpose(-1, -2) if turn else image
            probs = self._teacher(view.flip(flips)).float().softmax(1).flip(flips)
            total = total + (probs.transpose(-1, -2) if turn else probs)
        return total / self.config.views

    @property
    def geometry(self) -> Geometry:
        """One output for each pixel of the network, tiles on the grid that it pools on."""
        step = max(self.downsample, 1)
        net = self._network
        return Geometry(stride=step, halo=net.reach * step, window=step, margin=0, align=net.align * step)

    @torch.no_grad()
    def predict(self, tile: torch.Tensor) -> dict[str, torch.Tensor]:
        """``probs`` (1, L, h, w) of the exact classes."""
        step, reach = max(self.downsample, 1), self._network.reach
        probs = self._viewed(F.avg_pool2d(tile, step) if step > 1 else tile)
        return {"probs": probs[..., reach:-reach, reach:-reach]}

    def decode(self, maps: Mapping[str, np.ndarray], box: tuple[int, int, int, int]) -> Prediction:
        """Give the probabilities as a mask, and the picture ``uncertainty``: their entropy, 1 at most."""
        probs = np.asarray(maps["probs"], np.float32)
        entropy = -(probs * np.log(np.maximum(probs, 1e-9))).sum(0) / np.log(len(probs))
        return Prediction(mask=probs, pictures={"uncertainty": entropy.astype(np.float32)})

    # -- checkpoint ----------------------------------------------------------------------------------------

    def state(self) -> dict[str, torch.Tensor]:
        """Weights of network and teacher, and what the steps remember."""
        return super().state() | {f"memory.{k}": v for k, v in self._memory.state_dict().items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Inverse of `state`."""
        super().load_state(state)
        memory = {k.removeprefix("memory."): v for k, v in state.items() if k.startswith("memory.")}
        if memory:
            # runs of before the gain was kept have none, and need none
            self._memory.load_state_dict({"gain": torch.tensor(1.0)} | memory)


class _Memory(nn.Module):
    """What a run remembers besides weights."""

    updates: torch.Tensor
    downsample: torch.Tensor
    gain: torch.Tensor

    def __init__(self, coarse: int, classes: int, size: int) -> None:
        super().__init__()
        self.bank = MemoryBank(max(coarse, 1), classes, size)
        self.register_buffer("updates", torch.tensor(0))
        self.register_buffer("downsample", torch.tensor(0))
        self.register_buffer("gain", torch.tensor(1.0))


def _bank(samples: Samples) -> BlockBank:
    if not isinstance(samples, BlockBank):
        raise TypeError(f"Label super-resolution learns from a BlockBank, not from {type(samples).__name__}.")
    return samples
