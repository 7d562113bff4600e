"""Prediction of whole slides on the command line: into a folder, from which an interrupted one goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from napari_mtssl.cli.console import notes

if TYPE_CHECKING:
    from napari_mtssl.cli.results import Colours
    from napari_mtssl.engine.slide_prediction import Executor, SlidePlan, SlideStore
    from napari_mtssl.images import Image
    from napari_mtssl.methods.base import Method


def write_slide(
    method: Method,
    image: Image,
    um_per_px: float | None,
    colours: Colours,
    out: Path,
    *,
    workers: Callable[[SlidePlan], Executor | None] = lambda plan: None,
) -> str:
    """Predict a slide into ``STEM.prediction`` and write what other programs read beside it.

    Parameters
    ----------
    method : Method
    image : Image
    um_per_px : float or None
        Pixel size that the run learnt.
    colours : mapping
    out : Path
    workers : callable, optional
        From the plan to who predicts; by default, and if it gives None, this thread.

    Returns
    -------
    str
        What was found, in words.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from napari_mtssl.engine.slide_prediction import SlideStore, looked_over, plan_slide, predict_slide

    plan = plan_slide(method, image, um_per_px=um_per_px)
    folder = out / f"{image.path.stem}.prediction"
    store = SlideStore(folder, plan.identity, method.vocabulary.get("cell", ()))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        before = len(store.done())
        if before:
            notes.print(f"{image.path.name}: {before} of {len(plan.tiles)} tiles were done before.")
        plan = looked_over(method, plan, store)
        with Progress(*columns, console=notes, transient=True) as progress:
            task = progress.add_task(image.path.name, total=len(plan.tiles), completed=before)
            for tile in predict_slide(method, plan, store, executor=workers(plan)):
                progress.update(task, completed=tile.done)
            for done, total in store.finish():
                progress.update(task, description="levels", completed=done, total=total)
        return _write_files(method, image, store, plan.view, colours, out)
    except KeyboardInterrupt:
        notes.print(f"Stopped; what is done is in {folder}, and the same command goes on.")
        raise typer.Exit(130) from None
    finally:
        store.close()


def _write_files(
    method: Method, image: Image, store: SlideStore, view: Image, colours: Colours, out: Path
) -> str:
    """Cells as GeoJSON, CSV and overlay; the mask as GeoJSON, and its areas; both in words."""
    from napari_mtssl.cli.results import SIMPLIFY, write_cells
    from napari_mtssl.study.polygon_files import write_tile_polygons

    said = []
    if "cell" in method.vocabulary:
        cells = store.cells()
        write_cells(image, cells, colours.get("cell", {}), out)
        counts = cells["class"].value_counts().items()
        said.append(", ".join(f"{n} {name}" for name, n in counts) or "no cells")
    levels = store.grid("mask")
    if levels is not None:
        areas = store.areas(method.vocabulary["mask"])
        areas["percent"] = 100.0 * areas["pixels"] / max(areas["pixels"].sum(), 1)
        if view.pixel_size_um is not None:
            areas["mm2"] = areas["pixels"] * (view.pixel_size_um * method.geometry.stride / 1000.0) ** 2
        names, known = method.vocabulary["mask"], colours.get("mask", {})
        step = method.geometry.stride
        write_tile_polygons(
            out / f"{image.path.stem}.mask.geojson",
            store.tiles("mask"),
            levels[0].shape,
            {at: (name, known[name]) for at, name in enumerate(names, 1) if name in known},
            image.path.name,
            simplify=SIMPLIFY,
            scale=(step * view.scale[0], step * view.scale[1]),
        )
        areas.to_csv(out / f"{image.path.stem}.areas.csv", index=False, float_format="%.6g")
        said.append(", ".join(f"{row.percent:.1f} % {row.name}" for row in areas.itertuples(index=False)))
    return "; ".join(said)
