"""The published table, measured anew: HydraMix-Net, its ablations and a random forest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_mtssl.cli.console import UsageError, notes
from napari_mtssl.cli.evaluate import write_report
from napari_mtssl.cli.predict import Device, make_folder
from napari_mtssl.cli.train import Settings, parse_settings

if TYPE_CHECKING:
    from napari_mtssl.evaluation.reproduce import Progress, Trial

Budgets = Annotated[str, typer.Option("--labels", metavar="N,...", help="Numbers of labelled patches.")]
Rows = Annotated[str, typer.Option("--methods", metavar="ROW,...", help="Rows of the table.")]


def reproduce(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="hydramix.")],
    train: Annotated[
        Path, typer.Option(metavar="DIR", help="Images to learn from: imgN/imgN.bmp with imgN_*.mat.")
    ],
    test: Annotated[Path, typer.Option(metavar="DIR", help="Images to score on, in the same layout.")],
    json_file: Annotated[Path, typer.Option("--json", metavar="FILE", help="Write the table here.")],
    labels: Budgets = "50,100,300",
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Draws of the labels for each number.")] = 3,
    methods: Rows = "hydramix,no-sce,cnn,random-forest",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep each trial here, and go on from there if stopped; table and picture."
        ),
    ] = None,
    preset: Annotated[str, typer.Option(metavar="P", help="robust, or paper.")] = "robust",
    settings: Settings = None,
    device: Device = "auto",
) -> None:
    """Measure the paper's table on a folder of CRCHistoPhenotypes' layout."""
    from napari_mtssl.evaluation.reproduce import reproduce_hydramix
    from napari_mtssl.evaluation.table import markdown

    if method != "hydramix":
        raise UsageError(f"There is no published table for '{method}' here; write: reproduce hydramix.")
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
            overrides=parse_settings(settings or []),
            device=device,
            progress=tell,
        )
    write_report(json_file, result)
    typer.echo(markdown(result["results"]))


@contextmanager
def progress_of_trials() -> Iterator[Callable[[Progress], None]]:
    """Show how far a reproduction is: a bar on a terminal, and a line for each trial that is done."""
    from rich.progress import Progress as Bar

    with Bar(console=notes, disable=not notes.is_terminal, transient=True) as bar:
        trials, steps = bar.add_task("Trials", total=None), bar.add_task("", total=None, visible=False)

        def tell(now: Progress) -> None:
            name = describe(now.trial)
            bar.update(trials, completed=now.done, total=now.total)
            bar.update(steps, description=name, completed=now.step, total=now.steps or None, visible=True)
            if now.scores is not None:
                known = {key: value for key, value in now.scores.items() if value is not None}
                scores = ", ".join(f"{key} {value:.3f}" for key, value in known.items())
                notes.print(f"{now.done} of {now.total}: {name}: {scores}")

        yield tell


def describe(trial: Trial) -> str:
    """One trial in words."""
    return f"{trial.row}, {trial.budget} labels, seed {trial.seed}, {trial.task}"


def parse_list(text: str) -> list[str]:
    """Split ``a,b,c``."""
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_budgets(text: str) -> list[int]:
    """Split ``50,100,300`` into numbers.

    Raises
    ------
    UsageError
        If one is no whole number.
    """
    parts = parse_list(text)
    wrong = [part for part in parts if not part.isdigit()]
    if wrong:
        raise UsageError(f"'{wrong[0]}' in --labels is no number: write whole numbers such as 50,100,300.")
    return [int(part) for part in parts]
