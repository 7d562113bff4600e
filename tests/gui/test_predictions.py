"""Tiles replace what they cover, and what a person settled is not pending."""

import imageio.v3
import numpy as np
import pandas as pd
import pytest

from napari_mtssl.gui.predictions import COLUMNS, PredictionStore, Wanted, read
from napari_mtssl.gui.workspace import Workspace
from napari_mtssl.study import Study


def frame(*places, name="a"):
    table = pd.DataFrame(places, columns=["row", "col"], dtype=float)
    return table.assign(**{"class": name, "confidence": 0.5, "uncertainty": 0.5})


def test_a_tile_replaces_what_it_covers_and_nothing_else():
    store = PredictionStore()
    store.replace((0, 0, 10, 10), frame((5, 5), (9.4, 9.4)))
    store.replace((0, 10, 10, 20), frame((5, 15)))
    store.replace((0, 0, 10, 10), frame((2, 2), name="b"))
    assert sorted(map(tuple, store.coordinates)) == [(2, 2), (5, 15)]
    assert list(store.frame.columns) == COLUMNS


def test_a_cell_between_two_tiles_belongs_to_the_tile_of_its_pixel():
    store = PredictionStore()
    store.replace((0, 10, 10, 20), frame((5, 9.6)))  # pixel 10 covers 9.5 to 10.5
    store.replace((0, 0, 10, 10), frame((1, 1)))
    assert len(store) == 2
    store.replace((0, 10, 10, 20), frame())
    assert store.coordinates.tolist() == [[1, 1]]


def test_an_empty_tile_leaves_an_empty_table_with_all_columns():
    store = PredictionStore()
    store.replace((0, 0, 10, 10), frame())
    assert len(store) == 0
    assert list(store.pending(np.zeros((0, 2))).columns) == COLUMNS


@pytest.mark.parametrize(("distance", "left"), [(5.9, 0), (6.1, 1)])
def test_pending_is_what_lies_further_than_the_radius_from_every_cell(distance, left):
    store = PredictionStore()
    store.set(frame((50, 50)))
    assert len(store.pending(np.array([[50, 50 + distance], [0, 0]]))) == left


def test_version_grows_with_every_change():
    store = PredictionStore()
    before = store.version
    store.set(frame((1, 1)))
    store.replace((0, 0, 5, 5), frame())
    assert store.version == before + 2


def test_the_most_uncertain_of_very_many_are_held(monkeypatch):
    monkeypatch.setattr("napari_mtssl.gui.predictions.MOST", 3)
    store = PredictionStore()
    store.set(frame((1, 1), (2, 2), (3, 3), (4, 4)).assign(uncertainty=[0.9, 0.1, np.nan, 0.8]))
    assert store.coordinates[:, 0].tolist() == [1, 3, 4]  # of the third, confidence says how sure it is
    assert (store.total, store.complete) == (4, False)
    store.replace((10, 10, 20, 20), frame((11, 11), (12, 12)).assign(uncertainty=[0.95, 0.05]))
    assert store.coordinates[:, 0].tolist() == [1, 4, 11]
    assert (store.total, store.complete) == (6, False)


@pytest.fixture
def slide(tmp_path, monkeypatch):
    """A study with one image of ten predictions, which are too many to hold; the fifth is least sure."""
    monkeypatch.setattr("napari_mtssl.gui.predictions.MOST", 3)
    with Study.create(tmp_path / "s.mtssl") as study:
        study.add_class("a")
        study.add_class("b")
        imageio.v3.imwrite(tmp_path / "slide.png", np.zeros((500, 500), np.uint8))
        image = study.add_image(tmp_path / "slide.png", height=500, width=500)
        made = frame(*((20.0 * n, 5.0) for n in range(10)))
        doubt = [0.1, 0.2, 0.3, 0.4, 0.9, 0.8, 0.7, 0.6, 0.5, 0.0]
        made = made.assign(uncertainty=doubt, confidence=1 - np.array(doubt) / 2)
        made.loc[8:, "class"] = "b"
        study.set_predictions(image.id, "run", made)
        yield study


@pytest.mark.parametrize(
    ("wanted", "settled", "rows"),
    [
        (Wanted(), [], [80, 100, 120]),
        (Wanted(), [(80, 5), (101, 6)], [120, 140, 160]),
        (Wanted(box=(0, 0, 70, 500)), [], [20, 40, 60]),
        (Wanted(class_name="b"), [], [160, 180]),
        (Wanted(least=0.9), [], [0, 20, 180]),
        (Wanted(box=(300, 0, 400, 500)), [], []),
    ],
)
def test_of_too_many_those_are_read_that_are_asked_for(slide, wanted, settled, rows):
    store = read(slide, 1, wanted, np.array(settled, float).reshape(-1, 2))
    assert store.frame["row"].tolist() == rows
    assert (store.total, store.complete, store.wanted) == (10, False, wanted)


def test_the_list_is_filled_again_when_all_of_it_is_settled(slide):
    workspace = Workspace()
    workspace.open(slide.path)
    seen = []
    for _ in range(5):
        workspace.want(Wanted())
        pending = workspace.pending()
        if not len(pending):
            break
        seen += pending["row"].tolist()
        workspace.settle(pending, "accepted")
    workspace.want(Wanted())
    assert sorted(seen) == [20.0 * n for n in range(10)]
    assert set(seen[:3]) == {80, 100, 120}
    workspace.close()
