import numpy as np
import pytest

from napari_mtssl.evaluation.multimix_pictures import FOUND, TRUE, bland_altman, boundaries
from napari_mtssl.evaluation.multimix_trials import SCORED


@pytest.fixture
def rows():
    """Two rows of one run with two images; the first finds 100 pixels too many in each."""
    true = np.zeros((2, SCORED, SCORED), bool)
    true[:, 50:150, 60:200] = True
    area = true.sum((1, 2))
    kept = {"masks": np.packbits(true, axis=-1), "area_true": area}
    return {"U-Net": [kept | {"area": area + 100}], "Enc": [kept | {"area": area}]}, true


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_bland_altman_plot_says_which_difference_and_where_none_is(rows):
    figure = bland_altman(rows[0])
    first = figure.axes[0]
    assert first.get_ylabel() == "found - true area (px)"
    assert first.get_xlabel() == "mean of found and true area (px)"
    assert first.lines[0].get_ydata().tolist() == [100, 100]  # as the label says: found less true
    assert [0, 0] in [list(line.get_ydata()) for line in first.lines]
    assert {"no difference", "mean difference", "mean ± 1.96 SD"} <= set(legend(figure))


def test_boundaries_say_which_one_is_true(rows):
    by_row, true = rows
    figure = boundaries(by_row, "", np.zeros((2, SCORED, SCORED), np.float32), true)
    colours = [line.get_color() for line in figure.legends[0].get_lines()]
    assert dict(zip(legend(figure), colours, strict=True)) == {"true": TRUE, "found": FOUND}
