import numpy as np
import pytest

from napari_mtssl.methods import get_method
from napari_mtssl.methods.base import labels_of, vocabulary_of
from napari_mtssl.study import Study
from napari_mtssl.study.records import Grid


@pytest.fixture
def study(tmp_path):
    with Study.create(tmp_path / "kinds.mtssl") as study:
        for name, kind in (
            ("nucleus", "cell"),
            ("tumour", "block"),
            ("stroma", "block"),
            ("gland", "mask"),
            ("benign", "grade"),
            ("malignant", "grade"),
        ):
            study.add_class(name, kind=kind)
        for number in range(2):
            path = tmp_path / f"{number}.png"
            path.write_bytes(bytes([number]))
            study.add_image(
                path, height=64, width=64, group=f"p{number}", split=("train", "validation")[number]
            )
        yield study


def test_a_method_hears_of_the_kinds_it_learns_and_no_others(study):
    assert vocabulary_of(study, ("cell",)) == {"cell": ("background", "nucleus")}
    assert vocabulary_of(study, ("block", "mask")) == {
        "block": ("tumour", "stroma"),
        "mask": ("background", "gland"),
    }
    assert vocabulary_of(study, ("mask", "image")) == {
        "mask": ("background", "gland"),
        "grade": ("benign", "malignant"),
    }


def test_labels_are_found_by_kind_and_split(study):
    first, second = study.images()
    everything = ("cell", "block", "mask", "image")
    assert labels_of(study, everything, "train") == labels_of(study, everything, "validation") == {}
    study.add_cell(first.id, 3, 3, "nucleus")
    study.set_grid(first.id, Grid(16, 16))
    study.set_blocks(first.id, {(0, 1): "tumour"})
    study.add_region(first.id, np.array([[20, 20], [20, 40], [40, 40]]), "stroma")
    gland = next(item.code for item in study.classes("mask") if item.name == "gland")
    study.paint_mask(second.id, 0, 0, np.full((5, 5), gland, np.uint16))
    study.set_image_class(second.id, "grade", "malignant")
    assert labels_of(study, everything, "train") == {"cell": {"nucleus"}, "block": {"tumour", "stroma"}}
    assert labels_of(study, ("mask", "image"), "train") == {}
    assert labels_of(study, ("mask", "image"), "validation") == {
        "mask": {"background", "gland"},
        "grade": {"malignant"},
    }


def test_where_an_image_comes_from_is_not_learnt(study):
    study.add_class("clinic", kind="origin")
    study.set_image_class(study.images()[0].id, "origin", "clinic")
    assert "origin" not in vocabulary_of(study, ("mask", "image"))
    assert labels_of(study, ("mask", "image"), "train") == {}


@pytest.mark.parametrize("name", ["multimix", "joint-unet"])
def test_what_nobody_labelled_gets_no_output_to_be_shown_untaught(study, name):
    method, (first, second) = get_method(name), study.images()
    study.add_class("weak", kind="intensity")
    study.add_class("strong", kind="intensity")
    whole = vocabulary_of(study, method.kinds)
    assert method.vocabulary_of(study) == whole and len(whole) == 3  # nothing is labelled: all can be
    study.set_image_class(first.id, "grade", "benign")
    study.set_mask_complete(second.id, True)  # held out
    assert method.vocabulary_of(study) == {"grade": ("benign", "malignant")}
    study.set_mask_complete(first.id, True)
    assert method.vocabulary_of(study).keys() == {"mask"}  # of the grade one class alone is known
    study.set_split(second.id, "train")
    study.set_image_class(second.id, "grade", "malignant")
    assert method.vocabulary_of(study).keys() == {"mask", "grade"}
