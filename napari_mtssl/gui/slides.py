"""Whole slides as layers of napari: lazy, with all their levels, in micrometres."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import napari


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[Any]] | None:
    """Return a reader if all paths look like images that we open; no file is touched."""
    from napari_mtssl.images import is_image

    paths = path if isinstance(path, list) else [path]
    return read_slides if paths and all(is_image(one) for one in paths) else None


def read_slides(path: str | list[str]) -> list[tuple[Any, dict[str, Any], str]]:
    """Open images as layers, a pyramid each; what lies beside a slide, such as its label, is not shown.

    A large image without a pyramid can be converted at once, if there is a window to ask in.

    Raises
    ------
    ImageError
        With what to change; napari shows it.
    """
    from napari_mtssl.gui.background import read_in_background
    from napari_mtssl.images import FlatImageError, open_image

    layers: list[Any] = []
    for one in path if isinstance(path, list) else [path]:
        try:
            image = open_image(one)
        except FlatImageError as error:
            if not offer(Path(one), str(error)):
                raise
            continue
        known = image.pixel_size_um is not None
        settings = {
            "name": image.path.name,
            "rgb": image.channels == 3,
            "multiscale": len(image.levels) > 1,
            "scale": [image.pixel_size_um or 1.0] * 2,
            "units": ["um" if known else "pixel"] * 2,
            "metadata": {"pixel_size_um": image.pixel_size_um, "magnification": image.magnification},
        }
        layers.append((image.levels if len(image.levels) > 1 else image.levels[0], settings, "image"))
        if settings["multiscale"]:
            read_in_background(True)
    return layers or [(None,)]


def offer(path: Path, why: str) -> bool:
    """Ask whether an image shall be converted to a pyramid beside it, and begin; False if it shall not be."""
    import napari
    from qtpy.QtWidgets import QApplication, QMessageBox

    viewer = napari.current_viewer()
    if QApplication.instance() is None or viewer is None:
        return False
    out = path.with_name(f"{path.stem}.ome.zarr")
    question = f"{why.split(';')[0]}. Write one to {out.name}, beside it, and open that?"
    if QMessageBox.question(None, "No pyramid", question) != QMessageBox.StandardButton.Yes:
        return False
    convert_and_open(path, out, viewer)
    return True


def convert_and_open(path: Path, out: Path, viewer: napari.Viewer) -> Any:
    """Convert in a thread, with progress in napari's activity dock, and open the result.

    Closing the viewer stops it; opening the image again goes on where it was.

    Returns
    -------
    WorkerBase
    """
    from napari.qt.threading import create_worker
    from napari.utils import progress

    from napari_mtssl.gui.notify import in_words, show_warning
    from napari_mtssl.images import open_image
    from napari_mtssl.images.convert import convert

    bar = progress(total=0, desc=f"Pyramid of {path.name}")

    def blocks() -> Any:
        if not out.exists():
            yield from convert(open_image(path, flat_limit=None), out)

    def on_block(done: Any) -> None:
        bar.total = done.total
        bar.update(done.done - bar.n)

    worker = create_worker(blocks, _start_thread=False)
    worker.yielded.connect(on_block)
    worker.returned.connect(lambda _: viewer.open(str(out), plugin="napari-mtssl"))
    worker.errored.connect(lambda error: show_warning(in_words(error) or str(error)))
    worker.finished.connect(bar.close)
    worker.start()
    return worker
