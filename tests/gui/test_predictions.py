"""Tiles replace what they cover, and what a person settled is not pending."""

import numpy as np
import pandas as pd
import pytest

from napari_mtssl.gui.predictions import COLUMNS, PredictionStore


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


def test_only_the_newest_of_very_many_are_held(monkeypatch):
    monkeypatch.setattr("napari_mtssl.gui.predictions.MOST", 3)
    store = PredictionStore()
    store.set(frame((1, 1), (2, 2), (3, 3), (4, 4)))
    assert store.coordinates[:, 0].tolist() == [2, 3, 4]
    store.replace((10, 10, 20, 20), frame((11, 11), (12, 12)))
    assert store.coordinates[:, 0].tolist() == [4, 11, 12]
