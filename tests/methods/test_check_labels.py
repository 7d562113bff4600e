"""Missing labels are named before anything slow begins: by every method, without a look at any image."""

from __future__ import annotations

import imageio.v3
import numpy as np
import pytest
import torch

from napari_mtssl.images import ImagePool
from napari_mtssl.methods import get_method
from napari_mtssl.methods.base import MethodError
from napari_mtssl.study import Grid, Study


@pytest.fixture
def study(tmp_path):
    imageio.v3.imwrite(tmp_path / "one.png", np.full((40, 40, 3), 200, np.uint8))
    with Study.create(tmp_path / "small.mtssl") as made:
        made.add_image(tmp_path / "one.png", height=40, width=40)
        yield made


def classes(study: Study) -> None:
    """Classes of every kind, and no label."""
    for kind, names in {
        "cell": ("a",),
        "block": ("some",),
        "mask": ("gland",),
        "grade": ("low", "high"),
    }.items():
        for name in names:
            study.add_class(name, kind=kind)


def cells_only(study: Study) -> None:
    classes(study)
    study.add_cell(study.images()[0].id, 5, 5, "a")


def background_only(study: Study) -> None:
    classes(study)
    study.add_cell(study.images()[0].id, 5, 5, "background")


def unexplained(study: Study) -> None:
    classes(study)
    study.add_class("stroma", kind="mask")
    image = study.images()[0].id
    study.set_grid(image, Grid(10, 10))
    study.set_blocks(image, {(0, 0): "some"})


def one_class(study: Study) -> None:
    classes(study)
    study.set_image_class(study.images()[0].id, "grade", "low")


@pytest.mark.parametrize(
    ("name", "prepare", "message"),
    [
        ("hydramix", lambda study: None, "only the background class"),
        ("hydramix", classes, "Nothing is labelled yet"),
        ("hydramix", cells_only, "No place is labelled 'background'"),
        ("hydramix", background_only, "Only 'background' is labelled"),
        ("superres", lambda study: None, "no exact class to outline"),
        ("superres", classes, "No block of the images in the split 'train'"),
        ("superres", unexplained, "Nobody has said what a block of the class 'some' contains"),
        ("multimix", lambda study: None, "There is nothing to learn"),
        ("multimix", classes, "No image has a mask or a class yet"),
        ("multimix", one_class, "All labelled images have the same class"),
        ("joint-unet", lambda study: None, "There is nothing to learn"),
        ("joint-unet", classes, "No image has a mask or a class yet"),
    ],
)
def test_what_is_missing_is_said_as_when_samples_are_read(study, name, prepare, message):
    prepare(study)
    method = get_method(name)
    config = method.configure("robust")
    with pytest.raises(MethodError, match=message) as later:
        made = method(config, method.vocabulary_of(study), torch.device("cpu"))
        made.samples(study, ImagePool(), "train")
    study.images()[0].path.unlink()  # no image is read
    with pytest.raises(MethodError) as at_once:
        method.check_labels(study, config)
    assert str(at_once.value) == str(later.value)


def test_enough_labels_pass(study):
    classes(study)
    image = study.images()[0].id
    study.add_cell(image, 5, 5, "a")
    study.add_cell(image, 25, 25, "background")
    study.set_grid(image, Grid(10, 10))
    study.add_class("0-20", kind="block")
    study.set_blocks(image, {(0, 0): "0-20"})
    study.set_mask_complete(image, True)
    study.paint_mask(image, 0, 0, np.full((9, 9), study.classes("mask")[1].code, np.uint16))
    for name in ("hydramix", "superres", "multimix", "joint-unet"):
        method = get_method(name)
        method.check_labels(study, method.configure("robust"))


def test_a_mask_of_one_class_alone_would_be_everywhere(study):
    method = get_method("joint-unet")
    for name in ("low", "high"):
        study.add_class(name, kind="grade")
    code = study.add_class("cell", kind="mask").code
    image = study.images()[0].id
    study.paint_mask(image, 0, 0, np.full((9, 9), code, np.uint16))
    with pytest.raises(MethodError, match="every pixel would become 'cell': tick 'Mask is complete'"):
        method.check_labels(study, method.configure("robust"))
    study.set_image_class(image, "grade", "low")
    method.check_labels(study, method.configure("robust", only="grade"))
    study.paint_mask(image, 20, 0, np.full((9, 9), study.class_named("background", "mask").code, np.uint16))
    method.check_labels(study, method.configure("robust"))
    study.undo()
    study.set_mask_complete(image, True)
    method.check_labels(study, method.configure("robust"))
