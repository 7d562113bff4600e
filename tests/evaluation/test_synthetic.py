import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import center_of_mass
from scipy.spatial import cKDTree

from napari_mtssl.evaluation.synthetic import CLASSES, cell_field


@settings(max_examples=15, deadline=None)
@given(st.integers(32, 300), st.integers(32, 300), st.floats(0, 2), st.integers(0, 99))
def test_any_size_without_overlap(height, width, density, seed):
    field = cell_field(height, width, density=density, seed=seed)
    assert field.image.shape == (height, width, 3) and field.image.dtype == np.uint8
    cells = field.cells
    assert cells["row"].between(0, height - 1).all() and cells["col"].between(0, width - 1).all()
    assert set(cells["class"]) <= set(CLASSES)
    points, radius = cells[["row", "col"]].to_numpy(), cells["radius"].to_numpy()
    for i, j in cKDTree(points).query_pairs(20) if len(points) else []:
        assert np.linalg.norm(points[i] - points[j]) >= radius[i] + radius[j]


def test_same_seed_same_field():
    one, same, other = (cell_field(100, 120, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(one.image, same.image) and one.cells.equals(same.cells)
    assert not np.array_equal(one.image, other.image)


@pytest.mark.parametrize("stain", ["he", "ihc"])
def test_truth_is_where_the_dark_is(stain):
    """Red light is what haematoxylin takes away: its centre of mass around a lone cell is the truth."""
    field = cell_field(700, 700, density=0.15, noise=0, stain=stain, seed=1)
    points = field.cells[["row", "col"]].to_numpy()
    alone = cKDTree(points).query(points, k=2)[0][:, 1] > 30
    alone &= (points > 15).all(axis=1) & (points < 685).all(axis=1)
    small = alone & (field.cells["class"] == "lymphocyte").to_numpy()
    assert small.sum() > 10
    for row, col in points[small]:
        top, left = round(row) - 8, round(col) - 8
        window = field.image[top : top + 17, left : left + 17, 0].astype(float)
        dark = np.maximum(np.quantile(window, 0.6) - window - 20, 0)
        found = center_of_mass(dark)
        assert np.hypot(found[0] + top - row, found[1] + left - col) < 0.6


def test_classes_look_different_and_density_counts():
    crowded, sparse = cell_field(400, 400, density=1.0), cell_field(400, 400, density=0.3)
    assert len(crowded.cells) > 1.8 * len(sparse.cells)
    assert crowded.cells["class"].value_counts().min() > 40
    radius = crowded.cells.groupby("class")["radius"].mean()
    assert radius["tumour"] > 1.5 * radius["lymphocyte"]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"height": 10}, "at least 32"), ({"density": -1}, "negative"), ({"stain": "pas"}, "no stain 'pas'")],
)
def test_impossible_fields(options, message):
    with pytest.raises(ValueError, match=message):
        cell_field(**options)
