from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_mtssl.study import CellClass, Grid, ImageRecord, Study, StudyError

from .conftest import add_image, all_rows


def test_each_kind_has_names_and_keys_of_its_own(study: Study, image: ImageRecord) -> None:
    study.add_class("tumour", kind="mask", key="1")
    study.add_class("tumour", kind="diagnosis", note="malignant growth")
    study.add_class("0-20 %", kind="block")
    assert study.kinds() == ["cell", "block", "mask", "diagnosis"]
    assert [c.name for c in study.classes()] == ["background", "tumour", "lymphocyte"]
    assert [c.name for c in study.classes("mask")] == ["background", "tumour"]
    assert study.class_named("TUMOUR", "diagnosis").note == "malignant growth"
    assert [c.key for c in study.classes("mask")] == ["9", "1"]
    assert len(study.classes(None)) == 7
    codes = [c.code for c in study.classes(None)]
    assert len(set(codes)) == 7 and min(codes) > 0


def test_the_background_of_masks_comes_and_goes_with_the_first_class(study: Study) -> None:
    study.add_class("gland", kind="mask")
    assert study.classes("mask")[0] == CellClass("background", "#999999", "9", True, "mask")
    study.undo()
    assert study.kinds() == ["cell"]
    made = study.add_class("Background", kind="mask")
    assert made.background and made.name == "background"
    assert len(study.classes("mask")) == 1
    assert not study.add_class("background", kind="diagnosis").background


def test_change_and_remove_by_kind(study: Study, image: ImageRecord) -> None:
    study.add_class("tumour", kind="diagnosis")
    study.update_class("tumour", kind="diagnosis", new_name="cancer", note="of any grade")
    assert study.class_named("cancer", "diagnosis").note == "of any grade"
    assert study.class_named("tumour")
    study.remove_class("cancer", kind="diagnosis")
    assert study.kinds() == ["cell"]


def test_codes_are_never_used_again(study: Study) -> None:
    first = study.add_class("a", kind="mask").code
    study.remove_class("a", kind="mask")
    assert study.add_class("b", kind="mask").code > first


def test_a_class_in_use_stays(study: Study, image: ImageRecord) -> None:
    study.add_class("much", kind="block")
    gland = study.add_class("gland", kind="mask")
    study.add_class("benign", kind="grade")
    study.set_grid(image.id, Grid(50, 50))
    study.set_blocks(image.id, {(0, 0): "much", (1, 1): "much"})
    study.paint_mask(image.id, 5, 5, np.full((2, 3), gland.code, np.uint16))
    study.set_image_class(image.id, "grade", "benign")
    for name, kind, sentence in [
        ("much", "block", "2 blocks have the class 'much'"),
        ("gland", "mask", "6 pixels have the class 'gland'"),
        ("benign", "grade", "1 image has the class 'benign': give them another class, or delete them first"),
        ("background", "mask", "cannot be removed"),
    ]:
        with pytest.raises(StudyError, match=sentence):
            study.remove_class(name, kind)


def test_what_has_a_class_that_is_removed_gets_another(study: Study, image: ImageRecord) -> None:
    study.add_class("much", kind="block")
    study.add_class("all", kind="block")
    gland = study.add_class("gland", kind="mask")
    stroma = study.add_class("stroma", kind="mask")
    study.add_class("benign", kind="grade")
    study.add_class("normal", kind="grade")
    cell = study.add_cell(image.id, 3, 4, "tumour", source="model", status="accepted", confidence=0.7)
    study.set_grid(image.id, Grid(50, 50))
    study.set_blocks(image.id, {(0, 0): "much", (1, 1): "all"})
    study.add_region(image.id, np.array([(0, 0), (0, 9), (9, 9)]), "much")
    patch = np.array([[gland.code, stroma.code, 0]], np.uint16)
    study.paint_mask(image.id, 5, 5, patch)
    study.set_image_class(image.id, "grade", "benign")
    before = all_rows(study)
    for name, kind, into in (
        ("tumour", "cell", "lymphocyte"),
        ("much", "block", "all"),
        ("gland", "mask", "stroma"),
        ("benign", "grade", "normal"),
    ):
        study.remove_class(name, kind, into=into)
        assert name not in [c.name for c in study.classes(kind)]
    kept = study.cells().set_index("id").loc[cell]
    assert (kept["class"], kept["source"], kept["status"], kept["confidence"]) == (
        "lymphocyte",
        "model",
        "accepted",
        0.7,
    )
    assert study.blocks(image.id)["class"].tolist() == ["all", "all"]
    assert study.regions(image.id)["class"].tolist() == ["all"]
    assert study.mask(image.id, (5, 5, 6, 8)).tolist() == [[stroma.code, stroma.code, 0]]
    assert study.image_classes()["class"].tolist() == ["normal"]
    for _ in range(4):
        study.undo()
    assert all_rows(study) == before
    for into, sentence in (("tumour", "cannot become itself"), ("rare", "no class 'rare'")):
        with pytest.raises(StudyError, match=sentence):
            study.remove_class("tumour", into=into)
    with pytest.raises(StudyError, match="background class cannot be removed"):
        study.remove_class("background", into="tumour")
    assert all_rows(study) == before


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda s: s.add_class("x", kind="Grade"), "'Grade' names no kind of class: use lower-case"),
        (lambda s: s.add_class("x", kind="image"), "'image' cannot name a kind of class"),
        (lambda s: s.add_class("x", kind="class"), "'class' cannot name a kind of class"),
        (lambda s: s.class_named("x", "block"), "has no block class 'x'; it has: none"),
        (lambda s: s.set_image_class(1, "mask", "x"), "The mask classes are not for whole images"),
        (lambda s: s.set_image_class(1, "grade", "x"), "has no grade class 'x'; it has: none: add it"),
    ],
)
def test_one_clear_sentence(study: Study, image: ImageRecord, act, sentence) -> None:
    counter = study.change_counter()
    with pytest.raises(StudyError, match=sentence):
        act(study)
    assert study.change_counter() == counter


def test_classes_that_labels_of_a_split_have(study: Study, tmp_path: Path) -> None:
    first, second = (add_image(study, tmp_path / name) for name in ("one.png", "two.png"))
    study.set_split(second.id, "test")
    study.add_class("tumour")
    for name in ("0-20", "20-30", "30-40", "never"):
        study.add_class(name, kind="block")
    study.add_cell(first.id, 1, 1, "tumour")
    study.add_cell(second.id, 1, 1, "background")
    for image in (first, second):
        study.set_grid(image.id, Grid(10, 10))
    study.set_blocks(first.id, {(0, 0): "0-20"})
    study.add_region(first.id, np.array([[0, 0], [0, 9], [9, 9]]), "20-30")
    study.set_blocks(second.id, {(0, 0): "30-40"})
    assert study.cell_classes("train") == {"tumour"}
    assert study.cell_classes("test") == {"background"}
    assert study.cell_classes("validation") == set()
    assert study.coarse_classes("train") == {"0-20", "20-30"}
    assert study.coarse_classes("test") == {"30-40"}
