"""Patches around labelled cells and around unlabelled places, resident on the device."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from scipy.spatial import cKDTree

from napari_mtssl.images import is_slide, to_float
from napari_mtssl.images.tissue import in_study
from napari_mtssl.methods.base import MethodError, Samples, draw_labels
from napari_mtssl.methods.hydramix.config import HydraMixConfig
from napari_mtssl.methods.hydramix.drift import PARTS, Drift, Part, Slide
from napari_mtssl.methods.hydramix.places import darkness, sample_places

if TYPE_CHECKING:
    from napari_mtssl.images import Image, ImagePool
    from napari_mtssl.study import ImageRecord, Study

PLACE = ["image_id", "row", "col"]
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
    drift : Drift, optional
        What the last of the unlabelled patches are renewed from: those of slides.
    clicks : mapping of int to ndarray (N, 2)
        Labelled places by image, of which new unlabelled ones keep clear.
    """

    patches: torch.Tensor
    classes: torch.Tensor
    centroids: torch.Tensor
    unlabelled: torch.Tensor
    cells: pd.DataFrame
    places: pd.DataFrame
    drift: Drift | None = None
    clicks: Mapping[int, np.ndarray] = field(default_factory=dict)

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

    def advance(self, step: int) -> None:
        """Take in what was read of slides until a step.

        Raises
        ------
        ImageError
            If a slide cannot be read.
        """
        if self.drift is None:
            return
        for slot, part in self.drift.until(step):
            start = len(self.places) + (slot - PARTS) * self.drift.share
            where = slice(start, start + self.drift.share)
            patches, places = clear_of(part, self.clicks)
            tensor = _to_tensor(patches, self.unlabelled.device)
            # other images of the study may have sixteen bits
            self.unlabelled[where] = to_unit(tensor) if self.unlabelled.is_floating_point() else tensor
            self.places.iloc[where] = places

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


def enough(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes of cells.

    Raises
    ------
    MethodError
        If there is only the background.
    """
    if len(classes) < 2:
        raise MethodError("The study has only the background class; add a class of cells first.")
    return classes


def check_clicks(
    classes: Sequence[str], images: int, labelled: Collection[str], config: HydraMixConfig
) -> None:
    """Say what is missing of the labels to learn from.

    Parameters
    ----------
    classes : sequence of str
        Index 0 is the background.
    images : int
        How many there are to learn from.
    labelled : collection of str
        Classes of their labels.
    config : HydraMixConfig

    Raises
    ------
    MethodError
        If they do not allow training.
    """
    background = classes[0]
    if images == 0:
        raise MethodError("The study has no image for training; add one, or move one to the split 'train'.")
    kinds = set(labelled) & set(classes)
    if not kinds:
        raise MethodError("Nothing is labelled yet; click some cells of each class, then train.")
    if kinds == {background}:
        raise MethodError(f"Only '{background}' is labelled; click some cells of another class, then train.")
    if background not in kinds and not config.background_from_far:
        raise MethodError(
            f"No place is labelled '{background}'; click some places between the cells as such, "
            "or allow 'Background far from clicks' (background_from_far=true)."
        )


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
        self._drift: tuple[object, Drift] | None = None

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
        cells = cells[cells["class"].isin(self.classes)]  # a class made after training began is not learnt
        if split == "train":
            check_clicks(self.classes, len(records), set(cells["class"]), self.config)
            cells = draw_labels(cells, self.config.labels, self.config.seed)
        size = self.config.patch
        labelled, frames, unlabelled, places = [], [], [], []
        slides: list[Slide] = []
        per_image = max(1, self.config.pool // max(1, len(records)))
        regions = max(1, REGIONS // max(1, len(records)))
        guess = split == "train" and self.config.variant != "cnn"
        for record in records:
            mine = cells[cells["image_id"] == record.id]
            slide = guess and self.config.renew > 0 and is_slide(record.height, record.width)
            if slide:
                slides.append(Slide(record.id, record.checksum, partial(_opened, images, record, study.path)))
            if mine.empty and (slide or not guess):
                continue
            image = _opened(images, record, study.path)
            frame = mine.rename(columns={"id": "cell_id"})[["cell_id", *PLACE, "class"]]
            if self.config.background_from_far and len(mine):
                frame = pd.concat([frame, self._far_background(image, record.id, record.checksum, mine)])
            labelled.append(image.patches(frame[["row", "col"]].to_numpy(float), size))
            frames.append(frame)
            if guess and not slide:
                centres, patches = self._unlabelled(image, record.checksum, per_image, regions)
                free = _far_from(centres, mine[["row", "col"]].to_numpy(float), CLAIMED)
                unlabelled.append(patches[free])
                places.append(
                    pd.DataFrame({"image_id": record.id, "row": centres[free, 0], "col": centres[free, 1]})
                )
        drift = self._drift_of(slides, per_image * len(slides))
        clicks = {i: part[["row", "col"]].to_numpy(float) for i, part in cells.groupby("image_id")}
        for part in drift.parts if drift is not None else ():
            patches, frame = clear_of(part, clicks)
            unlabelled.append(patches)
            places.append(frame)
        bank = self._bank(labelled, frames, unlabelled, places)
        bank.drift, bank.clicks = drift, clicks
        return bank

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

    def _drift_of(self, slides: Sequence[Slide], count: int) -> Drift | None:
        """Begin to read slides, or go on with those that are read already: labels do not change the pool."""
        if not slides:
            return None
        key = (tuple((slide.image_id, slide.checksum) for slide in slides), count)
        if self._drift is None or self._drift[0] != key:
            config = self.config
            drift = Drift(slides, count, config.patch, config.nuclear_share, config.renew, config.seed)
            self._drift = (key, drift)
        return self._drift[1]

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


def _opened(images: ImagePool, record: ImageRecord, study: Path) -> Image:
    """Open an image that knows where a corrected mask of its tissue would be."""
    return in_study(images(record), study, record.id)


def clear_of(part: Part, clicks: Mapping[int, np.ndarray]) -> tuple[np.ndarray, pd.DataFrame]:
    """Patches and places of a part; others of it stand in for those near a click, so that it stays as long.

    If all of it is near clicks it is left as it is.
    """
    free = np.ones(len(part.centres), bool)
    for image_id, places in clicks.items():
        mine = part.image_ids == image_id
        free[mine] = _far_from(part.centres[mine], places, CLAIMED)
    chosen = np.flatnonzero(free) if free.any() else np.arange(len(free))
    chosen = np.resize(chosen, len(free))
    row, col = part.centres[chosen].T
    return part.patches[chosen], pd.DataFrame({"image_id": part.image_ids[chosen], "row": row, "col": col})


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
