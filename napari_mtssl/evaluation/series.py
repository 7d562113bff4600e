"""A series of trials: what the tables of all methods share.

A trial is one cell of a table for one seed. Its scores are kept in a file as soon as it ends, so that a table
that was stopped goes on from there, and a table may be made in pieces (some rows today, some tomorrow).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_mtssl.evaluation import table

Tell = Callable[[int, int], None]  # step and steps of a trial's training
Scores = Mapping[str, float]


@dataclass(frozen=True)
class Trial:
    """One cell of a table for one seed.

    Attributes
    ----------
    row : str
        The method or baseline.
    budget : int or str
        How much was labelled: patches, images, the side of a block, ...; several
        numbers as ``40-10``.
    seed : int
        Of the draw of labels, the fold, or the weights.
    task : str
        What is scored, where trials of one cell differ in that; else empty.
    """

    row: str
    budget: Any
    seed: int
    task: str = ""

    @property
    def name(self) -> str:
        """A file name."""
        task = self.task.split()
        return "-".join([self.row, str(self.budget), str(self.seed), *task[:1]])


@dataclass(frozen=True)
class Progress:
    """How far a series is.

    Attributes
    ----------
    trial : Trial
        The one at work.
    done, total : int
        Trials.
    step, steps : int
        Of the trial's training; 0 of 0 where there are no steps.
    scores : mapping of str to float, optional
        Of the trial, once it is done.
    """

    trial: Trial
    done: int
    total: int
    step: int = 0
    steps: int = 0
    scores: Mapping[str, float] | None = None


def fingerprint(what: object) -> str:
    """Return a short text that is another one as soon as `what`, of JSON types, is another."""
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


class SeriesError(ValueError):
    """A series cannot go on; the message says what to change."""


def run_trials(
    trials: Sequence[Trial],
    one: Callable[[Trial, Tell], Scores],
    key: Callable[[Trial], Mapping[str, Any]],
    folder: Path,
    progress: Callable[[Progress], None] | None = None,
) -> dict[Trial, dict[str, Any]]:
    """Scores of every trial, run now or kept from before.

    Parameters
    ----------
    trials : sequence of Trial
        In the order in which they are to be run.
    one : callable
        Runs a trial and returns its scores, nan where there is none.
    key : callable
        Everything that decides a trial's outcome, as JSON types: kept scores are used only if it is the same.
        It is asked for every trial before the first is run, so that mistakes in settings show at once.
    folder : Path
        Keeps ``trials/NAME.json``.
    progress : callable, optional

    Returns
    -------
    dict of Trial to dict
        ``scores`` (None for nan), ``trial_seconds`` and ``key``.

    Raises
    ------
    SeriesError
        If a kept file is damaged.
    """
    progress = progress or (lambda _: None)
    keys = {trial: json.loads(json.dumps(key(trial))) for trial in trials}
    entries: dict[Trial, dict[str, Any]] = {}
    for done, trial in enumerate(trials):
        path = folder / "trials" / f"{trial.name}.json"
        entry = _kept(path, keys[trial])
        if entry is None:

            def tell(step: int, steps: int, trial: Trial = trial, done: int = done) -> None:
                progress(Progress(trial, done, len(trials), step, steps))

            tell(0, 0)
            begin = time.monotonic()
            # JSON knows no nan: a score that does not exist is null.
            scores = {name: value if value == value else None for name, value in one(trial, tell).items()}
            seconds = round(time.monotonic() - begin, 2)
            entry = {"scores": scores, "trial_seconds": seconds, "key": keys[trial]}
            table.write_json(entry, path)
        entries[trial] = entry
        progress(Progress(trial, done + 1, len(trials), scores=entry["scores"]))
    return entries


def summed_up(entries: Mapping[Trial, Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Sum trials up over seeds, in the form that all tables have.

    Returns
    -------
    dict
        ``{"results": {ROW: {BUDGET: {METRIC: {"mean", "sd", "runs"}}}}, "settings": ..., "seconds": ...}``;
        ``seconds`` is the sum over all trials, also those done before an interruption.
    """
    runs: dict[str, dict[str, dict[str, list[float]]]] = {}
    for trial, entry in entries.items():
        cell = runs.setdefault(trial.row, {}).setdefault(str(trial.budget), {})
        for metric, value in entry["scores"].items():
            cell.setdefault(metric, []).append(float("nan") if value is None else value)
    results = {
        row: {budget: {m: table.summary(v) for m, v in cell.items()} for budget, cell in cells.items()}
        for row, cells in runs.items()
    }
    seconds = round(sum(entry["trial_seconds"] for entry in entries.values()), 2)
    return {"results": results, "settings": dict(settings), "seconds": seconds}


def write(result: Mapping[str, Any], folder: Path, captions: table.Captions = table.CELLS) -> None:
    """Write a table as ``table.json``, ``table.md`` and ``table.png``."""
    table.write_json(result, folder / "table.json")
    (folder / "table.md").write_text(table.markdown(result["results"], captions), encoding="utf-8")
    table.picture(result["results"], folder / "table.png", captions=captions)


def is_kept(folder: Path, trial: Trial, key: Mapping[str, Any]) -> bool:
    """Whether a trial was done before with the same settings."""
    return _kept(folder / "trials" / f"{trial.name}.json", json.loads(json.dumps(key))) is not None


def _kept(path: Path, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """Scores of a trial done before with the same settings."""
    if not path.is_file():
        return None
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise SeriesError(f"{path} is damaged ({error}); delete it, and its trial is run again.") from error
    return entry if entry.get("key") == key else None
