import json
import math

import numpy as np
import PIL.Image
import pytest

from napari_mtssl.evaluation import table
from napari_mtssl.evaluation.metrics import confusion_scores

RESULTS = {
    "hydramix": {
        "50": {"accuracy": table.summary([0.8, 0.9]), "seconds": table.summary([61.4, 60.0])},
        "100": {"accuracy": table.summary([0.9, 0.9]), "centroid_px": table.summary([3.0, 4.0])},
    },
    "random-forest": {"100": {"accuracy": table.summary([0.7])}},
}


def test_summary_by_hand():
    assert table.summary([1.0, 2.0, 4.0]) == {
        "mean": pytest.approx(7 / 3),
        "sd": pytest.approx(np.std([1, 2, 4], ddof=1)),
        "runs": [1.0, 2.0, 4.0],
    }
    assert table.summary([0.5]) == {"mean": 0.5, "sd": 0.0, "runs": [0.5]}


def test_what_does_not_exist_is_null():
    assert table.summary([math.nan]) == {"mean": None, "sd": None, "runs": [None]}
    assert table.summary([math.nan, 0.5])["mean"] == 0.5


def test_markdown_has_a_line_for_each_method_that_has_the_metric():
    text = table.markdown(RESULTS)
    assert "| labels | 50 | 100 |" in text
    assert "| HydraMix-Net | 0.850 ± 0.071 | 0.900 ± 0.000 |" in text
    assert "| random forest |  | 0.700 |" in text
    assert text.count("random forest") == 1
    assert "| HydraMix-Net |  | 3.50 ± 0.71 |" in text
    assert "| HydraMix-Net | 61 ± 1 |  |" in text


def test_confusions_are_a_matrix_for_each_row_and_budget():
    counts = np.array([[3, 1], [0, 0]])
    cell = {
        "accuracy": table.summary([0.75]),
        **{k: table.summary([v]) for k, v in confusion_scores(counts, "ab").items()},
    }
    text = table.markdown({"cnn": {"50": cell}})
    assert "### Confusions of simple CNN, 50 labels" in text
    assert "| true, as | a | b |" in text
    assert "| a | 0.750 | 0.250 |" in text and "| b |  |  |" in text
    assert "confusion/" not in text


def test_rows_of_one_budget_lie_below_each_other(tmp_path):
    import imageio.v3 as iio

    point = {"mean": 0.8, "sd": 0.1, "runs": [0.7, None, 0.9]}
    rows = {f"row {n}": {"all": {"dice": point}} for n in range(12)}
    rows["without"] = {"all": {}}
    table.picture(rows, tmp_path / "many.png", ["dice"])
    table.picture(dict(list(rows.items())[:3]), tmp_path / "few.png", ["dice"])
    assert iio.imread(tmp_path / "many.png").shape[0] > 1.5 * iio.imread(tmp_path / "few.png").shape[0]


def test_picture_is_an_image_with_a_panel_for_each_metric(tmp_path):
    table.picture(RESULTS, tmp_path / "new" / "one.png", ["accuracy"])
    table.picture(RESULTS, tmp_path / "two.png", ["accuracy", "centroid_px", "macro_f1"])
    one, two = (PIL.Image.open(path) for path in (tmp_path / "new/one.png", tmp_path / "two.png"))
    assert two.width == pytest.approx(2 * one.width, abs=4)
    assert len(np.unique(np.asarray(one).reshape(-1, 4), axis=0)) > 50


def test_json_is_whole_or_not_there(tmp_path):
    path = tmp_path / "a" / "t.json"
    table.write_json({"results": RESULTS}, path)
    assert json.loads(path.read_text())["results"] == RESULTS
    with pytest.raises(ValueError, match=r"nan|JSON"):
        table.write_json({"x": math.nan}, path)
    assert json.loads(path.read_text())["results"] == RESULTS
    assert [p.name for p in path.parent.iterdir()] == ["t.json"]


def test_budgets_of_several_numbers(tmp_path):
    cell = {"dice": table.summary([0.5, 0.7])}
    results = {"U-Net": {"100-10": cell, "40-50": cell, "40-10": cell}}
    assert "| labels | 40-10 | 40-50 | 100-10 |" in table.markdown(results)
    table.picture(results, tmp_path / "t.png", ["dice"])
    assert (tmp_path / "t.png").stat().st_size > 1000
