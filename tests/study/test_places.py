"""What lies in a box is found by R-trees, and these follow every edit, undo and migration."""

import numpy as np
import pandas as pd
import pytest

from napari_mtssl.study import Grid, Study, StudyError

BOX = (100.0, 200.0, 400.0, 650.5)


@pytest.fixture
def study(tmp_path):
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "b.png").write_bytes(b"b")
    with Study.create(tmp_path / "s.mtssl") as study:
        study.add_class("tumour")
        study.add_class("gland", kind="block")
        for name in ("a.png", "b.png"):
            study.add_image(tmp_path / name, height=1000, width=1000)
        yield study


def places(n, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.uniform(0, 1000, (n, 2)), columns=["row", "col"])
    return frame.assign(**{"class": "tumour", "confidence": 0.5})


def inside(frame, box=BOX):
    row, col = frame["row"], frame["col"]
    return frame[(row >= box[0]) & (col >= box[1]) & (row < box[2]) & (col < box[3])].reset_index(drop=True)


def sound(study):
    for table in ("cells", "predictions"):
        assert study._rows(f"SELECT rtreecheck('places_{table}')") == [("ok",)]
        there = study._rows(f"SELECT count(*) FROM places_{table}")
        assert there == study._rows(f"SELECT count(*) FROM {table}")
    return True


def test_cells_in_a_box_through_edits_and_their_undoing(study):
    first, second = (image.id for image in study.images())
    study.add_cells(places(300).drop(columns="confidence").assign(image_id=first))
    study.add_cells(places(50, 1).drop(columns="confidence").assign(image_id=second))
    pd.testing.assert_frame_equal(study.cells(first, box=BOX), inside(study.cells(first)))
    assert 0 < len(study.cells(first, box=BOX)) < 300
    cell = int(study.cells(first, box=BOX)["id"][0])
    study.move_cell(cell, 999.0, 999.0)
    assert cell not in set(study.cells(first, box=BOX)["id"])
    study.undo()
    assert cell in set(study.cells(first, box=BOX)["id"])
    study.delete_cells([cell])
    study.remove_image(second)
    assert sound(study)
    while study.undo():
        pass
    assert sound(study)
    while study.redo():
        pass
    assert sound(study)
    pd.testing.assert_frame_equal(study.cells(first, box=BOX), inside(study.cells(first)))
    with pytest.raises(StudyError, match="of one image"):
        study.cells(box=BOX)


def test_predictions_of_a_box_are_replaced_without_looking_at_all(study):
    first, second = (image.id for image in study.images())
    study.set_predictions(first, "run", places(20_000))
    study.set_predictions(second, "run", places(10))
    pd.testing.assert_frame_equal(study.predictions(first, box=BOX), inside(study.predictions(first)))
    many = len(study.predictions(first, box=BOX))
    study.set_predictions(first, "run", places(0), box=BOX)
    assert len(study.predictions(first)) == 20_000 - many
    assert len(study.predictions(second)) == 10
    plan = study._rows(
        "EXPLAIN QUERY PLAN DELETE FROM predictions WHERE id IN (SELECT id FROM places_predictions "
        "WHERE row1 >= 0 AND row0 < 9)"
    )
    assert not any("SCAN predictions" in str(row) for row in plan)
    for n in range(20):
        study.set_predictions(first, "run", inside(places(300, n), (0, 0, 50, 50)), box=(0, 0, 50, 50))
    assert sound(study)


def test_blocks_and_regions_that_reach_into_a_box(study):
    first, second = (image.id for image in study.images())
    study.set_grid(first, Grid(100, 100))
    study.set_blocks(first, {(i, j): "gland" for i in range(10) for j in range(10)})
    found = study.blocks(first, box=BOX)
    assert set(zip(found["i"], found["j"], strict=True)) == {(i, j) for i in (1, 2, 3) for j in range(2, 7)}
    square = np.array([(0, 0), (0, 90), (90, 90), (90, 0)], float)
    ids = [study.add_region(first, square + at, "gland") for at in (0, 150, 350, 800)]
    study.add_region(second, square, "gland")
    assert study.regions(first, box=BOX)["id"].tolist() == ids[1:3]
    assert study.regions(first)["id"].tolist() == ids
    study.delete_regions([ids[1]])
    assert study.regions(first, box=BOX)["id"].tolist() == [ids[2]]
    study.undo()
    assert study.regions(first, box=BOX)["id"].tolist() == ids[1:3]
    numbers, classes = study.coarse_map(first, (140, 140, 260, 260))
    assert {2 * ids[1] + 1} == {number for number in classes if number % 2}
    assert (numbers == 2 * ids[1] + 1).sum() in range(90 * 90, 91 * 91 + 1)
