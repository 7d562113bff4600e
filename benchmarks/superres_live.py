"""How soon outlines are on screen after Train, and how soon a painted block counts.

Opens napari with the dock on the study of made-up glands of ``demo tissue``, presses Train as a user would,
with the default settings, and waits until the predicted layer shows an outline. Then blocks are given another
class, one after the other, and the time is taken until training says that it uses them. How many steps begin
in between is counted in a run without a window, which reports every step.

    python benchmarks/superres.py --live --json live.json
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

PAINTED = 5  # blocks


def with_display() -> None:
    """Start again under Xvfb, where there is no display."""
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        if shutil.which("xvfb-run") is None:
            sys.exit("There is no display and no Xvfb: install xvfb, or run this on a desktop.")
        os.execvp("xvfb-run", ["xvfb-run", "-a", "-s", "-screen 0 1600x1200x24", sys.executable, *sys.argv])


def measure(folder: Path) -> dict[str, float]:
    """Figures of the window, and of a run without one."""
    from napari_mtssl.cli.demo.tissue import make_study

    with make_study(folder) as study:
        path = study.path
    figures = in_the_window(folder, path) | {"steps_until_block_counts": float(steps_until_counted(path))}
    figures["load"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {name: round(value, 3) for name, value in figures.items()}


def in_the_window(folder: Path, path: Path) -> dict[str, float]:
    """Press Train, wait for an outline, paint blocks, stop."""
    os.environ["NAPARI_CONFIG"] = str(folder / "napari.yaml")
    import napari
    import numpy as np
    from responsiveness import wait

    from napari_mtssl.gui.dock import Dock
    from napari_mtssl.gui.rasters import PREDICTED

    viewer = napari.Viewer()
    dock = Dock(viewer)
    viewer.window.add_dock_widget(dock, name="Tissue")
    dock.open_study(path)
    wait(lambda: dock.train_panel.advanced_note.isHidden(), 120, "the network library")
    dock.tabs.setCurrentIndex(2)
    panel = dock.train_panel
    panel.steps.setValue(100_000)
    taken: list[float] = []
    dock.runner.event.connect(
        lambda event: taken.append(time.perf_counter()) if event.kind == "labels_changed" else None
    )

    def outlined() -> bool:
        layer = dock.rasters.found.get(PREDICTED)
        # 0 is where nothing is predicted yet: an outline is between two classes
        return layer is not None and len(np.setdiff1d(np.unique(np.asarray(layer.data)), [0])) > 1

    pressed, used = time.perf_counter(), time.process_time()
    panel.start_button.click()
    wait(outlined, 120, "an outline")
    outline_s, outline_cpu_s = time.perf_counter() - pressed, time.process_time() - used
    study, image = dock.workspace.need_study(), dock.workspace.need_image()
    waits = []
    for number in range(PAINTED):
        before = len(taken)
        names = study.blocks(image.id)["class"].tolist()
        other = next(name for name in dock.workspace.colours("block") if name != names[number])
        painted = time.perf_counter()
        study.set_blocks(image.id, {(0, number): other})
        wait(lambda before=before: len(taken) > before, 60, "the block to count")
        waits.append(taken[before] - painted)
    panel.stop_button.click()
    wait(lambda: not dock.runner.busy, 60, "the end of training")
    viewer.close()
    return {
        "first_step_s": panel.timings["first_step_s"],
        "first_outline_s": outline_s,
        # what it takes on a machine with other work; drawing and training together
        "first_outline_cpu_s": outline_cpu_s,
        "block_counts_median_s": float(np.median(waits)),
        "block_counts_max_s": float(np.max(waits)),
    }


def steps_until_counted(path: Path) -> int:
    """Most steps that were begun without a block although it was painted."""
    from napari_mtssl.engine.events import LabelsChanged, Stepped
    from napari_mtssl.engine.options import TrainOptions
    from napari_mtssl.engine.session import TrainingSession
    from napari_mtssl.study import Study

    options = TrainOptions(report_seconds=0.0, pseudo_seconds=0, preview_seconds=0)
    session = TrainingSession(path, "superres", overrides={"steps": 1000}, options=options)
    late, painted = [], 0
    with Study.open(path) as study:
        image = study.images()[1]
        names = [item.name for item in study.classes("block")]
        for event in session.events():
            if isinstance(event, LabelsChanged):
                late.append(event.step - painted)
                if len(late) == PAINTED:
                    session.control.stop()
            elif isinstance(event, Stepped) and len(late) < PAINTED and event.step == 2 + 4 * len(late):
                painted = event.step
                old = study.blocks(image.id)["class"].iloc[len(late)]
                study.set_blocks(image.id, {(0, len(late)): names[names.index(old) - 1]})
    return max(late)
