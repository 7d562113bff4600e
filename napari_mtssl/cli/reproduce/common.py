"""What the sub-commands of ``reproduce`` share: options, progress, and how lists are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_mtssl.cli.console import UsageError, notes
from napari_mtssl.cli.evaluate import check_report, write_report
from napari_mtssl.cli.train import parse_settings

if TYPE_CHECKING:
    from napari_mtssl.evaluation.series import Progress, Trial
    from napari_mtssl.evaluation.table import Captions

JsonFile = Annotated[
    Path, typer.Option("--json", metavar="FILE", help="Write the table here.", callback=check_report)
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Keep each trial here, and go on from there if stopped; table and picture."
    ),
]
OF_ROWS = ("seed", "variant", "only")
Preset = Annotated[str, typer.Option(metavar="P", help="robust, or paper.")]


def finish(json_file: Path, result: Mapping[str, Any], captions: Captions | None = None) -> None:
    """Write the table as JSON, and print it."""
    from napari_mtssl.evaluation.table import CELLS, markdown

    write_report(json_file, dict(result))
    typer.echo(markdown(result["results"], captions or CELLS))


@contextmanager
def progress_of_trials(unit: str = "labels") -> Iterator[Callable[[Progress], None]]:
    """Show how far a reproduction is: a bar on a terminal, and a line for each trial that is done.

    Parameters
    ----------
    unit : str
        What budgets count.
    """
    from rich.progress import Progress as Bar

    with Bar(console=notes, disable=not notes.is_terminal, transient=True) as bar:
        trials, steps = bar.add_task("Trials", total=None), bar.add_task("", total=None, visible=False)

        def tell(now: Progress) -> None:
            name = describe(now.trial, unit)
            bar.update(trials, completed=now.done, total=now.total)
            bar.update(steps, description=name, completed=now.step, total=now.steps or None, visible=True)
            if now.scores is not None:
                known = {key: value for key, value in now.scores.items() if value is not None}
                scores = ", ".join(f"{key} {value:.3f}" for key, value in known.items())
                notes.print(f"{now.done} of {now.total}: {name}: {scores}")

        yield tell


def describe(trial: Trial, unit: str) -> str:
    """One trial in words."""
    parts = [trial.row, f"{trial.budget} {unit}", f"seed {trial.seed}", trial.task]
    return ", ".join(part for part in parts if part)


def parse_overrides(pairs: list[str] | None) -> dict[str, Any]:
    """Turn ``["key=value", ...]`` into settings of all rows of a table, see `train.parse_settings`.

    Raises
    ------
    UsageError
        If a row or a draw has that setting of its own.
    """
    settings = parse_settings(pairs or [])
    own = [name for name in OF_ROWS if name in settings]
    if own:
        raise UsageError(f"Leave --set {own[0]} out: the rows of a table, and its draws, have their own.")
    return settings


def parse_list(text: str) -> list[str]:
    """Split ``a,b,c``."""
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_budgets(text: str, option: str = "--labels", example: str = "50,100,300") -> list[int]:
    """Split ``50,100,300`` into numbers.

    Raises
    ------
    UsageError
        If one is no whole number.
    """
    parts = parse_list(text)
    wrong = [part for part in parts if not part.isdecimal()]
    if wrong:
        raise UsageError(f"'{wrong[0]}' in {option} is no number: write whole numbers such as {example}.")
    return [int(part) for part in parts]
