"""The whole way in one command, for each method: labels, training, prediction, scores.

Every subject is a module of this package with ``make_study(out) -> Study`` (the demo's study, or that of an
earlier demo with whatever was labelled there since), ``run_headless(study_path, out, steps)`` and ``STEPS``.
"""

from __future__ import annotations

from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from napari_mtssl.cli.console import has_display, notes
from napari_mtssl.cli.predict import make_folder


class Subject(StrEnum):
    """What can be shown."""

    cells = "cells"
    tissue = "tissue"
    lungs = "lungs"
    specimens = "specimens"


def demo(
    subject: Annotated[Subject, typer.Argument(help="What to label.")] = Subject.cells,
    headless: Annotated[
        bool, typer.Option("--headless", help="Without a window, also where there is a display.")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the study and the results go.")] = Path(
        "demo-output"
    ),
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Optimiser updates, without a window; by default a few."),
    ] = None,
) -> None:
    """Show the whole way: in napari, or without a display into a folder."""
    make_folder(out)
    module = import_module(f"napari_mtssl.cli.demo.{subject.value}")
    with module.make_study(out) as study:
        path = study.path
    if headless or not has_display():
        if not headless:
            notes.print("There is no display: the demo runs without a window.")
        module.run_headless(path, out, module.STEPS if steps is None else steps)
    else:
        from napari_mtssl.gui.launch import open_window

        open_window(path)
