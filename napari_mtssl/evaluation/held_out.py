"""Scores of a trained method on the labelled images of a study: cells, masks and classes of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mtssl.evaluation.metrics import accuracy, confusion_matrix, count_detections, macro_f1
from napari_mtssl.evaluation.places import score_places

if TYPE_CHECKING:
    from napari_mtssl.images import Image
    from napari_mtssl.methods.prediction import Prediction
    from napari_mtssl.study import ImageRecord, Study
    from napari_mtssl.study.records import Split

Predict = Callable[["Image"], "Prediction"]


def score_study(
    study: Study,
    vocabulary: Mapping[str, Sequence[str]],
    predict: Predict,
    split: Split,
    radius: float = 6.0,
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

    Returns
    -------
    dict of str to float
        Of cells detection scores over all images and scores at the labelled places; of masks ``mask_dice``
        and ``mask_iou`` (pixels of all images together, mean over the classes but the background) and
        ``mask_accuracy``; of classes of images ``KIND_accuracy`` and ``KIND_macro_f1``. Empty if nothing is
        labelled.
    """
    from napari_mtssl.images import ImagePool

    images = ImagePool()
    cells: list[tuple[Any, Any]] = []
    confusions: dict[str, np.ndarray] = {}
    given = study.image_classes(split=split)
    masked = set(study.masked_images(split)) if "mask" in vocabulary else set()
    for record in study.images(split):
        labels = study.cells(record.id)
        heads = given[(given["image_id"] == record.id) & given["kind"].isin(list(vocabulary))]
        has_cells = "cell" in vocabulary and not labels.empty
        if not (has_cells or len(heads) or record.id in masked):
            continue
        found = predict(images(record))
        if has_cells:
            names = vocabulary["cell"]
            truth = labels[labels["class"] != names[0]]
            cells.append(
                (
                    count_detections(truth, found.cells, names[1:], radius),
                    score_places(labels, found.cells, names, radius),
                )
            )
        if record.id in masked and found.mask is not None:
            _add(confusions, "mask", mask_confusion(study, record, vocabulary["mask"], found.mask))
        for kind, name in zip(heads["kind"], heads["class"], strict=True):
            said = found.image[found.image["kind"] == kind]
            if len(said) and name in vocabulary[kind]:
                order = list(vocabulary[kind])
                best = order.index(said.loc[said["probability"].idxmax(), "class"])
                _add(
                    confusions,
                    kind,
                    confusion_matrix(np.array([order.index(name)]), np.array([best]), len(order)),
                )
    scores: dict[str, float] = {}
    if cells:
        for parts in zip(*cells, strict=True):
            scores |= sum(parts[1:], parts[0]).scores()
    if "mask" in confusions:
        scores |= mask_scores(confusions.pop("mask"))
    for kind, confusion in confusions.items():
        scores |= {f"{kind}_accuracy": accuracy(confusion), f"{kind}_macro_f1": macro_f1(confusion)}
    return scores


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
        Of any resolution; the nearest element counts for a pixel.

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
    said = probabilities.argmax(axis=0)
    rows, cols = (
        np.minimum(((np.arange(n) + 0.5) * m / n).astype(int), m - 1)
        for n, m in zip(codes.shape, said.shape, strict=True)
    )
    known = truth >= 0
    return confusion_matrix(truth[known], said[np.ix_(rows, cols)][known], len(names))


def mask_scores(confusion: np.ndarray) -> dict[str, float]:
    """Dice, IoU (mean over the classes but the first, which occur) and accuracy of pixels.

    Returns
    -------
    dict of str to float
    """
    right = np.diag(confusion).astype(float)[1:]
    sizes = (confusion.sum(axis=0) + confusion.sum(axis=1))[1:].astype(float)
    occurs = sizes > 0
    dice = 2 * right[occurs] / sizes[occurs]
    return {
        "mask_dice": float(dice.mean()) if occurs.any() else float("nan"),
        "mask_iou": float((dice / (2 - dice)).mean()) if occurs.any() else float("nan"),
        "mask_accuracy": accuracy(confusion),
    }


def _add(sums: dict[str, np.ndarray], kind: str, confusion: np.ndarray) -> None:
    sums[kind] = sums[kind] + confusion if kind in sums else confusion
