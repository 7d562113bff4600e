"""File > Open Sample: studies that are ready to train, and the dock that opens them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_mtssl.gui.layers import image_key, scale_of

if TYPE_CHECKING:
    from napari_mtssl.study import Study

PLUGIN, WIDGET = "napari-mtssl", "Label and train"
FIELD_CLICKS = 40  # of each class
FIELD_CLEAR = 12.0  # pixels from every cell: background


def samples_folder() -> Path:
    """Where the samples' studies live; they keep what was labelled the last time."""
    return Path.home() / ".napari-mtssl" / "samples"


def ihc() -> list[tuple[Any, dict[str, Any], str]]:
    """Open the immunohistochemistry image of scikit-image with our clicks."""
    from napari_mtssl.cli.demo.cells import make_study

    folder = samples_folder() / "ihc"
    folder.mkdir(parents=True, exist_ok=True)
    with make_study(folder) as study:
        return _layers(study)


def field(size: int = 1024) -> list[tuple[Any, dict[str, Any], str]]:
    """Open a made-up tissue, some cells labelled; the truth is in ``truth.csv`` beside the study.

    Parameters
    ----------
    size : int
        Side of the image in pixels.
    """
    with make_field_study(samples_folder() / f"field-{size}", size) as study:
        return _layers(study)


def tissue() -> list[tuple[Any, dict[str, Any], str]]:
    """Open made-up glands whose blocks have a class; the last image is to look at."""
    from napari_mtssl.cli.demo.tissue import make_study

    folder = samples_folder() / "tissue"
    folder.mkdir(parents=True, exist_ok=True)
    with make_study(folder) as study:
        paint_bins(study)
        return _layers(study)


def brown() -> list[tuple[Any, dict[str, Any], str]]:
    """Open the immunohistochemistry image of scikit-image with blocks that say how brown they are."""
    from napari_mtssl.cli.demo.tissue import make_real_study

    folder = samples_folder() / "tissue"
    folder.mkdir(parents=True, exist_ok=True)
    with make_real_study(folder) as study:
        paint_bins(study)
        return _layers(study)


def lungs() -> list[tuple[Any, dict[str, Any], str]]:
    """Open made-up chest X-rays, some with a mask, some with a diagnosis."""
    from napari_mtssl.cli.demo.lungs import make_study

    folder = samples_folder() / "lungs"
    folder.mkdir(parents=True, exist_ok=True)
    with make_study(folder) as study:
        return _layers(study)


def specimens() -> list[tuple[Any, dict[str, Any], str]]:
    """Open made-up HEp-2 specimens, some with pattern, intensity and mask."""
    from napari_mtssl.cli.demo.specimens import make_study

    folder = samples_folder() / "specimens"
    folder.mkdir(parents=True, exist_ok=True)
    with make_study(folder) as study:
        return _layers(study)


def paint_bins(study: Study) -> None:
    """Give bins of a share colours from blue (none) to red (all), once."""
    from napari_mtssl.gui.panels.label_blocks import ramp
    from napari_mtssl.methods.superres.statistics import bin_names

    names = bin_names()
    colours = {item.name: item.colour for item in study.classes("block")}
    if any(colours.get(name) == ramp(at / (len(names) - 1)) for at, name in enumerate(names)):
        return
    with study.edit("Coloured the classes of blocks"):
        for at, name in enumerate(names):
            if name in colours:
                study.update_class(name, colour=ramp(at / (len(names) - 1)), kind="block")


def make_field_study(folder: Path, size: int, seed: int = 0) -> Study:
    """Make, or open again, a study of a synthetic cell field with some labels.

    Parameters
    ----------
    folder : Path
        Gets ``field.png``, ``truth.csv`` and ``field.mtssl``.
    size : int
    seed : int

    Returns
    -------
    Study
        Open.
    """
    from napari_mtssl.study import Study

    if (folder / "field.mtssl").exists():
        return Study.open(folder / "field.mtssl")
    import imageio.v3
    import numpy as np
    from scipy.spatial import cKDTree

    from napari_mtssl.evaluation.synthetic import COLOURS, cell_field

    made = cell_field(size, size, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    imageio.v3.imwrite(folder / "field.png", made.image)
    made.cells.assign(image="field.png")[["image", "row", "col", "class"]].to_csv(
        folder / "truth.csv", index=False
    )
    study = Study.create(folder / "field.mtssl")
    image = study.add_image(folder / "field.png", height=size, width=size, pixel_size_um=made.pixel_size_um)
    for name, colour in COLOURS.items():
        study.add_class(name, colour=colour)
    rng = np.random.default_rng(seed)
    clicks = (
        made.cells.sample(frac=1, random_state=seed)
        .groupby("class")
        .head(FIELD_CLICKS)[["row", "col", "class"]]
    )
    places = rng.uniform(0, size - 1, (4000, 2))
    clear = cKDTree(made.cells[["row", "col"]]).query(places)[0] > FIELD_CLEAR
    empty = places[clear][:FIELD_CLICKS]
    background = next(c.name for c in study.classes() if c.background)
    study.add_cells(clicks.assign(image_id=image.id))
    if len(empty):
        import pandas as pd

        study.add_cells(
            pd.DataFrame(empty, columns=["row", "col"]).assign(image_id=image.id, **{"class": background})
        )
    return study


def _layers(study: Study) -> list[tuple[Any, dict[str, Any], str]]:
    """Open the dock and hand napari the study's image; its metadata tells the dock which study to open."""
    open_dock()
    return image_layers(study)


def image_layers(study: Study) -> list[tuple[Any, dict[str, Any], str]]:
    """Return the first image of a study as napari's layer data."""
    from napari_mtssl.images import ImagePool

    images = study.images()
    if not images:
        return [(None,)]  # napari's word for "nothing to show"
    record = images[0]
    pixels = ImagePool()(record)
    levels = pixels.levels
    scale, units = scale_of(record)
    settings = {
        "name": record.path.name,
        "rgb": pixels.channels == 3,
        "multiscale": len(levels) > 1,
        "scale": scale,
        "units": units,
        "metadata": {"mtssl_image": image_key(study.path, record.id)},
    }
    return [(levels if len(levels) > 1 else levels[0], settings, "image")]


def open_dock() -> Any:
    """Open the dock in the current napari window, or show the one that is open; None without a window."""
    from napari import current_viewer

    viewer = current_viewer()
    if viewer is None:
        return None
    return viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)[1]
