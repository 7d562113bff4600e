import json

import numpy as np
import pandas as pd
import pytest
from skimage.io import imsave
from typer.testing import CliRunner

from napari_mtssl.cli import app
from napari_mtssl.evaluation.held_out import score_origins
from napari_mtssl.evaluation.multimix_held_out import score_fields
from napari_mtssl.evaluation.synthetic_chest import make_chest
from napari_mtssl.methods.prediction import Prediction
from napari_mtssl.study import Study

VOCABULARY = {"mask": ("background", "lung"), "diagnosis": ("normal", "sick")}
PAPER = {"ssim", "hausdorff_px", "hd95_px", "precision", "recall"}


@pytest.fixture
def study(tmp_path):
    """An image to learn from and two held-out ones with a lung of 20 x 30 pixels, the first normal."""
    with Study.create(tmp_path / "held.mtssl") as study:
        study.add_class("lung", kind="mask")
        for kind, names in (("diagnosis", ("normal", "sick")), ("origin", ("clinic", "portable"))):
            for name in names:
                study.add_class(name, kind=kind)
        lung = next(item.code for item in study.classes("mask") if item.name == "lung")
        for number in range(3):
            path = tmp_path / f"{number}.png"
            imsave(path, np.full((40, 60), 10 + number, np.uint8), check_contrast=False)
            record = study.add_image(path, height=40, width=60, split="test" if number else "train")
            study.set_image_class(record.id, "diagnosis", "sick" if number == 2 else "normal")
            study.paint_mask(record.id, 0, 0, np.full((20, 30), lung, np.uint16))
            study.set_mask_complete(record.id, True)
        yield study


def say(columns, calls=None):
    """Predict at half the resolution: lung in the first `columns` of the upper half, and a normal chest."""
    lung = np.zeros((20, 30))
    lung[:10, :columns] = 1
    table = pd.DataFrame({"kind": "diagnosis", "class": ["normal", "sick"], "probability": [0.8, 0.2]})

    def predict(image):
        if calls is not None:
            calls.append(image.path.stem)
        return Prediction(mask=np.stack([1 - lung, lung]), image=table)

    return predict


def test_a_study_gets_every_score_of_the_paper(study):
    calls = []
    scores = score_fields(study, VOCABULARY, say(20, calls), "test")  # 40 columns of the image, 10 too many
    assert calls == ["1", "2"]  # each image is predicted once
    assert scores["mask_precision"] == pytest.approx(0.75) and scores["mask_recall"] == 1
    assert scores["mask_hausdorff_px"] == pytest.approx(10) and scores["mask_hd95_px"] == pytest.approx(10)
    assert 0 < scores["mask_ssim"] < 1 and "mask_hd95_mm" not in scores
    assert scores["diagnosis_f1_normal"] == pytest.approx(2 / 3) and scores["diagnosis_f1_sick"] == 0
    assert score_origins(study, VOCABULARY, say(20), "test").items() <= scores.items()
    first, _ = study.images("test")
    study.set_pixel_size(first.id, 500.0)
    assert score_fields(study, VOCABULARY, say(20), "test")["mask_hd95_mm"] == pytest.approx(5)


def test_distances_are_measured_on_all_pixels_of_the_image(study):
    lung = next(item.code for item in study.classes("mask") if item.name == "lung")
    for record in study.images("test"):  # a column more, which a grid of half as many pixels does not show
        study.paint_mask(record.id, 0, 30, np.full((20, 1), lung, np.uint16))
    assert score_fields(study, VOCABULARY, say(15), "test")["mask_hausdorff_px"] == 1
    assert score_fields(study, VOCABULARY, say(0), "test")["mask_hausdorff_px"] == np.hypot(40, 60)


def test_outlines_need_a_complete_mask_and_pixels_do_not(study):
    for record in study.images("test"):
        study.set_mask_complete(record.id, False)
    scores = score_fields(study, VOCABULARY, say(20), "test")
    assert scores["mask_precision"] == 1 and scores["mask_recall"] == 1  # the rest is not known
    assert not {"mask_ssim", "mask_hausdorff_px", "mask_hd95_px"} & set(scores)


def test_another_origin_has_all_scores_of_its_own(study):
    learnt, first, second = study.images()
    for record, origin in ((learnt, "clinic"), (first, "clinic"), (second, "portable")):
        study.set_image_class(record.id, "origin", origin)
    scores = score_fields(study, VOCABULARY, say(20), "test")
    assert {f"{side}mask_{name}" for name in PAPER for side in ("", "cross_")} <= set(scores)
    assert scores["diagnosis_f1_normal"] == 1 and np.isnan(scores["diagnosis_f1_sick"])
    assert scores["cross_diagnosis_f1_normal"] == scores["cross_diagnosis_f1_sick"] == 0


def test_the_command_writes_them(tmp_path):
    path = tmp_path / "chests.mtssl"
    with Study.create(path) as study:
        study.add_class("lung", kind="mask")
        for name in ("normal", "sick"):
            study.add_class(name, kind="diagnosis")
        code = next(c.code for c in study.classes("mask") if c.name == "lung")
        for index in range(6):
            chest = make_chest(index, index % 2 == 1, size=64)
            imsave(tmp_path / f"{index}.png", chest.pixels, check_contrast=False)
            split = "test" if index > 3 else "train"
            record = study.add_image(tmp_path / f"{index}.png", height=64, width=64, split=split)
            study.paint_mask(record.id, 0, 0, (chest.lungs * code).astype(np.uint16))
            study.set_mask_complete(record.id, True)
            study.set_image_class(record.id, "diagnosis", "sick" if chest.sick else "normal")
            study.set_pixel_size(record.id, 4000.0)
    sets = [f"--set={setting}" for setting in ("size=32", "steps=2", "batch_size=2", "class_batch=2")]
    file = tmp_path / "scores.json"
    for arguments in (
        ["train", "multimix", path, "--run", "first", "--device", "cpu", *sets],
        ["evaluate", path, "--run", "first", "--split", "test", "--device", "cpu", "--json", file],
    ):
        outcome = CliRunner().invoke(app, [str(each) for each in arguments])
        assert outcome.exit_code == 0, outcome.output + repr(outcome.exception)
    (scores,) = json.loads(file.read_text())["results"]["multimix"].values()
    assert {f"mask_{name}" for name in (*PAPER, "dice", "iou", "accuracy", "hd95_mm")} <= set(scores)
    assert {f"diagnosis_{name}" for name in ("f1_normal", "f1_sick", "auroc", "accuracy")} <= set(scores)
    assert scores["mask_hd95_mm"]["mean"] == pytest.approx(4 * scores["mask_hd95_px"]["mean"])
