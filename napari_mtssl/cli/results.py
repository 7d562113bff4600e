"""What a method said of an image, as files that people and other programs read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from napari_mtssl.cli.console import notes

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from napari_mtssl.engine.predictor import Predictor
    from napari_mtssl.images import Image
    from napari_mtssl.methods.base import Method
    from napari_mtssl.methods.prediction import Prediction
    from napari_mtssl.study import Study

Colours = Mapping[str, Mapping[str, str]]  # by kind and class
SIMPLIFY = 0.5  # pixels by which polygons may leave the edges of pixels


def predicted(method: Method, image: Image, predictor: Predictor | None = None) -> Prediction:
    """Predict a whole image, with a progress bar; by default in this thread."""
    from rich.progress import Progress

    from napari_mtssl.engine.dense import join, predict_image

    results = []
    with Progress(console=notes, transient=True) as progress:
        task = progress.add_task(image.path.name, total=None)
        for result in predict_image(method, image) if predictor is None else predictor.parts(image):
            results.append(result)
            progress.update(task, total=result.total, completed=result.done)
    results.sort(key=lambda result: result.box)  # the same order, whoever was done first
    return join(results, image.height, image.width)


def write_results(method: Method, image: Image, found: Prediction, colours: Colours, folder: Path) -> str:
    """Write everything that was found in one image.

    Cells become ``STEM.geojson``, ``STEM.csv`` and ``STEM.overlay.png``; a mask ``STEM.mask.png``,
    ``STEM.mask.geojson``, ``STEM.areas.csv`` and ``STEM.outlines.png`` (``masks.csv`` says that it is
    predicted); classes of the image ``STEM.classes.csv``; a saliency ``STEM.saliency.png``.

    Returns
    -------
    str
        What was found, in words.
    """
    said = []
    if "cell" in method.vocabulary:
        write_cells(image, found.cells, colours.get("cell", {}), folder)
        counts = found.cells["class"].value_counts().items()
        said.append(", ".join(f"{n} {name}" for name, n in counts) or "no cells")
    if found.mask is not None:
        areas = write_mask(image, found.mask, method.vocabulary["mask"], colours.get("mask", {}), folder)
        said.append(", ".join(f"{row.percent:.1f} % {row.name}" for row in areas.itertuples(index=False)))
    if len(found.image):
        said.append(write_classes(image, found, folder))
    if "saliency" in found.pictures:
        write_heat(found.pictures["saliency"], folder / f"{image.path.stem}.saliency.png")
    return "; ".join(said)


def write_classes(image: Image, found: Prediction, folder: Path) -> str:
    """Write ``STEM.classes.csv``, what class an image is of; give the most probable ones in words."""
    found.image.to_csv(folder / f"{image.path.stem}.classes.csv", index=False, float_format="%.4g")
    best = found.image.loc[found.image.groupby("kind", sort=False)["probability"].idxmax()]
    return "; ".join(
        f"{row['class']} ({row['kind']}, {row['probability']:.2f})" for _, row in best.iterrows()
    )


def keep_found(study: Study, run: str, method: Method, image: Image, found: Prediction) -> str:
    """Keep what is predicted in the study, if the image is one of it: for `export` and the dock.

    Returns
    -------
    str
        What was kept, in words; empty if nothing was.
    """
    record = next((each for each in study.images() if each.location == image.location), None)
    if record is None:
        return ""
    kept, names = [], method.vocabulary.get("mask", ())
    cells = {item.name for item in study.classes("cell")}
    if "cell" in method.vocabulary and cells.issuperset(found.cells["class"]):
        study.set_predictions(record.id, run, found.cells)
        kept.append("the cells")
    if found.mask is not None and {item.name for item in study.classes("mask")}.issuperset(names):
        height, width = found.mask.shape[1:]
        if method.whole_image:
            scale = image.height / height, image.width / width
        else:
            scale = (float(method.geometry.stride),) * 2
        box = (0, 0, image.height, image.width)
        study.set_mask_prediction(record.id, run, box, found.mask, scale, names)
        kept.append("the mask")
    known = {(item.kind, item.name) for item in study.classes(None)}
    if len(found.image) and known.issuperset(zip(found.image["kind"], found.image["class"], strict=True)):
        study.set_image_prediction(record.id, run, found.image)
        kept.append("the classes")
    return " and ".join(kept)


def write_cells(image: Image, cells: pd.DataFrame, colours: Mapping[str, str], folder: Path) -> None:
    """Write ``STEM.geojson``, ``STEM.csv`` and ``STEM.overlay.png`` of one image."""
    from napari_mtssl.cli.pictures import overlay, save_picture
    from napari_mtssl.study.exchange import write_predictions

    stem = image.path.stem
    write_predictions(folder / f"{stem}.geojson", cells, colours, image.path.name)
    table = cells.assign(image=image.path.name, label="predicted", probability=cells["confidence"])
    table = table[["image", "row", "col", "class", "label", "probability", "uncertainty"]]
    # places to a hundredth of a pixel, however far from the corner they are
    table = table.round({"row": 2, "col": 2, "probability": 4, "uncertainty": 4})
    table.to_csv(folder / f"{stem}.csv", index=False)
    save_picture(folder / f"{stem}.overlay.png", overlay(image, cells, colours))


def write_mask(
    image: Image, probabilities: np.ndarray, names: tuple[str, ...], colours: Mapping[str, str], folder: Path
) -> pd.DataFrame:
    """Write the class of every pixel, its polygons for QuPath, the area of every class, and the outlines.

    Parameters
    ----------
    image : Image
    probabilities : ndarray, shape (K, h, w)
        Of any resolution; pixels of the files are those of the image.
    names : tuple of str
        The K classes; a pixel of ``STEM.mask.png`` holds the place of its class in this list.
    colours : mapping of str to str
    folder : Path

    Returns
    -------
    DataFrame
        ``name, pixels, percent``, and ``mm2`` if the image's pixel size is known.
    """
    import numpy as np
    import pandas as pd

    from napari_mtssl.cli.pictures import outlines, save_picture
    from napari_mtssl.methods.prediction import full_size
    from napari_mtssl.study.mask_tables import note_masks
    from napari_mtssl.study.polygon_files import write_mask_polygons
    from napari_mtssl.study.records import PREDICTED

    labels = full_size(probabilities, image.height, image.width).argmax(axis=0).astype(np.uint8)
    stem = image.path.stem
    save_picture(folder / f"{stem}.mask.png", labels)
    note_masks(folder, {f"{stem}.mask.png": PREDICTED})
    classes = {at: (name, colours[name]) for at, name in enumerate(names) if name in colours}
    write_mask_polygons(folder / f"{stem}.mask.geojson", labels, classes, image.path.name, simplify=SIMPLIFY)
    pixels = np.bincount(labels.ravel(), minlength=len(names))
    areas = pd.DataFrame({"name": names, "pixels": pixels, "percent": 100.0 * pixels / pixels.sum()})
    if image.pixel_size_um is not None:
        areas["mm2"] = pixels * (image.pixel_size_um / 1000.0) ** 2
    areas.to_csv(folder / f"{stem}.areas.csv", index=False, float_format="%.6g")
    save_picture(folder / f"{stem}.outlines.png", outlines(image, labels, names, colours))
    return areas


def write_heat(values: np.ndarray, path: Path) -> None:
    """Write a picture of values, dark to bright, each image by its own range."""
    import matplotlib
    import numpy as np

    from napari_mtssl.cli.pictures import save_picture

    low, high = float(np.min(values)), float(np.max(values))
    shown = (values - low) / (high - low) if high > low else np.zeros_like(values)
    colours = matplotlib.colormaps["magma"](shown)[..., :3]
    save_picture(path, np.rint(255 * colours).astype(np.uint8))
