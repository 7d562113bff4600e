"""Patches around labelled cells and around unlabelled places, resident on the device."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from skimage.feature import peak_local_max

from napari_mtssl.images import to_float
from napari_mtssl.images.tissue import find_tissue
from napari_mtssl.methods.base import MethodError, Samples, draw_labels
from napari_mtssl.methods.hydramix.config import HydraMixConfig

if TYPE_CHECKING:
    from napari_mtssl.images import Image, ImagePool
    from napari_mtssl.study import Study

PLACE = ["image_id", "row", "col"]
REGION = 256  # side of the pieces of an image in which unlabelled places are looked for, pixels
REGIONS = 64  # at most, of all images together: the pool must be there seconds after Train is pressed
CLAIMED = (
    6.0  # unlabelled places keep this far from clicks, so that no cell is both labelled and guessed, pixels
)


@dataclass
class PatchBank(Samples):
    """Labelled and unlabelled patches.

    Attributes
    ----------
    patches : Tensor, shape (N, 3, S, S), uint8, or float32 in [0, 1]
    classes : Tensor, shape (N,), int64
        0 is the background.
    centroids : Tensor, shape (N, 2), float32
        (row, col) of the cell in pixels of its patch; of no meaning for background.
    unlabelled : Tensor, shape (M, 3, S, S)
    cells : DataFrame
        One row for each labelled patch: ``cell_id`` (-1 if the place is no record of the study),
        ``image_id``, ``row``, ``col`` (level-0 pixels).
    places : DataFrame
        One row for each unlabelled patch: ``image_id``, ``row``, ``col`` of the patch's pixel ``(S // 2, S //
        2)``.
    """

    patches: torch.Tensor
    classes: torch.Tensor
    centroids: torch.Tensor
    unlabelled: torch.Tensor
    cells: pd.DataFrame
    places: pd.DataFrame

    @classmethod
    def from_arrays(
        cls,
        patches: np.ndarray,
        classes: np.ndarray,
        centroids: np.ndarray,
        unlabelled: np.ndarray | None = None,
        *,
        cells: pd.DataFrame | None = None,
        places: pd.DataFrame | None = None,
        device: torch.device | str = "cpu",
    ) -> PatchBank:
        """Make a bank from patches cut elsewhere.

        Parameters
        ----------
        patches : ndarray, shape (N, S, S, 3), uint8 or float32 in [0, 1]
        classes : ndarray, shape (N,)
        centroids : ndarray, shape (N, 2)
            (row, col) in pixels of the patch.
        unlabelled : ndarray, shape (M, S, S, 3), optional
        cells, places : DataFrame, optional
            As in the class; by default the patches are numbered and lie nowhere.
        device : torch.device or str

        Raises
        ------
        MethodError
            If the arrays' lengths differ.
        """
        if not len(patches) == len(classes) == len(centroids):
            raise MethodError("Patches, classes and centroids must be equally many.")
        if unlabelled is None:
            unlabelled = np.empty((0, *patches.shape[1:]), patches.dtype)
        if cells is None:
            cells = pd.DataFrame(
                {"cell_id": np.arange(len(patches)), "image_id": 0, "row": np.nan, "col": np.nan}
            )
        if places is None:
            places = pd.DataFrame({"image_id": 0, "row": np.nan, "col": np.nan}, index=range(len(unlabelled)))
        return cls(
            patches=_to_tensor(patches, device),
            classes=torch.as_tensor(np.asarray(classes), dtype=torch.int64, device=device),
            centroids=torch.as_tensor(np.asarray(centroids), dtype=torch.float32, device=device),
            unlabelled=_to_tensor(unlabelled, device),
            cells=cells.reset_index(drop=True),
            places=places.reset_index(drop=True),
        )

    @property
    def n_labelled(self) -> int:  # type: ignore[override]
        """Labelled patches."""
        return len(self.classes)

    @property
    def n_unlabelled(self) -> int:  # type: ignore[override]
        """Unlabelled patches."""
        return len(self.unlabelled)

    def keys(self) -> Mapping[int, Any]:
        """Cell id to (class index, row, col); places that were not clicked are left out."""
        clicked = self.cells["cell_id"].to_numpy() >= 0
        rows = self.cells.loc[clicked, ["cell_id", "row", "col"]].itertuples(index=False)
        classes = self.classes.cpu().numpy()[clicked]
        return {int(i): (int(k), r, c) for (i, r, c), k in zip(rows, classes, strict=True)}


def to_unit(patches: torch.Tensor) -> torch.Tensor:
    """Float values in [0, 1] of resident patches."""
    return patches.float().div_(255.0) if patches.dtype == torch.uint8 else patches


def _to_tensor(patches: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """(N, S, S, 3) in the image's dtype to a contiguous (N, 3, S, S); 16 bit becomes float."""
    if patches.dtype != np.uint8:
        patches = patches.astype(np.float32) if patches.dtype.kind == "f" else to_float(patches)
    return torch.from_numpy(np.ascontiguousarray(patches.transpose(0, 3, 1, 2))).to(device)


class SampleReader:
    """Reads a study's patches; unlabelled ones are cut once and kept while labels change.

    Parameters
    ----------
    config : HydraMixConfig
    classes : sequence of str
        Index 0 is the background.
    device : torch.device
    """

    def __init__(self, config: HydraMixConfig, classes: Sequence[str], device: torch.device) -> None:
        self.config, self.classes, self.device = config, tuple(classes), device
        self._pool: dict[tuple[str, int, int], tuple[np.ndarray, np.ndarray]] = {}

    def read(self, study: Study, images: ImagePool, split: Literal["train", "validation"]) -> PatchBank:
        """Read labels and pixels of one split.

        Raises
        ------
        MethodError
            If nothing is labelled, or all of it is of one class.
        ImageError
            If an image cannot be read.
        """
        records = study.images(split)
        cells = study.cells(split=split)
        if split == "train":
            self._check(len(records), cells)
            cells = draw_labels(cells, self.config.labels, self.config.seed)
        size = self.config.patch
        labelled, frames, unlabelled, places = [], [], [], []
        per_image = max(1, self.config.pool // max(1, len(records)))
        regions = max(1, REGIONS // max(1, len(records)))
        guess = split == "train" and self.config.variant != "cnn"
        for record in records:
            mine = cells[cells["image_id"] == record.id]
            if mine.empty and not guess:
                continue
            image = images(record)
            frame = mine.rename(columns={"id": "cell_id"})[["cell_id", *PLACE, "class"]]
            if self.config.background_from_far and len(mine):
                frame = pd.concat([frame, self._far_background(image, record.id, record.checksum, mine)])
            labelled.append(image.patches(frame[["row", "col"]].to_numpy(float), size))
            frames.append(frame)
            if guess:
                centres, patches = self._unlabelled(image, record.checksum, per_image, regions)
                free = _far_from(centres, mine[["row", "col"]].to_numpy(float), CLAIMED)
                unlabelled.append(patches[free])
                places.append(
                    pd.DataFrame({"image_id": record.id, "row": centres[free, 0], "col": centres[free, 1]})
                )
        return self._bank(labelled, frames, unlabelled, places)

    def _check(self, images: int, cells: pd.DataFrame) -> None:
        background = self.classes[0]
        if images == 0:
            raise MethodError(
                "The study has no image for training; add one, or move one to the split 'train'."
            )
        if cells.empty:
            raise MethodError("Nothing is labelled yet; click some cells of each class, then train.")
        kinds = set(cells["class"])
        if kinds == {background}:
            raise MethodError(
                f"Only '{background}' is labelled; click some cells of another class, then train."
            )
        if background not in kinds and not self.config.background_from_far:
            raise MethodError(
                f"No place is labelled '{background}'; click some places between the cells as such, "
                "or allow background far from clicks."
            )

    def _bank(
        self,
        labelled: list[np.ndarray],
        frames: list[pd.DataFrame],
        unlabelled: list[np.ndarray],
        places: list[pd.DataFrame],
    ) -> PatchBank:
        size = self.config.patch
        none = pd.DataFrame({"cell_id": [], "class": [], "image_id": [], "row": [], "col": []})
        cells = pd.concat(frames, ignore_index=True) if frames else none
        unknown = sorted(set(cells["class"]) - set(self.classes))
        if unknown:
            raise MethodError(
                f"The network does not know the class '{unknown[0]}'; start a new run to use it."
            )
        position = cells[["row", "col"]].to_numpy(float)
        return PatchBank.from_arrays(
            _stack(labelled, size),
            np.array([self.classes.index(name) for name in cells["class"]], np.int64),
            position - np.rint(position) + size // 2,
            _stack(unlabelled, size),
            cells=cells[["cell_id", *PLACE]],
            places=pd.concat(places, ignore_index=True) if places else none[PLACE],
            device=self.device,
        )

    def _unlabelled(
        self, image: Image, checksum: str, count: int, regions: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Centres (M, 2) and patches of places that depend on the image alone, not on its labels."""
        key = (checksum, count, regions)
        if key not in self._pool:
            rng = np.random.default_rng([zlib.crc32(checksum.encode()), self.config.seed])
            centres = sample_places(image, count, regions, self.config.nuclear_share, rng)
            self._pool[key] = (centres, image.patches(centres, self.config.patch))
        return self._pool[key]

    def _far_background(
        self, image: Image, image_id: int, checksum: str, cells: pd.DataFrame
    ) -> pd.DataFrame:
        """Pale places far from every click; the same ones stay when clicks are added elsewhere."""
        rng = np.random.default_rng([zlib.crc32(checksum.encode()), 1])
        clicks = cells[["row", "col"]].to_numpy(float)
        margin = 2 * self.config.far  # beyond the clicked part of the image nobody has looked
        low = np.maximum(clicks.min(0) - margin, 0)
        high = np.minimum(clicks.max(0) + margin, (image.height - 1, image.width - 1))
        centres = np.rint(rng.uniform(low, high, (20 * self.config.far_places, 2)))
        centres = centres[_far_from(centres, clicks, self.config.far)][: 4 * self.config.far_places]
        if len(centres) == 0:
            return pd.DataFrame({"cell_id": [], "image_id": [], "row": [], "col": [], "class": []})
        around = darkness(to_float(image.patches(centres, 13))).mean((1, 2))
        pale = centres[np.sort(np.argsort(around)[: max(1, len(centres) // 2)])][: self.config.far_places]
        return pd.DataFrame(
            {
                "cell_id": -1,
                "image_id": image_id,
                "row": pale[:, 0],
                "col": pale[:, 1],
                "class": self.classes[0],
            }
        )


def darkness(pixels: np.ndarray) -> np.ndarray:
    """Optical density in red, where haematoxylin absorbs and eosin hardly does: (..., 3) to (...)."""
    return -np.log(np.clip(pixels[..., 0], 1 / 255, 1))


def sample_places(
    image: Image, count: int, regions: int, nuclear_share: float, rng: np.random.Generator
) -> np.ndarray:
    """Choose places without any label: some anywhere, some on local maxima of darkness, where nuclei are.

    Parameters
    ----------
    image : Image
    count : int
        Places, at most.
    regions : int
        Pieces of the image that are looked at, at most.
    nuclear_share : float
        Share of the places on local maxima.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (M, 2)
        (row, col), level-0 pixels, whole.
    """
    tops, lefts = np.arange(0, image.height, REGION), np.arange(0, image.width, REGION)
    tissue = find_tissue(image)  # all of it, unless it is a slide: there is nothing to learn from glass
    boxes = [(top, left) for top in tops for left in lefts]
    boxes = [(r, c) for r, c in boxes if tissue.touches((r, c, r + REGION, c + REGION))] or boxes
    chosen = [boxes[i] for i in rng.permutation(len(boxes))[:regions]]
    wanted = -(-count // len(chosen))
    found = []
    for top, left in chosen:
        height, width = min(REGION, image.height - top), min(REGION, image.width - left)
        nuclear = round(nuclear_share * wanted)
        smooth = gaussian_filter(darkness(to_float(image.read(top, left, height, width))), 2.0)
        peaks = peak_local_max(smooth, min_distance=4, exclude_border=False)
        peaks = peaks[rng.permutation(len(peaks))[:nuclear]]
        anywhere = np.stack([rng.integers(0, side, wanted - len(peaks)) for side in (height, width)], axis=1)
        found.append(np.concatenate([peaks, anywhere]) + np.array([top, left]))
    return rng.permutation(np.concatenate(found))[:count].astype(float)


def _far_from(centres: np.ndarray, clicks: np.ndarray, distance: float) -> np.ndarray:
    """Which centres are farther than `distance` from every click."""
    if len(clicks) == 0:
        return np.ones(len(centres), bool)
    return cKDTree(clicks).query(centres)[0] > distance


def _stack(parts: list[np.ndarray], size: int) -> np.ndarray:
    """Patches of several images; if bit depths differ, all become float."""
    if not parts:
        return np.empty((0, size, size, 3), np.uint8)
    if len({part.dtype for part in parts}) > 1:
        parts = [to_float(part) for part in parts]
    return np.concatenate(parts)
