import numpy as np
import PIL.Image
import pytest
import torch

from napari_mtssl.engine.checkpoint import load_method
from napari_mtssl.engine.events import Finished
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.session import TrainingSession
from napari_mtssl.engine.source import StudySource
from napari_mtssl.evaluation.synthetic_chest import make_chest
from napari_mtssl.images import ImagePool
from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.multimix import MultiMix
from napari_mtssl.study import Study

TINY = {"size": 32, "steps": 3, "batch_size": 2, "class_batch": 2}
OPTIONS = TrainOptions(preview_seconds=0, pseudo_seconds=0)


@pytest.fixture
def study_path(tmp_path):
    """Eight chests: masks of three, classes of four, two of them held out."""
    path = tmp_path / "chests.mtssl"
    with Study.create(path) as study:
        study.add_class("lung", kind="mask")
        for name in ("normal", "pneumonia"):
            study.add_class(name, kind="diagnosis")
        code = next(c.code for c in study.classes("mask") if c.name == "lung")
        for index in range(8):
            chest = make_chest(index, index % 2 == 1, size=96)
            file = tmp_path / f"{index}.png"
            PIL.Image.fromarray(chest.pixels).save(file)
            split = "validation" if index > 5 else "train"
            record = study.add_image(file, height=96, width=96, group=str(index), split=split)
            if index in (0, 1, 6):
                study.paint_mask(record.id, 0, 0, (chest.lungs * code).astype(np.uint16))
                study.set_mask_complete(record.id, True)
            if index in (1, 2, 3, 6, 7):
                study.set_image_class(record.id, "diagnosis", "pneumonia" if chest.sick else "normal")
    return path


def method_for(study, **settings):
    config = MultiMix.configure(**TINY, **settings)
    return MultiMix(config, MultiMix.vocabulary_of(study), torch.device("cpu"))


def test_what_the_study_says(study_path):
    with Study.open(study_path) as study:
        method = method_for(study)
        bank = method.samples(study, ImagePool(), "train")
        assert method.mask_classes == ("background", "lung")
        assert bank.images.shape == (6, 1, 32, 32)
        assert bank.masked.tolist() == [0, 1] and bank.classes["diagnosis"].tolist() == [-1, 1, 0, 1, -1, -1]
        assert bank.mask_pool.tolist() == [2, 3, 4, 5] and bank.class_pool.tolist() == [0, 4, 5]
        assert bank.known.all()
        share = make_chest(0, False, size=96).lungs.mean()
        assert float(bank.masks[0, 1].float().mean()) / 255 == pytest.approx(share, abs=0.01)
        held = method.samples(study, ImagePool(), "validation")
        assert len(held.masked) == 1 and held.classes["diagnosis"].tolist() == [0, 1]
        few = method_for(study, labels=2).samples(study, ImagePool(), "train")
        assert len(few.masked) == 2 and (few.classes["diagnosis"] >= 0).sum() == 2


def test_what_nobody_painted_is_unknown_until_the_mask_is_complete(study_path):
    with Study.open(study_path) as study:
        record = study.images("train")[4]
        code = study.classes("mask")[-1].code
        study.paint_mask(record.id, 30, 30, np.full((30, 30), code, np.uint16))
        bank = method_for(study).samples(study, ImagePool(), "train")
        known = bank.known[bank.masked.tolist().index(4), 0]
        assert known[10:20, 10:20].all() and known.sum() < 150
        study.set_mask_complete(record.id, True)
        assert method_for(study).samples(study, ImagePool(), "train").known.all()


def test_images_are_read_once_and_a_pool_is_not_endless(study_path):
    with Study.open(study_path) as study:
        method, opened = method_for(study), []

        def pool(record):
            opened.append(record.id)
            return ImagePool()(record)

        first = method.samples(study, pool, "train")
        study.set_image_class(study.images("train")[5].id, "diagnosis", "normal")
        second = method.samples(study, pool, "train")
        assert len(opened) == 6 and torch.equal(first.images, second.images)
        assert first.keys() != second.keys()
        few = method_for(study, pool=1).samples(study, ImagePool(), "train")
        assert few.n_labelled == 5 and len(few.images) == 6
        none = method_for(study, pool=0).samples(study, ImagePool(), "train")
        assert len(none.images) == 5


def test_train_predict_and_explain(study_path):
    session = TrainingSession(study_path, "multimix", device="cpu", overrides=TINY, options=OPTIONS)
    last = list(session.events())[-1]
    assert isinstance(last, Finished), last
    method = load_method(last.run_dir)
    assert method.vocabulary["diagnosis"] == ("normal", "pneumonia")
    with Study.open(study_path) as study:
        image = ImagePool()(study.images()[0])
        found = method.predict_image(image)
        held = method.evaluate(method.samples(study, ImagePool(), "validation"))
    assert found.mask.shape == (2, 256, 256) and np.allclose(found.mask.sum(0), 1, atol=1e-4)
    assert set(found.pictures) == {"saliency", "uncertainty"}
    assert all(p.shape == (256, 256) and p.max() <= 1.001 for p in found.pictures.values())
    assert found.image["class"].tolist() == ["normal", "pneumonia"]
    assert found.image["probability"].sum() == pytest.approx(1)
    assert set(held) == {"score", "dice", "diagnosis_accuracy"}
    maps = [method.explain(image, how=how) for how in ("gradient", "smooth-gradient", "grad-cam")]
    maps.append(method.explain(image, "diagnosis", "pneumonia"))
    assert all(m.shape == (256, 256) and m.min() >= 0 and m.max() <= 1 for m in maps)
    with pytest.raises(MethodError, match="no class 'flu'"):
        method.explain(image, class_name="flu")
    with pytest.raises(MethodError, match="no map 'magic'"):
        method.explain(image, how="magic")


@pytest.mark.parametrize("labels", ["none", "one class"])
def test_labels_that_do_not_allow_training(study_path, labels):
    with Study.open(study_path) as study:
        for record in study.images("train"):
            study.clear_mask(record.id)
            study.set_image_class(record.id, "diagnosis", None if labels == "none" else "normal")
        message = "No image has a mask" if labels == "none" else "same class"
        with pytest.raises(MethodError, match=message):
            method_for(study).samples(study, ImagePool(), "train")


def test_held_out_images_from_elsewhere_are_scored_apart(study_path):
    with Study.open(study_path) as study:
        for name in ("clinic", "portable"):
            study.add_class(name, kind="origin")
        study.set_image_class(1, "origin", "clinic")
        study.set_image_class(8, "origin", "portable")  # the second held-out one, which has no mask
        method = method_for(study)
        assert "origin" not in method.heads
        bank = method.samples(study, ImagePool(), "validation")
        assert bank.foreign.tolist() == [False, True]
        scores = method.evaluate(bank)
        assert list(scores) == ["score", "dice", "diagnosis_accuracy", "cross_diagnosis_accuracy"]
        assert scores["score"] == pytest.approx((scores["dice"] + scores["diagnosis_accuracy"]) / 2)


def test_a_mask_class_made_after_the_start_harms_nobody_until_it_is_painted(study_path):
    with Study.open(study_path) as study:
        source = StudySource(method_for(study), study, ImagePool())
        source.training()
        heart = study.add_class("heart", kind="mask")
        study.set_mask_complete(study.images("train")[0].id, False)
        assert source.training().n_labelled
        study.paint_mask(study.images("train")[0].id, 0, 0, np.full((4, 4), heart.code, np.uint16))
        assert source.left_out == ()
        assert source.training().n_labelled
        assert source.left_out == ("heart",)


@pytest.mark.parametrize(
    ("painted", "complete", "sentence"),
    [
        (slice(10, 40), False, "All that is painted is lung.*Tick 'Mask is complete'"),
        (slice(None), True, "All that is painted is lung"),
        (slice(0), True, "No mask has any lung: paint it"),
    ],
)
def test_masks_that_all_say_the_same_are_refused(study_path, painted, complete, sentence):
    with Study.open(study_path) as study:
        code = next(c.code for c in study.classes("mask") if c.name == "lung")
        for record in study.images("train"):
            study.clear_mask(record.id)
        first = study.images("train")[0]
        patch = np.zeros((96, 96), np.uint16)
        patch[painted] = code
        study.paint_mask(first.id, 0, 0, patch, where=patch > 0)
        study.set_mask_complete(first.id, complete)
        config = MultiMix.configure(**TINY)
        with pytest.raises(MethodError, match=sentence):
            MultiMix.check_labels(study, config)
        study.paint_mask(first.id, 40, 40, np.full((3, 3), code, np.uint16))
        study.paint_mask(first.id, 0, 0, np.full((3, 3), study.classes("mask")[0].code, np.uint16))
        MultiMix.check_labels(study, config)
