"""``reproduce multimix``: MultiMix, the rows of its paper, and random forests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_mtssl.cli.console import notes
from napari_mtssl.cli.predict import Device, make_folder
from napari_mtssl.cli.reproduce.common import (
    JsonFile,
    Out,
    Preset,
    finish,
    parse_budgets,
    parse_list,
    parse_overrides,
    progress_of_trials,
)
from napari_mtssl.cli.train import Settings

Masks = Annotated[
    Path, typer.Option(metavar="DIR", help="Images with masks to learn from: X.jpg with X@.png.")
]
Classes = Annotated[Path, typer.Option(metavar="DIR", help="Images to learn from, one sub-folder a class.")]
TestMasks = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Masks to score on; without it, a part is put aside.")
]
TestClasses = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Classes to score on; without it, a part is put aside.")
]
CrossMasks = Annotated[Path | None, typer.Option(metavar="DIR", help="Masks of another source.")]
CrossClasses = Annotated[Path | None, typer.Option(metavar="DIR", help="Classes of another source.")]
SegLabels = Annotated[str, typer.Option(metavar="N,...", help="Numbers of labelled masks.")]
ClsLabels = Annotated[str, typer.Option(metavar="N,...", help="Numbers of labelled images of each class.")]


def multimix(
    masks: Masks,
    classes: Classes,
    json_file: JsonFile,
    test_masks: TestMasks = None,
    test_classes: TestClasses = None,
    cross_masks: CrossMasks = None,
    cross_classes: CrossClasses = None,
    seg_labels: SegLabels = "10",
    cls_labels: ClsLabels = "40",
    rows: Annotated[
        str, typer.Option(metavar="ROW,...", help="Rows of the table; 'all': the paper's and the forest.")
    ] = "all",
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Draws of the labels for each number.")] = 3,
    out: Out = None,
    preset: Preset = "robust",
    settings: Settings = None,
    device: Device = "auto",
) -> None:
    """Measure MultiMix's table on folders of images with masks and of images by class."""
    from napari_mtssl.evaluation.multimix import CAPTIONS, DEFAULT_ROWS, reproduce_multimix

    seg = parse_budgets(seg_labels, "--seg-labels", "10,50")
    cls = parse_budgets(cls_labels, "--cls-labels", "40,100")
    if out is not None:
        make_folder(out)
    with progress_of_trials("classes and masks") as tell:
        result = reproduce_multimix(
            masks,
            classes,
            test_masks,
            test_classes,
            cross_masks,
            cross_classes,
            seg_labels=seg,
            cls_labels=cls,
            rows=DEFAULT_ROWS if rows == "all" else parse_list(rows),
            seeds=seeds,
            out=out,
            preset=preset,
            overrides=parse_overrides(settings),
            device=device,
            progress=tell,
        )
    left_out = result["settings"]["left_out"]
    if left_out:
        said = "1 image was" if left_out == 1 else f"{left_out:,} images were"
        notes.print(f"{said} not learnt from: patients (by file name) who are scored on.")
    finish(json_file, result, CAPTIONS)
