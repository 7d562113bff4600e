"""A window with a slide and a million cells: the program that `slides.py` runs and reads."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np

PANNED = 24  # seconds
OPENED = 100_000


def do_pan(slide: str, scratch: str) -> dict:
    """How late the event loop is while a hand zooms and pans over a slide with a million cells."""
    folder = _million(Path(scratch))
    os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp()) / "napari.yaml")
    import napari
    from qtpy.QtCore import QTimer
    from responsiveness import Heart, wait

    from napari_mtssl.engine.slide_cells import SlideCells
    from napari_mtssl.evaluation.slide_generator import made_slide
    from napari_mtssl.gui.slide_cells import SlideCellLayers

    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(1400, 860)
    began = time.perf_counter()
    viewer.open(slide, plugin="napari-mtssl")
    first_picture = time.perf_counter() - began
    shown = SlideCellLayers(viewer, SlideCells(folder))
    wait(lambda: shown.density is not None, 120, "the map of density")
    wait(lambda: False, 2.0)
    camera = viewer.scene.camera
    centre, far = np.array(camera.center[-2:], float), camera.zoom
    tissue = np.array(made_slide(OPENED, OPENED).pieces[0].centre) * viewer.layers[0].scale[0]
    near = 1 / viewer.layers[0].scale[0]
    turn, most = 0, 0

    def move() -> None:
        nonlocal turn, most
        turn += 1
        # from the whole slide to single pixels and back within eight seconds, while the place wanders
        share = 0.5 - 0.5 * np.cos(2 * np.pi * turn / 200)
        camera.zoom = far * (near / far) ** share
        camera.center = tuple(tissue * (1 + 0.1 * np.array([np.sin(turn / 90), np.cos(turn / 70)])))
        most = max(most, len(shown.points.data) if shown.points.visible else 0)

    timer = QTimer()
    timer.timeout.connect(move)
    heart, busy = Heart(), []

    def note() -> None:
        busy.append(time.thread_time())

    heart.start()
    heart._timer.timeout.connect(note)
    timer.start(40)
    wait(lambda: False, PANNED)
    # at rest between moves, as a person looks: cells come into sight
    for _ in range(4):
        turn = 100
        move()
        timer.stop()
        wait(lambda: False, 1.5)
        most = max(most, len(shown.points.data) if shown.points.visible else 0)
        timer.start(40)
        wait(lambda: False, 2.0)
    timer.stop()
    late = heart.stop()
    counts = shown._counts
    dense = np.array(np.unravel_index(counts.argmax(), counts.shape)) * shown._step * shown._um
    for name, zoom, place in (("far", far, centre), ("near", near, dense)):
        camera.zoom, camera.center = zoom, tuple(place)
        wait(lambda: False, 2.5)
        viewer.window.screenshot(str(Path(scratch) / f"pan-{name}.png"), canvas_only=False, flash=False)
    figures = {
        "p99_ms": round(float(np.percentile(late, 99)), 1),
        "max_ms": round(float(late.max()), 1),
        "median_ms": round(float(np.median(late)), 1),
        # what the thread of the window computed between two beats: the delay on a computer with nothing else
        "busy_p99_ms": round(float(np.percentile(np.diff(busy), 99)) * 1000, 1),
        "busy_max_ms": round(float(np.diff(busy).max()) * 1000, 1),
        "cells": shown._cells.count,
        "drawn": most,
        "open_s": round(first_picture, 2),
        "load": round(os.getloadavg()[0], 1),
    }
    viewer.close()
    return figures


def _million(scratch: Path) -> Path:
    """Folder of a prediction with a million cells in clusters on the tissue of the largest slide."""
    import pandas as pd

    from napari_mtssl.engine.slide_prediction import SlideStore
    from napari_mtssl.engine.tile_output import TileOutput, packed
    from napari_mtssl.evaluation.slide_generator import made_slide

    folder = scratch / "million.prediction"
    if folder.exists():
        return folder
    rng = np.random.default_rng(0)
    part, pieces = scratch / "million.part", made_slide(OPENED, OPENED).pieces
    identity = {"image": f"slide{OPENED}.svs", "size": [OPENED, OPENED], "pixel size": 0.5}
    classes = ("tumour", "lymphocyte")
    store = SlideStore(part, identity, classes)
    for number in range(500):
        piece = pieces[number % len(pieces)]
        corner = np.array(piece.centre) + 0.45 * np.array(piece.axes) * rng.uniform(-1, 1, 2) - 1024
        places = np.clip(corner + rng.uniform(0, 2048, (2000, 2)), 0, OPENED - 1)
        frame = pd.DataFrame(places, columns=["row", "col"])
        frame["class"] = rng.choice(classes, len(frame))
        cells = packed(frame.assign(confidence=0.9, uncertainty=0.1), classes)
        store.commit(number, TileOutput(cells, None, {}, 0.0))
    store.close()
    part.rename(folder)
    return folder
