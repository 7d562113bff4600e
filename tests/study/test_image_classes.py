from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_mtssl.study import IMAGE_CLASS_COLUMNS, STATISTICS_COLUMNS, ImageRecord, Study, StudyError

from .conftest import add_image, all_rows


@pytest.fixture
def labelled(study: Study, image: ImageRecord) -> ImageRecord:
    for kind, name in [("pattern", "homogeneous"), ("pattern", "speckled"), ("intensity", "positive")]:
        study.add_class(name, kind=kind)
    return image


def test_image_classes(study: Study, labelled: ImageRecord, tmp_path) -> None:
    other = add_image(study, tmp_path / "slide2.png", split="test")
    assert study.image_classes().empty
    assert study.image_classes().columns.tolist() == IMAGE_CLASS_COLUMNS
    study.set_image_class(labelled.id, "pattern", "speckled")
    study.set_image_class(labelled.id, "intensity", "positive", source="model", confidence=0.75)
    study.set_image_class(other.id, "pattern", "homogeneous")
    table = study.image_classes(labelled.id)
    assert table[["kind", "class", "source", "status"]].to_numpy().tolist() == [
        ["intensity", "positive", "model", "accepted"],
        ["pattern", "speckled", "human", "accepted"],
    ]
    assert table["confidence"][0] == 0.75 and np.isnan(table["confidence"][1])
    assert study.image_classes(split="test")["image_id"].tolist() == [other.id]
    assert len(study.image_classes()) == 3
    study.set_image_class(labelled.id, "pattern", "homogeneous")
    assert len(study.image_classes(labelled.id)) == 2
    study.set_image_class(labelled.id, "pattern", None)
    assert study.image_classes(labelled.id)["kind"].tolist() == ["intensity"]
    study.undo()
    study.undo()
    assert study.image_classes(labelled.id)["class"].tolist() == ["positive", "speckled"]


def test_the_same_again_is_no_edit(study: Study, labelled: ImageRecord) -> None:
    study.set_image_class(labelled.id, "pattern", "speckled", confidence=0.5)
    counter = study.change_counter()
    study.set_image_class(labelled.id, "pattern", "speckled", confidence=0.5)
    study.set_image_class(labelled.id, "intensity", None)
    assert study.change_counter() == counter
    study.set_image_class(labelled.id, "pattern", "speckled")
    assert study.change_counter() == counter + 1


def test_removing_an_image_takes_all_its_labels(study: Study, labelled: ImageRecord) -> None:
    study.set_image_class(labelled.id, "pattern", "speckled")
    study.set_mask_complete(labelled.id, True)
    before = all_rows(study)
    study.remove_image(labelled.id)
    assert study.image_classes().empty and study.masked_images() == []
    study.undo()
    assert all_rows(study) == before


def table(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=STATISTICS_COLUMNS)


@pytest.fixture
def coarse(study: Study) -> Study:
    for name in ("little", "much"):
        study.add_class(name, kind="block")
    study.add_class("gland", kind="mask")
    return study


def test_statistics(coarse: Study) -> None:
    assert coarse.statistics().columns.tolist() == STATISTICS_COLUMNS
    first = table(("little", "gland", 0.1, 0.05, "default"), ("much", "gland", 1 / 3, 0.1, "default"))
    coarse.set_statistics(first)
    pd.testing.assert_frame_equal(coarse.statistics(), first)
    counter = coarse.change_counter()
    coarse.set_statistics(first[::-1])
    assert coarse.change_counter() == counter
    second = table(("much", "gland", 0.9, 0.0, "expert"))
    coarse.set_statistics(second)
    pd.testing.assert_frame_equal(coarse.statistics(), second)
    coarse.undo()
    pd.testing.assert_frame_equal(coarse.statistics(), first)
    coarse.remove_class("little", "block")
    assert coarse.statistics()["block_class"].tolist() == ["much"]
    coarse.undo()
    pd.testing.assert_frame_equal(coarse.statistics(), first)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (table(("many", "gland", 0.5, 0.1, "x")), "has no block class 'many'; it has: little, much"),
        (table(("much", "stroma", 0.5, 0.1, "x")), "has no mask class 'stroma'"),
        (table(("much", "gland", 50, 0.1, "x")), "numbers from 0 to 1"),
        (table(("much", "gland", 0.5, None, "x")), "numbers from 0 to 1"),
        (table(("much", "gland", 0.5, 0.1, "x")).drop(columns="spread"), "missing: spread"),
        (table(*[("much", "gland", 0.5, 0.1, "x")] * 2), "once"),
        (table(("much", "gland", "half", 0.1, "x")), "'mean' holds something that is no number"),
    ],
)
def test_wrong_statistics(coarse: Study, frame, sentence) -> None:
    before = all_rows(coarse)
    with pytest.raises(StudyError, match=sentence):
        coarse.set_statistics(frame)
    assert all_rows(coarse) == before


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda s, i: s.set_image_class(i, "pattern", "x"), "has no pattern class 'x'"),
        (
            lambda s, i: s.set_image_class(i, "pattern", "speckled", status="rejected"),
            "'rejected' is no status",
        ),
        (lambda s, i: s.set_image_class(i, "pattern", "speckled", confidence=2), "from 0 to 1"),
        (lambda s, i: s.set_image_class(i, "cell", "tumour"), "The cell classes are not for whole images"),
        (lambda s, i: s.image_classes(split="x"), "'x' is no split"),
    ],
)
def test_one_clear_sentence(study: Study, labelled: ImageRecord, act, sentence) -> None:
    with pytest.raises(StudyError, match=sentence):
        act(study, labelled.id)
