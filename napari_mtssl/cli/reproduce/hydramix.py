"""``reproduce hydramix``: HydraMix-Net, its ablations and a random forest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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

Budgets = Annotated[str, typer.Option("--labels", metavar="N,...", help="Numbers of labelled patches.")]
Rows = Annotated[str, typer.Option("--methods", metavar="ROW,...", help="Rows of the table.")]


def hydramix(
    train: Annotated[
        Path, typer.Option(metavar="DIR", help="Images to learn from: imgN/imgN.bmp with imgN_*.mat.")
    ],
    test: Annotated[Path, typer.Option(metavar="DIR", help="Images to score on, in the same layout.")],
    json_file: JsonFile,
    labels: Budgets = "50,100,300",
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Draws of the labels for each number.")] = 3,
    methods: Rows = "hydramix,no-sce,cnn,random-forest",
    out: Out = None,
    preset: Preset = "robust",
    settings: Settings = None,
    device: Device = "auto",
) -> None:
    """Measure HydraMix-Net's table on a folder of CRCHistoPhenotypes' layout."""
    from napari_mtssl.evaluation.reproduce import reproduce_hydramix

    budgets = parse_budgets(labels)
    if out is not None:
        make_folder(out)
    with progress_of_trials() as tell:
        result = reproduce_hydramix(
            train,
            test,
            labels=budgets,
            seeds=seeds,
            methods=parse_list(methods),
            out=out,
            preset=preset,
            overrides=parse_overrides(settings),
            device=device,
            progress=tell,
        )
    finish(json_file, result)
