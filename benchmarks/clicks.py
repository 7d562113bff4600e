"""What a click costs beside many labels, next to the same click in a Points layer of napari's alone.

In the dock a click is on disk when it returns, counted, undoable and taken in by what trains. Each deed is
timed until the window has nothing left to do, with few and with many labels on the same image.

    python benchmarks/clicks.py --json clicks.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SIDE = 4_096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 20_000], help="how many there are")
    parser.add_argument("--clicks", type=int, default=30)
    options = parser.parse_args()
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        if shutil.which("xvfb-run") is None:
            sys.exit("There is no display and no Xvfb: install xvfb, or run this on a desktop.")
        os.execvp("xvfb-run", ["xvfb-run", "-a", "-s", "-screen 0 1600x1200x24", sys.executable, *sys.argv])
    figures = {}
    for labels in options.labels:
        with tempfile.TemporaryDirectory() as folder:
            figures[str(labels)] = measure(Path(folder), labels, options.clicks)
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


def measure(folder: Path, labels: int, clicks: int) -> dict[str, float]:
    os.environ["NAPARI_CONFIG"] = str(folder / "napari.yaml")
    import imageio.v3 as iio
    import napari
    import numpy as np
    import pandas as pd

    from napari_mtssl.gui.dock import Dock
    from napari_mtssl.gui.layers import LABELS
    from napari_mtssl.study import Study

    rng = np.random.default_rng(0)
    iio.imwrite(folder / "field.png", np.full((SIDE, SIDE, 3), 220, np.uint8))
    places = rng.uniform(0, SIDE - 1, (labels, 2))
    with Study.create(folder / "many.mtssl") as study:
        image = study.add_image(folder / "field.png", height=SIDE, width=SIDE)
        for name in ("tumour", "lymphocyte"):
            study.add_class(name)
        cells = pd.DataFrame(places, columns=["row", "col"])
        study.add_cells(
            cells.assign(image_id=image.id, **{"class": rng.choice(["tumour", "lymphocyte"], labels)})
        )
        path = study.path

    viewer = napari.Viewer()
    dock = Dock(viewer)
    viewer.window.add_dock_widget(dock, name="Label and train")
    began = time.perf_counter()
    dock.open_study(path)
    settle()
    opened = time.perf_counter() - began
    while not dock.train_panel.advanced_note.isHidden():  # torch is being loaded in a thread
        settle()
    new = iter(rng.uniform(0, SIDE - 1, (4 * clicks + 20, 2)))
    layer, workspace = dock.layers.points[LABELS], dock.workspace
    with Study.open(path, annotator="colleague") as other:
        figures = {
            "open_s": opened,
            "click_ms": median(clicks, lambda: layer.add(next(new))),
            "undo_ms": median(clicks, dock.label_panel.undo),
            "class_ms": median(clicks, lambda: workspace.set_class([int(rng.integers(1, labels))], "tumour")),
            "others_ms": median(
                clicks,
                lambda: (other.add_cell(image.id, *next(new), "tumour"), dock.watch.look()),
            ),
        }
    dock.shutdown(window_closes=False)
    plain = viewer.add_points(places, size=10, symbol="ring", name="plain")
    settle()
    figures["plain_click_ms"] = median(clicks, lambda: plain.add(next(new)))
    figures["click_ratio"] = figures["click_ms"] / figures["plain_click_ms"]
    viewer.close()
    return {name: round(value, 3) for name, value in figures.items()}


def median(times: int, deed: Callable[[], object]) -> float:
    """Milliseconds that a deed takes until the window is at rest, once it is warm."""
    took = []
    for _ in range(times + 2):
        began = time.perf_counter()
        deed()
        settle()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took[2:])


def settle(rounds: int = 3) -> None:
    """Let the window do what it has to do now, drawing as well."""
    from qtpy.QtWidgets import QApplication

    for _ in range(rounds):
        QApplication.processEvents()


if __name__ == "__main__":
    main()
