"""Scores of MultiMix on labelled images of a study: those of every method, and the others of its paper."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_mtssl.evaluation.held_out import Predict, by_origin, score_study
from napari_mtssl.evaluation.metrics import confusion_matrix, f1_scores
from napari_mtssl.evaluation.multimix_scores import mask_scores, mean_scores
from napari_mtssl.images.image import is_slide
from napari_mtssl.methods.prediction import full_size

if TYPE_CHECKING:
    import pandas as pd

    from napari_mtssl.images import Image
    from napari_mtssl.methods.prediction import Prediction
    from napari_mtssl.study import ImageRecord, Study
    from napari_mtssl.study.records import Split

OF_PIXELS = ("precision", "recall")  # are right on the painted part of a mask, too
OF_OUTLINES = ("ssim", "hausdorff_px", "hd95_px", "hd95_mm")  # need to know every pixel


def score_fields(
    study: Study,
    vocabulary: Mapping[str, Sequence[str]],
    predict: Predict,
    split: Split,
    radius: float = 6.0,
) -> dict[str, float]:
    """`held_out.score_origins`, with every score of the paper.

    Parameters
    ----------
    As `held_out.score_study`.

    Returns
    -------
    dict of str to float
        Also ``mask_precision`` and ``mask_recall`` of pixels whose class somebody gave, and of complete masks
        ``mask_ssim``, ``mask_hausdorff_px``, ``mask_hd95_px`` and, where pixel sizes are known,
        ``mask_hd95_mm``: each measured on all pixels of an image, and the mean over all images and classes
        but the background that are given or predicted there. Masks of slides have none of these. And
        ``KIND_f1_CLASS``, nan for a class neither given nor predicted. Those on images of another origin
        than all training images begin with ``cross_``.
    """

    def some(image_ids: Collection[int]) -> dict[str, float]:
        return _score_side(study, vocabulary, predict, split, radius, image_ids)

    return by_origin(study, split, some)


def _score_side(
    study: Study,
    vocabulary: Mapping[str, Sequence[str]],
    predict: Predict,
    split: Split,
    radius: float,
    image_ids: Collection[int],
) -> dict[str, float]:
    """Score some images of a split; each is predicted once."""
    records = {record.location: record for record in study.images(split) if record.id in image_ids}
    masked = set(study.masked_images(split)) if "mask" in vocabulary else set()
    masks: list[dict[str, np.ndarray]] = []
    said: dict[int, pd.DataFrame] = {}

    def watched(image: Image) -> Prediction:
        found, record = predict(image), records[image.location]
        said[record.id] = found.image
        if record.id in masked and found.mask is not None:
            masks.extend(field_masks(study, record, vocabulary["mask"], found.mask))
        return found

    scores = score_study(study, vocabulary, watched, split, radius, image_ids)
    names = [name for name in (*OF_PIXELS, *OF_OUTLINES) if any(name in each for each in masks)]
    every = {name: np.concatenate([each[name] for each in masks if name in each]) for name in names}
    scores |= {f"mask_{name}": value for name, value in mean_scores(every).items()}
    return scores | _f1_of_classes(study, vocabulary, split, said)


def field_masks(
    study: Study, record: ImageRecord, names: Sequence[str], probabilities: np.ndarray
) -> list[dict[str, np.ndarray]]:
    """Compare the mask of one image, all its pixels.

    Parameters
    ----------
    study : Study
    record : ImageRecord
    names : sequence of str
        Classes of kind ``mask``, background first.
    probabilities : ndarray, shape (K, h, w)
        Of any resolution; they are brought to that of the image as they are for an export.

    Returns
    -------
    list of dict of str to ndarray (1,)
        `OF_PIXELS` and, of a complete mask, `OF_OUTLINES` of each class that is given or predicted; empty for
        a slide.
    """
    if is_slide(record.height, record.width):
        return []
    codes, complete = study.mask(record.id), study.mask_state(record.id).complete
    known = np.ones_like(codes, bool) if complete else codes > 0
    said = full_size(probabilities, record.height, record.width).argmax(axis=0)
    code_of = {item.name: item.code for item in study.classes("mask")}
    spacing = None if record.pixel_size_um is None else (record.pixel_size_um / 1000,) * 2
    scores = []
    for index, name in enumerate(names[1:], start=1):
        given, found = codes == code_of.get(name, -1), (said == index) & known
        if given.any() or found.any():
            each = mask_scores(given[None], found[None], [spacing])
            scores.append({name: each[name] for name in OF_PIXELS + (OF_OUTLINES if complete else ())})
    return scores


def _f1_of_classes(
    study: Study, vocabulary: Mapping[str, Sequence[str]], split: Split, said: Mapping[int, pd.DataFrame]
) -> dict[str, float]:
    """F1 of every class of whole images, by the most probable class of each image."""
    scores: dict[str, float] = {}
    given = study.image_classes(split=split)
    given = given[given["image_id"].isin(list(said))]
    for kind, names in vocabulary.items():
        pairs = []
        for image_id, name in given.loc[given["kind"] == kind, ["image_id", "class"]].itertuples(index=False):
            found = said[image_id][said[image_id]["kind"] == kind]
            if len(found) and name in names:
                best = found.loc[found["probability"].idxmax(), "class"]
                pairs.append((list(names).index(name), list(names).index(best)))
        if pairs:
            truth, best_of = np.array(pairs).T
            f1 = f1_scores(confusion_matrix(truth, best_of, len(names)))
            scores |= {f"{kind}_f1_{name}": float(value) for name, value in zip(names, f1, strict=True)}
    return scores
