"""One line for each image: its classes, given or predicted, how sure they are, and its mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_mtssl.study.records import ORIGIN

if TYPE_CHECKING:
    from napari_mtssl.study import Study

MOST = 4_000_000  # elements of a predicted mask, of all its classes


def given(study: Study, image_id: int, kind: str) -> str:
    """Class of a kind that somebody gave an image; empty if none."""
    said = study.image_classes(image_id)
    return next(iter(said.loc[said["kind"] == kind, "class"]), "")


def image_table(study: Study, heads: Sequence[str], ids: Sequence[int] | None = None) -> pd.DataFrame:
    """Say of each image what is known of it.

    Returns
    -------
    DataFrame
        ``image_id``; for each head ``of_HEAD`` (the given class, or the predicted one); ``colours``, for each
        head a pair of the class's colour and whether a person gave it; ``said`` in words; ``doubt`` (0 sure,
        1 none, mean over heads of which nobody gave a class; NaN if none of them is predicted); ``painted``;
        ``classed`` (has a class of every head that has classes, but for its origin); ``labelled`` (and a
        mask).
    """
    colours = {(item.kind, item.name): item.colour for item in study.classes(None)}
    given: dict[tuple[int, str], str] = {
        (image_id, kind): name
        for image_id, kind, name in study.image_classes()[["image_id", "kind", "class"]].itertuples(
            index=False
        )
    }
    best: dict[tuple[int, str], tuple[float, str]] = {}
    columns = ["image_id", "kind", "class", "probability"]
    for image_id, kind, name, p in study.image_predictions()[columns].itertuples(index=False):
        best[(image_id, kind)] = max(best.get((image_id, kind), (-1.0, "")), (float(p), name))
    painted = set(study.masked_images())
    asked = [kind for kind in heads if kind != ORIGIN and any(kind == other for other, _ in colours)]
    rows = []
    for image in study.images():
        if ids is not None and image.id not in ids:
            continue
        strips, words, doubts, line = [], [], [], {"image_id": image.id}
        for kind in heads:
            name, guess = given.get((image.id, kind)), best.get((image.id, kind))
            if guess is not None and name is None:  # what somebody settled is in no doubt
                doubts.append(1 - guess[0])
            if name is not None:
                words.append(f"{kind}: {name}")
            elif guess is not None:
                words.append(f"{kind}: {guess[1]}? ({guess[0]:.0%})")
            shown = name if name is not None else guess[1] if guess is not None else None
            line[f"of_{kind}"] = shown
            strips.append((colours.get((kind, shown)) if shown else None, name is not None))
        line["colours"], line["said"] = strips, ", ".join(words) or "no class yet"
        line["doubt"] = float(np.mean(doubts)) if doubts else np.nan
        line["painted"] = image.id in painted
        line["classed"] = all((image.id, kind) in given for kind in asked)
        line["labelled"] = line["classed"] and line["painted"]
        rows.append(line)
    names = ["image_id", *(f"of_{kind}" for kind in heads), "colours", "said", "doubt", "painted", "classed"]
    return pd.DataFrame(rows, columns=[*names, "labelled"]).astype(
        {"doubt": float, "painted": bool, "classed": bool, "labelled": bool}
    )


def mask_doubt(study: Study, image_id: int) -> float:
    """How wrong the predicted mask of an image must be expected to be.

    One minus the Dice coefficient that the network's own probabilities lead to expect.

    Returns
    -------
    float
        From 0 to 1; NaN if nothing is predicted, or so large a mask that reading it would be felt.
    """
    found = study.mask_prediction(image_id)
    if found is None or np.prod(found.array.shape, dtype=float) > MOST:
        return np.nan
    probs = found.read()
    inside = 1 - probs[0] if len(probs) else np.zeros(0)  # all classes but the background
    inside = np.where(probs.any(0), inside, 0)  # where something is predicted
    taken = inside > 0.5
    total = float(taken.sum() + inside.sum())
    return 1 - 2 * float(inside[taken].sum()) / total if total else 0.0
