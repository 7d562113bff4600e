"""Labels of every kind in and out: which reader or writer for which file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_mtssl.cli.common import What, choose_image
from napari_mtssl.cli.console import UsageError

if TYPE_CHECKING:
    from napari_mtssl.study import Grid, ImageRecord, Study
    from napari_mtssl.study.exchange import ImportReport

_TABLES = {".csv", ".tsv", ".txt"}
_GEOJSON = {".geojson", ".json"}


@dataclass(frozen=True)
class Ways:
    """Options of an import: what files say, of which image, classes, head, block size, edges of bins.

    And whether predictions that nobody reviewed are taken as labels.
    """

    what: What
    image: str | None
    class_name: str | None
    kind: str | None
    block: str | None
    edges: str | None
    predictions: bool = False


def import_one(study: Study, path: Path, ways: Ways) -> ImportReport | str:
    """Import one file, and say what came in.

    Raises
    ------
    UsageError
        If there is no such kind of file, or something more must be said.
    StudyError
        If what it says does not fit the study.
    """
    table = path.suffix.lower() in _TABLES and ways.what is not What.masks
    if ways.image is not None and (table or path.suffix == ".mtssl" or _of_masks(path)):
        raise UsageError(f"--image is for files of one image: leave it out for {path.name}.")
    if path.suffix == ".mtssl":
        from napari_mtssl.study import exchange
        from napari_mtssl.study.merge_study import summary

        return summary(exchange.merge_study(study, path))
    readers: dict[What, Callable[[Study, Path, Ways], ImportReport | str]] = {
        What.cells: _import_cells,
        What.blocks: _import_blocks,
        What.masks: _import_mask,
        What.image_classes: _import_image_classes,
        What.statistics: _import_statistics,
        What.probability_map: _import_probabilities,
    }
    return readers[ways.what](study, path, ways)


def _of_masks(path: Path) -> bool:
    """Whether this is a folder of masks, of many images."""
    return path.is_dir() and path.suffix.lower() != ".zarr"


def _import_cells(study: Study, path: Path, ways: Ways) -> ImportReport:
    from napari_mtssl.images import is_image
    from napari_mtssl.study import exchange

    suffix = path.suffix.lower()
    if suffix in _TABLES:
        return exchange.import_csv(study, path, predictions=ways.predictions)
    if suffix in _GEOJSON:
        image_id = choose_image(study, ways.image, path).id
        return exchange.import_geojson(study, path, image_id, predictions=ways.predictions)
    if is_image(path) or suffix == ".npy":
        classes = _classes(ways.class_name)
        if classes is None:
            raise UsageError(f"{path.name} is a label image: say with --class which class its objects have.")
        return exchange.import_labels(study, path, choose_image(study, ways.image, path).id, classes)
    if path.is_dir():
        raise UsageError(
            f"{path.name} is a folder: say what is in it with --as masks (label images with the names of "
            "their images, or OME-Zarr labels)."
        )
    raise UsageError(
        f"{path.name} is no file of labels: "
        "use .csv (image,row,col,class), .geojson from QuPath, or a label image."
    )


def _import_blocks(study: Study, path: Path, ways: Ways) -> ImportReport:
    from napari_mtssl.study import exchange

    suffix = path.suffix.lower()
    if suffix in _TABLES:
        return exchange.import_blocks_csv(study, path, grid=grid_of(study, ways.block, None))
    if suffix in _GEOJSON:
        image = choose_image(study, ways.image, path)
        return exchange.import_regions_geojson(study, path, image.id, grid=grid_of(study, ways.block, image))
    raise UsageError(f"{path.name} has no blocks: use .csv (image,row,col,class), or .geojson from QuPath.")


def _import_mask(study: Study, path: Path, ways: Ways) -> ImportReport:
    from napari_mtssl.images import is_image
    from napari_mtssl.study import exchange

    suffix = path.suffix.lower()
    if _of_masks(path):
        return import_masks(study, path, ways.class_name, ways.predictions)
    image = choose_image(study, ways.image, path)
    if path.is_dir():
        return exchange.import_mask_zarr(
            study, path, image.id, _classes(ways.class_name), predictions=ways.predictions
        )
    if suffix in _GEOJSON:
        return exchange.import_mask_geojson(study, path, image.id)
    if is_image(path) or suffix == ".npy":
        classes = _classes(ways.class_name)
        if classes is None:
            raise UsageError(
                f"Say with --class which class {path.name} has where it is not 0, or of each value: "
                "1=gland,2=stroma."
            )
        return exchange.import_mask(study, path, image.id, classes, predictions=ways.predictions)
    raise UsageError(
        f"{path.name} is no mask: use a label image, a folder of these, OME-Zarr labels, or .geojson."
    )


def _import_image_classes(study: Study, path: Path, ways: Ways) -> ImportReport:
    from napari_mtssl.study import exchange

    if path.suffix.lower() not in _TABLES:
        raise UsageError(f"{path.name} is no table: use .csv (image,class,group,split).")
    return exchange.import_image_classes(study, path, kind=ways.kind)


def _import_statistics(study: Study, path: Path, ways: Ways) -> str:
    from napari_mtssl.methods.superres.statistics import floored
    from napari_mtssl.study import exchange

    if path.suffix.lower() not in _TABLES:
        raise UsageError(f"{path.name} is no table: use .csv (block_class,mask_class,mean,spread).")
    return " ".join([str(exchange.import_statistics_csv(study, path)), *floored(study.statistics())])


def _import_probabilities(study: Study, path: Path, ways: Ways) -> str:
    from napari_mtssl.methods.superres.statistics import explain_bins
    from napari_mtssl.study import exchange
    from napari_mtssl.study.probability_maps import read_probabilities

    edges = exchange.BIN_EDGES if ways.edges is None else _numbers(ways.edges)
    image = None if path.suffix.lower() in _TABLES else choose_image(study, ways.image, path)
    grid = grid_of(study, ways.block, image)
    found = read_probabilities(study, path)
    with study.edit(f"Imported {path.name}"):
        if ways.class_name is not None and ways.class_name not in {c.name for c in study.classes("mask")}:
            study.add_class(ways.class_name, kind="mask")
        report = exchange.import_probability_map(
            study, found, None if image is None else image.id, edges=edges, grid=grid
        )
        if ways.class_name is not None:
            explain_bins(study, ways.class_name)
    return f"{found.said} {report}"


def import_masks(
    study: Study, folder: Path, class_name: str | None, predictions: bool = False
) -> ImportReport:
    """Import a folder of masks."""
    from napari_mtssl.study import exchange

    return exchange.import_masks(study, folder, _classes(class_name), predictions=predictions)


def export_csv(
    study: Study, path: Path, what: What, details: bool, kind: str | None, predictions: bool
) -> None:
    """Export a table of all images."""
    from napari_mtssl.study import exchange

    if what is What.blocks:
        exchange.export_blocks_csv(study, path, details=details)
    elif what is What.image_classes:
        exchange.export_image_classes(study, path, kind=kind, predictions=predictions)
    elif what is What.statistics:
        exchange.export_statistics_csv(study, path)
    else:
        exchange.export_csv(study, path, details=details, predictions=predictions)


def export_masks(study: Study, folder: Path, image_id: int | None, predictions: bool) -> list[Path]:
    """Export masks as a folder of PNG files."""
    from napari_mtssl.study import exchange

    return exchange.export_masks(
        study, folder, None if image_id is None else [image_id], predictions=predictions
    )


def export_one(
    study: Study, image: ImageRecord, path: Path, what: What, predictions: bool, *, many: bool
) -> bool:
    """Export labels of one image as GeoJSON or OME-Zarr; of many, leave out those without a mask."""
    from napari_mtssl.study import exchange

    if what is What.cells:
        exchange.export_geojson(study, image.id, path, predictions=predictions)
        return True
    if what is What.blocks:
        exchange.export_regions_geojson(study, image.id, path)
        return True
    state = study.mask_state(image.id)
    known = state.painted or state.complete or (predictions and study.mask_prediction(image.id) is not None)
    if many and not known:
        return False
    if path.suffix.lower() in _GEOJSON:
        exchange.export_mask_geojson(study, image.id, path, predictions=predictions)
    else:
        exchange.export_mask_zarr(study, image.id, path, predictions=predictions)
    return True


def _classes(said: str | None) -> dict[int, str] | str | None:
    """One class, or the class of each value: ``1=gland,2=stroma``."""
    if said is None or "=" not in said:
        return said
    try:
        pairs = [part.split("=", 1) for part in said.split(",")]
        classes = {int(value): name.strip() for value, name in pairs}
    except ValueError as error:
        raise UsageError(f"'{said}' names no classes of values; write 1=gland,2=stroma.") from error
    return {0: "background", **classes}


def grid_of(study: Study, block: str | None, image: ImageRecord | None) -> Grid | None:
    """Grid that ``--block`` asks for: ``64``, ``64x50`` or ``32um``."""
    from napari_mtssl.study import Grid

    if block is None:
        return None
    match = re.fullmatch(r"([0-9.]+)(?:x([0-9.]+))?(um)?", block.strip())
    try:
        sizes = [float(match[1]), float(match[2] or match[1])] if match else []
    except ValueError:
        sizes = []
    if match is None or not sizes or min(sizes) <= 0:
        raise UsageError(f"'{block}' is no size of blocks; write 64, 64x50 or 32um.")
    if match[3]:
        records = study.images() if image is None else [image]
        pixels = {record.pixel_size_um for record in records}
        pixel = pixels.pop() if len(pixels) == 1 else None
        if pixel is None:
            raise UsageError("Blocks in micrometres need images of one known pixel size; write pixels.")
        sizes = [size / pixel for size in sizes]
    return Grid(*sizes)


def _numbers(said: str) -> list[float]:
    try:
        return [float(part) for part in said.split(",")]
    except ValueError as error:
        raise UsageError(f"'{said}' is no list of numbers; write 0,.2,.5,1.") from error
