"""Commands that bring labels into a study and take them out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_mtssl.cli.common import HeadName, ImageName, StudyPath, What, choose_image, make_folder
from napari_mtssl.cli.console import UsageError, notes

if TYPE_CHECKING:
    from napari_mtssl.study import ImageRecord, Study

# Options of `export` that fit.
FORMATS = {
    What.cells: ("geojson", "csv"),
    What.blocks: ("geojson", "csv"),
    What.masks: ("png", "zarr", "geojson"),
    What.image_classes: ("csv",),
    What.statistics: ("csv",),
    What.probability_map: (),
}


def import_files(
    study: StudyPath,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="CSV, QuPath GeoJSON, label image, folder of masks, OME-Zarr labels, or another study.",
        ),
    ],
    image: ImageName = None,
    class_name: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="CLASS",
            help="Class of the objects of a label image, or of what is not 0 in a mask; for more than one: "
            "1=gland,2=stroma. Of a probability map: the exact class that it is about.",
        ),
    ] = None,
    what: Annotated[What, typer.Option("--as", help="What the files say.")] = What.cells,
    kind: HeadName = None,
    block: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Size of blocks for images without a grid: 64, 64x50 (rows x columns), or 32um.",
        ),
    ] = None,
    edges: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Edges of the bins of a probability map: 0,.2,.3,.4,...,1."),
    ] = None,
    predictions: Annotated[
        bool,
        typer.Option(
            "--predictions", help="Take predicted cells and masks as labels, too; else they are left out."
        ),
    ] = False,
) -> None:
    """Bring labels into a study. The same file twice changes nothing."""
    from napari_mtssl.cli.labels import Ways, import_one
    from napari_mtssl.study import Study
    from napari_mtssl.study.exchange import ImportReport

    missing = [path for path in files if not path.exists()]
    if missing:
        raise UsageError(f"There is no file {missing[0]}; check the path.")
    ways = Ways(what, image, class_name, kind, block, edges, predictions)
    with Study.open(study) as opened:
        for path in files:
            report = import_one(opened, path, ways)
            left_out = isinstance(report, ImportReport) and report.predicted > 0
            how = " With --predictions they are taken as labels, too." if left_out else ""
            notes.print(f"{path.name}: {report}{how}")


def export(
    study: StudyPath,
    geojson: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="QuPath GeoJSON of one image; {image} in its name exports all."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV (image,row,col,class) of all images.")
    ] = None,
    image: ImageName = None,
    predictions: Annotated[
        bool,
        typer.Option(
            "--predictions",
            help="Also what was predicted and nobody reviewed; in a CSV, columns say which it is.",
        ),
    ] = False,
    what: Annotated[What, typer.Option("--as", help="What to take out.")] = What.cells,
    png: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for masks as PNG, with classes.csv.")
    ] = None,
    zarr: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="OME-Zarr labels of the mask of one image; {image} exports all."),
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="More columns in a CSV: who and when, or the grids of blocks.")
    ] = False,
    kind: HeadName = None,
) -> None:
    """Take labels out of a study, for QuPath, as a table or as masks."""
    from napari_mtssl.cli.labels import export_csv, export_masks, export_one
    from napari_mtssl.study import Study

    if geojson is None and csv is None and png is None and zarr is None:
        raise UsageError("Say where to export to: --geojson FILE, --csv FILE, --png DIR or --zarr DIR.")
    given = {"geojson": geojson, "csv": csv, "png": png, "zarr": zarr}
    unfit = [name for name, path in given.items() if path is not None and name not in FORMATS[what]]
    if unfit:
        fit = " or ".join(f"--{name}" for name in FORMATS[what])
        raise UsageError(f"There is no --{unfit[0]} of {what.value}: use {fit or '--as blocks'}.")
    if csv is not None and image is not None:
        raise UsageError("A table holds all images: leave out --image, or --csv.")
    with Study.open(study) as opened:
        if csv is not None:
            make_folder(csv.parent)
            export_csv(opened, csv, what, details, kind, predictions)
            notes.print(f"Wrote {csv}.")
        if png is not None:
            only = None if image is None else choose_image(opened, image).id
            for path in export_masks(opened, png, only, predictions):
                notes.print(f"Wrote {path}.")
        for pattern in (geojson, zarr):
            for record, path in _targets(opened, pattern, image) if pattern is not None else []:
                make_folder(path.parent)
                if export_one(opened, record, path, what, predictions, many="{image}" in str(pattern)):
                    notes.print(f"Wrote {path}.")


def _targets(study: Study, pattern: Path, image: str | None) -> list[tuple[ImageRecord, Path]]:
    """Which image goes to which file."""
    from napari_mtssl.study.names import names_of

    if "{image}" in str(pattern):
        names = names_of(study.images())
        records = study.images() if image is None else [choose_image(study, image)]
        return [(record, Path(str(pattern).replace("{image}", names[record.id]))) for record in records]
    return [(choose_image(study, image), pattern)]
