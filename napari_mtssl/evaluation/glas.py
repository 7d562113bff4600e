"""Glands of the colon (GlaS, Warwick-QU): images with a mask, a grade and the patient they are of.

Sirinukunwattana et al., Gland segmentation in colon histology images: the GlaS challenge contest, Medical
Image Analysis 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_mtssl.evaluation.published_masks import mask_values
from napari_mtssl.evaluation.readers import DataError, named, read_rows
from napari_mtssl.images import ImageError, open_image, to_float
from napari_mtssl.study.files import checksum


@dataclass(frozen=True)
class GlandImage:
    """One image.

    Attributes
    ----------
    name : str
    path, mask_path : Path
    patient : str
    grade : str
    """

    name: str
    path: Path
    mask_path: Path
    patient: str
    grade: str

    def mask(self) -> np.ndarray:
        """Glands, bool (h, w): each has its number, 0 is between them.

        Raises
        ------
        DataError
            If the file cannot be read, or is no mask.
        """
        return mask_values(self.mask_path) > 0

    def read(self, shrink: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (h, w, 3) uint8 and mask (h, w) bool, at one `shrink`-th of the size.

        Raises
        ------
        DataError
            If a file cannot be read, or the two differ in size.
        """
        try:
            image = open_image(self.path)
            pixels = image.read(0, 0, image.height, image.width)
        except ImageError as error:
            raise DataError(str(error)) from error
        if pixels.dtype != np.uint8:
            pixels = np.rint(to_float(pixels) * 255).astype(np.uint8)
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        mask = self.mask()
        if mask.shape != pixels.shape[:2]:
            raise DataError(
                f"{self.mask_path} is {mask.shape[0]} x {mask.shape[1]} pixels, its image "
                f"{pixels.shape[0]} x {pixels.shape[1]}; unpack the data set again."
            )
        if shrink == 1:
            return np.ascontiguousarray(pixels), mask
        height, width = (side // shrink for side in mask.shape)
        here = (slice(height * shrink), slice(width * shrink))
        squares = (height, shrink, width, shrink)
        small = np.rint(pixels[here].reshape(*squares, 3).mean((1, 3))).astype(np.uint8)
        return small, mask[here].reshape(squares).mean((1, 3)) >= 0.5


def read_glas(folder: str | Path) -> list[GlandImage]:
    """Find the images of a folder.

    Parameters
    ----------
    folder : path-like
        Holds ``Grade.csv`` (columns ``name``, ``patient ID`` and one that begins with ``grade``), and either
        folders ``images`` and ``labels`` (``NAME`` or ``NAME_anno``), or, as published, ``NAME.bmp`` with
        ``NAME_anno.bmp`` beside it.

    Returns
    -------
    list of GlandImage
        In the order of ``Grade.csv``.

    Raises
    ------
    DataError
        Naming what is missing.
    """
    folder = Path(folder).expanduser()
    table = folder / "Grade.csv"
    if not table.is_file():
        raise DataError(f"{table} is missing; give the folder of GlaS (Warwick-QU) that holds it.")
    found: dict[str, GlandImage] = {}
    for row in read_rows(table):
        grade = next((value for key, value in row.items() if key.startswith("grade")), "")
        if not row.get("name") or not row.get("patient id"):
            raise DataError(f"{table} lacks 'name' or 'patient ID' in a row; unpack the data set again.")
        name = row["name"]
        if name in found:
            raise DataError(f"{table} names {name} twice; keep the row with the right patient.")
        found[name] = GlandImage(name, *_files(folder, name), row["patient id"], grade)
    return list(found.values())


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    """Image and mask of a name."""
    if (folder / "images").is_dir():
        image, masks = folder / "images", folder / "labels"
        places = [(image, (name,)), (masks, (name, f"{name}_anno"))]
    else:
        places = [(folder, (name,)), (folder, (f"{name}_anno",))]
    files = []
    for place, stems in places:
        there = [path for stem in stems for path in named(place, stem)]
        if not there:
            raise DataError(f"{place / stems[0]} (.png or .bmp) is missing; unpack the data set again.")
        files.append(there[0])
    return files[0], files[1]


def split_by_patient(
    train: Sequence[GlandImage], test: Sequence[GlandImage], test_patients: Sequence[str] = ()
) -> tuple[list[GlandImage], list[GlandImage]]:
    """Images to learn from and images to be scored on, without a common patient.

    Parameters
    ----------
    train, test : sequence of GlandImage
        May be the same images, if `test_patients` tells them apart.
    test_patients : sequence of str
        If given, they are scored on and never learnt from.

    Raises
    ------
    DataError
        If a patient, or an image under whatever name, is in both, or nothing is left.
    """
    unknown = sorted(set(test_patients) - {image.patient for image in test})
    if unknown:
        known = ", ".join(sorted({image.patient for image in test}, key=lambda p: (len(p), p)))
        raise DataError(f"There is no patient '{unknown[0]}' among the images to score on: {known}.")
    if test_patients:
        train = [image for image in train if image.patient not in test_patients]
        test = [image for image in test if image.patient in test_patients]
    common = sorted({image.patient for image in train} & {image.patient for image in test})
    if common:
        raise DataError(
            f"Patient '{common[0]}' is among the images to learn from and to score on: say with "
            "--test-patients who is to be scored on."
        )
    learnt = {checksum(image.path) for image in train}
    again = next((image.path for image in test if checksum(image.path) in learnt), None)
    if again is not None:
        raise DataError(f"{again} is also among the images to learn from; score on other images.")
    if not train or not test:
        raise DataError("No image is left to learn from; leave some patients out of --test-patients.")
    return list(train), list(test)
