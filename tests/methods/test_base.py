"""What methods share: the draw of labels."""

from __future__ import annotations

import pandas as pd
import pytest

from napari_mtssl.methods.base import MethodError, draw_labels

CELLS = pd.DataFrame({"id": range(20), "class": ["background"] * 12 + ["tumour"] * 7 + ["rare"]})


def test_all_labels_are_used_unless_fewer_are_wanted():
    assert draw_labels(CELLS, 0, 1) is CELLS
    assert draw_labels(CELLS, 20, 1) is CELLS


def test_classes_take_turns_while_they_last():
    counts = draw_labels(CELLS, 9, 1)["class"].value_counts()
    assert counts.to_dict() == {"background": 4, "tumour": 4, "rare": 1}


def test_the_seed_decides_and_the_order_stays():
    one, again, other = (draw_labels(CELLS, 8, seed)["id"].tolist() for seed in (3, 3, 4))
    assert one == again == sorted(one)
    assert one != other


def test_too_few_for_all_classes_is_refused():
    with pytest.raises(MethodError, match="2 labels are too few for 3 classes"):
        draw_labels(CELLS, 2, 0)
