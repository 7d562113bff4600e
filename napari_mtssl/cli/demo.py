"""The whole way on a real image that comes with scikit-image: labels, training, prediction, scores."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_mtssl.cli.console import has_display, notes
from napari_mtssl.cli.predict import make_folder, predict_cells, write_results

if TYPE_CHECKING:
    import pandas as pd

    from napari_mtssl.evaluation.places import PlaceScores
    from napari_mtssl.study import Study

IMAGE = "ihc.png"


class Subject(StrEnum):
    """What can be shown."""

    cells = "cells"


def demo(
    subject: Annotated[Subject, typer.Argument(help="What to label.")] = Subject.cells,
    headless: Annotated[
        bool, typer.Option("--headless", help="Without a window, also where there is a display.")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the study and the results go.")] = Path(
        "demo-output"
    ),
    steps: Annotated[
        int, typer.Option(metavar="N", min=1, help="Optimiser updates, without a window.")
    ] = 200,
) -> None:
    """Show the whole way on a real image: in napari, or without a display into a folder."""
    make_folder(out)
    with make_study(out) as study:
        path = study.path
    if headless or not has_display():
        if not headless:
            notes.print("There is no display: the demo runs without a window.")
        run_headless(path, out, steps)
    else:
        from napari_mtssl.gui.launch import open_window

        open_window(path)


def make_study(out: Path) -> Study:
    """Make the demo's study, or open the one of an earlier demo with whatever was labelled there since.

    Returns
    -------
    Study
        Open, with the image, the classes and our clicks.
    """
    import imageio.v3 as iio
    from skimage import data

    from napari_mtssl.study import Study
    from napari_mtssl.study.exchange import import_csv

    path = out / "ihc.mtssl"
    image = out / IMAGE
    pixels = data.immunohistochemistry()
    if not image.exists():
        iio.imwrite(image, pixels)
    study = Study.open(path) if path.exists() else Study.create(path)
    study.add_image(image, height=pixels.shape[0], width=pixels.shape[1])
    with as_file(files("napari_mtssl.sample_data") / "ihc_clicks.csv") as clicks:
        import_csv(study, clicks)
    return study


@dataclass(frozen=True)
class Outcome:
    """What a demo without a window has to report."""

    run: str
    device: str
    labels: Mapping[str, int]
    steps: int
    cells: pd.DataFrame
    places: PlaceScores
    seconds: Mapping[str, float]


def run_headless(study_path: Path, out: Path, steps: int) -> None:
    """Train, predict and score; write pictures, tables and a report."""
    import pandas as pd

    from napari_mtssl.cli.pictures import save_curves
    from napari_mtssl.cli.train import follow, options_without_window
    from napari_mtssl.engine.checkpoint import load_method
    from napari_mtssl.engine.session import TrainingSession
    from napari_mtssl.evaluation.places import score_places
    from napari_mtssl.images import ImagePool
    from napari_mtssl.study import Study

    begin = time.monotonic()
    session = TrainingSession(study_path, overrides={"steps": steps}, options=options_without_window())
    finished = follow(session)
    trained = time.monotonic()
    with Study.open(study_path) as study:
        record = study.images()[0]
        image = ImagePool()(record)
        method = load_method(finished.run_dir)
        cells = predict_cells(method, image)
        predicted = time.monotonic()
        colours = {c.name: c.colour for c in study.classes() if not c.background}
        labels = study.cells()["class"].value_counts().to_dict()
    with as_file(files("napari_mtssl.sample_data") / "ihc_heldout.csv") as heldout:
        places = score_places(pd.read_csv(heldout), cells, method.vocabulary["cell"])
    write_results(image, cells, colours, out)
    save_curves(finished.run_dir / "metrics.csv", out / "losses.png")
    seconds = {"training": trained - begin, "prediction": predicted - trained}
    outcome = Outcome(
        finished.run_dir.name, str(method.device), labels, finished.step, cells, places, seconds
    )
    (out / "report.md").write_text(report(outcome), encoding="utf-8")
    notes.print(f"The report is {out / 'report.md'}.")


def report(outcome: Outcome) -> str:
    """Write the demo's outcome as Markdown.

    Returns
    -------
    str
    """
    scores = outcome.places.scores()
    classes = outcome.places.classes
    found = outcome.cells["class"].value_counts()
    stem = Path(IMAGE).stem
    lines = [
        "# napari-mtssl: demo of Cells",
        "",
        "HydraMix-Net (preset `robust`) on the immunohistochemistry image that ships with scikit-image.",
        "",
        f"- Labels: {', '.join(f'{n} {name}' for name, n in outcome.labels.items())}",
        f"- Training: {outcome.steps} steps on {outcome.device} in {outcome.seconds['training']:.0f} s",
        f"- Run: `{outcome.run}`",
        f"- Prediction: {len(outcome.cells)} cells in {outcome.seconds['prediction']:.1f} s",
        f"- Cells found: {', '.join(f'{n} {name}' for name, n in found.items()) or 'none'}",
        "",
        f"![Predicted cells]({stem}.overlay.png)",
        "",
        "![Losses](losses.png)",
        "",
        "## Scores at places that were not used for training",
        "",
        "| accuracy | macro F1 | centroid error, px |",
        "|---|---|---|",
        f"| {scores['accuracy']:.3f} | {scores['macro_f1']:.3f} | {scores['centroid_px']:.2f} |",
        "",
        f"| labelled \\ predicted | {' | '.join(classes)} |",
        f"|---|{'---|' * len(classes)}",
        *(
            f"| {name} | {' | '.join(str(n) for n in row)} |"
            for name, row in zip(classes, outcome.places.confusion.tolist(), strict=True)
        ),
        "",
        f"Cells as a table: `{stem}.csv`; for QuPath: `{stem}.geojson`.",
        "The study, to go on with in napari: `ihc.mtssl`.",
        "",
    ]
    return "\n".join(lines)
