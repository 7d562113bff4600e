"""Whole images at one size, each with a mask, some classes, both or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_mtssl.images import is_slide
from napari_mtssl.methods.base import MethodError, Samples
from napari_mtssl.methods.labels import labelled_kinds

if TYPE_CHECKING:
    from napari_mtssl.images import Image, ImagePool
    from napari_mtssl.study import Study
    from napari_mtssl.study.records import Split

UNKNOWN = 255  # of a mask's pixels
MASK = "mask"
NO_BACKGROUND = (
    "No mask says where the background is, so every pixel would become '{}': tick 'Mask is complete' for an "
    "image of which all is painted, or paint some background."
)
NOT_LABELLED = "No image to learn from has a label of '{}' yet; label some first."
NO_LABEL = "No image has a mask or a class yet; label some images first."


@dataclass
class ImageSet(Samples):
    """Images and what is known of them, on the device.

    Attributes
    ----------
    images : Tensor of uint8, shape (N, 3, S, S)
    masks : Tensor of uint8, shape (N, S, S)
        Index of the class in the vocabulary's ``mask``; 255 where nobody said anything.
    labels : dict of str to Tensor of int64, shape (N,)
        Index of the class in the vocabulary of each kind; -1 where nobody said anything.
    ids : tuple of int
        Of the images.
    """

    images: torch.Tensor
    masks: torch.Tensor
    labels: dict[str, torch.Tensor]
    ids: tuple[int, ...]
    prints: tuple[int, ...] = ()
    masked: torch.Tensor = field(init=False)
    any: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.masked = (self.masks != UNKNOWN).flatten(1).any(1)
        self.any = self.masked.clone()
        for known in self.labels.values():
            self.any |= known >= 0
        # what is drawn from, read off the device once
        self.labelled_index = torch.nonzero(self.any).flatten()
        self.masked_index = torch.nonzero(self.masked).flatten()
        full = self.masked.clone()
        for known in self.labels.values():
            full &= known >= 0
        self.unlabelled_index = torch.nonzero(~full).flatten()
        self.n_labelled = len(self.labelled_index)
        self.n_unlabelled = len(self.images) - self.n_labelled

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray,
        masks: np.ndarray | None = None,
        labels: Mapping[str, np.ndarray] | None = None,
        device: torch.device | str = "cpu",
        ids: Sequence[int] | None = None,
    ) -> ImageSet:
        """Make a set of arrays.

        Parameters
        ----------
        images : ndarray of uint8, shape (N, S, S, 3)
        masks : ndarray of uint8, shape (N, S, S), optional
        labels : mapping of str to ndarray of int, shape (N,), optional
        device : torch.device
        ids : sequence of int, optional
        """
        count, side = images.shape[:2]
        if masks is None:
            masks = np.full((count, side, side), UNKNOWN, np.uint8)
        return cls(
            torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(device),
            torch.from_numpy(np.ascontiguousarray(masks)).to(device),
            {k: torch.from_numpy(np.asarray(v, np.int64)).to(device) for k, v in (labels or {}).items()},
            tuple(range(count) if ids is None else ids),
            tuple(int(m.astype(np.uint32).sum()) for m in masks),
        )

    def keys(self) -> Mapping[int, Any]:
        """Labelled image to its classes and a fingerprint of its mask."""
        table = {kind: known.tolist() for kind, known in self.labels.items()}
        return {
            self.ids[i]: (*(values[i] for values in table.values()), self.prints[i] if self.prints else 0)
            for i in self.labelled_index.tolist()
        }


def resized(image: Image, size: int) -> np.ndarray:
    """Read a whole image as uint8 (size, size, 3); grey is repeated."""
    pixels = image.resized(size, size)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return np.rint(pixels * 255).astype(np.uint8)


def nearest(codes: np.ndarray, size: int) -> np.ndarray:
    """Pick of a label image (H, W) the pixels nearest to the centres of a grid of `size` x `size`."""
    rows, cols = (_places(side, size) for side in codes.shape)
    return codes[np.ix_(rows, cols)]


def _places(side: int, size: int) -> np.ndarray:
    """Pixels nearest to the centres of `size` equal parts of a side."""
    return np.minimum(((np.arange(size) + 0.5) * side / size).astype(int), side - 1)


def learnable(vocabulary: Mapping[str, Sequence[str]], only: str = "") -> tuple[str, ...]:
    """Kinds of classes that there is something to learn of.

    Raises
    ------
    MethodError
        If there are none, or the one that is wanted is not among them.
    """
    kinds = tuple(kind for kind, names in vocabulary.items() if len(names) > 1)
    if only and only not in kinds:
        raise MethodError(
            f"There is no '{only}' with two classes to learn; choose of: "
            f"{', '.join(kinds) or 'none, add classes first'}."
        )
    if not kinds:
        raise MethodError(
            "There is nothing to learn: add a mask class, or two classes of one kind for whole images."
        )
    return (only,) if only else kinds


def check_images(study: Study, vocabulary: Mapping[str, Sequence[str]], only: str = "") -> None:
    """Say what is missing of the labels to learn from, before any image is read.

    Raises
    ------
    MethodError
        If there is nothing to learn, nothing is labelled, or masks are of one class alone.
    """
    kinds = learnable(vocabulary, only)
    known = labelled_kinds(study) & set(vocabulary)
    if not known:
        raise MethodError(NO_LABEL)
    if not known & set(kinds):
        raise MethodError(NOT_LABELLED.format("', '".join(kinds)))
    if MASK in kinds:
        _check_masks(study, vocabulary[MASK])


def _check_masks(study: Study, names: Sequence[str]) -> None:
    """Say if all that is painted is of one class: a network would see it everywhere."""
    codes = {item.code: item.name for item in study.classes(MASK) if item.name in names}
    painted: set[str] = set()
    for image_id in study.masked_images("train"):
        if study.mask_state(image_id).complete:
            return
        painted |= {
            codes[code] for code, count in study.painted_pixels(image_id).items() if code in codes and count
        }
        if len(painted) > 1:
            return
    if painted:
        raise MethodError(NO_BACKGROUND.format(*painted))


def read_images(
    study: Study,
    pool: ImagePool,
    split: Split | None,
    vocabulary: Mapping[str, Sequence[str]],
    size: int,
    device: torch.device,
    labels: int = 0,
    seed: int = 0,
) -> ImageSet:
    """Read every image of a split, or of all, with what its study says of it.

    Raises
    ------
    MethodError
        If nothing is labelled, or no kind of class has two classes with labels.
    """
    records = study.images(split)
    heads = [kind for kind in vocabulary if kind != MASK]
    known = {kind: np.full(len(records), -1, np.int64) for kind in heads}
    place = {record.id: i for i, record in enumerate(records)}
    frame = study.image_classes(split=split)
    for image_id, kind, name in zip(frame["image_id"], frame["kind"], frame["class"], strict=True):
        if kind in known and name in vocabulary[kind]:  # a class made after training began is not learnt
            known[kind][place[image_id]] = vocabulary[kind].index(name)
    masks = np.full((len(records), size, size), UNKNOWN, np.uint8)
    if MASK in vocabulary:
        names = list(vocabulary[MASK])
        order = {c.code: names.index(c.name) for c in study.classes(MASK) if c.name in names}
        for record in records:
            state = study.mask_state(record.id)
            if state.painted or state.complete:
                masks[place[record.id]] = _mask(study, record.id, order, state.complete, size)
    images = np.zeros((len(records), size, size, 3), np.uint8)
    for i, record in enumerate(records):
        images[i] = resized(pool(record), size)
    if labels:
        keep = draw_labelled(known, (masks != UNKNOWN).any((1, 2)), labels, seed)
        drop = np.setdiff1d(np.arange(len(records)), keep)
        masks[drop] = UNKNOWN
        for values in known.values():
            values[drop] = -1
    found = ImageSet.from_arrays(images, masks, known, device, [record.id for record in records])
    if not found.n_labelled:
        raise MethodError(NO_LABEL)
    return found


def draw_labelled(known: Mapping[str, np.ndarray], masked: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Draw some of the labelled images, such that no class of any kind is rarer than it must be.

    Parameters
    ----------
    known : mapping of str to ndarray of int, shape (N,)
        Class of each image by kind, -1 for none.
    masked : ndarray of bool, shape (N,)
    n, seed : int

    Returns
    -------
    ndarray of int
        Which images keep their labels, in order.
    """
    labelled = masked.copy()
    for values in known.values():
        labelled |= values >= 0
    order = np.random.default_rng(seed).permutation(np.flatnonzero(labelled))
    if n >= len(order):
        return np.sort(order)
    columns = [values[order] for values in known.values() if (values >= 0).any()]
    seen = [np.zeros(int(column.max()) + 1) for column in columns]
    chosen: list[int] = []
    for _ in range(n):
        # worth most is an image of classes that few of those chosen have
        worth = np.zeros(len(order))
        for column, count in zip(columns, seen, strict=True):
            worth += np.where(column >= 0, 1 / (1 + count[np.maximum(column, 0)]), 0)
        worth[chosen] = -1
        best = int(worth.argmax())
        chosen.append(best)
        for column, count in zip(columns, seen, strict=True):
            if column[best] >= 0:
                count[column[best]] += 1
    return np.sort(order[chosen])


def _codes(study: Study, image_id: int, size: int) -> np.ndarray:
    """Codes of a mask at the network's size; of a slide row by row, for all of it would be gigabytes."""
    record = study.image(image_id)
    if not is_slide(record.height, record.width):
        return nearest(study.mask(image_id), size)
    rows, cols = (_places(side, size) for side in (record.height, record.width))
    found = np.zeros((size, size), np.uint16)
    painted = {at for top, _, bottom, _ in study.painted_tiles(image_id) for at in range(top, bottom)}
    for index, row in enumerate(rows.tolist()):
        if row in painted:
            found[index] = study.mask(image_id, (row, 0, row + 1, record.width))[0, cols]
    return found


def _mask(study: Study, image_id: int, order: Mapping[int, int], complete: bool, size: int) -> np.ndarray:
    """Mask of one image as indices into the vocabulary, at the network's size."""
    codes = _codes(study, image_id, size)
    # pixels of a class that is not learnt are of no known class, also where the mask is complete
    out = np.where(codes == 0, 0 if complete else UNKNOWN, UNKNOWN).astype(np.uint8)
    for code, index in order.items():
        out[codes == code] = index
    return out
