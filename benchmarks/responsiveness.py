"""How long the window's event loop is held up while training streams 5,000 cells and the camera moves.

Opens napari with the dock on a synthetic field of about 5,000 cells, presses Train, and from the first step
on feeds the true cells of one tile after the other to the dock, as tiles of a trained network come (the
network's own tiles come as well), while the camera zooms and pans. A timer of 10 ms notes how late it is.
Then Stop is pressed.

    python benchmarks/responsiveness.py --json responsiveness.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

POINTS = 5_000
SIDE = 1_664
TILE = 512
BEAT_MS, FEED_MS, CAMERA_MS = 10, 200, 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--seconds", type=float, default=40, help="how long to stream")
    options = parser.parse_args()
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        if shutil.which("xvfb-run") is None:
            sys.exit("There is no display and no Xvfb: install xvfb, or run this on a desktop.")
        os.execvp("xvfb-run", ["xvfb-run", "-a", "-s", "-screen 0 1600x1200x24", sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.seconds)
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


def measure(folder: Path, seconds: float) -> dict[str, float]:
    os.environ["NAPARI_CONFIG"] = str(folder / "napari.yaml")
    import napari
    import numpy as np
    import pandas as pd

    from napari_mtssl.gui.dock import Dock
    from napari_mtssl.gui.samples import make_field_study

    with make_field_study(folder, SIDE) as study:
        path, image_id = study.path, study.images()[0].id
    truth = pd.read_csv(folder / "truth.csv").head(POINTS)
    truth = truth.assign(confidence=0.9, uncertainty=0.1)

    viewer = napari.Viewer()
    dock = Dock(viewer)
    viewer.window.add_dock_widget(dock, name="Label and train")
    dock.open_study(path)
    heart = Heart()
    heart.start()
    wait(lambda: dock.train_panel.advanced_note.isHidden(), 120, "the network library")
    preload_max = heart.stop().max()
    dock.tabs.setCurrentIndex(2)
    panel = dock.train_panel
    panel.steps.setValue(1_000_000)
    wait(lambda: False, 1.0)

    heart.start()
    panel.start_button.click()
    wait(lambda: "first_step_s" in panel.timings, 120, "the first step")
    feeder = Feeder(dock, truth, image_id)
    mover = Mover(viewer)
    wait(lambda: False, seconds)
    wait(lambda: "first_prediction_s" in panel.timings, 60, "the first prediction")
    feeder.stop()
    mover.stop()
    held, drawn = len(dock.workspace.predictions), len(dock.layers.points["Predictions"].data)
    late = heart.stop()

    pressed = time.perf_counter()
    panel.stop_button.click()
    wait(lambda: not dock.runner.busy, 60, "the end of training")
    stop_s = time.perf_counter() - pressed
    wait(lambda: False, 2.0)
    resting = len(dock.layers.points["Predictions"].data)
    figures = {
        "p99_ms": float(np.percentile(late, 99)),
        "max_ms": float(late.max()),
        "median_ms": float(np.median(late)),
        "beats": len(late),
        "points": held,
        "drawn_moving": drawn,
        "drawn_resting": resting,
        "refills": dock.refills,
        "first_step_s": panel.timings["first_step_s"],
        "first_prediction_s": panel.timings["first_prediction_s"],
        "stop_s": stop_s,
        "preload_max_ms": float(preload_max),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan"),
    }
    viewer.close()
    return {name: round(value, 3) for name, value in figures.items()}


class Heart:
    """Notes how many milliseconds late a timer of `BEAT_MS` is."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(BEAT_MS)
        self._timer.timeout.connect(self._beat)

    def start(self) -> None:
        """Begin to listen."""
        self.late, self._last = [], time.perf_counter()
        self._timer.start()

    def stop(self):
        """End, and return how late each beat was, in milliseconds."""
        import numpy as np

        self._timer.stop()
        return np.maximum(np.array(self.late) * 1000 - BEAT_MS, 0)

    def _beat(self) -> None:
        now = time.perf_counter()
        self.late.append(now - self._last)
        self._last = now


class Feeder:
    """Hands the dock one tile of the true cells after the other, as events of the training."""

    def __init__(self, dock, truth, image_id: int) -> None:
        from qtpy.QtCore import QTimer

        self._dock, self._truth, self._image = dock, truth, image_id
        self._boxes = [
            (r, c, min(r + TILE, SIDE), min(c + TILE, SIDE))
            for r in range(0, SIDE, TILE)
            for c in range(0, SIDE, TILE)
        ]
        self._turn = 0
        self._timer = QTimer()
        self._timer.timeout.connect(self._feed)
        self._timer.start(FEED_MS)

    def stop(self) -> None:
        """End."""
        self._timer.stop()

    def _feed(self) -> None:
        import numpy as np

        from napari_mtssl.engine.events import Preview
        from napari_mtssl.methods.prediction import Prediction

        box = self._boxes[self._turn % len(self._boxes)]
        self._turn += 1
        row, col = self._truth["row"] + 0.5, self._truth["col"] + 0.5
        inside = (row >= box[0]) & (col >= box[1]) & (row < box[2]) & (col < box[3])
        stride = 4
        values = np.random.default_rng(self._turn).random(
            ((box[2] - box[0]) // stride, (box[3] - box[1]) // stride)
        )
        pictures = {"uncertainty": values.astype(np.float32)}
        prediction = Prediction(self._truth[inside].drop(columns="image"), pictures=pictures)
        self._dock.runner.event.emit(Preview(0, self._image, box, prediction, (stride, stride)))


class Mover:
    """Zooms in and out and pans in turn, about as fast as a hand does."""

    def __init__(self, viewer) -> None:
        from qtpy.QtCore import QTimer

        self._camera = viewer.scene.camera
        self._zoom, self._centre, self._turn = self._camera.zoom, self._camera.center, 0
        self._timer = QTimer()
        self._timer.timeout.connect(self._move)
        self._timer.start(CAMERA_MS)

    def stop(self) -> None:
        """End."""
        self._timer.stop()

    def _move(self) -> None:
        import numpy as np

        self._turn += 1
        phase = self._turn / 25
        if self._turn % 2:
            self._camera.zoom = self._zoom * 2 ** (1.5 * (1 + np.sin(phase)))
        else:
            shift = 100 * np.cos(phase / 3)
            self._camera.center = (self._centre[-2] + shift, self._centre[-1] - shift)


def wait(condition, seconds: float, what: str | None = None) -> None:
    """Run the event loop until something is true, or the time is over."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    end = time.perf_counter() + seconds
    poll = QTimer()
    poll.timeout.connect(lambda: loop.quit() if condition() or time.perf_counter() > end else None)
    poll.start(5)
    loop.exec_() if hasattr(loop, "exec_") else loop.exec()
    poll.stop()
    if what is not None and not condition():
        sys.exit(f"Waited {seconds:.0f} s in vain for {what}.")


if __name__ == "__main__":
    main()
