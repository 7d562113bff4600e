"""Any image as an OME-Zarr pyramid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_mtssl.cli.console import UsageError, notes


def convert(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="An image of any kind, or the URL of one.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.ome.zarr", help="A folder that does not exist yet.")],
    pixel_size: Annotated[
        float | None,
        typer.Option(metavar="UM", help="Micrometres a pixel, where the file does not tell.", min=0.001),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is at OUT.")] = False,
) -> None:
    """Write an image as a pyramid that opens at once, whatever its size; interrupted, it goes on later."""
    import shutil

    from rich.progress import Progress, TimeRemainingColumn

    from napari_mtssl.images import open_image
    from napari_mtssl.images.convert import convert as blocks
    from napari_mtssl.images.convert import discard

    source = open_image(image, pixel_size_um=pixel_size, flat_limit=None)
    if overwrite:
        if out.exists() and not (out / "zarr.json").exists():
            raise UsageError(f"{out} is no Zarr folder and is not overwritten; remove it or choose another.")
        if source.path.resolve() == out.resolve():
            raise UsageError("An image cannot be converted onto itself; choose another name.")
        shutil.rmtree(out, ignore_errors=True)
        discard(out)
    try:
        with Progress(*Progress.get_default_columns()[:-1], TimeRemainingColumn(), console=notes) as progress:
            task = progress.add_task(source.path.name, total=None)
            for step in blocks(source, out):
                progress.update(task, completed=step.done, total=step.total)
    except KeyboardInterrupt:
        notes.print(f"Stopped. The same command goes on; {out.name}.part may be removed instead.")
        raise typer.Exit(130) from None
    if source.pixel_size_um is None:
        notes.print(f"{source.path.name} does not say how large its pixels are; --pixel-size tells it.")
    notes.print(f"Wrote {out}.")
