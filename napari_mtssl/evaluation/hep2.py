"""Readers of sets of specimens: GlaS, AGH's HEp-2 images, I3A Task 2, anybody's study, and the made-up ones.

Each gives whole images at one size, what is known of them, and who they come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from napari_mtssl.evaluation.glas import read_glas
from napari_mtssl.evaluation.published_masks import check_proportions, check_some, inside, mask_values
from napari_mtssl.evaluation.readers import DataError, named, read_rows
from napari_mtssl.evaluation.synthetic_hep2 import INTENSITIES, PATTERNS, specimens
from napari_mtssl.images import SUFFIXES, Image, ImageError, open_image

MASK, UNKNOWN = "mask", 255
MASK_CLASSES = ("background", "inside")
# Where AGH's images carry a burnt-in scale bar: share of height and width, from the top left.
SCALE_BAR = (0.12, 0.35)


@dataclass(frozen=True)
class Specimens:
    """A set of images with masks, classes and groups.

    Attributes
    ----------
    name : str
    images : ndarray of uint8, shape (N, S, S, 3)
    masks : ndarray of uint8, shape (N, S, S)
        Index of the class in the vocabulary's ``mask``, 0 background; 255 unknown.
    labels : dict of str to ndarray of int, shape (N,)
        Class of each image by kind, -1 where unknown.
    vocabulary : dict of str to tuple of str
        ``mask`` among them if there are masks.
    groups : ndarray of str, shape (N,)
        Patient or specimen.
    names : tuple of str
        Of the images.
    study : bool
        Whether it is a study's, where the user can change who is whose patient.
    """

    name: str
    images: np.ndarray = field(repr=False)
    masks: np.ndarray = field(repr=False)
    labels: dict[str, np.ndarray] = field(repr=False)
    vocabulary: dict[str, tuple[str, ...]]
    groups: np.ndarray = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    study: bool = False

    def __len__(self) -> int:
        return len(self.images)

    @property
    def heads(self) -> tuple[str, ...]:
        """Kinds of image classes."""
        return tuple(kind for kind in self.vocabulary if kind != MASK)

    def __getitem__(self, index: np.ndarray) -> Specimens:
        return replace(
            self,
            images=self.images[index],
            masks=self.masks[index],
            labels={kind: values[index] for kind, values in self.labels.items()},
            groups=self.groups[index],
            names=tuple(self.names[i] for i in np.atleast_1d(np.arange(len(self.names))[index])),
        )


def read_specimens(folder: str | Path, size: int, heads: Sequence[str] = ()) -> Specimens:
    """Read a folder, whichever of the known layouts it has.

    Parameters
    ----------
    folder : path-like
        GlaS, with ``Grade.csv``, in either layout of `read_glas`; ``images/`` and ``patterns.csv`` (AGH);
        images beside a table ``gt*.csv`` with columns for image, pattern, intensity and specimen, and
        masks named ``NAME_mask.*`` (I3A Task 2); or a study, ``NAME.mtssl``, of which every image is
        taken, whatever it is used to.
    size : int
        Side that images are resized to.
    heads : sequence of str, optional
        Kinds of image classes to keep; by default all.

    Raises
    ------
    DataError
        If the folder has none of these layouts, a file is missing, or there is no such kind.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}; check the path.")
    if (folder / "Grade.csv").is_file():
        found = _read_glas(folder, size)
    elif (folder / "patterns.csv").is_file():
        found = _read_agh(folder, size)
    elif folder.suffix == ".mtssl" and folder.is_dir():
        found = _read_study(folder, size)
    elif tables := sorted(folder.glob("gt*.csv")):
        found = _read_i3a(folder, tables[0], size)
    else:
        raise DataError(
            f"{folder} is no known set: it needs Grade.csv (GlaS), patterns.csv (AGH) or gt*.csv (I3A), "
            "or must be a study (NAME.mtssl)."
        )
    return keep_heads(found, heads) if heads else found


def keep_heads(found: Specimens, heads: Sequence[str]) -> Specimens:
    """Leave out every kind of image class that is not named."""
    unknown = [kind for kind in heads if kind not in found.heads]
    if unknown:
        raise DataError(f"There is no '{unknown[0]}' in {found.name}; it has {', '.join(found.heads)}.")
    return replace(
        found,
        labels={kind: found.labels[kind] for kind in heads},
        vocabulary={kind: names for kind, names in found.vocabulary.items() if kind == MASK or kind in heads},
    )


def synthetic(patients: int, each: int = 4, size: int = 96, seed: int = 0) -> Specimens:
    """Made-up HEp-2 specimens as a set."""
    items = specimens(patients, each, size=size, seed=seed)
    patterns = tuple(PATTERNS)
    return Specimens(
        "synthetic HEp-2",
        np.stack([item.image for item in items]),
        np.stack([item.mask for item in items]).astype(np.uint8),
        {
            "pattern": np.array([patterns.index(item.pattern) for item in items]),
            "intensity": np.array([INTENSITIES.index(item.intensity) for item in items]),
        },
        {MASK: MASK_CLASSES, "pattern": patterns, "intensity": INTENSITIES},
        np.array([f"patient {seed}-{item.patient}" for item in items]),
        tuple(f"specimen{number}" for number in range(len(items))),
    )


def _read_glas(folder: Path, size: int) -> Specimens:
    found = read_glas(folder)
    unknown = next((item.name for item in found if not item.grade), None)
    if unknown is not None:
        raise DataError(f"{folder / 'Grade.csv'} says no grade of {unknown}.")
    grades = [item.grade.split()[0].lower() for item in found]
    classes = tuple(sorted(set(grades)))
    masks = [_mask(item.mask_path, size, item.path) for item in found]
    check_some(masks, found[0].mask_path.parent)
    return Specimens(
        "GlaS",
        np.stack([_image(item.path, size) for item in found]),
        np.stack(masks),
        {"grade": np.array([classes.index(grade) for grade in grades])},
        {MASK: MASK_CLASSES, "grade": classes},
        np.array([item.patient for item in found]),
        tuple(item.name for item in found),
    )


def _read_agh(folder: Path, size: int) -> Specimens:
    rows = read_rows(folder / "patterns.csv")
    names, patterns = ([_cell(row, key, folder) for row in rows] for key in ("file", "pattern"))
    _once(names, folder / "patterns.csv")
    classes = tuple(sorted(set(patterns)))
    images = np.stack([_image(_found(folder / "images", _stem(name)), size) for name in names])
    bar = (slice(None), slice(0, round(SCALE_BAR[0] * size)), slice(0, round(SCALE_BAR[1] * size)))
    images[bar] = 0  # dark, as the background is: the bar must not tell images apart
    return Specimens(
        "AGH HEp-2",
        images,
        np.full(images.shape[:3], UNKNOWN, np.uint8),
        {"pattern": np.array([classes.index(pattern) for pattern in patterns])},
        {"pattern": classes},
        np.array([_stem(name) for name in names]),
        tuple(names),
    )


def _read_i3a(folder: Path, table: Path, size: int) -> Specimens:
    rows = read_rows(table)
    has = {kind: _column(rows[0], kind) is not None for kind in ("pattern", "intensity")}
    if not any(has.values()):
        raise DataError(f"{table} has no column for the pattern or the intensity.")
    stems = [_stem(_cell(row, "image", folder, "id")) for row in rows]
    _once(stems, table)
    files = [_found(folder, stem) for stem in stems]
    masks, known = [], []
    for row, stem, image in zip(rows, stems, files, strict=True):
        column = _column(row, "mask")
        beside = named(folder, f"{stem}_mask")
        mask = folder / row[column] if column and row[column] else beside[0] if beside else None
        masks.append(np.full((size, size), UNKNOWN, np.uint8) if mask is None else _mask(mask, size, image))
        known += [] if mask is None else [masks[-1]]
    if known:
        check_some(known, folder)
    labels: dict[str, np.ndarray] = {}
    vocabulary: dict[str, tuple[str, ...]] = {MASK: MASK_CLASSES}
    for kind in (kind for kind, there in has.items() if there):
        values = [_cell(row, kind, folder).lower() for row in rows]
        vocabulary[kind] = tuple(sorted(set(values)))
        labels[kind] = np.array([vocabulary[kind].index(value) for value in values])
    groups = [
        next((row[c] for key in ("patient", "specimen", "slide") if (c := _column(row, key))), stem)
        for row, stem in zip(rows, stems, strict=True)
    ]
    return Specimens(
        "I3A Task 2",
        np.stack([_image(path, size) for path in files]),
        np.stack(masks),
        labels,
        vocabulary,
        np.array(groups),
        tuple(stems),
    )


def _read_study(folder: Path, size: int) -> Specimens:
    from napari_mtssl.evaluation.study_folds import specimens_of
    from napari_mtssl.study import Study

    with Study.open(folder) as study:
        return specimens_of(study, size)


def _column(row: Mapping[str, str], *keys: str) -> str | None:
    """First column whose name is, or begins with, one of the words."""
    for key in keys:
        for name in row:
            if name == key or name.startswith(key):
                return name
    return None


def _cell(row: Mapping[str, str], key: str, folder: Path, *others: str) -> str:
    name = _column(row, key, *others)
    if name is None or not row[name]:
        raise DataError(f"The table in {folder} lacks '{key}' in one of its rows.")
    return row[name]


def _stem(name: str) -> str:
    """Name of an image without its ending, if it has that of an image: ``s.1`` is a whole name."""
    return Path(name).stem if Path(name).suffix.lower() in SUFFIXES else Path(name).name


def _found(folder: Path, stem: str) -> Path:
    there = named(folder, stem)
    if not there:
        raise DataError(f"{folder} has no image {stem}; unpack the data set again.")
    return there[0]


def _once(names: Sequence[str], table: Path) -> None:
    """Refuse a table that names an image twice: it would be learnt from and scored on."""
    again = next((name for name, count in Counter(names).items() if count > 1), None)
    if again is not None:
        raise DataError(f"{table} names {again} twice; keep one row of each image.")


def _image(path: Path, size: int) -> np.ndarray:
    from napari_mtssl.methods.joint_unet.samples import resized

    return resized(_open(path), size)


def _open(path: Path) -> Image:
    """Open an image; one that cannot be opened is a fault of the data set."""
    try:
        return open_image(path)
    except ImageError as error:
        raise DataError(str(error)) from error


def _mask(path: Path, size: int, image: Path) -> np.ndarray:
    """0 and 1 of a mask file, whatever its two or more values are."""
    from napari_mtssl.methods.joint_unet.samples import nearest

    values = mask_values(path)
    check_proportions(path, values, _open(image))
    return nearest(inside(values), size).astype(np.uint8)
