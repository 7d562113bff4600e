"""Whole images with masks and classes, resized once and resident on the device."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from napari_mtssl.methods.base import MethodError, Samples


@dataclass
class FieldBank(Samples):
    """Images at one size, some with a mask, some with classes, some with neither.

    Attributes
    ----------
    images : Tensor, shape (N, C, S, S), float16, values in [0, 1]
    masked : Tensor, shape (M,), int64
        Which of the images have a mask.
    masks : Tensor, shape (M, K + 1, S, S), uint8
        Share of each pixel that each class covers, 255 for all of it; the background first.
    known : Tensor, shape (M, 1, S, S), bool
        Where somebody said something.
    classes : dict of str to Tensor, shape (N,), int64
        Class index of each image by kind; -1 where nobody said anything.
    mask_pool, class_pool : Tensor, int64
        Images without a mask, and without a class, that guesses are made for.
    image_ids : Tensor, shape (N,), int64
        Identity in the study.
    foreign : Tensor, shape (N,), bool
        Whether an image comes from elsewhere than all images to learn from: scored apart.
    """

    images: torch.Tensor
    masked: torch.Tensor
    masks: torch.Tensor
    known: torch.Tensor
    classes: dict[str, torch.Tensor]
    mask_pool: torch.Tensor
    class_pool: torch.Tensor
    image_ids: torch.Tensor
    foreign: torch.Tensor
    by_class: dict[str, list[torch.Tensor]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for kind, index in self.classes.items():
            there = [int(c) for c in index.unique() if c >= 0]
            self.by_class[kind] = [torch.nonzero(index == c)[:, 0] for c in there]

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray,
        masks: Mapping[int, np.ndarray],
        classes: Mapping[str, Sequence[int]],
        *,
        class_pool: Sequence[int] | None = None,
        known: Mapping[int, np.ndarray] | None = None,
        image_ids: Sequence[int] | None = None,
        foreign: Collection[int] = (),
        mask_classes: int = 2,
        device: torch.device | str = "cpu",
    ) -> FieldBank:
        """Make a bank of images that are resized already.

        Parameters
        ----------
        images : ndarray, shape (N, S, S) or (N, S, S, 3), float, values in [0, 1]
        masks : mapping of int to ndarray, shape (K + 1, S, S), values in [0, 1]
            By position in `images`: share of each pixel that each class covers.
        classes : mapping of str to sequence of int, each of length N
            Class index by kind; -1 where unknown.
        class_pool : sequence of int, optional
            Positions of images that classes are guessed for; by default all without one.
        known : mapping of int to ndarray, shape (S, S), bool, optional
            Where a mask says something; by default everywhere.
        image_ids : sequence of int, optional
        foreign : collection of int
            Ids of images from elsewhere than all images to learn from.
        mask_classes : int
            With the background.
        device : torch.device or str

        Raises
        ------
        MethodError
            If lengths differ.
        """
        images = images[..., None] if images.ndim == 3 else images
        if any(len(index) != len(images) for index in classes.values()):
            raise MethodError("There must be one class index, or -1, for each image.")
        size = images.shape[1]
        index = np.array(sorted(masks), dtype=np.int64)
        covered, said = _stacked(masks, known or {}, mask_classes, size)
        table = {
            kind: torch.as_tensor(np.asarray(c, dtype=np.int64), device=device) for kind, c in classes.items()
        }
        without = np.setdiff1d(np.arange(len(images)), index)
        if class_pool is None:
            nowhere = np.ones(len(images), bool)
            for c in classes.values():
                nowhere &= np.asarray(c) < 0
            class_pool = np.flatnonzero(nowhere).tolist()
        pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float16))
        ids = np.arange(len(images)) if image_ids is None else np.asarray(image_ids)
        return cls(
            images=pixels.to(device),
            masked=torch.as_tensor(index, device=device),
            masks=torch.from_numpy(covered).to(device),
            known=torch.from_numpy(said).to(device),
            classes=table,
            mask_pool=torch.as_tensor(without, device=device),
            class_pool=torch.as_tensor(np.asarray(class_pool, dtype=np.int64), device=device),
            image_ids=torch.as_tensor(ids.astype(np.int64), device=device),
            foreign=torch.as_tensor(np.isin(ids, list(foreign)), device=device),
        )

    @property
    def classed(self) -> torch.Tensor:
        """Positions of images with a class of any kind."""
        found = torch.zeros(len(self.images), dtype=torch.bool, device=self.images.device)
        for index in self.classes.values():
            found |= index >= 0
        return torch.nonzero(found)[:, 0]

    @property
    def n_labelled(self) -> int:  # type: ignore[override]
        """Images with a mask or a class."""
        return len(set(self.masked.tolist()) | set(self.classed.tolist()))

    @property
    def n_unlabelled(self) -> int:  # type: ignore[override]
        """Images that lack a mask or a class, and that guesses are made for."""
        return len(set(self.mask_pool.tolist()) | set(self.class_pool.tolist()))

    def keys(self) -> Mapping[int, Any]:
        """Image id to its class indices and a checksum of its mask."""
        sums = {
            int(image): zlib.crc32(mask.cpu().numpy().tobytes(), zlib.crc32(said.cpu().numpy().tobytes()))
            for image, mask, said in zip(self.masked, self.masks, self.known, strict=True)
        }
        classes = {kind: index.tolist() for kind, index in self.classes.items()}
        found = sorted(set(sums) | set(self.classed.tolist()))
        ids = self.image_ids.tolist()
        return {ids[i]: (sums.get(i), *(index[i] for index in classes.values())) for i in found}

    def draw_masked(self, count: int) -> torch.Tensor:
        """Positions in `masked`: without repetition while there are enough."""
        return _draw(len(self.masked), count, self.images.device)

    def draw_classed(self, count: int, balanced: bool) -> torch.Tensor:
        """Positions of images with a class."""
        groups = [group for by in self.by_class.values() for group in by]
        if not balanced or len(groups) < 2:
            chosen = self.classed
            return chosen[_draw(len(chosen), count, chosen.device)]
        turns = torch.randperm(len(groups)).tolist()
        parts = []
        for turn, group in enumerate(turns):
            share = count // len(groups) + (turn < count % len(groups))
            members = groups[group]
            parts.append(members[_draw(len(members), share, members.device)])
        return torch.cat(parts)

    @staticmethod
    def draw_from(pool: torch.Tensor, count: int) -> torch.Tensor:
        """Members of a pool."""
        return pool[_draw(len(pool), count, pool.device)]

    def pixels(self, index: torch.Tensor) -> torch.Tensor:
        """Images (n, C, S, S), float32 in [0, 1]."""
        return self.images[index].float()


def _stacked(
    masks: Mapping[int, np.ndarray], known: Mapping[int, np.ndarray], classes: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Masks (M, K + 1, S, S) in steps of 1/255, and where they say something (M, 1, S, S), by image."""
    covered = np.zeros((len(masks), classes, size, size), np.uint8)
    said = np.ones((len(masks), 1, size, size), bool)
    for place, image in enumerate(sorted(masks)):
        covered[place] = np.rint(masks[image] * 255)
        if image in known:
            said[place, 0] = known[image]
    return covered, said


def _draw(available: int, count: int, device: torch.device) -> torch.Tensor:
    """`count` numbers below `available`, each as often as the others, give or take one."""
    rounds = max(-(-count // available), 1)
    order = torch.cat([torch.randperm(available) for _ in range(rounds)])
    return order[:count].to(device)


def shares(codes: np.ndarray, names: Sequence[int], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Share of each pixel that each class covers, at another size.

    Parameters
    ----------
    codes : ndarray, shape (h, w), int
        Class of each pixel; -1 where nobody said anything.
    names : sequence of int
        Codes of the classes, the background's first.
    size : int

    Returns
    -------
    covered : ndarray, shape (len(names), size, size), float32
    known : ndarray, shape (size, size), bool
    """
    import PIL.Image

    planes = [_resize((codes == code).astype(np.float32), size, PIL.Image.Resampling.BOX) for code in names]
    covered = np.stack(planes)
    total = covered.sum(0)
    known = total > 0.5
    covered = covered / np.maximum(total, 1e-6)
    covered[0, ~known] = 1.0
    return covered, known


def _resize(plane: np.ndarray, size: int, how: Any) -> np.ndarray:
    """Resize one float plane."""
    import PIL.Image

    return np.asarray(PIL.Image.fromarray(plane).resize((size, size), how), dtype=np.float32)


def guesses_table(bank: FieldBank, pseudo: Mapping[str, torch.Tensor], names: Sequence[str]) -> pd.DataFrame:
    """Guessed classes of whole images as ``image_id, row, col, class, confidence``; row and col are 0."""
    if not pseudo:
        return pd.DataFrame({name: [] for name in ("image_id", "row", "col", "class", "confidence")})
    probs = pseudo["probs"].cpu().numpy()
    return pd.DataFrame(
        {
            "image_id": bank.image_ids[pseudo["index"]].cpu().numpy(),
            "row": 0.0,
            "col": 0.0,
            "class": np.asarray(names, dtype=object)[probs.argmax(1)],
            "confidence": probs.max(1).astype(float),
        }
    )
