"""Scores of a run on images that were held out, and the published table."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_mtssl.cli.common import Split, StudyPath, make_folder, warn_of_changed
from napari_mtssl.cli.console import UsageError, notes
from napari_mtssl.cli.predict import Device, RunName, choose_run
from napari_mtssl.cli.results import predicted


def evaluate(
    study: StudyPath,
    run: RunName = None,
    split: Annotated[Split, typer.Option(help="Which images to score on.")] = Split.test,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the scores here.")
    ] = None,
    radius: Annotated[
        float, typer.Option(metavar="PX", min=0.1, help="How near a prediction must be.")
    ] = 6.0,
    device: Device = "auto",
) -> None:
    """Score a run on labelled images. Detection scores take the images as fully labelled.

    Images of another origin than those learnt from are scored apart: their scores begin with cross_.
    """
    from napari_mtssl.engine.checkpoint import find, load, load_method
    from napari_mtssl.evaluation.held_out import score_origins
    from napari_mtssl.evaluation.multimix_held_out import score_fields
    from napari_mtssl.evaluation.table import summary
    from napari_mtssl.study import Study

    begin = time.monotonic()
    check_report(json_file)
    with Study.open(study) as opened:
        warn_of_changed(opened)
        chosen = choose_run(opened, run)
        method = load_method(chosen.path, device=device)
        score = score_fields if chosen.method == "multimix" else score_origins
        scores = score(opened, method.vocabulary, lambda image: predicted(method, image), split.value, radius)
        if not scores:
            raise UsageError(
                f"The study {opened.name} has no labelled image in the split '{split.value}': "
                "label one, or move a labelled one there (in the dock 'Used to', or a table image,split with "
                "'import --as image-classes'), or choose another split."
            )
        step = load(find(chosen.path)).step
    report = {
        "results": {
            chosen.method: {str(labels_used(chosen.path)): {k: summary([v]) for k, v in scores.items()}}
        },
        "settings": {
            "study": str(study),
            "run": chosen.name,
            "step": step,
            "split": split.value,
            "radius_px": radius,
            "preset": method.config.preset,
        },
        "seconds": round(time.monotonic() - begin, 2),
    }
    if json_file is not None:
        write_report(json_file, report)  # first: whoever reads what is printed may end early
    print_scores(f"{chosen.name} on {split.value}", scores)


def labels_used(run_dir: Path) -> int:
    """How many labels a run had when it was last told, from its log."""
    from napari_mtssl.engine.runlog import read_events

    return next((event["n_labelled"] for event in [*read_events(run_dir)][::-1] if "n_labelled" in event), 0)


def print_scores(title: str, scores: dict[str, float]) -> None:
    """Print scores as a table on standard output."""
    from rich.console import Console
    from rich.table import Table

    from napari_mtssl.evaluation.table import CONFUSION, TAKEN_FOR

    table = Table("score", "value", title=title)
    confusions: dict[str, dict[str, dict[str, str]]] = {}
    for name, value in scores.items():
        shown = "-" if math.isnan(value) else f"{value:.3f}"
        what, confusion, pair = name.partition(CONFUSION)
        if confusion:
            true, _, taken_for = pair.partition(TAKEN_FOR)
            confusions.setdefault(f"{what}confusion", {}).setdefault(true, {})[taken_for] = shown
        else:
            table.add_row(name, shown)
    Console().print(table)
    for what, rows in confusions.items():
        matrix = Table(f"{what}: true, as", *rows)
        for true, shares in rows.items():
            matrix.add_row(true, *shares.values())
        Console().print(matrix)


def check_report(path: Path | None) -> Path | None:
    """Return where a report shall go, once it is known to be possible: finding out hours later is too late.

    Raises
    ------
    UsageError
        If no file can be written there.
    """
    if path is not None:
        make_folder(path.parent)
        if path.is_dir():
            raise UsageError(f"{path} is a folder; name a file for the scores.")
    return path


def write_report(path: Path, content: dict[str, Any]) -> None:
    """Write scores as JSON.

    Raises
    ------
    StudyError
        If the file cannot be written.
    """
    from napari_mtssl.evaluation.table import write_json

    write_json(content, path)
    notes.print(f"Wrote {path}.")
