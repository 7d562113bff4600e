"""Cells of a real image that comes with scikit-image: clicks, training, prediction, scores."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from napari_mtssl.cli.console import notes

if TYPE_CHECKING:
    import pandas as pd

    from napari_mtssl.evaluation.places import PlaceScores
    from napari_mtssl.study import Study

IMAGE = "ihc.png"


STEPS = 200  # enough to see it work


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
    from napari_mtssl.cli.predict import colours_of
    from napari_mtssl.cli.results import predicted, write_results
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
        found = predicted(method, image)
        done = time.monotonic()
        colours = colours_of(study, method)
        labels = study.cells()["class"].value_counts().to_dict()
    with as_file(files("napari_mtssl.sample_data") / "ihc_heldout.csv") as heldout:
        places = score_places(pd.read_csv(heldout), found.cells, method.vocabulary["cell"])
    write_results(method, image, found, colours, out)
    save_curves(finished.run_dir / "metrics.csv", out / "losses.png")
    seconds = {"training": trained - begin, "prediction": done - trained}
    outcome = Outcome(
        finished.run_dir.name, str(method.device), labels, finished.step, found.cells, places, seconds
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
