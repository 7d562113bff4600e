"""``reproduce superres``: outlines from blocks, with every baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_mtssl.cli.predict import make_folder
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

ALL = "low-resolution,intra,inter,intra+inter,ours,u-net-on-blocks,random-forest,all-pixels,block-fractions"


def superres(
    train: Annotated[
        Path, typer.Option(metavar="DIR", help="Images to learn from: images/, labels/ and Grade.csv.")
    ],
    test: Annotated[Path, typer.Option(metavar="DIR", help="Images to score on; may be the same folder.")],
    json_file: JsonFile,
    block: Annotated[
        str, typer.Option(metavar="N,...", help="Sides of the blocks, pixels after shrinking.")
    ] = "64",
    labels: Annotated[
        str, typer.Option(metavar="L", help="Coarse labels: exact (true shares), or noisy (a classifier's).")
    ] = "exact",
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Trainings of each row.")] = 3,
    test_patients: Annotated[
        str, typer.Option(metavar="ID,...", help="Patients to score on, never learnt from.")
    ] = "",
    rows: Annotated[str, typer.Option(metavar="ROW,...", help="Rows of the table.")] = ALL,
    distance: Annotated[
        float, typer.Option(metavar="PX", min=1, help="Masked scores are taken this near to the outline.")
    ] = 40.0,
    shrink: Annotated[
        int, typer.Option(metavar="N", min=1, help="Images are worked at at 1/N of their size.")
    ] = 2,
    out: Out = None,
    preset: Preset = "robust",
    settings: Settings = None,
) -> None:
    """Measure the table of label super-resolution on a folder of GlaS's layout."""
    from napari_mtssl.evaluation.superres import CAPTIONS, reproduce_superres

    sides = parse_budgets(block, "--block", "64")
    if out is not None:
        make_folder(out)
    with progress_of_trials("px blocks") as tell:
        result = reproduce_superres(
            train,
            test,
            blocks=sides,
            labels=labels,
            seeds=seeds,
            test_patients=parse_list(test_patients),
            rows=parse_list(rows),
            distance=distance,
            shrink=shrink,
            out=out,
            preset=preset,
            overrides=parse_overrides(settings),
            progress=tell,
        )
    finish(json_file, result, CAPTIONS)
