"""The application: commands, and what becomes of an error."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_mtssl import __version__
from napari_mtssl.cli import convert, demo, evaluate, predict, reproduce, studies, tissue, train
from napari_mtssl.cli.console import complain, is_user_error


class OneSentenceGroup(TyperGroup):
    """Commands whose user errors end in one sentence and exit code 2; any other error keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except ValueError as error:
            if not is_user_error(error):
                raise
            complain(str(error))
            raise typer.Exit(2) from error


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
        from napari_mtssl.gui.launch import open_window

        open_window()


app.command("demo")(demo.demo)
app.command("new")(studies.new)
app.command("import")(studies.import_files)
app.command("export")(studies.export)
app.command("statistics")(tissue.statistics)
app.command("classify-blocks")(tissue.classify_blocks)
app.command("train")(train.train)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("convert")(convert.convert)
app.add_typer(reproduce.app, name="reproduce")


def main() -> None:
    """Entry point of the command ``napari-mtssl``."""
    app()
