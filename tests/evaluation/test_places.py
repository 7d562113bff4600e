"""Scores at labelled places, against what can be counted by hand."""

from __future__ import annotations

import math

import pandas as pd

from napari_mtssl.evaluation.places import score_places

CLASSES = ["background", "a", "b"]


def frame(*rows):
    return pd.DataFrame(rows, columns=["row", "col", "class"])


def test_every_place_is_counted_once():
    cells = [(10, 10, "a"), (30, 30, "a"), (50, 50, "b")]
    labels = frame(*cells, (70, 70, "background"), (90, 90, "background"))
    # right, 5 px off; missed; wrong class; right (nothing there); a cell where there is none; far from all
    predicted = frame((13, 14, "a"), (50, 51, "a"), (90, 91, "b"), (200, 200, "a"))
    places = score_places(labels, predicted, CLASSES)
    assert places.confusion.tolist() == [[1, 0, 1], [1, 1, 0], [0, 1, 0]]
    scores = places.scores()
    assert scores["accuracy"] == 2 / 5
    assert math.isclose(scores["centroid_px"], (5 + 1) / 2)


def test_the_radius_decides_what_is_near():
    labels, predicted = frame((10, 10, "a")), frame((10, 17, "a"))
    assert score_places(labels, predicted, CLASSES).scores()["accuracy"] == 0
    assert score_places(labels, predicted, CLASSES, radius=7).scores()["accuracy"] == 1


def test_scores_of_images_add_up():
    one = score_places(frame((10, 10, "a")), frame((10, 12, "a")), CLASSES)
    two = score_places(frame((10, 10, "b")), frame(), CLASSES)
    total = one + two
    assert total.confusion.sum() == 2
    assert total.scores()["accuracy"] == 0.5
    assert total.scores()["centroid_px"] == 2


def test_labels_of_unknown_classes_are_left_out():
    assert score_places(frame((10, 10, "c")), frame(), CLASSES).confusion.sum() == 0
    assert math.isnan(score_places(frame((10, 10, "c")), frame(), CLASSES).scores()["accuracy"])
