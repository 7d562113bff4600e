"""Glands cut into blocks: what each row of the Tissue table learns from, and what it is scored on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from napari_mtssl.evaluation.glas import GlandImage
from napari_mtssl.methods.superres.bank import UNKNOWN, BlockBank, Field, padded
from napari_mtssl.methods.superres.patches import PatchClassifier, as_patches
from napari_mtssl.methods.superres.statistics import (
    as_arrays,
    bin_names,
    default_statistics,
    measured_statistics,
    to_bins,
)

CLASSES = ("stroma", "gland")
BINS = bin_names()
LEAST = 0.5  # of a block must lie in the image, else nobody would label it
EXAMINED = 12  # blocks of each coarse class that an expert looks at, as in the paper
PIXELS_EACH = 100  # of each block, for the random forest to draw from
FOLDS = 2  # of the patients, for labels from a patch classifier
Box = tuple[int, int, int, int]


def blocks_of(mask: np.ndarray, side: int) -> list[Box]:
    """Blocks of a grid over an image of a mask, also those cut by its edges."""
    height, width = mask.shape
    return [
        (row, col, min(row + side, height), min(col + side, width))
        for row in range(0, height, side)
        for col in range(0, width, side)
    ]


@dataclass(frozen=True)
class Tissue:
    """One image with its mask, at the size that is worked at.

    Attributes
    ----------
    name, patient : str
    pixels : ndarray uint8 (h, w, 3)
    mask : ndarray bool (h, w)
    """

    name: str
    patient: str
    pixels: np.ndarray = field(repr=False)
    mask: np.ndarray = field(repr=False)

    def share(self, box: Box) -> float:
        """Tell the true share of foreground in a block."""
        return float(self.mask[box[0] : box[2], box[1] : box[3]].mean())

    def piece(self, box: Box) -> np.ndarray:
        """Pixels of a block."""
        return self.pixels[box[0] : box[2], box[1] : box[3]]


@dataclass(frozen=True)
class Labelled:
    """Blocks with a coarse class.

    Attributes
    ----------
    image : ndarray of int, shape (B,)
    boxes : list of Box
    coarse : ndarray of int, shape (B,)
        Bin of each block.
    eta, rho : ndarray, shape (Z, 2)
        Statistics of the bins.
    """

    image: np.ndarray
    boxes: list[Box]
    coarse: np.ndarray
    eta: np.ndarray
    rho: np.ndarray


class TissueSets:
    """Images to learn from and images to be scored on, read once for all trials.

    Parameters
    ----------
    train, test : sequence of GlandImage
    side : int
        Of a block, in pixels after shrinking.
    labels : {"exact", "noisy"}
        Whose coarse labels: a person's who sees the true share, or a patch classifier's that learnt from
        other patients.
    shrink : int
        Images are read at one so-manieth of their size.
    """

    def __init__(
        self,
        train: Sequence[GlandImage],
        test: Sequence[GlandImage],
        side: int,
        labels: str,
        shrink: int = 2,
    ) -> None:
        self.side, self.labels = side, labels
        self.train = [Tissue(v.name, v.patient, *v.read(shrink)) for v in train]
        self.test = [Tissue(v.name, v.patient, *v.read(shrink)) for v in test]
        self._labelled: dict[int, Labelled] = {}

    @cached_property
    def boxes(self) -> list[tuple[int, Box]]:
        """Image and box of each block to learn from."""
        return [
            (index, box)
            for index, view in enumerate(self.train)
            for box in blocks_of(view.mask, self.side)
            if (box[2] - box[0]) * (box[3] - box[1]) >= LEAST * self.side**2
        ]

    @cached_property
    def shares(self) -> np.ndarray:
        """True share of foreground of these blocks: known to the person who labels, never to a method."""
        return np.array([self.train[index].share(box) for index, box in self.boxes])

    @cached_property
    def patches(self) -> torch.Tensor:
        """These blocks as patches of a classifier."""
        return as_patches([self.train[index].piece(box) for index, box in self.boxes])

    @cached_property
    def pixel_features(self) -> tuple[np.ndarray, np.ndarray]:
        """Features of some pixels of every block to learn from: the blocks (P,), and features (P, F)."""
        rng = np.random.default_rng(0)
        block, found = [], []
        for index, view in enumerate(self.train):
            features = features_of(view.pixels)
            for number, (owner, box) in enumerate(self.boxes):
                if owner == index:
                    rows = rng.integers(box[0], box[2], PIXELS_EACH)
                    cols = rng.integers(box[1], box[3], PIXELS_EACH)
                    found.append(features[rows, cols])
                    block.append(np.full(PIXELS_EACH, number))
        return np.concatenate(block), np.concatenate(found)

    @cached_property
    def test_features(self) -> list[np.ndarray]:
        """Features (h * w, F) of every pixel of the test images, in half precision: there are many."""
        parts = [features_of(view.pixels) for view in self.test]
        return [part.reshape(-1, part.shape[-1]).astype(np.float16) for part in parts]

    def labelled(self, seed: int) -> Labelled:
        """Coarse labels and statistics of one seed."""
        if seed not in self._labelled:
            image = np.array([index for index, _ in self.boxes])
            prior = default_statistics(BINS, CLASSES)
            if self.labels == "exact":
                coarse, table = to_bins(self.shares), prior
            else:
                coarse = to_bins(self._by_others(seed))
                table = measured_statistics(self._examined(coarse, seed), CLASSES)
            needed = [BINS[z] for z in np.unique(coarse)]
            eta, rho = as_arrays(table, BINS, CLASSES, needed)
            self._labelled[seed] = Labelled(image, [box for _, box in self.boxes], coarse, eta, rho)
        return self._labelled[seed]

    def _examined(self, coarse: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Shares that an expert notes for some blocks of each coarse class."""
        rng = np.random.default_rng(seed)
        found = {}
        for kind in np.unique(coarse):
            own = np.flatnonzero(coarse == kind)
            some = self.shares[rng.permutation(own)[:EXAMINED]]
            found[BINS[kind]] = np.stack([1.0 - some, some], axis=1)
        return found

    def _by_others(self, seed: int) -> np.ndarray:
        """Foreground that a patch classifier sees in each block, learnt from blocks of other patients."""
        patients = np.array([self.train[index].patient for index, _ in self.boxes])
        counts = {name: int((patients == name).sum()) for name in np.unique(patients)}
        fold, load = {}, [0] * FOLDS
        for name in sorted(counts, key=lambda name: -counts[name]):
            fold[name] = int(np.argmin(load))
            load[fold[name]] += counts[name]
        member = np.array([fold[name] for name in patients])
        found = np.zeros(len(patients))
        for number in range(FOLDS):
            mine = member == number
            model = PatchClassifier(2, seed=seed).fit(
                self.patches[torch.from_numpy(~mine)], _shares(to_bins(self.shares)[~mine])
            )
            found[mine] = model.predict(self.patches[torch.from_numpy(mine)])[:, 1]
        return found

    def bank(self, seed: int, crop: int, painted: bool = False) -> BlockBank:
        """Training data of a network, with blocks alone or with every pixel painted."""
        labels = self.labelled(seed)
        fields = []
        for index, view in enumerate(self.train):
            ids = np.zeros(view.mask.shape, np.int32)
            for number in np.flatnonzero(labels.image == index):
                box = labels.boxes[number]
                ids[box[0] : box[2], box[1] : box[3]] = number + 1
            exact = torch.from_numpy(padded(view.mask.astype(np.int16), crop, UNKNOWN)) if painted else None
            pixels = padded(view.pixels, crop).transpose(2, 0, 1)
            fields.append(
                Field(
                    index,
                    0,
                    0,
                    torch.from_numpy(np.ascontiguousarray(pixels)),
                    torch.from_numpy(padded(ids, crop, 0)),
                    exact,
                )
            )
        return BlockBank(fields, labels.coarse, labels.eta, labels.rho, torch.device("cpu"))

    def low_resolution(self, seed: int, tell: Callable[[int, int], None]) -> PatchClassifier:
        """Patch classifier that learnt from all labelled blocks."""
        labels = self.labelled(seed)
        shares = torch.from_numpy(labels.eta[labels.coarse])
        return PatchClassifier(2, seed=seed).fit(self.patches, shares, tell)


def features_of(pixels: np.ndarray) -> np.ndarray:
    """Intensity, edges and texture of each channel at several scales, as interactive tools have them."""
    from skimage.feature import multiscale_basic_features

    found = multiscale_basic_features(pixels, sigma_min=1, sigma_max=16, channel_axis=-1)
    return found.astype(np.float32)


def _shares(coarse: np.ndarray) -> torch.Tensor:
    """Shares that exact bins stand for."""
    eta, _ = as_arrays(default_statistics(BINS, CLASSES), BINS, CLASSES, BINS)
    return torch.from_numpy(eta[coarse])
