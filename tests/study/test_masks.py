from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_mtssl.study import Grid, ImageRecord, MaskState, Study, StudyError

from .conftest import add_image, all_rows


@pytest.fixture
def slide(study: Study, tmp_path) -> ImageRecord:
    """An image of 3 by 3 tiles, the last ones not whole, in a study with two classes of masks."""
    study.add_class("gland", kind="mask")
    study.add_class("stroma", kind="mask")
    return add_image(study, tmp_path / "slide.png", 600, 700)


def codes(study: Study) -> list[int]:
    return [c.code for c in study.classes("mask")]


def test_paint(study: Study, slide: ImageRecord) -> None:
    _, gland, stroma = codes(study)
    assert study.mask_state(slide.id) == MaskState(False, False, None)
    expected = np.zeros((600, 700), np.uint16)
    patch = np.full((100, 300), gland, np.uint16)
    study.paint_mask(slide.id, 200, 100, patch)
    expected[200:300, 100:400] = gland
    where = np.zeros((50, 50), bool)
    where[::2] = True
    study.paint_mask(slide.id, 230, 230, np.full((50, 50), stroma), where=where)
    expected[230:280:2, 230:280] = stroma
    np.testing.assert_array_equal(study.mask(slide.id), expected)
    np.testing.assert_array_equal(study.mask(slide.id, (210, 220, 290, 420)), expected[210:290, 220:420])
    assert study.undo() == "Undone: Painted in slide.png"
    assert (study.mask(slide.id) == stroma).sum() == 0
    study.redo()
    np.testing.assert_array_equal(study.mask(slide.id), expected)
    assert study.mask_state(slide.id) == MaskState(True, False, "human")
    assert study.masked_images() == study.masked_images("train") == [slide.id]
    assert study.masked_images("test") == []


def test_a_box_may_reach_beyond_the_image(study: Study, slide: ImageRecord) -> None:
    gland = codes(study)[1]
    study.paint_mask(slide.id, -10, 690, np.full((20, 20), gland))
    assert study.mask(slide.id).sum() == 10 * 10 * gland
    mask = study.mask(slide.id, (-5, 680, 15, 710))
    assert mask.shape == (20, 30)
    assert (mask[5:15, 10:20] == gland).all() and (mask > 0).sum() == 100
    study.paint_mask(slide.id, 5000, 0, np.full((3, 3), gland))
    assert (study.mask(slide.id) > 0).sum() == 100


def test_erasing_all_leaves_nothing(study: Study, slide: ImageRecord) -> None:
    gland = codes(study)[1]
    study.paint_mask(slide.id, 0, 0, np.full((300, 300), gland))
    study.paint_mask(slide.id, 0, 0, np.zeros((300, 300), np.uint16))
    assert all_rows(study)["mask_tiles"] == []
    assert study.masked_images() == []
    assert study.mask_state(slide.id) == MaskState(False, False, None)


def test_painting_the_same_is_no_edit(study: Study, slide: ImageRecord) -> None:
    gland = codes(study)[1]
    study.paint_mask(slide.id, 0, 0, np.full((30, 30), gland))
    counter = study.change_counter()
    study.paint_mask(slide.id, 5, 5, np.full((10, 10), gland))
    study.paint_mask(slide.id, 300, 300, np.zeros((10, 10), int))
    study.paint_mask(slide.id, 0, 0, np.zeros((10, 10), int), where=np.zeros((10, 10), bool))
    study.set_mask_complete(slide.id, False)
    assert study.change_counter() == counter


def test_complete_and_source(study: Study, slide: ImageRecord) -> None:
    gland = codes(study)[1]
    study.set_mask_complete(slide.id, True)  # an image with nothing on it
    assert study.mask_state(slide.id) == MaskState(False, True, "human")
    assert study.masked_images() == [slide.id]
    study.undo()
    study.paint_mask(slide.id, 0, 0, np.full((3, 3), gland), source="model", what="Accepted a mask")
    assert study.mask_state(slide.id) == MaskState(True, False, "model")
    study.paint_mask(slide.id, 9, 9, np.full((3, 3), gland))
    study.paint_mask(slide.id, 19, 9, np.full((3, 3), gland), source="model")
    study.set_mask_complete(slide.id, True)
    assert study.mask_state(slide.id) == MaskState(True, True, "human")
    study.clear_mask(slide.id)
    assert study.mask_state(slide.id) == MaskState(False, False, None)
    study.undo()
    assert (study.mask(slide.id) > 0).sum() == 27


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_strokes_give_what_an_array_gives(study: Study, slide: ImageRecord, seed: int) -> None:
    """Whatever is painted: as on an array; undone stroke by stroke: each mask before."""
    rng = np.random.default_rng(seed)
    study.clear_mask(slide.id)
    expected = [study.mask(slide.id)]
    for _ in range(4):
        row, col = rng.integers(-50, 650), rng.integers(-50, 720)
        patch = rng.choice([0, *codes(study)], size=rng.integers(1, 330, 2)).astype(np.uint16)
        where = rng.random(patch.shape) < 0.5
        after = np.pad(expected[-1], 400)
        after[row + 400 : row + 400 + patch.shape[0], col + 400 : col + 400 + patch.shape[1]][where] = patch[
            where
        ]
        after = after[400:-400, 400:-400]
        study.paint_mask(slide.id, row, col, patch, where=where)
        np.testing.assert_array_equal(study.mask(slide.id), after)
        if (after != expected[-1]).any():
            expected.append(after)
    for before in expected[-2::-1]:
        study.undo()
        np.testing.assert_array_equal(study.mask(slide.id), before)
    while study.redo():
        pass
    np.testing.assert_array_equal(study.mask(slide.id), expected[-1])


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda s, i: s.paint_mask(i, 0, 0, np.full((2, 2), 77)), "has no mask class with the code 77"),
        (lambda s, i: s.paint_mask(i, 0, 0, np.full((2, 2), -1)), "no mask class with the code -1"),
        (lambda s, i: s.paint_mask(i, 0, 0, np.full((2, 2), 1)), "code 1"),  # the background of cells
        (lambda s, i: s.paint_mask(i, 0, 0, np.ones((2, 2))), "two-dimensional array of class codes"),
        (
            lambda s, i: s.paint_mask(i, 0, 0, np.zeros((2, 2), int), where=np.ones((3, 2), bool)),
            r"The patch has the shape \(2, 2\), but where to paint \(3, 2\)",
        ),
        (lambda s, i: s.paint_mask(9, 0, 0, np.zeros((2, 2), int)), "has no image number 9"),
        (lambda s, i: s.paint_mask(i, 0, 0, np.zeros((2, 2), int), source="me"), "'me' is no source"),
    ],
)
def test_one_clear_sentence(study: Study, slide: ImageRecord, act, sentence) -> None:
    before = all_rows(study)
    with pytest.raises(StudyError, match=sentence):
        act(study, slide.id)
    assert all_rows(study) == before


def test_damaged_tiles_and_regions_say_so(study: Study, slide: ImageRecord) -> None:
    study.paint_mask(slide.id, 0, 0, np.full((3, 3), codes(study)[1]))
    study.add_class("much", kind="block")
    study.add_region(slide.id, np.eye(3)[:, :2], "much")
    with study._writing() as connection:
        connection.execute("UPDATE mask_tiles SET data = x'00ff'")
        connection.execute("UPDATE regions SET polygon = x'00ff'")
    with pytest.raises(StudyError, match=r"part of a mask in this study is damaged .* restore"):
        study.mask(slide.id)
    with pytest.raises(StudyError, match="A region in this study is damaged"):
        study.regions(slide.id)


PAINTER = """
    import sys
    import numpy as np
    from napari_mtssl.study import Study
    with Study.open(sys.argv[1]) as study:
        patch = np.full((30, 30), study.classes("mask")[1].code)
        for n in range(10_000):
            study.paint_mask(1, n // 20 * 30, n % 20 * 30, patch)
            study.set_blocks(1, {(n // 20, n % 20): "much"})
            print(n, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is of POSIX")
def test_no_acknowledged_stroke_is_lost_by_a_kill(study: Study, slide: ImageRecord) -> None:
    study.add_class("much", kind="block")
    study.set_grid(slide.id, Grid(30, 30))
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PAINTER), str(study.path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()  # it is painting
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    n = 5 + sum(line.endswith("\n") for line in rest.splitlines(keepends=True))
    with Study.open(study.path) as after:
        assert n <= min(len(after.blocks(slide.id)), 20 * 23)
        assert (after.mask(slide.id) > 0).sum() >= 900 * n
        while after.undo():
            pass
        assert all(rows == [] for table, rows in all_rows(after).items() if table != "classes")


def test_the_log_of_many_strokes_stays_moderate(study: Study, tmp_path) -> None:
    """300 strokes of a round brush on 2000 by 2000 pixels, each on up to four tiles."""
    study.add_class("gland", kind="mask")
    image = add_image(study, tmp_path / "large.png", 2000, 2000)
    gland = codes(study)[1]
    rng = np.random.default_rng(0)
    disc = np.hypot(*np.mgrid[-40:41, -40:41]) <= 40
    for _ in range(300):
        row, col = rng.integers(0, 1900, 2)
        study.paint_mask(image.id, row, col, disc * np.uint16(gland), where=disc)
    study.close()
    assert (study.path / "study.sqlite").stat().st_size < 10e6
