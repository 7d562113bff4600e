"""Prediction of whole images with a trained run."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_mtssl.cli.common import StudyPath, make_folder
from napari_mtssl.cli.console import UsageError, notes
from napari_mtssl.cli.studies import open_all

if TYPE_CHECKING:
    from napari_mtssl.cli.results import Colours
    from napari_mtssl.engine.predictor import Predictor
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
        list[str],
        typer.Argument(
            metavar="IMAGE...", help="Any images, stacks, folders of images, or URLs, of the study or not."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Where GeoJSON, CSV, masks and pictures go; images of one name get a folder each in it, and "
            "images.json says which is which.",
        ),
    ],
    run: RunName = None,
    device: Device = "auto",
    pixel_size: Annotated[
        float | None,
        typer.Option(metavar="UM", help="Micrometres a pixel, where a file does not tell.", min=0.001),
    ] = None,
    runner: Annotated[
        str,
        typer.Option(
            metavar="WHERE",
            help="Who predicts: thread, process, or tcp://HOST:PORT of a Dask cluster.",
        ),
    ] = "thread",
) -> None:
    """Predict images with a trained run: cells, masks and classes, whatever it learnt."""
    import torch

    from napari_mtssl.cli import pixel_sizes
    from napari_mtssl.cli.result_names import names_in
    from napari_mtssl.engine.predictor import Predictor
    from napari_mtssl.engine.runners import BATCH, check_runner
    from napari_mtssl.study import Study

    check_runner(runner)
    opened = open_all(images)
    with ExitStack() as stack:
        with Study.open(study) as source:
            chosen = choose_run(source, run)
            here = Predictor(chosen.path, runner, device, torch.get_num_threads(), batch=BATCH)
            predictor = stack.enter_context(here)
            colours = colours_of(source, predictor.method)
            for image in opened:
                image.pixel_size_um = image.pixel_size_um or pixel_size
            make_folder(out)
            names = names_in(out, opened)
            pixel_sizes.recall(opened, source, out)
            if predictor.um is not None and predictor.method.on_slide() is not None:
                pixel_sizes.settle([image for image in opened if image.is_slide], source, out)
        for image, name in zip(opened, names, strict=True):
            place = out if name == image.path.stem else out / name
            make_folder(place)
            said = _predict(predictor, image, colours, place, study, chosen.name)
            notes.print(f"{image.path.name if place == out else name}: {said}.")
    notes.print(f"Wrote {len(opened)} image(s) to {out}.")


def _predict(predictor: Predictor, image: Image, colours: Colours, out: Path, study: Path, run: str) -> str:
    """Predict one image and write what was found; give it in words."""
    from napari_mtssl.cli.results import keep_found, predicted, write_classes, write_results
    from napari_mtssl.cli.slides import write_slide
    from napari_mtssl.engine.slide_prediction import slicer_of
    from napari_mtssl.study import Study

    method = predictor.method
    slicer = slicer_of(method, image, predictor.um)
    if slicer is not None:
        said = write_slide(slicer, image, predictor.um, colours, out, workers=predictor.workers)
        if not method.whole_image:
            return said
        found = predicted(method, image, predictor)  # what class it is of, all of it is asked
        return "; ".join([said, *([write_classes(image, found, out)] if len(found.image) else [])])
    found = predicted(method, image, predictor)
    said = write_results(method, image, found, colours, out)
    if image.is_slide and method.on_slide() is not None:
        said += "; of the reduced picture, for the run or the slide does not tell how large its pixels are"
    with Study.open(study) as source:
        kept = keep_found(source, run, method, image, found)
    if kept:
        said += f"; in the study, too, for export --predictions: {kept}"
    return said


def colours_of(study: Study, method: Method) -> Colours:
    """Colours of the classes that a method learnt and the study still has, by kind; no background."""
    return {
        kind: {
            item.name: item.colour
            for item in study.classes(kind)
            if item.name in names and not item.background
        }
        for kind, names in method.vocabulary.items()
    }


def choose_run(study: Study, name: str | None) -> Run:
    """Find a run by name, or the newest that has weights: one that could not begin has none.

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
    return next((run for run in reversed(runs) if any(run.path.glob("*.safetensors"))), runs[-1])
