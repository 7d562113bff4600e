"""Commands that make a study, bring labels into it and take them out."""

from __future__ import annotations

import shutil
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_mtssl.cli.console import UsageError, notes

if TYPE_CHECKING:
    from napari_mtssl.cli.labels import Ways
    from napari_mtssl.images import Image
    from napari_mtssl.study import ImageRecord, Study
    from napari_mtssl.study.exchange import ImportReport

StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of the study, NAME.mtssl.")]
ImageName = Annotated[
    str | None,
    typer.Option(
        "--image", metavar="NAME", help="Image of the study, by file name; needed if it has several."
    ),
]


HeadName = Annotated[
    str | None,
    typer.Option("--kind", metavar="HEAD", help="What the class of whole images is, as grade or diagnosis."),
]


class What(StrEnum):
    """What a file says, or shall say."""

    cells = "cells"
    blocks = "blocks"
    masks = "masks"
    image_classes = "image-classes"
    statistics = "statistics"
    probability_map = "probability-map"


# Options of `export` that fit.
FORMATS = {
    What.cells: ("geojson", "csv"),
    What.blocks: ("geojson", "csv"),
    What.masks: ("png", "zarr", "geojson"),
    What.image_classes: ("csv",),
    What.statistics: ("csv",),
    What.probability_map: (),
}


class Split(StrEnum):
    """What an image is for."""

    train = "train"
    validation = "validation"
    test = "test"


class Template(StrEnum):
    """Classes that a study begins with; those of `napari_mtssl.study.templates`."""

    cells = "cells"
    tissue = "tissue"
    lungs = "lungs"
    specimens = "specimens"


Images = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE...",
        help="Images, stacks, folders of PNG, JPEG, BMP, TIFF or DICOM files, or URLs of OME-Zarr images.",
    ),
]
TemplateName = Annotated[
    Template | None,
    typer.Option(
        metavar="NAME",
        help="Classes to begin with: cells, tissue (shares of glands), lungs (mask and diagnosis), or "
        "specimens (HEp-2: mask, seven patterns with their descriptions, intensity).",
    ),
]
PixelSize = Annotated[
    float | None, typer.Option(metavar="UM", help="Micrometres per pixel, where the files do not tell.")
]
Masks = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of masks: label images with the names of their images."),
]
MaskClass = Annotated[
    str | None,
    typer.Option(
        metavar="CLASS",
        help="Class of what is not 0 in masks; else DIR/classes.csv says. Without --masks, the exact "
        "classes that are to be outlined: gland,mucus.",
    ),
]
ClassesCsv = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Classes of images: image,class,group,split, or a column a head."),
]
ClassFolders = Annotated[
    bool, typer.Option("--class-folders", help="The folder that an image lies in is its class.")
]
GroupBefore = Annotated[
    str | None,
    typer.Option(
        metavar="SIGN",
        help="What stands before this sign in a file's name is the group (the patient): _ or -.",
    ),
]

GroupFolder = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="The name of a folder is the group (the patient): 1, that which an image lies in; "
        "2, the one above it.",
    ),
]


def new(
    study: StudyPath,
    images: Images,
    split: Annotated[Split, typer.Option(help="What these images are for.")] = Split.train,
    template: TemplateName = None,
    pixel_size: PixelSize = None,
    masks: Masks = None,
    mask_class: MaskClass = None,
    classes_csv: ClassesCsv = None,
    class_folders: ClassFolders = False,
    kind: HeadName = None,
    group_before: GroupBefore = None,
    group_folder: GroupFolder = None,
) -> None:
    """Make a study of some images."""
    from napari_mtssl.study import Study
    from napari_mtssl.study.templates import use_template

    for path in (masks, classes_csv):
        if path is not None and not path.exists():
            raise UsageError(f"There is nothing at {path}; check the path.")
    if group_before is not None and group_folder is not None:
        raise UsageError(
            "The group is in the file's name or in a folder's: say --group-before or --group-folder."
        )
    # All images are opened before the study is made: a wrong path leaves nothing half done.
    opened = _opened(images, pixel_size)
    with Study.create(study) as made:
        try:
            if template is not None:
                use_template(made, template.value)
            for image in opened:
                record = _add(made, image, split, _group(image, group_before, group_folder))
                if class_folders:
                    _class_by_folder(made, record.id, image, kind or "diagnosis")
            _first_labels(made, masks, mask_class, classes_csv, kind)
        except ValueError:
            made.close()
            shutil.rmtree(made.path)  # made a moment ago, of files that stay
            raise
        notes.print(f"Made {made.path} with {len(made.images())} image(s).")
        labelled = bool(made.masked_images()) or len(made.image_classes()) > 0
        first = "train with it (napari-mtssl train --help)" if labelled else "import labels into it"
        notes.print(f"Next: {first}, or run napari-mtssl and open it there to label.")


def _opened(images: list[str], pixel_size: float | None) -> list[Image]:
    """Open all images, and planes of stacks; ask once for the pixel size of slides that do not tell."""
    from napari_mtssl.cli.pixel_sizes import ask
    from napari_mtssl.study.addresses import check_url, is_url

    for path in images:
        if is_url(path):
            check_url(path)
    opened = open_all(images, pixel_size)
    silent = [image for image in opened if image.is_slide and image.pixel_size_um is None]
    said = ask(silent, must=False)
    for image in silent:
        image.pixel_size_um = said
    return opened


def open_all(images: list[str], pixel_size: float | None = None) -> list[Image]:
    """Open images, planes of stacks and what folders hold; say what of a folder cannot be read."""
    from napari_mtssl.images.folders import open_images

    opened, left_out = open_images(images, pixel_size_um=pixel_size)
    for error in left_out:
        notes.print(f"Left out: {error}")
    return opened


def _add(study: Study, image: Image, split: Split, group: str | None) -> ImageRecord:
    """Add an image."""
    return study.add_image(
        image.location,
        height=image.height,
        width=image.width,
        pixel_size_um=image.pixel_size_um,
        split=split.value,
        group=group,
    )


def _group(image: Image, before: str | None, folder: int | None) -> str | None:
    """Group that the name of a file or of a folder says; None for that which it has anyway."""
    from napari_mtssl.study.names import folder_of

    if folder is not None:
        name = folder_of(Path(image.location), folder)
        if not name:
            raise UsageError(
                f"{image.location} does not lie in so many folders: give --group-folder a smaller number."
            )
        return name
    return image.path.stem.split(before)[0] if before else None


def _class_by_folder(study: Study, image_id: int, image: Image, head: str) -> None:
    """Give an image the class that its folder is called."""
    from napari_mtssl.study.merge import make_classes

    name = image.path.absolute().parent.name
    names, _ = make_classes(study, [name], {}, head)
    study.set_image_class(image_id, head, names[name])


def _first_labels(
    study: Study, masks: Path | None, mask_class: str | None, classes_csv: Path | None, kind: str | None
) -> None:
    """Bring in masks and classes of images, or only make the classes of masks."""
    from napari_mtssl.cli.labels import import_masks
    from napari_mtssl.study import exchange

    if masks is not None:
        notes.print(f"{masks.name}: {import_masks(study, masks, mask_class)}")
    elif mask_class is not None:
        known = {found.name.lower() for found in study.classes("mask")}
        for name in mask_class.split(","):
            if name.strip().lower() not in known:
                study.add_class(name.strip(), kind="mask")
    if classes_csv is not None:
        report = exchange.import_image_classes(study, classes_csv, kind=kind)
        notes.print(f"{classes_csv.name}: {report}")


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
            read = _import_guessed if what is What.masks and predictions else import_one
            report = read(opened, path, ways)
            left_out = isinstance(report, ImportReport) and report.predicted > 0
            how = " With --predictions they are taken as labels, too." if left_out else ""
            notes.print(f"{path.name}: {report}{how}")


def _import_guessed(study: Study, path: Path, ways: Ways) -> ImportReport | str:
    """Import masks that hold predictions which nobody reviewed, too."""
    from napari_mtssl.cli.labels import _classes, import_one
    from napari_mtssl.images import is_image
    from napari_mtssl.study import exchange

    classes, zarr = _classes(ways.class_name), path.suffix.lower() == ".zarr"
    if path.is_dir() and not zarr:
        return exchange.import_masks(study, path, classes, predictions=True)
    image = choose_image(study, ways.image, path)
    if path.is_dir():
        return exchange.import_mask_zarr(study, path, image.id, classes, predictions=True)
    if is_image(path) and classes is not None:
        return exchange.import_mask(study, path, image.id, classes, predictions=True)
    return import_one(study, path, ways)


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


def make_folder(path: Path) -> None:
    """Make a folder for results.

    Raises
    ------
    UsageError
        If there is a file of that name, or it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"The folder {path} cannot be made: {error.strerror}; choose another one."
        ) from error


def _targets(study: Study, pattern: Path, image: str | None) -> list[tuple[ImageRecord, Path]]:
    """Which image goes to which file."""
    from napari_mtssl.study.names import names_of

    if "{image}" in str(pattern):
        names = names_of(study.images())
        records = study.images() if image is None else [choose_image(study, image)]
        return [(record, Path(str(pattern).replace("{image}", names[record.id]))) for record in records]
    return [(choose_image(study, image), pattern)]


def choose_image(study: Study, name: str | None, source: Path | None = None) -> ImageRecord:
    """Find the image that is meant.

    Parameters
    ----------
    study : Study
    name : str or None
        File name, with or without its ending.
    source : Path, optional
        A file of labels: without `name`, and if there are several images, the one that it is named after is
        meant.

    Raises
    ------
    UsageError
        If the study has no images, or it does not show which one is meant.
    StudyError
        If it has none of that name, or several.
    """
    from napari_mtssl.study.names import ImageNames
    from napari_mtssl.study.tables import image_names

    records = study.images()
    if not records:
        raise UsageError(f"The study {study.name} has no images; add some first.")
    if name is not None:
        return study.find_image(name)
    if len(records) == 1:
        return records[0]
    owner = None if source is None else ImageNames(records).owner(source)
    if owner is not None:
        return owner
    names = ", ".join(list(image_names(study).values())[:8]) + (", ..." if len(records) > 8 else "")
    raise UsageError(f"The study has {len(records)} images: say which one with --image NAME ({names}).")
