import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from napari_mtssl.evaluation import metrics


def cells(*rows):
    return pd.DataFrame(rows, columns=["row", "col", "class"])


class TestPatches:
    def test_by_hand(self):
        confusion = metrics.confusion_matrix([0, 0, 1, 1, 2], [0, 1, 1, 1, 0], 3)
        assert confusion.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]
        assert metrics.accuracy(confusion) == pytest.approx(0.6)
        assert metrics.f1_scores(confusion) == pytest.approx([0.5, 0.8, 0.0])
        assert metrics.macro_f1(confusion) == pytest.approx(1.3 / 3)

    def test_class_that_never_occurs_does_not_count(self):
        confusion = metrics.confusion_matrix([0, 1], [0, 1], 4)
        assert metrics.macro_f1(confusion) == 1
        assert math.isnan(metrics.f1_scores(confusion)[3])

    def test_nothing_gives_nan(self):
        confusion = metrics.confusion_matrix([], [], 3)
        assert math.isnan(metrics.accuracy(confusion)) and math.isnan(metrics.macro_f1(confusion))

    def test_refusals(self):
        with pytest.raises(ValueError, match="2 true but 1 predicted"):
            metrics.confusion_matrix([0, 1], [0], 2)
        with pytest.raises(ValueError, match="outside 0 to 1"):
            metrics.confusion_matrix([0, 2], [0, 1], 2)

    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60), st.randoms())
    def test_equals_scikit_learn_and_ignores_order(self, pairs, random):
        truth, predicted = np.array(pairs).T
        confusion = metrics.confusion_matrix(truth, predicted, 4)
        assert np.array_equal(confusion, theirs.confusion_matrix(truth, predicted, labels=range(4)))
        assert metrics.macro_f1(confusion) == pytest.approx(
            theirs.f1_score(truth, predicted, average="macro")
        )
        random.shuffle(pairs)
        assert np.array_equal(confusion, metrics.confusion_matrix(*np.array(pairs).T, 4))

    def test_centroid_error_leaves_background_out(self):
        truth = np.array([[10.0, 10.0], [5.0, 5.0], [0.0, 0.0]])
        said = np.array([[13.0, 14.0], [5.0, 4.0], [99.0, 99.0]])
        assert metrics.centroid_error(truth, said, [True, True, False]) == pytest.approx(3.0)
        assert math.isnan(metrics.centroid_error(truth, said, [False] * 3))

    def test_calibration_by_hand(self):
        probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.4, 0.6]])
        # bins of a tenth: {.9, .9} one of two right, {.7} right, {.6} wrong
        expected = (2 * abs(0.5 - 0.9) + abs(1 - 0.7) + abs(0 - 0.6)) / 4
        assert metrics.expected_calibration_error(probabilities, [0, 1, 1, 0], bins=10) == pytest.approx(
            expected
        )

    def test_calibration_of_the_certain(self):
        certain = np.eye(3)[[0, 1, 2, 0]]
        assert metrics.expected_calibration_error(certain, [0, 1, 2, 0]) == 0
        assert metrics.expected_calibration_error(certain, [1, 2, 0, 1]) == 1


points = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=6, unique=True)


class TestMatching:
    def test_a_greedy_choice_would_lose_a_pair(self):
        truth = np.array([[0.0, 0.0], [0.0, 5.0]])
        said = np.array([[0.0, 4.0], [0.0, 10.0]])
        i, j = metrics.match_points(truth, said, 6)
        assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 0), (1, 1)]

    def test_the_radius_is_included(self):
        assert len(metrics.match_points([[0, 0]], [[0, 6]], 6)[0]) == 1
        assert len(metrics.match_points([[0, 0]], [[0, 6.001]], 6)[0]) == 0

    def test_coinciding_points_pair(self):
        assert len(metrics.match_points([[3, 3], [3, 3]], [[3, 3]], 6)[0]) == 1

    def test_nothing_to_match(self):
        assert len(metrics.match_points(np.empty((0, 2)), [[0, 0]], 6)[0]) == 0
        assert len(metrics.match_points([[0, 0]], [[50, 0]], 6)[0]) == 0
        with pytest.raises(ValueError, match="positive"):
            metrics.match_points([[0, 0]], [[0, 0]], 0)

    @settings(max_examples=150, deadline=None)
    @given(points, points)
    def test_best_of_all_possible_matchings(self, truth, said):
        a, b = np.array(truth, float).reshape(-1, 2), np.array(said, float).reshape(-1, 2)
        i, j = metrics.match_points(a, b, 6)
        assert len(set(i)) == len(i) and len(set(j)) == len(j)
        distances = np.linalg.norm(a[i] - b[j], axis=1)
        assert (distances <= 6).all()
        flip = len(a) > len(b)
        few, many = (b, a) if flip else (a, b)
        best = (0, 0.0)
        for chosen in itertools.permutations(range(len(many)), len(few)):
            gaps = np.linalg.norm(few - many[list(chosen)], axis=1) if len(few) else np.empty(0)
            best = max(best, (int((gaps <= 6).sum()), -float(gaps[gaps <= 6].sum())))
        assert len(i) == best[0]
        assert distances.sum() == pytest.approx(-best[1], abs=1e-6)

    @settings(max_examples=50, deadline=None)
    @given(points, points, st.randoms())
    def test_order_does_not_matter(self, truth, said, random):
        def count(a, b):
            return len(metrics.match_points(np.array(a).reshape(-1, 2), np.array(b).reshape(-1, 2), 6)[0])

        before = count(truth, said)
        random.shuffle(truth)
        random.shuffle(said)
        assert count(truth, said) == before == count(said, truth)

    def test_ten_thousand_cells_are_quick(self):
        rng = np.random.default_rng(0)
        truth = rng.uniform(0, 1500, (10_000, 2))
        i, j = metrics.match_points(truth, truth[::-1] + rng.normal(0, 0.5, truth.shape), 6)
        assert len(i) == len(j) == 10_000


class TestDetection:
    truth = cells((0, 0, "a"), (0, 100, "a"), (0, 200, "b"), (0, 300, None))

    def test_by_hand(self):
        said = cells((1, 0, "a"), (1, 100, "b"), (1, 200, "b"), (1, 300, "a"), (50, 50, "a"))
        counts = metrics.count_detections(self.truth, said, ["a", "b"])
        scores = counts.scores()
        assert scores["detection_precision"] == pytest.approx(4 / 5)
        assert scores["detection_recall"] == pytest.approx(1)
        assert scores["detection_f1"] == pytest.approx(8 / 9)
        # a: one right, two true, two said (the one on the cell of unknown class is left out)
        assert scores["f1_a"] == pytest.approx(2 / 4)
        # b: one right, one true, two said
        assert scores["f1_b"] == pytest.approx(2 / 3)
        assert scores["weighted_f1"] == pytest.approx((2 * 0.5 + 1 * 2 / 3) / 3)
        # of three found cells of known class: a, one right of two true and one said; b, one of one and two
        assert scores["weighted_f1_found"] == pytest.approx((2 * 2 / 3 + 1 * 2 / 3) / 3)

    def test_of_the_cells_found_only_a_wrong_class_counts(self):
        said = cells((0, 0, "a"), (0, 200, "b"), (50, 50, "a"))  # a miss and a false cell
        scores = metrics.count_detections(self.truth, said, ["a", "b"]).scores()
        assert scores["weighted_f1_found"] == 1.0
        assert scores["weighted_f1"] < 1.0

    def test_perfect_and_nothing(self):
        known = self.truth.dropna()
        assert set(metrics.count_detections(known, known, ["a", "b"]).scores().values()) == {1.0}
        nothing = metrics.count_detections(known, known.iloc[:0], ["a", "b"]).scores()
        assert nothing["detection_f1"] == 0 == nothing["weighted_f1"]
        assert math.isnan(nothing["detection_precision"])

    def test_a_class_that_is_not_scored_still_is_a_cell(self):
        said = cells((0, 200, "a"))
        counts = metrics.count_detections(self.truth, said, ["a"])
        assert counts.found == 1 and counts.true == 4
        assert counts.correct.tolist() == [0] and counts.predicted_of.tolist() == [1]

    def test_counts_of_images_add_up(self):
        one = metrics.count_detections(self.truth, cells((0, 0, "a")), ["a", "b"])
        two = metrics.count_detections(self.truth, cells((0, 200, "b"), (9, 9, "b")), ["a", "b"])
        both = one + two
        assert (both.found, both.true, both.predicted) == (2, 8, 3)
        assert both.correct.tolist() == [1, 1] and both.predicted_of.tolist() == [1, 2]
        with pytest.raises(ValueError, match="different classes"):
            one + metrics.count_detections(self.truth, cells((0, 0, "a")), ["a"])
