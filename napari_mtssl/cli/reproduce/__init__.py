"""``napari-mtssl reproduce METHOD``: the tables of the papers, measured anew; one file for each method."""

from __future__ import annotations

import typer

from napari_mtssl.cli.reproduce import hydramix, joint_unet, multimix, superres

app = typer.Typer(
    help="Measure a paper's table on a folder of images: every method with its baselines.",
    no_args_is_help=True,
)
app.command("hydramix")(hydramix.hydramix)
app.command("superres")(superres.superres)
app.command("joint-unet")(joint_unet.joint_unet)
app.command("multimix")(multimix.multimix)
