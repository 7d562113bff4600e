"""CRCHistoPhenotypes as its owners publish it: ``imgN/imgN.bmp`` with ``imgN_*.mat`` beside it.

Sirinukunwattana et al., Locality sensitive deep learning for detection and classification of nuclei in
routine colon cancer histology images, IEEE TMI 2016.
"""

from __future__ import annotations

import csv
import glob
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from napari_mtssl.images import ImageError, is_image, open_image

KINDS = ("epithelial", "fibroblast", "inflammatory", "others")
FIRST = 1  # row and column of the first pixel: whole coordinates in the files go from 1 to 500, none is 0
# A nucleus of the list of all nuclei this close to a classified one is that one.
SAME = 2.0


class DataError(ValueError):
    """A data set is not as its owners publish it; the message says what is missing or wrong."""


@dataclass(frozen=True)
class FieldOfView:
    """One image with all its nuclei.

    Attributes
    ----------
    name : str
        Such as ``img12``.
    path : Path
        The image.
    centroids : mapping of str to ndarray (N, 2)
        ``(row, col)`` in pixels of the nuclei of each kind in `KINDS`.
    nuclei : ndarray, shape (M, 2)
        All nuclei, those of no known kind included.
    """

    name: str
    path: Path
    centroids: Mapping[str, np.ndarray] = field(repr=False)
    nuclei: np.ndarray = field(repr=False)

    def truth(self) -> pd.DataFrame:
        """Tabulate all nuclei as ``row, col, class``; the class of a nucleus of no known kind is None."""
        kinds = [kind for kind in KINDS for _ in self.centroids[kind]]
        known = np.concatenate([self.centroids[kind] for kind in KINDS])
        if len(known) and len(self.nuclei):
            from scipy.spatial import cKDTree

            rest = self.nuclei[cKDTree(known).query(self.nuclei)[0] > SAME]
        else:
            rest = self.nuclei
        points = np.concatenate([known, rest])
        classes = pd.Series([*kinds, *[None] * len(rest)], dtype=object)
        return pd.DataFrame({"row": points[:, 0], "col": points[:, 1], "class": classes})


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a table of a data set, with commas or semicolons; names of columns in lower case.

    Raises
    ------
    DataError
        If it cannot be read or has no row.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}. Save it as CSV in UTF-8.") from error
    first = text.splitlines()[0] if text.strip() else ""
    reader = csv.DictReader(text.splitlines(), delimiter=";" if first.count(";") > first.count(",") else ",")
    rows = [
        {k.strip().lower(): (v or "").strip() for k, v in row.items() if isinstance(k, str)} for row in reader
    ]
    if not rows:
        raise DataError(f"{path} is empty; unpack the data set again.")
    return rows


def named(folder: Path, stem: str) -> list[Path]:
    """Images in a folder whose name, without its ending, is `stem` and nothing more."""
    there = sorted(folder.glob(f"{glob.escape(stem)}.*"))
    return [path for path in there if path.stem == stem and is_image(path)]


def read_crchistophenotypes(folder: str | Path) -> list[FieldOfView]:
    """Read every ``imgN`` of a folder.

    Parameters
    ----------
    folder : path-like
        Holds folders ``imgN``, each with one image, ``imgN_KIND.mat`` for each of `KINDS`, and
        ``imgN_detection.mat``; their variable ``detection`` is N x 2, ``(x, y)`` in pixels that are counted
        from `FIRST`, as MATLAB does. As published,
        these are in a folder ``Classification``, and ``imgN_detection.mat`` is in ``Detection/imgN`` beside
        it: either ``Classification`` or the folder above will do.

    Returns
    -------
    list of FieldOfView
        In order of N.

    Raises
    ------
    DataError
        If the folder holds no such image, or a file is missing or malformed.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}; give the folder that holds img1, img2, ...")
    if (folder / "Classification").is_dir():
        folder = folder / "Classification"
    found = [path for path in folder.iterdir() if path.is_dir() and re.fullmatch(r"img\d+", path.name)]
    if not found:
        raise DataError(
            f"{folder} holds no folders named img1, img2, ...; unpack CRCHistoPhenotypes (Warwick) there."
        )
    return [_read_field(path) for path in sorted(found, key=lambda path: int(path.name[3:]))]


def _read_field(folder: Path) -> FieldOfView:
    """Read one ``imgN``."""
    name = folder.name
    images = named(folder, name)
    if not images:
        raise DataError(f"{folder} lacks its image {name}.bmp; unpack the data set again.")
    try:
        image = open_image(images[0])
    except ImageError as error:
        raise DataError(str(error)) from error
    size = (image.height, image.width)
    kinds = {kind: _read_points(folder / f"{name}_{kind}.mat", size) for kind in KINDS}
    nuclei = folder / f"{name}_detection.mat"
    published = folder.parent.parent / "Detection" / name / nuclei.name
    if not nuclei.is_file() and published.is_file():
        nuclei = published
    return FieldOfView(name, images[0], kinds, _read_points(nuclei, size))


def _read_points(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Points of one file as (N, 2) of ``(row, col)``."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise DataError(f"{path} is missing; unpack the data set again.")
    try:
        content = loadmat(path)
    except (MatReadError, ValueError, TypeError, OSError, NotImplementedError) as error:
        raise DataError(f"{path} is not a MATLAB file that can be read: {error}.") from error
    if "detection" not in content:
        raise DataError(f"{path} lacks its variable 'detection'; unpack the data set again.")
    points = np.asarray(content["detection"])
    if points.size == 0:
        return np.empty((0, 2))
    if points.ndim != 2 or points.shape[1] != 2 or points.dtype.kind not in "iuf":
        raise DataError(
            f"{path}: 'detection' has shape {points.shape}; it must be N x 2 numbers, x before y."
        )
    points = points[:, ::-1].astype(float) - FIRST
    if not np.isfinite(points).all() or (points < -1).any() or (points > np.array(size) + 1).any():
        raise DataError(
            f"{path} has points outside its image of {size[0]} x {size[1]} pixels; x comes before y."
        )
    return points
