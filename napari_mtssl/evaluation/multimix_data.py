"""Folders of images with masks or with classes, as public sets of radiographs are laid out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_mtssl.evaluation.published_masks import check_proportions, check_some, inside, mask_values
from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.images import Image, ImageError, is_image, open_image
from napari_mtssl.study.files import checksum
from napari_mtssl.study.mask_files import CLASSES_FILE
from napari_mtssl.study.names import image_stems
from napari_mtssl.study.tables import floats, read_table

NORMAL = ("no", "normal", "healthy", "negative")


@dataclass(frozen=True)
class Field:
    """One image with its mask, its class, or both unknown.

    Attributes
    ----------
    path : Path
    group : str
        Patient, or whatever must not be on both sides of a split.
    mask : Path, optional
    kind : str
        Name of the class; empty if unknown.
    """

    path: Path
    group: str
    mask: Path | None = None
    kind: str = ""


def read_masks(folder: str | Path) -> list[Field]:
    """Images with a mask each: ``X.jpg`` beside ``X@.png``, or ``images/X.*`` and ``masks/X.*``.

    ``X_mask.png`` and the like are masks of ``X``, too.

    Raises
    ------
    DataError
        If there is no such pair, an image has two masks, a mask has not the proportions of its image or says
        nothing of some pixels, or all masks are empty.
    """
    folder = _folder(folder)
    apart = folder / "images", folder / "masks"
    if all(part.is_dir() for part in apart):
        images, masks = _images(apart[0]), _images(apart[1])
    else:
        images = masks = _images(folder)
    pairs = _pairs(images, masks)
    if not pairs:
        raise DataError(
            f"There are no images with masks in {folder}: it needs X.jpg with X@.png, "
            "or folders 'images' and 'masks' with equal names."
        )
    _check_masks(pairs)
    groups = group_names([path for path, _ in pairs])
    return [Field(path, group, mask) for (path, mask), group in zip(pairs, groups, strict=True)]


def _pairs(images: Sequence[Path], masks: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Images that have a mask, and which; in one folder for both, a mask has a longer name than its image."""
    by_stem = {path.stem: path for path in images}
    found: dict[Path, Path] = {}
    for mask in masks:
        stems = (stem for stem in image_stems(mask) if images is not masks or stem != mask.stem)
        image = next((by_stem[stem] for stem in stems if stem in by_stem), None)
        if image is None:
            continue
        if image in found:
            raise DataError(f"{image} has two masks, {found[image].name} and {mask.name}: keep one.")
        found[image] = mask
    return sorted(found.items())


def read_classes(folder: str | Path) -> list[Field]:
    """Images in one sub-folder for each class.

    Raises
    ------
    DataError
        If there are fewer than two such folders.
    """
    folder = _folder(folder)
    parts = {part.name: _images(part) for part in sorted(folder.iterdir()) if part.is_dir()}
    parts = {name: paths for name, paths in parts.items() if paths}
    if len(parts) < 2:
        raise DataError(f"{folder} needs a sub-folder of images for each class, at least two.")
    pairs = [(path, name) for name, paths in parts.items() for path in paths]
    groups = group_names([path for path, _ in pairs])
    return [Field(path, group, kind=name) for (path, name), group in zip(pairs, groups, strict=True)]


def class_names(fields: Sequence[Field]) -> tuple[str, ...]:
    """Classes by name, what is normal first."""
    names = sorted({item.kind for item in fields if item.kind})
    return tuple(sorted(names, key=lambda name: not name.lower().startswith(NORMAL)))


def group_names(paths: Sequence[Path]) -> list[str]:
    """Group of each file: its name's first part before ``_`` if that holds a number, else the whole name."""
    found = []
    for path in paths:
        first = path.stem.split("_")[0]
        found.append(first if any(c.isdigit() for c in first) else path.stem)
    return found


def split_groups(fields: Sequence[Field], share: float, seed: int = 0) -> tuple[list[Field], list[Field]]:
    """Put whole groups aside, about `share` of all, in every class alike.

    Returns
    -------
    rest, aside : list of Field
    """
    groups = sorted({item.group for item in fields})
    order = np.random.default_rng(seed).permutation(len(groups))
    aside: set[str] = set()
    for kind in sorted({item.kind for item in fields}):
        with_kind = {item.group for item in fields if item.kind == kind}
        wanted = round(share * len(with_kind))
        for index in order:
            if len(aside & with_kind) >= wanted:
                break
            if groups[index] in with_kind:
                aside.add(groups[index])
    rest = [item for item in fields if item.group not in aside]
    held = [item for item in fields if item.group in aside]
    if not rest or not held:
        raise DataError("There are too few groups of images to learn from some and score on others.")
    return rest, held


def without_groups_of(fields: Sequence[Field], held: Sequence[Field]) -> list[Field]:
    """Leave out images whose group, or whose very file, is among those to score on.

    Raises
    ------
    DataError
        If none is left.
    """
    groups, sums = {item.group for item in held}, {checksum(item.path) for item in held}
    kept = [item for item in fields if item.group not in groups and checksum(item.path) not in sums]
    if not kept and fields:
        raise DataError(
            "All images to learn from are also among those to score on, or have names of the same patients "
            f"(as '{fields[0].group}', the part before '_'); use other images or other names."
        )
    return kept


def grey(path: Path, size: int) -> np.ndarray:
    """One image as float32 (size, size) in [0, 1]."""
    pixels = _open(path).resized(size, size)
    return pixels if pixels.ndim == 2 else pixels.mean(axis=-1)


def mask_shares(path: Path, size: int) -> np.ndarray:
    """Share of each pixel that the mask covers, float32 (size, size)."""
    import PIL.Image

    covered = PIL.Image.fromarray(inside(mask_values(path)).astype(np.float32))
    return np.asarray(covered.resize((size, size), PIL.Image.Resampling.BOX), dtype=np.float32)


def spacing_mm(path: Path, size: int) -> tuple[float, float] | None:
    """Height and width in millimetres of a pixel of the resized image, if the file knows its pixel size."""
    image = _open(path)
    if image.pixel_size_um is None:
        return None
    side = image.pixel_size_um / 1000
    return side * image.height / size, side * image.width / size


def _check_masks(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Refuse masks that could be scored, but not as who made them meant it."""
    for path, mask in pairs:
        check_proportions(mask, mask_values(mask), _open(path))
    folder = pairs[0][1].parent
    unsaid = _unsaid(folder)
    for _, mask in pairs if unsaid else ():
        if np.isin(mask_values(mask), unsaid).any():
            raise DataError(
                f"{mask} says nothing of some pixels (see {CLASSES_FILE} there); mark the mask as complete "
                "and export it again, or leave it out."
            )
    check_some((inside(mask_values(mask)) for _, mask in pairs), folder)


def _unsaid(folder: Path) -> list[int]:
    """Values without a class, where masks come with a list of classes as `export_masks` writes it."""
    path = folder / CLASSES_FILE
    if not path.is_file():
        return []
    table = read_table(path, ["value", "class"], "classes", filled=False)
    return [int(v) for v, name in zip(floats(table["value"], path), table["class"], strict=True) if not name]


def _open(path: Path) -> Image:
    """Open an image; one that cannot be opened is a fault of the data set."""
    try:
        return open_image(path)
    except ImageError as error:
        raise DataError(str(error)) from error


def _folder(folder: str | Path) -> Path:
    """Check that a folder is there."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}; check the path.")
    return folder


def _images(folder: Path) -> list[Path]:
    """Images in a folder by name, hidden ones left out."""
    return sorted(p for p in folder.iterdir() if is_image(p) and p.is_file() and not p.name.startswith("."))
