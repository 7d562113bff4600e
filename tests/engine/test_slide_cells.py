"""Cells of a prediction are found by their place, also on the border of a box."""

import numpy as np
import pandas as pd
import pytest

from napari_mtssl.engine.slide_cells import SlideCells
from napari_mtssl.engine.slide_prediction import SlideError, SlideStore
from napari_mtssl.engine.tile_output import TileOutput, packed, unpacked

CLASSES = ("round", "long")


@pytest.fixture
def made(tmp_path):
    rng = np.random.default_rng(3)
    store = SlideStore(
        tmp_path / "a.prediction",
        {"image": "a.svs", "size": [90_000, 70_000], "pixel size": 0.25},
        CLASSES,
    )
    frames = []
    for number in range(3):
        frame = pd.DataFrame(rng.uniform(0, (90_000, 70_000), (500, 2)), columns=["row", "col"])
        frame["class"] = rng.choice(CLASSES, 500)
        frame["confidence"], frame["uncertainty"] = rng.uniform(size=(2, 500))
        store.commit(number, TileOutput(packed(frame, CLASSES), None, {}, 0.1))
        frames.append(frame)
    yield store, pd.concat(frames, ignore_index=True)
    store.close()


def test_cells_travel_as_numbers(made):
    _, cells = made
    pd.testing.assert_frame_equal(unpacked(packed(cells, CLASSES), CLASSES), cells, check_dtype=False)
    assert len(unpacked(packed(cells[:0], ()), ())) == 0


def test_cells_in_a_box(made):
    store, cells = made
    store.close()
    found = SlideCells(store.folder)
    assert found.count == 1500
    assert (found.height, found.width, found.pixel_size_um) == (90_000, 70_000, 0.25)
    first = cells.iloc[0]
    box = (first["row"], first["col"], first["row"] + 20_000.0, first["col"] + 15_000.0)
    inside = (cells["row"] >= box[0]) & (cells["row"] < box[2])
    inside &= (cells["col"] >= box[1]) & (cells["col"] < box[3])
    got = found.within(box).sort_values(["row", "col"]).reset_index(drop=True)
    wanted = cells[inside].sort_values(["row", "col"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(got, wanted[list(got)], check_dtype=False)
    assert len(found.within(box, most=3)) == 3
    assert found.within((-5.0, -5.0, -1.0, -1.0)).empty
    found.close()


def test_density_counts_every_cell(made):
    store, cells = made
    store.close()
    found = SlideCells(store.folder)
    counts, step = found.density()
    assert counts.sum() == 1500
    assert max(counts.shape) <= 2048
    at = (int((cells["row"][0] + 0.5) // step), int((cells["col"][0] + 0.5) // step))
    assert counts[at] >= 1


def test_what_is_no_prediction_or_is_being_made_is_refused(made, tmp_path):
    with pytest.raises(SlideError, match="no prediction"):
        SlideCells(tmp_path)
    with pytest.raises(SlideError, match="wait until"):
        SlideCells(made[0].folder)
