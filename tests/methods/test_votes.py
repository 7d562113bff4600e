import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_mtssl.methods.hydramix.votes import COLUMNS, class_probabilities, entropy, peaks, vote_maps

STRIDE, WINDOW = 4, 32
CLASSES = ("background", "a", "b")


def maps(cells, size=96, reach=10.0):
    """What a perfect network says: near a cell its class and where it is, elsewhere background."""
    side = size // STRIDE
    probs = np.zeros((3, side, side), np.float32)
    probs[0] = 1
    centroids = np.full((2, side, side), 0.5, np.float32)
    middle = (STRIDE - 1) / 2 + np.arange(side) * STRIDE
    for row, col, kind in cells:
        far = np.hypot(middle[:, None] - row, middle[None] - col)
        near = far < reach
        probs[:, near] = 0
        probs[kind, near] = 1
        for axis, value in enumerate((row, col)):
            corner = middle - (WINDOW - 1) / 2
            inside = (value - (corner[:, None] if axis == 0 else corner[None]) + 0.5) / WINDOW
            centroids[axis][near] = np.broadcast_to(inside, near.shape)[near]
    return probs, centroids


@given(
    row=st.floats(20, 70),
    col=st.floats(20, 70),
    apart=st.floats(15, 25),
)
@settings(max_examples=25, deadline=None)
def test_cells_are_found_where_places_point(row, col, apart):
    cells = [(row, col, 1), (row, col + apart, 2)]
    if col + apart > 92:
        cells = cells[:1]
    probs, centroids = maps(cells, reach=7.0)
    frame = peaks(vote_maps(probs, centroids, (96, 96), STRIDE, WINDOW, 2.0, 64.0), CLASSES, 6.0, 1.0)
    assert list(frame.columns) == COLUMNS
    assert len(frame) == len(cells)
    frame = frame.sort_values("col")
    for found, (r, c, kind) in zip(frame.itertuples(), cells, strict=True):
        assert abs(found.row - r) <= 1.0
        assert abs(found.col - c) <= 1.0
        assert found[3] == CLASSES[kind]
        assert found.confidence == pytest.approx(1.0, abs=1e-3)
        assert found.uncertainty == pytest.approx(0.0, abs=1e-3)


def test_one_sure_place_makes_a_peak_of_one():
    probs = np.zeros((3, 8, 8), np.float32)
    probs[0] = 1
    probs[:, 4, 4] = (0, 1, 0)
    centroids = np.full((2, 8, 8), 0.5, np.float32)
    votes = vote_maps(probs, centroids, (32, 32), STRIDE, WINDOW, 2.0, 64.0)
    assert votes[1].max() == pytest.approx(1.0, rel=0.02)
    assert np.unravel_index(votes[1].argmax(), (32, 32)) in [(17, 17), (18, 18)]


def test_places_that_see_their_cell_far_off_count_less():
    probs = np.zeros((2, 8, 8), np.float32)
    probs[0] = 1
    probs[:, 4, 4] = (0, 1)
    centroids = np.full((2, 8, 8), 0.5, np.float32)
    centroids[0, 4, 4] += 6 / WINDOW  # six pixels below the place
    near = vote_maps(probs, centroids, (32, 32), STRIDE, WINDOW, 2.0, 64.0)[1].max()
    far = vote_maps(probs, centroids, (32, 32), STRIDE, WINDOW, 2.0, 3.0)[1].max()
    assert far / near == pytest.approx(np.exp(-2.0), rel=0.01)


def test_votes_outside_the_box_are_lost_and_nothing_else():
    probs = np.zeros((2, 8, 8), np.float32)
    probs[1] = 1
    centroids = np.zeros((2, 8, 8), np.float32)  # everybody points up and left by half a window
    votes = vote_maps(probs, centroids, (32, 32), STRIDE, WINDOW, 0.5, 64.0)
    assert votes[1][20:].max() == 0
    assert votes[1][:18, :18].max() > 0


def test_doubt_is_told():
    probs = np.zeros((3, 8, 8), np.float32)
    probs[0] = 1
    probs[:, 4, 4] = (0.2, 0.5, 0.3)
    centroids = np.full((2, 8, 8), 0.5, np.float32)
    frame = peaks(vote_maps(probs, centroids, (32, 32), STRIDE, WINDOW, 2.0, 64.0), CLASSES, 6.0, 0.1)
    assert len(frame) == 1
    assert frame["class"][0] == "a"
    assert frame["confidence"][0] == pytest.approx(0.5, abs=1e-3)
    expected = entropy(np.array([0.2, 0.5, 0.3])[:, None])[0]
    assert frame["uncertainty"][0] == pytest.approx(expected, abs=1e-3)


def test_no_votes_no_cells():
    probs = np.zeros((3, 8, 8), np.float32)
    probs[0] = 1
    votes = vote_maps(probs, np.full((2, 8, 8), 0.5), (32, 32), STRIDE, WINDOW, 2.0, 64.0)
    frame = peaks(votes, CLASSES, 6.0, 0.0)
    assert frame.empty
    assert list(frame.columns) == COLUMNS


def test_entropy_is_a_share():
    probs = class_probabilities(np.array([[0.0, 100.0], [0.0, 0.0]]))
    assert entropy(probs).tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
