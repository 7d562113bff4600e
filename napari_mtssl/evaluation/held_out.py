"""Scores of a trained method on the labelled images of a study: cells, masks and classes of images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mtssl.evaluation.metrics import accuracy, confusion_matrix, count_detections, macro_f1
from napari_mtssl.evaluation.places import score_places
from napari_mtssl.images import is_slide
from napari_mtssl.methods.prediction import full_size

if TYPE_CHECKING:
    import pandas as pd

    from napari_mtssl.images import Image
    from napari_mtssl.methods.prediction import Prediction
    from napari_mtssl.study import ImageRecord, Study
    from napari_mtssl.study.records import Split

Predict = Callable[["Image"], "Prediction"]
FINE = 512  # pixels along each side at which distances of outlines are measured, at most
CROSS = "cross_"  # in front of scores on images of another origin than those learnt from


def score_origins(
    study: Study,
    vocabulary: Mapping[str, Sequence[str]],
    predict: Predict,
    split: Split,
    radius: float = 6.0,
) -> dict[str, float]:
    """`score_study`, apart for images of another origin than all images to learn from.

    Returns
    -------
    dict of str to float
        Scores on images whose origin is among those of the training images, or not known; and with ``cross_``
        in front those on the others.
    """

    def some(image_ids: Collection[int]) -> dict[str, float]:
        return score_study(study, vocabulary, predict, split, radius, image_ids)

    return by_origin(study, split, some)


def by_origin(
    study: Study, split: Split, score: Callable[[Collection[int]], dict[str, float]]
) -> dict[str, float]:
    """Score images of a split apart by whether images of their origin are learnt from.

    Parameters
    ----------
    study : Study
    split : str
    score : callable
        Gives the scores of some images, by their ids.

    Returns
    -------
    dict of str to float
        As `score_origins`.
    """
    other = study.foreign_images(split)
    scores = score({image.id for image in study.images(split)} - other)
    apart = score(other) if other else {}
    return scores | {CROSS + name: value for name, value in apart.items()}


def score_study(
    study: Study,
    vocabulary: Mapping[str, Sequence[str]],
    predict: Predict,
    split: Split,
    radius: float = 6.0,
    image_ids: Collection[int] | None = None,
) -> dict[str, float]:
    """Predict every labelled image of a split and compare.

    Parameters
    ----------
    study : Study
    vocabulary : mapping of str to sequence of str
        Classes that were learnt, by kind.
    predict : callable
        Gives the prediction of a whole image.
    split : str
    radius : float
        Greatest distance of a cell from its prediction, pixels.
    image_ids : collection of int, optional
        Of the split, those that count; by default all.

    Returns
    -------
    dict of str to float
        Of cells detection scores over all images and scores at the labelled places; of masks ``mask_dice``
        and ``mask_iou`` (pixels of all images together, mean over the classes but the background), of several
        classes also ``mask_dice_CLASS``; ``mask_accuracy``, and ``mask_hd95_mm`` where pixel sizes are known
        and masks complete; of classes of images ``KIND_accuracy``, ``KIND_macro_f1``,
        ``KIND_balanced_accuracy``, ``KIND_auroc`` and ``KIND_calibration_error``. Empty if nothing is
        labelled.
    """
    from napari_mtssl.images import ImagePool

    images, sums = ImagePool(), _Sums(study, vocabulary, radius)
    given = study.image_classes(split=split)
    masked = set(study.masked_images(split)) if "mask" in vocabulary else set()
    for record in study.images(split):
        if image_ids is not None and record.id not in image_ids:
            continue
        labels = study.cells(record.id)
        heads = given[(given["image_id"] == record.id) & given["kind"].isin(list(vocabulary))]
        has_cells = "cell" in vocabulary and not labels.empty
        if not (has_cells or len(heads) or record.id in masked):
            continue
        found = predict(images(record))
        if has_cells:
            sums.add_cells(labels, found)
        if record.id in masked and found.mask is not None:
            sums.add_mask(record, found.mask)
        sums.add_classes(heads, found)
    return sums.scores()


class _Sums:
    """What the images of a split add up to."""

    def __init__(self, study: Study, vocabulary: Mapping[str, Sequence[str]], radius: float) -> None:
        self.study, self.vocabulary, self.radius = study, vocabulary, radius
        self.cells: list[tuple[Any, Any]] = []
        self.confusion: np.ndarray | None = None
        self.distances: list[float] = []
        # by kind: probabilities and true class of each image
        self.told: dict[str, list[tuple[np.ndarray, int]]] = {}

    def add_cells(self, labels: pd.DataFrame, found: Prediction) -> None:
        """Compare the cells of one image."""
        names = self.vocabulary["cell"]
        truth = labels[labels["class"] != names[0]]
        counts = count_detections(truth, found.cells, names[1:], self.radius)
        self.cells.append((counts, score_places(labels, found.cells, names, self.radius)))

    def add_mask(self, record: ImageRecord, mask: np.ndarray) -> None:
        """Compare the mask of one image."""
        confusion = mask_confusion(self.study, record, self.vocabulary["mask"], mask)
        self.confusion = confusion if self.confusion is None else self.confusion + confusion
        self.distances += outline_distances(self.study, record, self.vocabulary["mask"], mask)

    def add_classes(self, heads: pd.DataFrame, found: Prediction) -> None:
        """Compare the classes of one image."""
        for kind, name in zip(heads["kind"], heads["class"], strict=True):
            said = found.image[found.image["kind"] == kind]
            if len(said) and name in self.vocabulary[kind]:
                order = list(self.vocabulary[kind])
                probability = said.set_index("class")["probability"].reindex(order, fill_value=0.0)
                self.told.setdefault(kind, []).append((probability.to_numpy(float), order.index(name)))

    def scores(self) -> dict[str, float]:
        """Scores by name."""
        scores: dict[str, float] = {}
        if self.cells:
            for parts in zip(*self.cells, strict=True):
                scores |= sum(parts[1:], parts[0]).scores()
        if self.confusion is not None:
            scores |= mask_scores(self.confusion, self.vocabulary["mask"])
        if self.distances:
            scores["mask_hd95_mm"] = float(np.mean(self.distances))
        for kind, pairs in self.told.items():
            scores |= {f"{kind}_{name}": value for name, value in _head_scores(pairs).items()}
        return scores


def _head_scores(pairs: Sequence[tuple[np.ndarray, int]]) -> dict[str, float]:
    """Scores of one head of whole images from probabilities and true classes."""
    from napari_mtssl.evaluation.multimix_scores import class_scores

    probabilities, truth = np.stack([p for p, _ in pairs]), np.array([t for _, t in pairs])
    confusion = confusion_matrix(truth, probabilities.argmax(1), probabilities.shape[1])
    every = class_scores(probabilities, truth)
    return {
        "accuracy": accuracy(confusion),
        "macro_f1": macro_f1(confusion),
        "balanced_accuracy": every["balanced_accuracy"],
        "auroc": every["auroc"],
        "calibration_error": every["ece"],
    }


def mask_confusion(
    study: Study, record: ImageRecord, names: Sequence[str], probabilities: np.ndarray
) -> np.ndarray:
    """Count the pixels of one image whose class somebody gave, by given and predicted class.

    Parameters
    ----------
    study : Study
    record : ImageRecord
    names : sequence of str
        Classes of kind ``mask``, background first.
    probabilities : ndarray, shape (K, h, w)
        Of any resolution; they are brought to that of the image as they are for an export. Of a slide, the
        nearest element counts for a pixel.

    Returns
    -------
    ndarray of int, shape (K, K)
        Rows are given classes.
    """
    codes = study.mask(record.id)
    code_of = {item.name: item.code for item in study.classes("mask")}
    truth = np.full(codes.shape, -1)
    for index, name in enumerate(names):
        truth[codes == code_of.get(name, -1)] = index
    if study.mask_state(record.id).complete:
        truth[codes == 0] = 0
    if is_slide(record.height, record.width):
        said = _nearest(probabilities.argmax(axis=0), codes.shape)
    else:
        said = full_size(probabilities, *codes.shape).argmax(axis=0)
    known = truth >= 0
    return confusion_matrix(truth[known], said[known], len(names))


def outline_distances(
    study: Study, record: ImageRecord, names: Sequence[str], probabilities: np.ndarray
) -> list[float]:
    """95th percentile of the distances (Hausdorff) between given and predicted outlines, millimetres.

    Returns
    -------
    list of float
        Of each class of a complete mask that is given or predicted; empty without a pixel size.
    """
    if record.pixel_size_um is None or not study.mask_state(record.id).complete:
        return []
    from napari_mtssl.evaluation.multimix_scores import mask_scores as outline_scores

    grid = [min(FINE, n) for n in probabilities.shape[1:]]
    truth = _nearest(study.mask(record.id), grid)
    said = _nearest(probabilities.argmax(axis=0), grid)
    height, width = (
        record.pixel_size_um / 1000 * whole / n
        for whole, n in zip((record.height, record.width), grid, strict=True)
    )
    code_of = {item.name: item.code for item in study.classes("mask")}
    found = []
    for index, name in enumerate(names[1:], start=1):
        pair = (truth == code_of.get(name, -1))[None], (said == index)[None]
        if pair[0].any() or pair[1].any():
            found.append(float(outline_scores(*pair, [(height, width)])["hd95_mm"][0]))
    return found


def _nearest(plane: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Take the nearest elements at another resolution."""
    rows, cols = (
        np.minimum(((np.arange(n) + 0.5) * m / n).astype(int), m - 1)
        for n, m in zip(grid, plane.shape, strict=True)
    )
    return plane[np.ix_(rows, cols)]


def mask_scores(confusion: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Dice, IoU (mean over the classes but the first, which occur) and accuracy of pixels.

    Parameters
    ----------
    confusion : ndarray of int, shape (K, K)
        Rows are given classes.
    names : sequence of str
        Of the classes, background first.

    Returns
    -------
    dict of str to float
        Of more than one class but the background, the Dice of each that occurs as well.
    """
    right = np.diag(confusion).astype(float)[1:]
    sizes = (confusion.sum(axis=0) + confusion.sum(axis=1))[1:].astype(float)
    occurs = sizes > 0
    dice = 2 * right[occurs] / sizes[occurs]
    several = zip(np.array(names[1:])[occurs], dice, strict=True) if len(names) > 2 else ()
    return {
        "mask_dice": float(dice.mean()) if occurs.any() else float("nan"),
        "mask_iou": float((dice / (2 - dice)).mean()) if occurs.any() else float("nan"),
        "mask_accuracy": accuracy(confusion),
        **{f"mask_dice_{name}": float(value) for name, value in several},
    }
