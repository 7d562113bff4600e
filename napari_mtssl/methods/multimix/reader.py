"""From a study to a `FieldBank`: masks, image classes and pixels of one split, resized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_mtssl.methods.base import MethodError, draw_labels
from napari_mtssl.methods.multimix.config import MultiMixConfig
from napari_mtssl.methods.multimix.samples import FieldBank, shares

if TYPE_CHECKING:
    from napari_mtssl.images import Image, ImagePool
    from napari_mtssl.study import Study
    from napari_mtssl.study.records import ImageRecord, Split

BAND = 1024  # rows of a mask that are read at once
NOT_OF_IMAGES = ("cell", "block", "mask")
NO_LABEL = "No image has a mask or a class yet; paint a mask or give some images their class."
ONE_CLASS = "All labelled images have the same class; label some of another class, too."
ONLY = (
    "All that is painted is {0}: the network must see what is not, too. Tick 'Mask is complete' where what "
    "is not painted is background, or paint some background."
)
BARE = (
    "No mask has any {0}: paint it on some images, or take the mark 'Mask is complete' away where the mask "
    "is not done."
)
FINE = 4  # a mask is read with so many pixels along each pixel of the result, at least


def learnable(
    vocabulary: Mapping[str, tuple[str, ...]], config: MultiMixConfig
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Classes of masks, and of each kind of whole images, that there is something to learn of.

    Raises
    ------
    MethodError
        If there are none.
    """
    mask = vocabulary.get("mask", ())
    mask_classes = mask if len(mask) > 1 and config.parts.masks else ()
    heads = {
        kind: names
        for kind, names in vocabulary.items()
        if kind not in NOT_OF_IMAGES and len(names) > 1 and config.parts.classes
    }
    if not mask_classes and not heads:
        raise MethodError(
            "There is nothing to learn: add a mask class, or two classes that a whole image can have."
        )
    return mask_classes, heads


def check_fields(study: Study, vocabulary: Mapping[str, tuple[str, ...]], config: MultiMixConfig) -> None:
    """Say what is missing of the labels to learn from, before any image is read.

    Raises
    ------
    MethodError
        If there is nothing to learn, or as `read_fields`.
    """
    mask_classes, _ = learnable(vocabulary, config)
    masked = study.masked_images("train") if mask_classes else []
    if masked:
        _check_masks(study, masked, mask_classes)
        return
    said = study.image_classes(split="train")
    said = said[said["kind"].isin(list(vocabulary))]
    if not len(said):
        raise MethodError(NO_LABEL)
    if said.groupby("kind")["class"].nunique().max() < 2:
        raise MethodError(ONE_CLASS)


def _check_masks(study: Study, masked: Sequence[int], names: Sequence[str]) -> None:
    """Refuse masks that all say the same, of which a network would learn to say that everywhere."""
    names_of = {item.code: item.name for item in study.classes("mask")}
    said: set[str] = set()
    for image_id in masked:
        painted = study.painted_pixels(image_id)
        said |= {names_of[code] for code in painted if code in names_of}
        record = study.image(image_id)
        if study.mask_state(image_id).complete and sum(painted.values()) < record.height * record.width:
            said.add(names[0])
        if len(said) > 1:
            return
    if not said:
        raise MethodError(NO_LABEL)
    if said == {names[0]}:
        raise MethodError(BARE.format(" or ".join(names[1:])))
    raise MethodError(ONLY.format(*said))


def read_fields(
    study: Study,
    pool: ImagePool,
    split: Split,
    vocabulary: Mapping[str, Sequence[str]],
    config: MultiMixConfig,
    device: torch.device,
    seen: dict[tuple[int, str], np.ndarray],
) -> FieldBank:
    """Read every image of a split with what its study says of it.

    Parameters
    ----------
    vocabulary : mapping of str to sequence of str
        ``mask`` with the background first, and every kind of image class that is learnt.
    seen : dict
        Resized images by id and path, from earlier calls; what is read now is added, so that labels that
        change in the midst of training do not cost another look at every file.

    Raises
    ------
    MethodError
        If no image has a mask or a class, or there are only classes, and of each kind a single one.
    """
    records = _chosen(study, split, set(vocabulary), config)
    place = {record.id: index for index, record in enumerate(records)}
    classes = _classes(study, split, vocabulary, place, config)
    masks = _masks(study, records, vocabulary.get("mask", ()), place, config)
    kinds_of = [len({c for c in index if c >= 0}) for index in classes.values()]
    if not masks and not any(kinds_of):
        raise MethodError(NO_LABEL)
    if split == "train" and not masks and max(kinds_of) < 2:
        raise MethodError(ONE_CLASS)
    for record in records:
        if (record.id, str(record.path)) not in seen:
            seen[record.id, str(record.path)] = resized(pool(record), config).astype(np.float16)
    return FieldBank.from_arrays(
        np.stack([seen[record.id, str(record.path)] for record in records]),
        {index: covered for index, (covered, _) in masks.items()},
        classes,
        known={index: known for index, (_, known) in masks.items()},
        image_ids=[record.id for record in records],
        foreign=study.foreign_images(split),
        mask_classes=max(len(vocabulary.get("mask", ())), 1),
        device=device,
    )


def _chosen(study: Study, split: Split, kinds: set[str], config: MultiMixConfig) -> list[ImageRecord]:
    """Take every image with a label, and of the others to learn from as many as the pool may have."""
    records = study.images(split)
    frame = study.image_classes(split=split)
    labelled = set(frame["image_id"][frame["kind"].isin(kinds)]) | set(study.masked_images(split))
    others = [record.id for record in records if record.id not in labelled]
    order = np.random.default_rng(config.seed).permutation(len(others))
    order = order[: config.pool if split == "train" else 0]
    kept = labelled | {others[index] for index in order}
    return [record for record in records if record.id in kept]


def resized(image: Image, config: MultiMixConfig) -> np.ndarray:
    """Read a whole image as the network sees it: float32 (S, S) or (S, S, 3)."""
    pixels = image.resized(config.size, config.size)
    if config.colour == "grey":
        return pixels if pixels.ndim == 2 else pixels.mean(axis=-1)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)


def _classes(
    study: Study,
    split: Split,
    vocabulary: Mapping[str, Sequence[str]],
    place: Mapping[int, int],
    config: MultiMixConfig,
) -> dict[str, list[int]]:
    """Class index of each image by kind, -1 where unknown."""
    found = {kind: [-1] * len(place) for kind in vocabulary if kind != "mask"}
    frame = study.image_classes(split=split)
    frame = frame[frame["kind"].isin(list(found))]
    for kind, group in frame.groupby("kind"):
        for row in draw_labels(group, config.labels, config.seed).itertuples():
            name = row[frame.columns.get_loc("class") + 1]
            if name in vocabulary[str(kind)]:  # a class made after training began is not learnt
                found[str(kind)][place[int(row.image_id)]] = list(vocabulary[str(kind)]).index(name)
    return found


def _masks(
    study: Study,
    records: Sequence[ImageRecord],
    names: Sequence[str],
    place: Mapping[int, int],
    config: MultiMixConfig,
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Covered shares and known pixels of each image with a mask."""
    if len(names) < 2:
        return {}
    codes = {item.name: item.code for item in study.classes("mask")}
    order = [codes[name] for name in names if name in codes]
    painted = [record for record in records if _has_mask(study, record.id)]
    if config.labels and config.labels < len(painted):
        chosen = np.random.default_rng(config.seed).permutation(len(painted))[: config.labels]
        painted = [painted[index] for index in sorted(chosen)]
    found = {}
    for record in painted:
        said = _coarse(study, record, config.size * FINE)
        if study.mask_state(record.id).complete:
            said[said == 0] = order[0]
        else:
            said[said == 0] = -1
        covered, known = shares(said, order, config.size)
        if known.any():
            found[place[record.id]] = covered, known
    return found


def _has_mask(study: Study, image_id: int) -> bool:
    """Whether somebody said something about an image's pixels."""
    state = study.mask_state(image_id)
    return state.painted or state.complete


def _coarse(study: Study, record: ImageRecord, side: int) -> np.ndarray:
    """Codes of a mask, of large images only every so many pixels: int32."""
    step = max(min(record.height, record.width) // side, 1)
    band = max(BAND // step, 1) * step
    parts = []
    for top in range(0, record.height, band):
        box = (top, 0, min(top + band, record.height), record.width)
        parts.append(study.mask(record.id, box)[step // 2 :: step, step // 2 :: step])
    return np.concatenate(parts).astype(np.int32)
