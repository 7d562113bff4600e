"""A study cross-validated by patient: what the dock's button asks for, with the report's own tables."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_mtssl.evaluation import series, specimens, specimens_report
from napari_mtssl.evaluation.hep2 import MASK, Specimens
from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.evaluation.specimens_rows import CAPTIONS, SINGLE

if TYPE_CHECKING:
    from napari_mtssl.study import Study

METHOD = "joint-unet"


COMPARED = ("equal", "tuned")  # beside the settings shown, and single-task networks


@dataclass(frozen=True)
class Scored:
    """How far a cross-validation is.

    Attributes
    ----------
    done, total : int
        Trainings; of several rows each has as many as there are folds.
    at : str
        Row and fold at work, in words; empty once all are done.
    step, steps : int
        Of the training at work.
    scores : mapping of str to (mean, sd)
        Of the first row, over its folds that are done; sd is nan for one.
    others : mapping of str to such a mapping
        Of the other rows of which a fold is done, by their name in words.
    report : bool
        Whether the report is written.
    """

    done: int
    total: int
    at: str
    step: int
    steps: int
    scores: Mapping[str, tuple[float, float]]
    others: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    report: bool = False


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
    from napari_mtssl.methods.base import MethodError, vocabulary_of
    from napari_mtssl.methods.joint_unet import JointUNetMethod
    from napari_mtssl.methods.joint_unet.samples import read_images

    vocabulary = vocabulary_of(study, JointUNetMethod.kinds)  # labels of any split
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
        study=True,
    )


def row_of(settings: Mapping[str, Any]) -> str:
    """Name of the table's row that stands for settings of the method."""
    rule = settings["balance"]
    if rule == "gradnorm":
        return f"gradnorm-{settings['balance_alpha']:g}-{settings['mask_loss']}"
    if rule == "fixed" and settings["mask_weight"] == settings["class_weight"] == 1:
        rule = "equal"  # the same, and not to be trained twice
    return f"{rule}-{settings['mask_loss']}"


def in_words(row: str) -> str:
    """Name a row as a user would; of the loss nothing is said, which rows of a study share."""
    name = row.removesuffix(f"-{row.split('-')[-1]}")
    if name.startswith("gradnorm"):
        return f"GradNorm, alpha {name.split('-')[1]}"
    return CAPTIONS.rows.get(name, name)


def plan_of(
    study: Study,
    folds: int,
    preset: str,
    overrides: Mapping[str, Any],
    device: str,
    *,
    validate: bool = False,
    compare: bool = False,
) -> tuple[specimens.Plan, list[str]]:
    """Plan the folds of a study, and name the rows of the table; nothing is trained yet.

    Parameters
    ----------
    study : Study
    folds : int
    preset, device : str
    overrides : mapping
        Settings that differ from the preset's.
    validate : bool
        Hold a fifth of the patients to learn from out, to choose the best weights by.
    compare : bool
        Have rows with equal weights, tuned weights and single-task networks, too.

    Raises
    ------
    DataError
        If there are fewer patients with labels than folds, or too few to hold some out.
    """
    from napari_mtssl.methods.joint_unet import JointUNetMethod

    settings = JointUNetMethod.configure(preset, **overrides).model_dump()
    data = specimens_of(study, settings["size"])
    row = row_of(settings)
    loss = settings["mask_loss"]
    rows = [row, *(f"{name}-{loss}" for name in COMPARED), f"{SINGLE}-{loss}"] if compare else [row]
    plan = specimens.Plan(
        data,
        study.path / "crossval",
        folds=folds,
        overrides={k: v for k, v in overrides.items() if k not in ("balance", "balance_alpha", "mask_loss")},
        preset=preset,
        device=device,
        threads=specimens.default_threads(),
        validate=validate,
    )
    try:
        dealt = plan.fold_of()
        if validate or compare:
            for fold in range(folds):
                plan.held_out(data[dealt != fold])
    except DataError as error:
        raise DataError(f"{error} A patient is an image's group (step 1).") from error
    return plan, list(dict.fromkeys(rows))


def cross_validate(
    plan: specimens.Plan,
    rows: Sequence[str],
    stopped: Callable[[], bool],
    cluster: str | None = None,
) -> Iterator[Scored]:
    """Train and score fold after fold; what is done is kept, and is not done again the next time.

    Parameters
    ----------
    plan : Plan
    rows : sequence of str
        The first one's scores are told.
    stopped : callable
        Whether the user asked for the end.
    cluster : str, optional
        Where folds run side by side: the address of a Dask cluster, or ``process``.

    Yields
    ------
    Scored
        As things go on. At the end, also one that was asked for, ``report.md`` and its pictures lie in the
        plan's folder, of all folds that are done for every row; without such a fold there is none.
    """
    heard: queue.Queue[series.Progress | None] = queue.Queue()
    failed: list[Exception] = []
    left = threading.Event()  # nobody listens any more

    def work() -> None:
        try:
            specimens.reproduce(
                plan,
                rows,
                progress=heard.put,
                cluster=cluster,
                stopped=lambda: left.is_set() or stopped(),
            )
        except specimens.Stopped:
            pass
        except Exception as error:  # noqa: BLE001 (raised again where somebody hears it)
            failed.append(error)
        finally:
            heard.put(None)

    thread = threading.Thread(target=work, name="cross-validation", daemon=True)
    thread.start()
    done: dict[series.Trial, Mapping[str, Any]] = {}
    try:
        while (now := heard.get()) is not None:
            if now.scores is not None:
                done[now.trial] = now.scores
            at = "" if now.done == now.total else f"{in_words(now.trial.row)}, fold {now.trial.seed + 1}"
            yield Scored(now.done, now.total, at, now.step, now.steps, *_all_scores(plan, done, rows))
    finally:
        left.set()
        thread.join()
    if failed:
        raise failed[0]
    folds, compared = _reported(plan, done, rows)
    if folds:
        part = replace(plan, only=folds)
        specimens_report.write(specimens.reproduce(part, compared), part)
    total = len(plan.chosen) * len(rows)
    yield Scored(len(done), total, "", 0, 0, *_all_scores(plan, done, rows), bool(folds))


def _reported(
    plan: specimens.Plan, done: Mapping[series.Trial, Any], rows: Sequence[str]
) -> tuple[tuple[int, ...], list[str]]:
    """Choose what of a cross-validation that was stopped fills a table: folds, and rows that have them all.

    Folds that are done for every row, or else those of the first row, and the rows that have these, too.
    """
    has = {row: {trial.seed for trial in done if trial.row == row} for row in rows}
    whole = set.intersection(*has.values()) or has[rows[0]]
    folds = tuple(fold for fold in plan.chosen if fold in whole)
    return folds, [row for row in rows if has[row] >= whole]


Summary = dict[str, tuple[float, float]]


def _all_scores(
    plan: specimens.Plan, done: Mapping[series.Trial, Mapping[str, Any]], rows: Sequence[str]
) -> tuple[Summary, dict[str, Summary]]:
    """Scores of the first row, and those of the others."""
    first, *others = (_summary(plan, done, row) for row in rows)
    named = zip(rows[1:], others, strict=True)
    return first, {in_words(row): scores for row, scores in named if scores}


def _summary(plan: specimens.Plan, done: Mapping[series.Trial, Mapping[str, Any]], row: str) -> Summary:
    """Mean and spread of each score over the folds of one row that are done, by the study's own words."""
    label = next((kind for kind in plan.data.heads if kind != "intensity"), "label")
    runs: dict[str, list[float]] = {}
    for trial, scores in done.items():
        for name, value in scores.items():
            # the table's `auroc` is that of one of the questions once more
            if trial.row == row and value is not None and name not in ("seconds", "auroc"):
                name = f"{label}_{name.removeprefix('label_')}" if name.startswith("label_") else name
                runs.setdefault(name, []).append(value)
    nan = float("nan")
    return {
        name: (float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else nan)
        for name, values in runs.items()
    }
