"""How soon a mask is on screen after Train, and how soon a corrected image counts.

Opens napari with the dock on the made-up chests of ``demo lungs``, presses Train as a user would, with the
default settings, and waits until the predicted layer shows a lung and the saliency is there. Then images get
a class, one after the other, and the time is taken until training says that it uses them.

    python benchmarks/multimix.py --live --json live.json
"""

from __future__ import annotations

import os
import time
from pathlib import Path

CORRECTED = 5  # images


def measure(folder: Path) -> dict[str, float]:
    """Press Train, wait for a mask, correct images, stop."""
    os.environ["NAPARI_CONFIG"] = str(folder / "napari.yaml")
    import napari
    import numpy as np
    from responsiveness import wait

    from napari_mtssl.cli.demo.lungs import make_study
    from napari_mtssl.gui.dock import Dock
    from napari_mtssl.gui.rasters import PREDICTED, SALIENCY

    with make_study(folder) as study:
        path = study.path
    viewer = napari.Viewer()
    dock = Dock(viewer)
    viewer.window.add_dock_widget(dock, name="Lungs")
    dock.open_study(path)
    wait(lambda: dock.train_panel.advanced_note.isHidden(), 120, "the network library")
    study, panel = dock.workspace.need_study(), dock.train_panel
    without = [i.id for i in study.images("train") if study.image_classes(i.id)["kind"].eq("origin").all()]
    dock.workspace.select_image(without[0])
    dock.tabs.setCurrentIndex(2)
    taken: list[float] = []
    dock.runner.event.connect(
        lambda event: taken.append(time.perf_counter()) if event.kind == "labels_changed" else None
    )

    def shown(name: str) -> np.ndarray:
        layer = dock.rasters.found.get(name)
        return np.zeros(1) if layer is None else np.setdiff1d(np.unique(np.asarray(layer.data)), [0])

    pressed = time.perf_counter()
    panel.start_button.click()
    wait(lambda: shown(PREDICTED).any(), 240, "a prediction")  # 0 is where nothing is predicted yet
    prediction_s = time.perf_counter() - pressed
    wait(lambda: shown(SALIENCY).any(), 60, "the saliency")
    wait(lambda: len(shown(PREDICTED)) > 1, 240, "a lung")  # and not background everywhere
    mask_s = time.perf_counter() - pressed
    waits = []
    for image_id in without[:CORRECTED]:
        before, said = len(taken), time.perf_counter()
        study.set_image_class(image_id, "diagnosis", "normal")
        wait(lambda before=before: len(taken) > before, 60, "the class to count")
        waits.append(taken[before] - said)
    panel.stop_button.click()
    wait(lambda: not dock.runner.busy, 60, "the end of training")
    viewer.close()
    figures = {
        "first_step_s": panel.timings["first_step_s"],
        "first_prediction_s": prediction_s,
        "first_mask_s": mask_s,
        "correction_counts_median_s": float(np.median(waits)),
        "correction_counts_max_s": float(np.max(waits)),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan"),
    }
    return {name: round(value, 3) for name, value in figures.items()}
