import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
from skimage.io import imsave

from napari_mtssl.evaluation.held_out import mask_scores, score_origins, score_study
from napari_mtssl.images import open_image
from napari_mtssl.methods.prediction import Prediction
from napari_mtssl.study import Study


@pytest.fixture
def study(tmp_path):
    """Two held-out images with a grade and a painted square each, the mask of the first being complete."""
    with Study.create(tmp_path / "held.mtssl") as study:
        study.add_class("gland", kind="mask")
        for name in ("benign", "malignant"):
            study.add_class(name, kind="grade")
        gland = next(item.code for item in study.classes("mask") if item.name == "gland")
        for number, grade in enumerate(("benign", "malignant")):
            path = tmp_path / f"{number}.png"
            imsave(path, np.full((40, 60), 10 + number, np.uint8), check_contrast=False)
            record = study.add_image(path, height=40, width=60, split="test")
            study.paint_mask(record.id, 0, 0, np.full((20, 30), gland, np.uint16))
            study.set_image_class(record.id, "grade", grade)
        study.set_mask_complete(study.images()[0].id, True)
        yield study


VOCABULARY = {"mask": ("background", "gland"), "grade": ("benign", "malignant")}


def say(columns, grade):
    """A prediction at a quarter of the resolution: gland in the first `columns` of the upper half."""
    gland = np.zeros((20, 30))
    gland[:10, :columns] = 1
    table = pd.DataFrame(
        {"kind": "grade", "class": ["benign", "malignant"], "probability": [1 - grade, grade]}
    )
    return lambda image: Prediction(mask=np.stack([1 - gland, gland]), image=table)


def test_a_perfect_prediction_scores_one(study):
    scores = score_study(study, VOCABULARY, say(15, 0.2), "test")
    assert scores["mask_dice"] == scores["mask_iou"] == scores["mask_accuracy"] == 1
    assert scores["grade_accuracy"] == 0.5  # both are said to be benign


def test_pixels_that_nobody_labelled_do_not_count(study):
    # 30 columns too many: wrong where the mask is complete, unknown in the other image
    scores = score_study(study, VOCABULARY, say(30, 0.9), "test")
    right, said, true = 2 * 600, 600 + 600 + 600, 2 * 600
    assert scores["mask_dice"] == pytest.approx(2 * right / (said + true))
    assert scores["mask_accuracy"] == pytest.approx((2400 - 600 + 600) / (2400 + 600))


def test_the_pixels_that_are_scored_are_those_that_are_exported(study, tmp_path):
    from napari_mtssl.cli.results import write_mask

    rng = np.random.default_rng(0)
    gland = rng.random((7, 11))
    prediction = Prediction(mask=np.stack([1 - gland, gland]))
    first, _ = study.images("test")  # whose mask is complete
    written, colours = {}, {"background": "#000000", "gland": "#ff0000"}
    for record in study.images("test"):
        write_mask(open_image(record.path), prediction.mask, VOCABULARY["mask"], colours, tmp_path)
        written[record.id] = iio.imread(tmp_path / f"{record.path.stem}.mask.png") > 0
    scores = score_study(study, VOCABULARY, lambda image: prediction, "test", image_ids=[first.id])
    truth = study.mask(first.id) > 0
    both = (truth & written[first.id]).sum()
    assert scores["mask_dice"] == pytest.approx(2 * both / (truth.sum() + written[first.id].sum()))


def test_distances_of_outlines_are_in_millimetres(study):
    first, _ = study.images("test")  # the one whose mask is complete: 20 rows and 30 columns of 40 and 60
    assert "mask_hd95_mm" not in score_study(study, VOCABULARY, say(15, 0.5), "test")
    study.set_pixel_size(first.id, 500.0)
    assert score_study(study, VOCABULARY, say(15, 0.5), "test")["mask_hd95_mm"] == 0
    # a prediction of 25 columns in a grid half as wide as the image: 10 too many, of 1 mm each
    assert score_study(study, VOCABULARY, say(25, 0.5), "test")["mask_hd95_mm"] == pytest.approx(10)


def test_a_split_without_labels_has_no_scores(study):
    assert score_study(study, VOCABULARY, say(15, 0.5), "train") == {}


def test_images_of_another_origin_are_scored_apart(study, tmp_path):
    _, second = study.images("test")
    assert study.foreign_images("test") == set()  # nobody said where they come from
    path = tmp_path / "learnt.png"
    imsave(path, np.full((40, 60), 99, np.uint8), check_contrast=False)
    learnt = study.add_image(path, height=40, width=60)
    for name in ("clinic", "portable"):
        study.add_class(name, kind="origin")
    study.set_image_class(second.id, "origin", "portable")
    assert study.foreign_images("test") == set()  # learnt from an image of nobody knows where
    study.set_image_class(learnt.id, "origin", "clinic")
    assert study.foreign_images("test") == {second.id}
    scores = score_origins(study, VOCABULARY, say(15, 0.2), "test")
    assert (scores["grade_accuracy"], scores["cross_grade_accuracy"]) == (1, 0)
    assert scores["mask_dice"] == scores["cross_mask_dice"] == 1
    study.set_image_class(second.id, "origin", "clinic")
    assert "cross_mask_dice" not in score_origins(study, VOCABULARY, say(15, 0.2), "test")


def test_probabilities_of_image_classes_are_scored(study):
    third = say(15, 0.3)

    def predict(image):
        found = third(image)
        if image.path.stem == "1":  # the malignant one
            found.image["probability"] = [0.6, 0.4]
        return found

    scores = score_study(study, VOCABULARY, predict, "test")
    assert scores["grade_auroc"] == 1 and scores["grade_balanced_accuracy"] == 0.5
    assert scores["grade_calibration_error"] == pytest.approx((0.3 + 0.6) / 2)


def test_overlap_of_three_classes_is_the_mean_over_those_that_occur():
    confusion = np.array([[50, 0, 0, 0], [0, 10, 10, 0], [0, 0, 20, 0], [0, 0, 0, 0]])
    scores = mask_scores(confusion, ["background", "gland", "mucus", "nerve"])
    assert scores["mask_dice"] == pytest.approx((20 / 30 + 40 / 50) / 2)
    assert scores["mask_iou"] == pytest.approx((10 / 20 + 20 / 30) / 2)
    each = {name: value for name, value in scores.items() if name.startswith("mask_dice_")}
    assert each == pytest.approx({"mask_dice_gland": 20 / 30, "mask_dice_mucus": 40 / 50})
    one = mask_scores(np.array([[5, 0], [0, 0]]), ["background", "gland"])
    assert np.isnan(one["mask_dice"]) and "mask_dice_gland" not in one
