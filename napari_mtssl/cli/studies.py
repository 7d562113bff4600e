"""Commands that make a study, bring labels into it and take them out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_mtssl.cli.console import UsageError, notes

if TYPE_CHECKING:
    from napari_mtssl.study import ImageRecord, Study
    from napari_mtssl.study.exchange import ImportReport

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study, NAME.mtssl.")]
ImageName = Annotated[
    str | None,
    typer.Option(
        "--image", metavar="NAME", help="Image of the study, by file name; needed if it has several."
    ),
]


class Split(StrEnum):
    """What an image is for."""

    train = "train"
    validation = "validation"
    test = "test"


def new(
    study: StudyPath,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="PNG, JPEG, BMP, TIFF or OME-Zarr.")
    ],
    split: Annotated[Split, typer.Option(help="What these images are for.")] = Split.train,
    pixel_size: Annotated[
        float | None, typer.Option(metavar="UM", help="Micrometres per pixel, where the files do not tell.")
    ] = None,
) -> None:
    """Make a study of some images."""
    from napari_mtssl.images import open_image
    from napari_mtssl.study import Study

    # All images are opened before the study is made: a wrong path leaves nothing half done.
    opened = [open_image(path, pixel_size_um=pixel_size) for path in images]
    with Study.create(study) as made:
        for image in opened:
            made.add_image(
                image.path,
                height=image.height,
                width=image.width,
                pixel_size_um=image.pixel_size_um,
                split=split.value,
            )
        notes.print(f"Made {made.path} with {len(made.images())} image(s).")
        notes.print("Next: import labels into it, or run napari-mtssl and open it there to click some cells.")


def import_files(
    study: StudyPath,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="CSV (image,row,col,class), QuPath GeoJSON, or a label image."
        ),
    ],
    image: ImageName = None,
    class_name: Annotated[
        str | None, typer.Option("--class", metavar="CLASS", help="Class of the objects of a label image.")
    ] = None,
) -> None:
    """Bring labels into a study. The same file twice changes nothing."""
    from napari_mtssl.study import Study

    missing = [path for path in files if not path.exists()]
    if missing:
        raise UsageError(f"There is no file {missing[0]}; check the path.")
    with Study.open(study) as opened:
        for path in files:
            notes.print(f"{path.name}: {_import_one(opened, path, image, class_name)}")


def _import_one(study: Study, path: Path, image: str | None, class_name: str | None) -> ImportReport:
    """Import one file by its kind."""
    from napari_mtssl.images import is_image
    from napari_mtssl.study import exchange

    suffix = path.suffix.lower()
    if suffix == ".csv":
        return exchange.import_csv(study, path)
    if suffix in {".geojson", ".json"}:
        return exchange.import_geojson(study, path, choose_image(study, image, path).id)
    if is_image(path) or suffix == ".npy":
        if class_name is None:
            raise UsageError(f"{path.name} is a label image: say with --class which class its objects have.")
        return exchange.import_labels(study, path, choose_image(study, image, path).id, class_name)
    raise UsageError(
        f"{path.name} is no file of labels: "
        "use .csv (image,row,col,class), .geojson from QuPath, or a label image."
    )


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
        typer.Option("--predictions", help="Also what the last run predicted and nobody reviewed (GeoJSON)."),
    ] = False,
) -> None:
    """Take labels out of a study, for QuPath or as a table."""
    from napari_mtssl.study import Study, exchange

    if geojson is None and csv is None:
        raise UsageError("Say where to export to: --geojson FILE or --csv FILE.")
    with Study.open(study) as opened:
        if geojson is not None:
            for record, path in _targets(opened, geojson, image):
                path.parent.mkdir(parents=True, exist_ok=True)
                exchange.export_geojson(opened, record.id, path, predictions=predictions)
                notes.print(f"Wrote {path}.")
        if csv is not None:
            csv.parent.mkdir(parents=True, exist_ok=True)
            exchange.export_csv(opened, csv)
            notes.print(f"Wrote {csv}.")


def _targets(study: Study, pattern: Path, image: str | None) -> list[tuple[ImageRecord, Path]]:
    """Which image goes to which file."""
    if "{image}" in str(pattern):
        records = study.images() if image is None else [choose_image(study, image)]
        return [(record, Path(str(pattern).replace("{image}", record.path.stem))) for record in records]
    return [(choose_image(study, image), pattern)]


def choose_image(study: Study, name: str | None, source: Path | None = None) -> ImageRecord:
    """Find the image that is meant.

    Parameters
    ----------
    study : Study
    name : str or None
        File name, with or without its ending.
    source : Path, optional
        A file of labels: without `name`, and if there are several images, the one of the same stem is meant.

    Raises
    ------
    UsageError
        If the study has no images, or it does not show which one is meant.
    StudyError
        If it has none of that name.
    """
    records = study.images()
    if not records:
        raise UsageError(f"The study {study.name} has no images; add some first.")
    if name is not None:
        return study.find_image(name)
    if len(records) == 1:
        return records[0]
    fitting = [record for record in records if source is not None and record.path.stem == source.stem]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(record.name for record in records[:8]) + (", ..." if len(records) > 8 else "")
    raise UsageError(f"The study has {len(records)} images: say which one with --image NAME ({names}).")
