"""A small study, and the dock in a real napari window."""

from __future__ import annotations

import gc
import sys
import time

import imageio.v3
import numpy as np
import pandas as pd
import pytest

from napari_mtssl.study import Study

SIZE = 96


def paint(folder, name, seed):
    """A pale image with dark spots; return its path and the spots' centres."""
    rng = np.random.default_rng(seed)
    image = rng.normal(225, 6, (SIZE, SIZE, 3))
    places = [(r, c) for r in range(12, SIZE, 18) for c in range(12, SIZE, 18)]
    grid = np.indices((SIZE, SIZE))
    for n, (row, col) in enumerate(places):
        spot = np.hypot(grid[0] - row, grid[1] - col) < 5
        image[spot] = (90, 60, 140) if n % 2 else (150, 70, 60)
    path = folder / name
    imageio.v3.imwrite(path, image.clip(0, 255).astype(np.uint8))
    return path, places


@pytest.fixture
def study_path(tmp_path):
    """A study of two images; the first has labels of two classes and the background."""
    with Study.create(tmp_path / "small.mtssl", annotator="tester") as study:
        study.add_class("blue", colour="#3333cc", key="1")
        study.add_class("red", colour="#cc3333", key="2")
        study.update_class("background", key="9")
        for seed, name in enumerate(("first.png", "second.png")):
            path, places = paint(tmp_path, name, seed)
            study.add_image(path, height=SIZE, width=SIZE)
        first = study.images()[0]
        names = ["red", "blue"]
        cells = [(first.id, r, c, names[n % 2]) for n, (r, c) in enumerate(places[:8])]
        cells += [(first.id, r + 9, c + 9, "background") for r, c in places[:4]]
        study.add_cells(pd.DataFrame(cells, columns=["image_id", "row", "col", "class"]))
        return study.path


@pytest.fixture
def told(monkeypatch):
    """All notifications, as (severity, message)."""
    from napari.utils.notifications import notification_manager

    notes = []

    def remember(notification):
        notes.append((str(notification.severity), notification.message))

    notification_manager.notification_ready.connect(remember)
    yield notes
    notification_manager.notification_ready.disconnect(remember)


@pytest.fixture(scope="session")
def known_modules():
    """How many modules were loaded when the garbage collector was last told to leave them alone."""
    return [0]


@pytest.fixture
def viewer(known_modules, make_napari_viewer_proxy):
    # napari collects garbage several times a test: a quarter of the time, were it not for this.
    if len(sys.modules) > known_modules[0] + 50:
        gc.collect()
        gc.freeze()
        known_modules[0] = len(sys.modules)
    return make_napari_viewer_proxy()


@pytest.fixture
def make_dock(viewer, monkeypatch):
    """The dock in napari's window, as a plugin gets it; libraries are loaded only when a test asks."""
    from napari_mtssl.engine.options import TrainOptions
    from napari_mtssl.gui import dock as module

    monkeypatch.setattr(module, "PRELOAD_AFTER", 10_000_000)
    made = []

    def make(study=None, **options):
        quick = {
            "validate_every": 1000,
            "checkpoint_every": 1000,
            "report_seconds": 0.01,
            "preview_seconds": 0.2,
        }
        dock = module.Dock(viewer, TrainOptions(**{**quick, "threads": 1, **options}))
        viewer.window.add_dock_widget(dock, name="Label and train")
        made.append(dock)
        if study is not None:
            dock.open_study(study)
        return dock

    yield make
    for dock in made:
        dock.shutdown(window_closes=True)


@pytest.fixture
def dock(make_dock, study_path):
    return make_dock(study_path)


@pytest.fixture
def wait(qtbot):
    """Wait until something is true, with the event loop running."""

    def until(condition, seconds=90):
        qtbot.waitUntil(lambda: bool(condition()), timeout=int(seconds * 1000))

    return until


@pytest.fixture
def predicted():
    """Put predictions on the image of a dock, as a run does."""

    def put(dock, frame=None):
        if frame is None:
            frame = pd.DataFrame(
                {
                    "row": [30.0, 48.0, 66.0, 84.0],
                    "col": [84.0, 84.0, 84.0, 84.0],
                    "class": ["red", "blue", "red", "blue"],
                    "confidence": [0.9, 0.6, 0.8, 0.5],
                    "uncertainty": [0.1, 0.7, 0.2, 0.9],
                }
            )
        dock.workspace.study.set_predictions(dock.workspace.image.id, "a-run", frame)
        dock.workspace.show_predictions((0, 0, SIZE, SIZE), frame)
        dock.review_panel.reload.now()
        dock.draw_now()
        return frame

    return put


@pytest.fixture
def quick_training(dock):
    """Settings that make a training run take seconds."""
    panel = dock.train_panel
    panel.library_ready()
    panel.advanced.expand(animate=False)
    for name, value in {"pool": 40, "batch_size": 6, "depth": 10, "widen": 1}.items():
        panel.form.fields[name].setValue(value)
    panel.steps.setValue(4)
    return dock


def pause(seconds):
    """Let time pass."""
    time.sleep(seconds)
