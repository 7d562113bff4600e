"""A study cross-validated by patient: what the dock's button asks for, with the report's own tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mtssl.evaluation import series, specimens, specimens_report
from napari_mtssl.evaluation.hep2 import MASK, Specimens
from napari_mtssl.evaluation.readers import DataError

if TYPE_CHECKING:
    from napari_mtssl.study import Study

METHOD = "joint-unet"


class Stopped(Exception):
    """The user asked for the end."""


@dataclass(frozen=True)
class Scored:
    """Some folds are done.

    Attributes
    ----------
    done, total : int
        Folds.
    scores : mapping of str to (mean, sd)
        Over the folds that are done; sd is nan for one.
    """

    done: int
    total: int
    scores: Mapping[str, tuple[float, float]]


def specimens_of(study: Study, size: int) -> Specimens:
    """Read all images of a study, whatever they are used to, with what is said of them.

    Images that nobody labelled are among them: they help to train, and are not scored.

    Raises
    ------
    DataError
        If nothing is labelled.
    """
    import torch

    from napari_mtssl.images import ImagePool
    from napari_mtssl.methods.base import MethodError
    from napari_mtssl.methods.joint_unet import JointUNetMethod
    from napari_mtssl.methods.joint_unet.samples import read_images

    vocabulary = JointUNetMethod.vocabulary_of(study)
    try:
        found = read_images(study, ImagePool(), None, vocabulary, size, torch.device("cpu"))
    except MethodError as error:
        raise DataError(str(error)) from error
    records = {record.id: record for record in study.images()}
    rows = [records[image_id] for image_id in found.ids]
    groups = [record.group or f"image {record.id}" for record in rows]
    heads = {kind: known.numpy() for kind, known in found.labels.items()}
    # a question that nobody answered in two ways teaches nothing
    asked = {kind for kind, known in heads.items() if len(np.unique(known[known >= 0])) > 1}
    asked |= {MASK} if bool(found.masked.any()) else set()
    if not asked:
        raise DataError("There are no masks, and no kind of class of which two classes have images.")
    return Specimens(
        study.name,
        found.images.numpy().transpose(0, 2, 3, 1),
        found.masks.numpy(),
        {kind: known for kind, known in heads.items() if kind in asked},
        {kind: names for kind, names in vocabulary.items() if kind in asked},
        np.array(groups),
        tuple(record.path.stem for record in rows),
    )


def row_of(settings: Mapping[str, Any]) -> str:
    """Name of the table's row that stands for settings of the method."""
    rule = settings["balance"]
    if rule == "gradnorm":
        return f"gradnorm-{settings['balance_alpha']:g}-{settings['mask_loss']}"
    return f"{rule}-{settings['mask_loss']}"


def plan_of(
    study: Study, folds: int, preset: str, overrides: Mapping[str, Any], device: str
) -> tuple[specimens.Plan, str]:
    """Plan the folds of a study, and name the row of the table; nothing is trained yet.

    Raises
    ------
    DataError
        If there are fewer patients with labels than folds.
    """
    from napari_mtssl.methods.joint_unet import JointUNetMethod

    settings = JointUNetMethod.configure(preset, **overrides).model_dump()
    data = specimens_of(study, settings["size"])
    plan = specimens.Plan(
        data,
        study.path / "crossval",
        folds=folds,
        overrides={k: v for k, v in overrides.items() if k not in ("balance", "balance_alpha", "mask_loss")},
        preset=preset,
        device=device,
        threads=specimens.default_threads(),
    )
    try:
        plan.fold_of()
    except ValueError as error:
        raise DataError(f"{error} A patient is an image's group (step 1).") from error
    return plan, row_of(settings)


def cross_validate(plan: specimens.Plan, row: str, stopped: Callable[[], bool]) -> Iterator[Scored]:
    """Train and score fold after fold; what is done is kept, and is not done again the next time.

    Parameters
    ----------
    plan : Plan
    row : str
    stopped : callable
        Whether the user asked for the end.

    Yields
    ------
    Scored
        After each fold; after the last one ``report.md`` and its pictures lie in the plan's folder.
    """

    def look(progress: series.Progress) -> None:
        if stopped():
            raise Stopped

    for fold in range(plan.folds):
        try:
            specimens.reproduce(replace(plan, only=(fold,)), [row], progress=look)
        except Stopped:
            return
        so_far = specimens.reproduce(replace(plan, only=tuple(range(fold + 1))), [row])
        if fold + 1 == plan.folds:
            specimens_report.write(so_far, plan)
        yield Scored(fold + 1, plan.folds, _summary(so_far["results"], row))


def _summary(results: Mapping[str, Any], row: str) -> dict[str, tuple[float, float]]:
    cell = next(iter(results[row].values()))
    nan = float("nan")
    return {
        name: (value["mean"], nan if value["sd"] is None else value["sd"])
        for name, value in cell.items()
        if value["mean"] is not None and name != "seconds"
    }
