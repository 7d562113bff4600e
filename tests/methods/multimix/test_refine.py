import numpy as np
import pytest

from napari_mtssl.methods.multimix import MultiMix
from napari_mtssl.methods.multimix.refine import refine


def config(**settings):
    return MultiMix.configure("paper", **settings)


def two_discs_and_a_speck():
    inside = np.full((40, 40), 0.1, np.float32)
    inside[5:20, 3:15] = inside[5:20, 22:36] = 0.9
    inside[10, 8] = 0.2  # a hole
    inside[30:32, 30:32] = 0.8
    return np.stack([1 - inside, inside])


def test_nothing_is_changed_unasked():
    found = two_discs_and_a_speck()
    assert np.array_equal(refine(found, config()), found)


def test_largest_parts_without_holes():
    found = two_discs_and_a_speck()
    refined = refine(found, config(largest=2))
    inside = refined[1] > 0.5
    assert inside[5:20, 3:15].all() and inside[5:20, 22:36].all() and inside.sum() == 15 * 26
    assert refined[1, 30, 30] == pytest.approx(0.2) and refined[1, 10, 8] == pytest.approx(0.8)
    assert np.allclose(refined.sum(0), 1)
    assert (refine(found, config(largest=1))[1] > 0.5).sum() == 15 * 14


def test_nothing_found_stays_nothing():
    empty = np.stack([np.ones((8, 8)), np.zeros((8, 8))])
    assert (refine(empty, config(largest=2, smooth=0.02))[1] < 0.5).all()


def test_smoothing_takes_specks_away():
    refined = refine(two_discs_and_a_speck(), config(smooth=0.05))
    assert refined[1, 30, 30] < 0.5 < refined[1, 12, 9] and np.allclose(refined.sum(0), 1, atol=1e-5)
