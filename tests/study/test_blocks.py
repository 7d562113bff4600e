from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_mtssl.study import Grid, ImageRecord, Study, StudyError

from .conftest import add_image, all_rows


@pytest.fixture
def coarse(study: Study, image: ImageRecord) -> ImageRecord:
    """An image of 200 rows and 300 columns with a grid of blocks of 64 by 50 pixels."""
    for name in ("little", "much"):
        study.add_class(name, kind="block")
    study.set_grid(image.id, Grid(64, 50))
    return image


def test_blocks(study: Study, coarse: ImageRecord) -> None:
    assert study.grid(coarse.id) == Grid(64.0, 50.0)
    study.set_blocks(coarse.id, {(0, 0): "much", (3, 5): "little", (1, 2): "much"})
    blocks = study.blocks(coarse.id)
    assert blocks.to_numpy().tolist() == [[0, 0, "much"], [1, 2, "much"], [3, 5, "little"]]
    study.set_blocks(coarse.id, {(0, 0): "little", (1, 2): None, (2, 2): None})
    assert study.blocks(coarse.id).to_numpy().tolist() == [[0, 0, "little"], [3, 5, "little"]]
    assert study.undo() == "Undone: Labelled 3 blocks of slide1.png"
    assert study.blocks(coarse.id).equals(blocks)
    assert study.coarse_images() == study.coarse_images("train") == [coarse.id]
    assert study.coarse_images("test") == []


def test_the_same_again_is_no_edit(study: Study, coarse: ImageRecord) -> None:
    study.set_blocks(coarse.id, {(0, 0): "much"})
    counter = study.change_counter()
    study.set_blocks(coarse.id, {(0, 0): "much", (1, 1): None})
    study.set_grid(coarse.id, Grid(64, 50))
    assert study.change_counter() == counter


def test_another_grid_needs_the_blocks_erased(study: Study, coarse: ImageRecord) -> None:
    study.set_blocks(coarse.id, {(0, 0): "much"})
    before = all_rows(study)
    with pytest.raises(StudyError, match=r"slide1.png has 1 block with a class in a grid of other blocks"):
        study.set_grid(coarse.id, Grid(32, 32))
    study.set_grid(coarse.id, Grid(32, 32, -3.5, 0.25), erase=True)
    assert study.blocks(coarse.id).empty
    assert study.grid(coarse.id) == Grid(32.0, 32.0, -3.5, 0.25)
    study.undo()
    assert all_rows(study) == before


def test_regions(study: Study, coarse: ImageRecord) -> None:
    triangle = np.array([[1.5, 2], [1 / 3, 40], [60, 20]])
    first = study.add_region(coarse.id, triangle, "much")
    second = study.add_region(coarse.id, triangle + 50, "little")
    study.set_region_class([second], "much")
    regions = study.regions(coarse.id)
    assert regions["id"].tolist() == [first, second]
    assert regions["class"].tolist() == ["much", "much"]
    np.testing.assert_array_equal(regions["polygon"][0], triangle)
    study.delete_regions(first)
    assert study.regions(coarse.id)["id"].tolist() == [second]
    study.undo()
    np.testing.assert_array_equal(study.regions(coarse.id)["polygon"][0], triangle)
    assert study.coarse_images() == [coarse.id]


def test_coarse_map(study: Study, coarse: ImageRecord) -> None:
    study.set_blocks(coarse.id, {(0, 0): "much", (1, 1): "little"})
    study.add_region(coarse.id, np.array([[60, 40], [60, 60], [80, 60], [80, 40]]), "much")
    numbers, classes = study.coarse_map(coarse.id, (0, 0, 200, 300))
    assert numbers.shape == (200, 300) and numbers.dtype == np.int32
    region, block0, block1 = numbers[70, 50], numbers[63, 0], numbers[127, 99]
    assert classes == {region: "much", block0: "much", block1: "little"}
    assert (numbers[64:128, 50:100] == block1).sum() > 2500
    assert numbers[64, 0] == 0 and numbers[0, 50] == 0 and numbers[128, 99] == 0
    assert numbers[63, 49] == region  # regions lie over blocks
    for box in ((0, 200, 50, 300), (150, 0, 200, 50), (-500, -500, -400, -400), (0, 0, 30, 200)):
        assert region not in study.coarse_map(coarse.id, box)[1]
    part, _ = study.coarse_map(coarse.id, (50, -20, 90, 70))
    assert (part[:, 20:] == numbers[50:90, :70]).all() and not part[:, :20].any()
    coarser, _ = study.coarse_map(coarse.id, (0, 0, 200, 300), step=5)
    np.testing.assert_array_equal(coarser, numbers[2::5, 2::5])


def test_coarse_map_without_labels(study: Study, image: ImageRecord) -> None:
    numbers, classes = study.coarse_map(image.id, (0, 0, 10, 7), step=4)
    assert numbers.shape == (3, 2) and not numbers.any() and classes == {}


def test_a_ring_in_and_out_along_one_line_has_a_hole(study: Study, coarse: ImageRecord) -> None:
    outer = [[10, 10], [10, 90], [90, 90], [90, 10], [10, 10]]
    inner = [[40, 40], [60, 40], [60, 60], [40, 60], [40, 40]]
    study.add_region(coarse.id, np.array(outer + inner + [[10, 10]], float), "much")
    numbers, _ = study.coarse_map(coarse.id, (0, 0, 100, 100))
    assert numbers[20, 50] and numbers[50, 20] and not numbers[50, 50]


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.floats(1, 90), st.floats(1, 90)),
    start=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
)
def test_every_pixel_lies_in_the_block_that_its_centre_lies_in(size, start) -> None:
    grid = Grid(*size, *start)
    rows, cols = np.mgrid[0:40:7, 0:60:11]
    i, j = grid.block_of(rows, cols)
    i0, j0, i1, j1 = grid.blocks_over((0, 0, 40, 60))
    assert i.min() >= i0 and i.max() < i1 and j.min() >= j0 and j.max() < j1
    for row, col, down, right in zip(rows.flat, cols.flat, i.flat, j.flat, strict=True):
        row0, col0, row1, col1 = grid.edges(down, right)
        assert row0 - 1e-9 <= row + 0.5 <= row1 + 1e-9
        assert col0 - 1e-9 <= col + 0.5 <= col1 + 1e-9


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda s, i: s.set_blocks(i, {(0, 0): "x"}), "has no block class 'x'; it has: little, much: add it"),
        (
            lambda s, i: s.set_blocks(i, {(0, 0): "much", (4, 0): "much"}),
            r"Block \(4, 0\) lies outside slide1",
        ),
        (lambda s, i: s.set_blocks(i, {(-1, 0): "much"}), "whose grid has rows 0 to 3 and columns 0 to 5"),
        (lambda s, i: s.set_grid(i, Grid(0, 5)), "Blocks of 0 by 5 pixels make no grid"),
        (lambda s, i: s.set_grid(i, Grid(np.nan, 5)), "make no grid"),
        (lambda s, i: s.add_region(i, np.zeros((2, 2)), "much"), "polygon of three corners"),
        (lambda s, i: s.add_region(i, np.zeros((3, 2)) + 500, "much"), "This region lies outside slide1.png"),
        (lambda s, i: s.add_region(i, np.eye(3)[:, :2], "x"), "has no block class 'x'"),
        (lambda s, i: s.set_region_polygon(77, np.eye(3)[:, :2]), "no region number 77"),
        (lambda s, i: s.delete_regions(7), "has no region number 7"),
        (lambda s, i: s.set_grid(99, Grid(5, 5)), "has no image number 99"),
    ],
)
def test_one_clear_sentence(study: Study, coarse: ImageRecord, act, sentence) -> None:
    before = all_rows(study)
    with pytest.raises(StudyError, match=sentence):
        act(study, coarse.id)
    assert all_rows(study) == before


def test_blocks_need_a_grid(study: Study, image: ImageRecord) -> None:
    study.add_class("much", kind="block")
    with pytest.raises(StudyError, match=r"slide1.png has no grid: lay one over it first"):
        study.set_blocks(image.id, {(0, 0): "much"})


def test_a_hundred_thousand_blocks_are_kept(study: Study, tmp_path) -> None:
    image = add_image(study, tmp_path / "large.png", 40_000, 40_000)
    study.add_class("much", kind="block")
    study.set_grid(image.id, Grid(64, 64))
    study.set_blocks(image.id, {(n // 400, n % 400): "much" for n in range(100_000)})
    study.close()
    with Study.open(study.path) as opened:
        assert len(opened.blocks(image.id)) == 100_000  # how fast: benchmarks/labels.py
        ids, classes = opened.coarse_map(image.id, (0, 0, 512, 512))
        assert len(np.unique(ids)) == 64 and set(classes.values()) == {"much"}


def test_a_region_gets_another_outline_and_undo_gives_the_old_one_back(study, coarse):
    triangle = np.array([[10.0, 10], [10, 30], [30, 10]])
    number = study.add_region(coarse.id, triangle, "much")
    study.set_region_polygon(number, triangle + 5)
    np.testing.assert_array_equal(study.regions(coarse.id)["polygon"][0], triangle + 5)
    with pytest.raises(StudyError, match="outside"):
        study.set_region_polygon(number, triangle + 5000)
    assert "outline of a region" in study.undo()
    np.testing.assert_array_equal(study.regions(coarse.id)["polygon"][0], triangle)
