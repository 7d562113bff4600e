from __future__ import annotations

import pytest

from napari_mtssl.study import CellClass, ImageRecord, Study, StudyError


def test_a_fresh_study_has_the_background_alone(study: Study) -> None:
    assert study.classes() == [CellClass("background", "#999999", "9", True)]


def test_classes_get_colours_and_keys(study: Study) -> None:
    study.add_class("tumour")
    study.add_class("stroma", "#ABCDEF", "5")
    study.add_class("other")
    background, tumour, stroma, other = study.classes()
    assert background.background
    assert stroma == CellClass("stroma", "#abcdef", "5", False)
    assert (tumour.key, other.key) == ("1", "2")
    assert len({c.colour for c in study.classes()}) == 4


def test_more_classes_than_keys(study: Study) -> None:
    for i in range(12):
        study.add_class(f"class {i}")
    keys = [c.key for c in study.classes()]
    assert sorted(k for k in keys if k) == list("0123456789")
    assert keys[-1] is None


def test_cells_follow_a_new_name(study: Study, image: ImageRecord) -> None:
    study.add_cell(image.id, 1, 1, "tumour")
    changed = study.update_class("tumour", new_name="carcinoma", colour="#0000ff", key="8")
    assert changed == CellClass("carcinoma", "#0000ff", "8", False)
    assert study.cells()["class"].tolist() == ["carcinoma"]
    study.undo()
    assert study.cells()["class"].tolist() == ["tumour"]


def test_a_class_may_change_its_case(study: Study, image: ImageRecord) -> None:
    assert study.update_class("tumour", new_name="Tumour").name == "Tumour"


def test_remove(study: Study, image: ImageRecord) -> None:
    cell = study.add_cell(image.id, 1, 1, "tumour")
    with pytest.raises(StudyError, match="1 cell has the class 'tumour': give them another class"):
        study.remove_class("tumour")
    study.delete_cells(cell)
    study.remove_class("tumour")
    assert [c.name for c in study.classes()] == ["background", "lymphocyte"]
    study.undo()
    assert [c.name for c in study.classes()] == ["background", "tumour", "lymphocyte"]


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda s: s.add_class("Tumour"), "There is a class 'tumour' already"),
        (lambda s: s.add_class("  "), "A class needs a name"),
        (lambda s: s.add_class("x", "red"), "'red' is no colour. Write it as #rrggbb"),
        (lambda s: s.add_class("x", key="x"), "'x' is no key. Choose one of: 1, 2"),
        (lambda s: s.add_class("x", key="1"), "The key 1 belongs to the class 'tumour'"),
        (lambda s: s.update_class("x", colour="#000000"), "no class 'x'; it has: background, tumour"),
        (lambda s: s.update_class("tumour", new_name="lymphocyte"), "There is a class 'lymphocyte' already"),
        (lambda s: s.update_class("background", new_name="rest"), "'background' keeps its name"),
        (lambda s: s.remove_class("background"), "cannot be removed"),
    ],
)
def test_one_clear_sentence(study: Study, image: ImageRecord, act, sentence) -> None:
    before = study.classes()
    with pytest.raises(StudyError, match=sentence):
        act(study)
    assert study.classes() == before
