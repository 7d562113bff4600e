"""Training without a window: a progress bar that listens to the same events as the dock."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_mtssl.cli.common import StudyPath, warn_of_changed
from napari_mtssl.cli.console import UsageError, notes

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from napari_mtssl.engine.control import Control
    from napari_mtssl.engine.events import Event, Finished
    from napari_mtssl.engine.options import TrainOptions
    from napari_mtssl.engine.session import TrainingSession

LINE_SECONDS = 10.0

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting of the method; may be repeated."),
]


class TrainingError(RuntimeError):
    """Training failed, and not by a mistake of the user's; the traceback of the cause is in the message."""


def train(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="Such as hydramix.")],
    study: StudyPath,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Optimiser updates.")] = None,
    labels: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Use only N of the labels, drawn by the seed.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="S", help="One seed gives one result on the CPU.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="D", help="auto, cpu, cuda or mps.")] = "auto",
    preset: Annotated[
        str | None, typer.Option(metavar="P", help="robust (which it is by default), or paper.")
    ] = None,
    settings: Settings = None,
    run: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the run; made up if not given.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run --run NAME.")] = False,
    runner: Annotated[
        str, typer.Option(metavar="WHERE", help="thread, process, or tcp://HOST:PORT of a Dask cluster.")
    ] = "thread",
    devices: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Graphics cards, or processes on the CPU, that train together."
        ),
    ] = 1,
) -> None:
    """Train a method on a study. Ctrl+C, or the end of the session, stops and keeps the weights."""
    from napari_mtssl.engine.runners_training import RunnerSession
    from napari_mtssl.study import Study

    if devices > 1 and runner != "thread":
        raise UsageError("Several devices are used by this program itself: leave --runner out.")
    if resume:
        _check_resume(study, run, method, preset)
    chosen = {"steps": steps, "labels": labels, "seed": seed}
    overrides = parse_settings(settings or [])
    for name, value in chosen.items():
        if value is not None and overrides.setdefault(name, value) != value:
            raise UsageError(f"--{name} {value} and --set {name}={overrides[name]} differ: give one of them.")
    session = RunnerSession(
        runner,
        study,
        method,
        preset=preset or "robust",
        device=device,
        overrides=overrides,
        run_name=None if resume else run,
        resume=run if resume else None,
        options=options_without_window(),
        devices=devices,
    )
    if devices > 1 and os.environ.get("LOCAL_RANK", "0") != "0":
        for _ in session.events():  # the first process tells what happens
            pass
        return
    with Study.open(study) as opened:
        warn_of_changed(opened)
    finished = follow(session)
    state = "Stopped" if finished.stopped else "Finished"
    scores = ", ".join(f"{name} {value:.3f}" for name, value in finished.scores.items())
    if finished.step == 0:
        notes.print("Stopped before the first step: there is nothing to keep.")
        return
    notes.print(f"{state} at step {finished.step}{': ' + scores if scores else ''}.")
    notes.print(f"Weights are in {finished.run_dir}.")


def _check_resume(study: Path, run: str | None, method: str, preset: str | None) -> None:
    """See that what is said on the command line is what the run began with."""
    from napari_mtssl.study import Study

    if run is None:
        raise UsageError("Say with --run NAME which run to go on with.")
    if preset is not None:
        raise UsageError("A run goes on with the preset that it began with: leave --preset out.")
    with Study.open(study) as opened:
        begun = opened.run(run).method
    if begun != method:
        raise UsageError(f"The run '{run}' is of the method {begun}, not {method}: write train {begun}.")


def options_without_window() -> TrainOptions:
    """Rhythm of a training that nobody watches.

    One core stays free here too: when threads of a step wait for one that the system has put aside for
    another program, every step takes several times as long.
    """
    from napari_mtssl.engine.options import TrainOptions

    return TrainOptions(preview_seconds=0, pseudo_seconds=0)


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Turn ``["key=value", ...]`` into settings; values are read as YAML.

    Raises
    ------
    UsageError
        If a pair has no ``=``, a value is not readable, or the preset is among them.
    """
    import yaml

    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {pair} is no setting: write --set key=value.")
        try:
            settings[key.strip().replace("-", "_")] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"The value in --set {pair} cannot be read.") from error
    if "preset" in settings:
        raise UsageError(f"Choose the preset with --preset {settings['preset']}, not with --set.")
    return settings


def follow(session: TrainingSession) -> Finished:
    """Run a training session to its end with a progress bar.

    Raises
    ------
    UsageError
        If training cannot go on for a reason that the user can mend.
    TrainingError
        If it failed otherwise.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.table import Column

    from napari_mtssl.engine.events import Stepped

    finished: Finished | None = None
    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[losses]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
    ]
    bar = Progress(*columns, console=notes, expand=True, disable=not notes.is_terminal)
    with bar as progress, stopped_by_signals(session.control):
        task = progress.add_task("Preparing", total=None, left="", losses="")
        said = time.monotonic()
        for event in session.events():
            finished = _report(event, progress, task) or finished
            # A log file has no bar: a line now and then instead.
            if progress.disable and isinstance(event, Stepped) and time.monotonic() - said >= LINE_SECONDS:
                said = time.monotonic()
                notes.print(
                    f"Step {event.step} of {event.total_steps}, loss {event.total:.3f}, "
                    f"{_clock(event.seconds_left)} left"
                )
    if finished is None:
        raise RuntimeError("training ended without saying how")
    return finished


@contextmanager
def stopped_by_signals(control: Control) -> Iterator[None]:
    """Have the first Ctrl+C end the training after its step, with weights kept; a second one interrupts.

    So does SIGTERM, which schedulers of clusters and a computer that shuts down send.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        notes.print("Stopping after this step; weights are kept. Ctrl+C again interrupts at once.")
        control.stop()
        signal.signal(number, first[number])

    first: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, stop) for number in first}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(event: Event, progress: Progress, task: TaskID) -> Finished | None:
    """Show one event; return it if it is the last."""
    from napari_mtssl.engine import events

    match event:
        case events.Started():
            notes.print(
                f"{event.n_labelled} labelled and {event.n_unlabelled} unlabelled samples, on {event.device}."
            )
            progress.update(task, description="Training", total=event.total_steps, completed=event.step)
        case events.Stepped():
            terms = "  ".join(f"{name} {value:.3f}" for name, value in event.losses.items())
            progress.update(
                task,
                completed=event.step,
                total=event.total_steps,
                left=f"{_clock(event.seconds_left)} left",
                losses=f"loss {event.total:.3f}  {terms}",
            )
        case events.Validated():
            scores = "  ".join(f"{name} {value:.3f}" for name, value in event.scores.items())
            notes.print(f"Step {event.step}: {scores}{'  (best so far)' if event.best else ''}")
        case events.LabelsChanged():
            notes.print(
                f"Step {event.step}: labels changed, {event.added} added, {event.changed} changed, "
                f"{event.removed} removed; {event.n_labelled} in use."
            )
        case events.LossNotFinite() | events.OutOfMemory() | events.WorkerLost() | events.ClassesLeftOut():
            notes.print(f"Step {event.step}: {event.message}")
        case events.Failed():
            progress.update(task, visible=False)
            if event.mendable:
                raise UsageError(event.reason)
            raise TrainingError(f"{event.reason}\n\n{event.detail}")
        case events.Finished():
            progress.update(task, completed=event.step, left="", description="Done")
            return event
    return None


def _clock(seconds: float) -> str:
    """Minutes and seconds, such as ``3:07``."""
    whole = max(round(seconds), 0)
    return f"{whole // 60}:{whole % 60:02d}"
