"""The application: commands, and what becomes of an error."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_mtssl import __version__
from napari_mtssl.cli import (
    convert,
    demo,
    evaluate,
    exchange,
    predict,
    relocate,
    reproduce,
    studies,
    tissue,
    train,
)
from napari_mtssl.cli.console import UsageError, complain, has_display, is_user_error


class OneSentenceGroup(TyperGroup):
    """Commands whose user errors end in one sentence and exit code 2; any other error keeps its traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run; a missing or wrong option, too, ends in one sentence instead of a box."""
        run = super().main
        if not standalone_mode:
            return run(args, prog_name, complete_var, False, windows_expand_args, **extra)
        try:
            code = run(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except typer.Abort:
            complain("Stopped.")
            sys.exit(1)
        except Exception as error:
            # typer may bring a click of its own, whose exceptions have no public name
            if not hasattr(error, "format_message"):
                raise
            complain(_asked_wrongly(error))
            sys.exit(2)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except ValueError as error:
            if not is_user_error(error):
                raise
            complain(str(error))
            raise typer.Exit(2) from error


# What the library says of a wrong value, and the same for people.
_PLAINER = {
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "write a whole number",
    "Input should be a valid number, unable to parse string as a number": "write a number",
    "Input should be greater than or equal to": "it must be at least",
    "Input should be less than or equal to": "it must be at most",
}


def _asked_wrongly(error: Any) -> str:
    """One sentence on what is missing or wrong in a command, and where its options are listed."""
    said = error.format_message().strip().rstrip(".") or "Say which command"
    for theirs, ours in _PLAINER.items():
        said = said.replace(theirs, ours)
    context = getattr(error, "ctx", None)
    return f"{said}; '{context.command_path} -h' shows what there is." if context else f"{said}."


app = typer.Typer(
    name="napari-mtssl",
    cls=OneSentenceGroup,
    help="Label a few cells, train, correct, repeat. Without a command, opens napari with the dock.",
    invoke_without_command=True,
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"napari-mtssl {__version__}")
        raise typer.Exit


@app.callback()
def start(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Label a few cells, train, correct, repeat. Without a command, opens napari with the dock."""
    if ctx.invoked_subcommand is None:
        if not (has_display() or os.environ.get("QT_QPA_PLATFORM")):  # Qt would abort the program
            raise UsageError(
                "There is no display for napari's window; log in with one (ssh -X), or use the commands, "
                "which need none: 'napari-mtssl -h' lists them."
            )
        from napari_mtssl.gui.launch import open_window

        open_window()


app.command("demo")(demo.demo)
app.command("new")(studies.new)
app.command("import")(exchange.import_files)
app.command("export")(exchange.export)
app.command("statistics")(tissue.statistics)
app.command("classify-blocks")(tissue.classify_blocks)
app.command("train")(train.train)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("relocate")(relocate.relocate)
app.command("convert")(convert.convert)
app.add_typer(reproduce.app, name="reproduce")


def main() -> None:
    """Entry point of the command ``napari-mtssl``."""
    app()
