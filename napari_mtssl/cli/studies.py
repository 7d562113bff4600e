"""The command that makes a study."""

from __future__ import annotations

import shutil
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_mtssl.cli.common import HeadName, Split, StudyPath
from napari_mtssl.cli.console import UsageError, notes

if TYPE_CHECKING:
    from napari_mtssl.images import Image
    from napari_mtssl.study import ImageRecord, Study


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
