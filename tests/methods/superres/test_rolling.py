"""More labelled fields than fit into memory: some are there in turn, the same ones when resumed."""

import numpy as np
import pytest
import torch
from glands import TINY, make_study

from napari_mtssl.engine.events import Finished, LabelsChanged
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.session import TrainingSession
from napari_mtssl.images import ImagePool
from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.superres import SuperRes, reader, rolling
from napari_mtssl.study import Study

SETTINGS = TINY | {"crop": 64, "renew": 2, "steps": 12}


@pytest.fixture
def study(made, tmp_path, monkeypatch):
    """Fields of 64 pixels, of which four fit: a slide in miniature."""
    monkeypatch.setattr(reader, "FIELD", 64)
    for module in (reader, rolling):
        monkeypatch.setattr(module, "HELD", 4)
    path = make_study(tmp_path / "slides.mtssl", made[:2])
    with Study.open(path) as study:
        yield study


def method(study, **overrides):
    config = SuperRes.configure(**(SETTINGS | overrides))
    return SuperRes(config, SuperRes.vocabulary_of(study), torch.device("cpu"))


def content(bank):
    """Field by field: where it is, its blocks' classes and areas, and a sum of its pixels."""
    found = {}
    for index, field in enumerate(bank.fields):
        mine = (bank.boxes[:, 0] == index).nonzero().ravel()
        numbers = torch.unique(field.ids)
        assert set((mine + 1).tolist()) == set(numbers[numbers > 0].tolist())
        for block in mine.tolist():
            inside = field.ids == block + 1
            top, left, bottom, right = bank.boxes[block, 1:].tolist()
            assert int(inside.sum()) == int(bank.area[block])
            assert inside[top:bottom, left:right].sum() == inside.sum()
        found[(field.image_id, field.row0, field.col0)] = (
            bank.coarse[mine].tolist(),
            bank.area[mine].tolist(),
            int(field.pixels.long().sum()),
        )
    return found


def test_what_is_there_is_what_a_whole_bank_has(study, monkeypatch):
    rolled = method(study).samples(study, ImagePool(), "train")
    monkeypatch.setattr(reader, "HELD", 1000)
    whole = method(study).samples(study, ImagePool(), "train")
    expected, seen = content(whole), {}
    for step in range(0, 50, 2):
        rolled.advance(step)
        here = content(rolled)
        assert len(here) == 4
        assert all(expected[place] == what for place, what in here.items())
        seen |= here
        crops = rolled.around(torch.randint(0, len(rolled.coarse), (3,)), 64)
        assert crops.images.shape == (3, 3, 64, 64)
        assert int(crops.ids.max()) <= len(crops.coarse)
    assert seen.keys() == expected.keys()
    assert rolled.n_labelled == len(whole.coarse) + 1  # and the statistics


def test_it_is_bounded_and_the_same_again(study):
    one = method(study)
    went = one.samples(study, ImagePool(), "train")
    for step in range(31):
        went.advance(step)
    assert len(one._reader._pixels) <= 4 + 2 * reader.AHEAD
    jumped = method(study).samples(study, ImagePool(), "train")
    jumped.advance(30)
    assert content(jumped) == content(went)
    again = one.samples(study, ImagePool(), "train")  # labels were read anew: it is where it was
    assert content(again) == content(went)


def test_labels_that_change_meanwhile_are_taken_in(study):
    options = TrainOptions(report_seconds=0.0, pseudo_seconds=0, preview_seconds=0, threads=1)
    session = TrainingSession(study.path, "superres", device="cpu", overrides=SETTINGS, options=options)
    kinds, image = [], study.images()[0]
    for event in session.events():
        kinds.append(type(event))
        if len(kinds) == 4:
            study.set_blocks(image.id, {(0, 0): None})
    assert kinds[-1] is Finished
    assert LabelsChanged in kinds


def test_paint_and_classes_without_statistics(study):
    image = study.images()[0]
    code = next(item.code for item in study.classes("mask") if not item.background)
    study.paint_mask(image.id, 70, 70, np.full((20, 20), code, np.uint16))
    rolled = method(study).samples(study, ImagePool(), "train")
    seen = 0
    for step in range(0, 50, 2):
        rolled.advance(step)
        seen += len(rolled.painted)
    assert seen > 0
    with pytest.raises(MethodError, match="'Labels' to 0"):
        method(study, labels=5).samples(study, ImagePool(), "train")
    assert study.painted_pixels(image.id) == {code: 400}
    assert study.painted_tiles(image.id) == [(0, 0, 256, 256)]
