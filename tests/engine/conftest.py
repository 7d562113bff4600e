"""A study with images of discs, the small method of `tiny_method`, and runs of it."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # also for the processes that tests start and kill

import tiny_method

import napari_mtssl.methods
from napari_mtssl.engine.control import Control
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.source import FixedSource
from napari_mtssl.engine.train import train
from napari_mtssl.study import Study

# Everything is said at once: tests wait for no clock.
EAGER = TrainOptions(
    validate_every=10, checkpoint_every=10, report_seconds=0.0, pseudo_seconds=1e-9, preview_seconds=0.0
)


@pytest.fixture
def tiny():
    """The module of the small method."""
    return tiny_method


@pytest.fixture
def registered(monkeypatch):
    """The small method, as if a package had registered it."""
    point = EntryPoint(name="tiny", value="tiny_method:Tiny", group="napari_mtssl.methods")
    real = napari_mtssl.methods.entry_points
    monkeypatch.setattr(napari_mtssl.methods, "entry_points", lambda group: [*real(group=group), point])


@pytest.fixture
def make_run(tmp_path):
    """Start a run: returns its `method`, `control`, `dir` and `events` (a generator)."""
    number = iter(range(100))

    def start(
        *,
        run_dir=None,
        source=None,
        options=EAGER,
        method=None,
        previewer=None,
        resume=False,
        seed=0,
        validation=True,
        checkpoint0=None,
        **settings,
    ):
        if run_dir is None:
            run_dir = tmp_path / f"run-{next(number)}"
            run_dir.mkdir()
        method = method or tiny_method.make_method(seed, **settings)
        held_out = tiny_method.make_samples(seed=1) if validation else None
        control = Control()
        events = train(
            method,
            source or FixedSource(tiny_method.make_samples(), held_out),
            run_dir=run_dir,
            control=control,
            options=options,
            previewer=previewer,
            resume=resume,
            checkpoint0=checkpoint0,
        )
        return SimpleNamespace(method=method, control=control, dir=run_dir, events=events)

    return start


@pytest.fixture
def study_path(tmp_path):
    """A study of three images (two to train on, one held out), all discs and some empty places labelled."""
    path = tmp_path / "discs.mtssl"
    with Study.create(path, annotator="tester") as study:
        for name in ("red", "blue"):
            study.add_class(name)
        for number, split in enumerate(("train", "train", "validation")):
            pixels, truth = tiny_method.draw_discs(150, 170, 20, seed=number)
            file = tiny_method.save_image(tmp_path / f"image{number}.png", pixels)
            record = study.add_image(file, height=150, width=170, group=f"patient{number}", split=split)
            grid = pd.DataFrame(
                [(r, c) for r in range(10, 150, 20) for c in range(10, 170, 20)], columns=["row", "col"]
            )
            near = [
                ((truth[["row", "col"]] - place) ** 2).sum(axis=1).min() < 14**2 for place in grid.to_numpy()
            ]
            grid = grid[~pd.Series(near)].assign(**{"class": "background"})
            study.add_cells(pd.concat([truth, grid], ignore_index=True).assign(image_id=record.id))
    return path
