"""``reproduce joint-unet``: mask and image classes, cross-validated by patient, with and without GradNorm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_mtssl.cli.console import UsageError
from napari_mtssl.cli.predict import Device, make_folder
from napari_mtssl.cli.reproduce.common import (
    JsonFile,
    Out,
    Preset,
    finish,
    parse_list,
    parse_overrides,
    progress_of_trials,
)
from napari_mtssl.cli.train import Settings

Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="GlaS, AGH or I3A layout, or a study; by default made-up HEp-2 images."),
]
Report = Annotated[
    bool,
    typer.Option(
        "--report",
        help="The report's eight trainings: Dice and BCE; alpha 0.6 for 30 epochs, 0.6, 0.06, 6 for 15; "
        "with --validate, as there.",
    ),
]
Heads = Annotated[
    str, typer.Option(metavar="KIND,...", help="Kinds of image classes to learn; by default all.")
]
Alphas = Annotated[str, typer.Option(metavar="A,...", help="GradNorm's alpha.")]
SegLoss = Annotated[str, typer.Option(metavar="LOSS,...", help="bce, dice or both.")]
Balancers = Annotated[
    str,
    typer.Option(
        metavar="RULE,...",
        help="Of gradnorm, equal, fixed (as set), tuned (the mask's weight chosen on patients held out of "
        "training; four trainings), uncertainty, famo, dbmtl.",
    ),
]
Labels = Annotated[
    str, typer.Option(metavar="N,...", help="Labelled images, numbers or 'all'; the rest has none.")
]
Supervised = Annotated[
    bool, typer.Option("--supervised", help="Every row also without the unlabelled images.")
]
OnlyFolds = Annotated[str, typer.Option(metavar="K,...", help="Run these folds only, from 0.")]
Epochs = Annotated[
    float,
    typer.Option(
        metavar="N", min=0, max=100_000, help="Rounds over the labelled images; 0: the preset's steps."
    ),
]
Size = Annotated[int, typer.Option(metavar="S", min=64, max=1024, help="Side of the images, pixels.")]
Validate = Annotated[
    bool,
    typer.Option("--validate", help="Hold a fifth of the patients out to choose weights and for curves."),
]


def joint_unet(
    json_file: JsonFile,
    data: Data = None,
    report: Report = False,
    heads: Heads = "",
    alphas: Alphas = "0.6",
    seg_loss: SegLoss = "bce",
    balancers: Balancers = "gradnorm,equal,tuned",
    single_task: Annotated[bool, typer.Option(help="Also one network for each task.")] = True,
    labels: Labels = "all",
    supervised: Supervised = False,
    folds: Annotated[int, typer.Option(metavar="N", min=2, max=1000, help="Folds, by patient.")] = 5,
    only_folds: OnlyFolds = "",
    epochs: Epochs = 0,
    size: Size = 192,
    patients: Annotated[
        int, typer.Option(metavar="N", min=7, max=100_000, help="Made-up patients, of 4 images each.")
    ] = 100,
    validate: Validate = False,
    out: Out = None,
    preset: Preset = "robust",
    settings: Settings = None,
    device: Device = "auto",
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Dask cluster on which folds run side by side.")
    ] = None,
) -> None:
    """Measure the Joint U-Net's tables: accuracy of mask, label and intensity in each fold, AUROC, Dice."""
    from napari_mtssl.evaluation import specimens, specimens_report
    from napari_mtssl.evaluation.hep2 import keep_heads, read_specimens, synthetic

    kinds, overrides, budgets = parse_list(heads), parse_overrides(settings), _budgets(labels)
    size = _size(size, overrides)
    found = synthetic(patients, 4, size) if data is None else read_specimens(data, size)
    found = keep_heads(found, kinds) if kinds else found
    names = specimens.rows(parse_list(alphas), parse_list(seg_loss), parse_list(balancers), single_task)
    names = list(specimens.REPORT) if report else names
    if not names:
        raise UsageError("There is nothing to train: name a balancer or leave --no-single-task out.")
    if supervised:
        names += [f"{name}{specimens.SUPERVISED}" for name in names]
    if out is not None:
        make_folder(out)
    with specimens.scratch() as temporary, progress_of_trials("labelled images") as tell:
        plan = specimens.Plan(
            found,
            out or Path(temporary),
            folds=folds,
            overrides=overrides,
            preset=preset,
            device=device,
            epochs=epochs,
            validate=validate or report,
            threads=specimens.default_threads(),
            only=tuple(_numbers(only_folds, "--only-folds")),
        )
        result = specimens.reproduce(plan, names, budgets, tell, cluster)
        if out is not None:
            specimens_report.write(result, plan)
    finish(json_file, result, specimens.CAPTIONS)


def _numbers(text: str, option: str) -> list[int]:
    wrong = [part for part in parse_list(text) if not part.isdecimal()]
    if wrong:
        raise UsageError(f"'{wrong[0]}' in {option} is no number: write whole numbers such as 0,1.")
    return [int(part) for part in parse_list(text)]


def _budgets(text: str) -> list[int | str]:
    parts = parse_list(text) or ["all"]
    wrong = [part for part in parts if part != "all" and not (part.isdecimal() and int(part))]
    if wrong:
        raise UsageError(f"'{wrong[0]}' in --labels is no number of images: write such as 10,40 or all.")
    return [part if part == "all" else int(part) for part in parts]


def _size(size: int, overrides: Mapping[str, Any]) -> int:
    """Side of the images: they are read at the size that the network is told of."""
    own = overrides.get("size", size)
    if not isinstance(own, int) or own % 32 or not 64 <= own <= 1024:
        raise UsageError(f"The size must be a multiple of 32 from 64 to 1024, not {own}.")
    return own
