"""Drive the real window through the story of the README and take its pictures.

Opens the immunohistochemistry sample, labels, trains, waits for predictions and reviews some. Only the
image that ships with scikit-image is shown. Run under Xvfb by ``make screenshots``, or on a desktop.

    python docs/make_screenshots.py [--out docs/images] [--steps 300]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZE = (1400, 860)


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--steps", type=int, default=300, help="training steps before the review")
    options = parser.parse_args()
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        if shutil.which("xvfb-run") is None:
            sys.exit("There is no display and no Xvfb: install xvfb, or run this on a desktop.")
        os.execvp("xvfb-run", ["xvfb-run", "-a", "-s", "-screen 0 1600x1200x24", sys.executable, *sys.argv])
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
        os.environ["XDG_CONFIG_HOME"] = folder
        os.environ["HOME"] = folder  # the sample's study, and no name of a user's folder in a picture
        take(options.out, options.steps)


def take(out: Path, steps: int) -> None:
    """Tell the story."""
    import napari
    from napari.settings import get_settings
    from qtpy.QtWidgets import QApplication

    get_settings().appearance.theme = "dark"
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(*SIZE)
    viewer.open_sample("napari-mtssl", "ihc")
    _, dock = viewer.window.add_plugin_dock_widget("napari-mtssl", "Cells")

    def wait(seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end and not until():
            QApplication.processEvents()
            time.sleep(0.01)

    def shot(name: str) -> None:
        wait(6)  # notifications have gone
        viewer.window.screenshot(str(out / f"{name}.png"), canvas_only=False, flash=False)
        print(out / f"{name}.png")

    wait(30, lambda: dock.train_panel.advanced_note.isHidden())
    dock.tabs.setCurrentIndex(0)
    shot("study")

    dock.tabs.setCurrentIndex(1)
    dock.set_click_mode(True)
    look(viewer, dock, 256, 256, 2.2)
    shot("label")

    dock.tabs.setCurrentIndex(2)
    dock.train_panel.steps.setValue(steps)
    viewer.reset_view()
    dock.train_panel.start_button.click()
    half = lambda: dock.train_panel.progress.value() > steps * 0.6 and len(dock.workspace.predictions) > 0  # noqa: E731
    wait(1800, half)
    shot("train")
    wait(1800, lambda: dock.runner.state.name == "WAITING" or not dock.runner.busy)
    if dock.runner.failure is not None:
        sys.exit(f"Training failed: {dock.runner.failure.reason}")

    dock.tabs.setCurrentIndex(3)
    for verdict in ("accept", "reject", "accept"):
        dock.review_panel.step(1)
        wait(0.3)
        getattr(dock.review_panel, verdict)()
        wait(0.3)
    look(viewer, dock, *dock.review_panel.current(), 2.5)
    shot("review")

    viewer.reset_view()
    dock.layers.points["Predictions"].visible = False
    dock.layers.points["Labels"].visible = False
    dock.layers.uncertainty.visible = True
    shot("uncertainty")
    dock.runner.stop()
    wait(60, lambda: not dock.runner.busy)
    viewer.close()


def look(viewer: Any, dock: Any, row: float, col: float, zoom: float) -> None:
    """Bring a place to the centre."""
    dock.layers.look_at(row, col)
    viewer.scene.camera.zoom = zoom


if __name__ == "__main__":
    main()
