"""A slide of a study: shown as it comes, kept before it counts, resumed; another run begins anew."""

import pandas as pd
import pytest
import slide_child
import torch

from napari_mtssl.engine.dense import join, predict_image
from napari_mtssl.engine.slide_study import slide_previews
from napari_mtssl.images import open_image


@pytest.fixture
def slide(tmp_path):
    pixels, _ = slide_child.tiny_method.draw_discs(300, 420, 80)
    return slide_child.tiny_method.save_image(tmp_path / "slide.png", pixels)


def previews(slide, folder, kept, method=None, **settings):
    if method is None:
        method, _ = slide_child.prepared(slide)
    return slide_previews(method, open_image(slide), 7, folder, kept.append, tile=128, **settings)


def test_tiles_come_once_the_visible_first(slide, tmp_path):
    kept = []
    view = (260, 390, 290, 410)
    said = list(previews(slide, tmp_path / "p", kept, view=view))
    assert [event.box for event in said] == [event.box for event in kept]
    first = said[0].box
    assert first[0] <= 260 < first[2] and first[1] <= 390 < first[3]
    assert (said[-1].done, said[-1].total, said[0].image_id) == (12, 12, 7)
    assert sum((b[2] - b[0]) * (b[3] - b[1]) for b in (event.box for event in said)) == 300 * 420
    method, _ = slide_child.prepared(slide)
    cells = pd.concat([event.prediction.cells for event in said])
    whole = join(list(predict_image(method, open_image(slide), tile=128)), 300, 420).cells
    pd.testing.assert_frame_equal(
        *(f.sort_values(["row", "col"]).reset_index(drop=True) for f in (cells, whole)),
        check_exact=False,
        check_dtype=False,
    )


def test_it_goes_on_where_it_was_and_anew_for_another_state_of_the_run(slide, tmp_path):
    kept = []
    events = previews(slide, tmp_path / "p", kept)
    for _ in range(5):
        next(events)
    events.close()
    rest = list(previews(slide, tmp_path / "p", kept))
    assert len(rest) == 12 - 5
    assert rest[0].done == 6
    assert list(previews(slide, tmp_path / "p", kept)) == []
    other, _ = slide_child.prepared(slide)
    with torch.no_grad():
        other.average[0].weight.add_(1.0)
    assert len(list(previews(slide, tmp_path / "p", kept, other))) == 12


def test_stopped_between_tiles(slide, tmp_path):
    kept = []
    said = list(previews(slide, tmp_path / "p", kept, cancelled=lambda: len(kept) >= 3))
    assert len(said) == 3
