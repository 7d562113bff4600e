"""MultiMix's losses: classes given and guessed (Eqs. 1, 2), masks given and kept consistent (Eqs. 3, 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch.nn import functional as F

from napari_mtssl.learning.pseudo_labels import hard_threshold
from napari_mtssl.methods.contract import StepOutput
from napari_mtssl.methods.multimix import losses as loss
from napari_mtssl.methods.multimix.batch import Batch, Memory, known_cross_entropy, shares_of
from napari_mtssl.methods.multimix.config import MultiMixConfig
from napari_mtssl.methods.multimix.samples import FieldBank
from napari_mtssl.nets.multimix import MultiMixNet

Features = Mapping[str, list[torch.Tensor]]  # by stream: features at each level


def add_class_losses(
    output: StepOutput,
    network: MultiMixNet,
    bank: FieldBank,
    batch: Batch,
    of: Features,
    ramp: float,
    heads: Mapping[str, Sequence[str]],
    memory: Memory,
    config: MultiMixConfig,
) -> None:
    """Cross-entropy with the labels, and with confident guesses."""
    if batch.cls_labelled is None or batch.classed is None:
        return
    scores = network.classify(of["cls_labelled"][-1])
    terms = [
        known_cross_entropy(z, bank.classes[kind][batch.classed])
        for kind, z in zip(heads, scores, strict=True)
    ]
    output.losses["class"], output.weights["class"] = torch.stack(terms).mean(), 1.0
    if batch.cls_strong is None or batch.unclassed is None:
        return
    guesses = batch.guessed
    if guesses is None:
        guesses = [z.detach().softmax(1) for z in network.classify(of["cls_weak"][-1])]
    strong = network.classify(of["cls_strong"][-1])
    terms = []
    for head, (kind, z) in enumerate(zip(heads, strong, strict=True)):
        target = shares_of(bank.classes[kind], len(heads[kind])) if not config.balanced else None
        probs = memory.aligned(head, guesses[head], target)
        trust = _trust(memory, head, probs, config)
        terms.append((trust * F.cross_entropy(z, probs.argmax(1), reduction="none")).mean())
    output.losses["class_guess"] = torch.stack(terms).mean()
    output.weights["class_guess"] = ramp * config.guess_weight
    output.pseudo |= {"index": batch.unclassed, "probs": guesses[0]}


def _trust(memory: Memory, head: int, probs: torch.Tensor, config: MultiMixConfig) -> torch.Tensor:
    """How much each guess (N, C) counts: (N,)."""
    if config.targets == "soft":
        return memory.trust[head](probs)
    return hard_threshold(probs, config.threshold)


def add_mask_losses(
    output: StepOutput,
    network: MultiMixNet,
    batch: Batch,
    of: Features,
    ramp: float,
    bridge: Callable[[MultiMixNet, torch.Tensor], torch.Tensor | None],
    config: MultiMixConfig,
) -> None:
    """Dice with the masks, and the consistency of images without one."""
    if batch.seg_labelled is None or batch.masks is None or batch.known is None:
        return
    losses, weights = output.losses, output.weights
    images = [part for part in (batch.seg_labelled, batch.seg_unlabelled) if part is not None]
    names = ["seg_labelled", "seg_unlabelled"][: len(images)]
    features = [torch.cat(level) for level in zip(*(of[name] for name in names), strict=True)]
    logits = network.decode(features, bridge(network, torch.cat(images)))
    labelled = logits[: len(batch.seg_labelled)]
    probs = loss.probabilities(labelled)
    losses["mask"] = loss.dice_loss(probs[:, 1:], batch.masks[:, 1:], batch.known)
    weights["mask"] = config.mask_weight
    if config.pixel_weight:
        losses["pixel"] = loss.mask_cross_entropy(labelled, batch.masks, batch.known)
        weights["pixel"] = config.mask_weight * config.pixel_weight
    if batch.seg_unlabelled is None:
        return
    free = logits[len(batch.seg_labelled) :]
    if batch.guessed_masks is not None and batch.guessed_inside is not None:
        term = loss.teacher_consistency(free, batch.guessed_masks, batch.guessed_inside, config.confidence)
    else:
        kind = loss.paper_consistency if config.seg_consistency == "paper" else loss.area_consistency
        term = kind(probs[:, 1:], loss.probabilities(free)[:, 1:])
    losses["mask_guess"], weights["mask_guess"] = term, ramp * config.consistency_weight
