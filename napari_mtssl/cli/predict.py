"""Cells of whole images, as files that other programs read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_mtssl.cli.console import UsageError, notes
from napari_mtssl.cli.studies import StudyPath

if TYPE_CHECKING:
    import pandas as pd

    from napari_mtssl.images import Image
    from napari_mtssl.methods.base import Method
    from napari_mtssl.study import Run, Study

RunName = Annotated[
    str | None, typer.Option("--run", metavar="NAME", help="A run of the study; by default the newest.")
]
Device = Annotated[str, typer.Option(metavar="D", help="auto, cpu, cuda or mps.")]


def predict(
    study: StudyPath,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Any images, of the study or not.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where GeoJSON, CSV and overlay PNG of each image go.")
    ],
    run: RunName = None,
    device: Device = "auto",
) -> None:
    """Find and classify the cells of images with a trained run."""
    from napari_mtssl.engine.checkpoint import load_method
    from napari_mtssl.images import open_image
    from napari_mtssl.study import Study

    opened = [open_image(path) for path in images]
    stems = [image.path.stem for image in opened]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    if twice:
        raise UsageError(f"Two images are called {min(twice)}: predict them into different folders.")
    with Study.open(study) as source:
        method = load_method(choose_run(source, run).path, device=device)
        colours = {c.name: c.colour for c in source.classes() if c.name in method.vocabulary["cell"][1:]}
    make_folder(out)
    for image in opened:
        cells = predict_cells(method, image)
        write_results(image, cells, colours, out)
        counts = ", ".join(f"{n} {name}" for name, n in cells["class"].value_counts().items()) or "no cells"
        notes.print(f"{image.path.name}: {counts}.")
    notes.print(f"Wrote {len(opened)} image(s) to {out}.")


def choose_run(study: Study, name: str | None) -> Run:
    """Find a run by name, or the newest.

    Raises
    ------
    UsageError
        If the study has no run.
    StudyError
        If it has none of that name.
    """
    if name is not None:
        return study.run(name)
    runs = study.runs()
    if not runs:
        raise UsageError(f"The study {study.name} has no run yet: train one with napari-mtssl train.")
    return runs[-1]


def predict_cells(method: Method, image: Image) -> pd.DataFrame:
    """Predict a whole image, with a progress bar.

    Returns
    -------
    DataFrame
        ``row, col, class, confidence, uncertainty`` in level-0 pixels.
    """
    import pandas as pd
    from rich.progress import Progress

    from napari_mtssl.engine.dense import predict_image

    frames = []
    with Progress(console=notes, transient=True) as progress:
        task = progress.add_task(image.path.name, total=None)
        for result in predict_image(method, image):
            frames.append(result.prediction.cells)
            progress.update(task, total=result.total, completed=result.done)
    return pd.concat(frames, ignore_index=True)


def write_results(image: Image, cells: pd.DataFrame, colours: Mapping[str, str], folder: Path) -> None:
    """Write ``STEM.geojson``, ``STEM.csv`` and ``STEM.overlay.png`` of one image."""
    from napari_mtssl.cli.pictures import overlay, save_picture
    from napari_mtssl.study.exchange import write_predictions

    stem = image.path.stem
    write_predictions(folder / f"{stem}.geojson", cells, colours, image.path.name)
    table = cells.assign(image=image.path.name)
    table = table[["image", "row", "col", "class", "confidence", "uncertainty"]]
    table.to_csv(folder / f"{stem}.csv", index=False, float_format="%.4g")
    save_picture(folder / f"{stem}.overlay.png", overlay(image, cells, colours))


def make_folder(path: Path) -> None:
    """Make a folder for results.

    Raises
    ------
    UsageError
        If there is a file of that name, or it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"The folder {path} cannot be made: {error.strerror}; choose another one."
        ) from error
