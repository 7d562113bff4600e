"""Typical places while labels are few, uncertain ones afterwards; never the same place twice."""

import numpy as np
import pandas as pd
import pytest

from napari_mtssl.gui.suggest import APART, FEW_LABELS, suggest
from napari_mtssl.images import open_image


@pytest.fixture
def image(tmp_path):
    """Left white, right dark."""
    import imageio.v3

    pixels = np.full((400, 600, 3), 240, np.uint8)
    pixels[:, 400:] = 60
    imageio.v3.imwrite(tmp_path / "two.png", pixels)
    return open_image(tmp_path / "two.png")


NOTHING = pd.DataFrame({"row": [], "col": [], "class": [], "uncertainty": []})


def test_the_first_place_is_of_the_commonest_tissue_and_the_next_of_the_other(image):
    first = suggest(image, np.zeros((0, 2)), NOTHING, [])
    second = suggest(image, np.array([[first.row, first.col]]), NOTHING, [])
    assert first.col < 400
    assert second.col >= 400 - 17  # a window that the dark side reaches into is no white one
    assert "typical" in first.reason


def test_with_enough_labels_the_most_uncertain_prediction_comes_first(image):
    labelled = np.column_stack([np.full(FEW_LABELS, 10.0), np.linspace(10, 590, FEW_LABELS)])
    pending = pd.DataFrame(
        {"row": [200.0, 300.0], "col": [100.0, 300.0], "class": ["a", "b"], "uncertainty": [0.3, 0.9]}
    )
    seen = []
    for expected in (300.0, 100.0):
        place = suggest(image, labelled, pending, seen)
        assert place.col == expected
        seen.append((place.row, place.col))
    assert suggest(image, labelled, pending, seen) is None


def test_suggestions_keep_apart(image):
    seen = []
    for _ in range(10):
        place = suggest(image, np.zeros((0, 2)), NOTHING, seen)
        assert all(np.hypot(place.row - r, place.col - c) > APART for r, c in seen)
        seen.append((place.row, place.col))


def test_an_image_smaller_than_a_patch_gives_none(tmp_path):
    import imageio.v3

    imageio.v3.imwrite(tmp_path / "tiny.png", np.zeros((20, 20, 3), np.uint8))
    assert suggest(open_image(tmp_path / "tiny.png"), np.zeros((0, 2)), NOTHING, []) is None
