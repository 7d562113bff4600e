"""The mask of a slide by a network that learnt from whole images: tiles do not show, the class is of all."""

import imageio.v3
import numpy as np
import pytest
import torch

from napari_mtssl.engine import checkpoint
from napari_mtssl.engine.dense import dense_maps, join, predict_image
from napari_mtssl.engine.predictor import Predictor
from napari_mtssl.engine.slide_prediction import slicer_of
from napari_mtssl.images import open_image
from napari_mtssl.methods.joint_unet import JointUNetMethod

TINY = {"precision": "float32", "size": 64, "base": 4, "tta": 1}
CLASSES = {"mask": ("background", "gland"), "grade": ("benign", "malignant")}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 255, (16, 20, 3)).astype(float)
    pixels = coarse.repeat(16, 0).repeat(16, 1) * rng.uniform(0.8, 1, (256, 320, 1))
    file = tmp_path_factory.mktemp("slide") / "slide.png"
    imageio.v3.imwrite(file, pixels.astype(np.uint8))
    return file


def build(encoder, vocabulary=CLASSES):
    torch.manual_seed(0)
    method = JointUNetMethod(
        JointUNetMethod.configure(**TINY, encoder=encoder), vocabulary, torch.device("cpu")
    )
    for layer in method.teacher.modules():  # as if it had learnt
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
    return method


@pytest.mark.parametrize("encoder", ["residual", "resnet34"])
def test_tiles_equal_the_whole(path, encoder):
    slicer, image = build(encoder).on_slide(), open_image(path)
    parts = list(predict_image(slicer, image, tile=96))
    assert len(parts) == 12
    tiled = join(parts, 256, 320).mask
    whole = dense_maps(slicer, image, (0, 0, 256, 320))["probs"]
    assert whole[1].std() > 0.01
    np.testing.assert_allclose(tiled, whole, atol=1e-4)


def test_a_slide_is_read_at_the_size_that_was_learnt_and_has_one_class(path, tmp_path, monkeypatch):
    method = build("residual")
    checkpoint.save(
        tmp_path, "best", method, method.optimiser(), 0, notes={"extent_um": 64.0}
    )  # 1 um a pixel
    image = open_image(path, pixel_size_um=0.5)
    assert slicer_of(method, image, 1.0) is None  # a field is looked at as a whole
    monkeypatch.setattr("napari_mtssl.images.image.LARGE", 1000)
    kept = []
    with Predictor(tmp_path) as predictor:
        said = list(predictor.previews(image, 1, tmp_path / "p", kept.append))
    masks = [event for event in said if event.prediction.mask is not None]
    assert masks[0].scale == (2.0, 2.0)
    assert sum((b[2] - b[0]) * (b[3] - b[1]) for b in (event.box for event in masks)) >= 256 * 320
    assert said[-1].prediction.mask is None
    assert set(said[-1].prediction.image["class"]) == {"benign", "malignant"}
    assert [id(event) for event in kept[-1:]] == [id(said[-1])] and len(kept) == len(said)
    image.pixel_size_um = None
    assert slicer_of(method, image, 1.0) is None


def test_without_a_mask_images_stay_whole():
    assert build("residual", {"grade": CLASSES["grade"]}).on_slide() is None


def test_the_mask_of_a_slide_is_read_in_rows(path, tmp_path, monkeypatch):
    from napari_mtssl.methods.joint_unet.samples import _codes
    from napari_mtssl.study import Study

    with Study.create(tmp_path / "s.mtssl") as study:
        code = study.add_class("gland", kind="mask").code
        image = study.add_image(path, height=256, width=320)
        study.paint_mask(image.id, 30, 50, np.full((90, 130), code, np.uint16))
        whole = _codes(study, image.id, 48)
        monkeypatch.setattr("napari_mtssl.images.image.LARGE", 1000)
        assert whole.any()
        assert np.array_equal(_codes(study, image.id, 48), whole)
