import numpy as np
import pytest
from glands import SIDE, make_study

from napari_mtssl.images import ImagePool
from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.superres.coarse import binned_map, classify_blocks, painted_shares
from napari_mtssl.methods.superres.statistics import bin_names, measured_statistics
from napari_mtssl.study import Grid, Study


def test_a_probability_map_becomes_blocks():
    values = np.array([[0.05, 0.97], [0.25, np.nan]])
    fine = binned_map(values, (50.0, 50.0), Grid(50, 50), (100, 100))
    assert fine == {(0, 0): "0-20", (0, 1): "95-100", (1, 0): "20-30"}
    finer = binned_map(values, (50.0, 50.0), Grid(25, 25), (100, 100))
    assert len(finer) == 12 and finer[1, 1] == "0-20" and finer[0, 2] == "95-100"
    coarse = binned_map(values, (50.0, 50.0), Grid(100, 100), (100, 100))
    assert coarse == {(0, 0): "40-50"}  # the mean of 5, 97 and 25 %
    own = binned_map(values, (50.0, 50.0), Grid(50, 50), (100, 100), edges=(0.0, 0.5, 1.0))
    assert set(own.values()) == {"0-50", "50-100"}


def test_blocks_mostly_outside_get_no_class():
    found = binned_map(np.full((10, 10), 0.5), (10.0, 10.0), Grid(64, 64), (100, 100))
    assert set(found) == {(0, 0), (0, 1), (1, 0)} or set(found) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert ((1, 1) in found) == (36 * 36 >= 0.5 * 64 * 64)


@pytest.mark.parametrize("bad", [np.full((2, 2), 50.0), np.full((2, 2), -0.1), np.zeros(3)])
def test_what_is_no_probability_is_refused(bad):
    with pytest.raises(MethodError, match="numbers from 0 to 1"):
        binned_map(bad, (1.0, 1.0), Grid(2, 2), (2, 2))
    with pytest.raises(MethodError, match="must rise"):
        binned_map(np.zeros((2, 2)), (1.0, 1.0), Grid(2, 2), (2, 2), edges=(0.0, 0.0, 1.0))


def test_painted_blocks_measure_the_statistics(made, tmp_path):
    path = make_study(tmp_path / "painted.mtssl", made[:1])
    with Study.open(path) as study:
        image = study.images()[0]
        assert painted_shares(study, ("background", "gland")) == {}
        code = study.class_named("gland", "mask").code
        study.paint_mask(image.id, 0, 0, (made[0].mask * code).astype(np.uint16))
        study.set_mask_complete(image.id, True)
        found = painted_shares(study, ("background", "gland"))
    assert sum(len(rows) for rows in found.values()) == made[0].shares(SIDE).size
    names = bin_names()
    for name, rows in found.items():
        low, high = (float(edge) / 100 for edge in name.split("-"))
        assert name in names and ((rows[:, 1] >= low) & (rows[:, 1] <= high)).all()
    table = measured_statistics(found, ("background", "gland"))
    assert set(table["source"]) == {"measured"}


def test_blocks_that_are_painted_in_part_do_not_count(made, tmp_path):
    path = make_study(tmp_path / "part.mtssl", made[:1])
    with Study.open(path) as study:
        image = study.images()[0]
        code = study.class_named("gland", "mask").code
        patch = np.full((SIDE, SIDE + SIDE // 2), code, np.uint16)
        study.paint_mask(image.id, 0, 0, patch)
        found = painted_shares(study, ("background", "gland"))
    assert sum(len(rows) for rows in found.values()) == 1


def test_the_low_resolution_model_of_a_study(study_path):
    with Study.open(study_path) as source:
        names = bin_names()
        first = source.images()[0].id
        said = source.blocks(first)
        source.set_blocks(first, {(0, 0): None, (3, 3): None})
        found = classify_blocks(source, ImagePool(), names, ("background", "gland"), steps=3)
        source.set_blocks(
            first, {(b.i, b.j): b[3] for b in said.itertuples() if (b.i, b.j) in ((0, 0), (3, 3))}
        )
    assert set(found[first]) == {(0, 0), (3, 3)}
    assert all(shares.sum() == pytest.approx(1, abs=1e-5) for shares in found[first].values())
