"""Which classes a study has for a method, which of them are labelled, and a draw of the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_mtssl.methods.config import MethodError
from napari_mtssl.study.records import ORIGIN

if TYPE_CHECKING:
    from napari_mtssl.study import Study
    from napari_mtssl.study.records import Split

# Kinds of classes that places of an image have; all other kinds are classes of a whole image.
PLACED = ("cell", "block", "mask")


def vocabulary_of(study: Study, kinds: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Class names of a study by kind; ``image`` in `kinds` stands for every kind that whole images have.

    Where an image comes from (``origin``) is not to be learnt.
    """
    return {
        kind: tuple(item.name for item in study.classes(kind))
        for kind in study.kinds()
        if kind in kinds or ("image" in kinds and kind not in (*PLACED, ORIGIN))
    }


def named_now(study: Study, vocabulary: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Give classes the names that they have in a study today; one that is gone keeps its own."""
    return {
        kind: tuple(study.class_now(name, kind) or name for name in names)
        for kind, names in vocabulary.items()
    }


def labels_of(study: Study, kinds: Sequence[str], split: Split) -> dict[str, set[str]]:
    """Names of the classes that labels of a split have, by kind; kinds without a label are missing."""
    found: dict[str, set[str]] = {}
    if "cell" in kinds:
        found["cell"] = study.cell_classes(split)
    if "block" in kinds:
        found["block"] = study.coarse_classes(split)
    if "mask" in kinds and study.masked_images(split):
        found["mask"] = {item.name for item in study.classes("mask")}
    if "image" in kinds:
        for kind, group in study.image_classes(split=split).groupby("kind"):
            if kind != ORIGIN:
                found[str(kind)] = set(group["class"])
    return {kind: names for kind, names in found.items() if names}


def labelled_kinds(study: Study) -> set[str]:
    """Kinds of classes that whole training images have labels of, masks among them."""
    kinds = set(study.image_classes(split="train")["kind"])
    return kinds | {"mask"} if study.masked_images("train") else kinds


def taught(study: Study, vocabulary: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Of a vocabulary the kinds that training images have labels of; all of it if there are none.

    Of classes of images labels of two are needed, if there is something else to learn. An output for the rest
    would never be taught, and still be shown. What is labelled for the first time
    while a run goes on is left out of that run, like a class that is new.
    """
    known = labelled_kinds(study) & set(vocabulary)
    said = study.image_classes(split="train").groupby("kind")["class"].nunique()
    told = {kind for kind in known if kind == "mask" or said[kind] > 1}
    return {kind: names for kind, names in vocabulary.items() if kind in (told or known or vocabulary)}


def draw_labels(cells: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Draw some of the labelled cells, of every class in turn, so that none is missing.

    Parameters
    ----------
    cells : DataFrame
        With a column ``class``.
    n : int
        How many; 0 for all.
    seed : int

    Returns
    -------
    DataFrame
        In the order they had.

    Raises
    ------
    MethodError
        If there are more classes than `n`.
    """
    if n == 0 or n >= len(cells):
        return cells
    if n < cells["class"].nunique():
        raise MethodError(f"{n} labels are too few for {cells['class'].nunique()} classes; use more.")
    shuffled = cells.iloc[np.random.default_rng(seed).permutation(len(cells))]
    turns = shuffled.groupby("class").cumcount().to_numpy()
    return shuffled.iloc[np.argsort(turns, kind="stable")[:n]].sort_index()
