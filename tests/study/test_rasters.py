from __future__ import annotations

import random
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import zarr

from napari_mtssl.study import ImageRecord, LostRasterWarning, Study, StudyError

NAMES = ["background", "gland"]


@pytest.fixture
def masked(study: Study, image: ImageRecord) -> ImageRecord:
    study.add_class("gland", kind="mask")
    return image


def ramp(h: int, w: int, start: float = 0.0) -> np.ndarray:
    gland = np.clip(start + np.linspace(0, 0.4, h * w).reshape(h, w), 0, 1)
    return np.stack([1 - gland, gland]).astype(np.float32)


def test_boxes_come_together(study: Study, masked: ImageRecord) -> None:
    counter = study.change_counter()
    assert study.mask_prediction(masked.id) is None
    study.set_mask_prediction(masked.id, "r1", (0, 0, 100, 300), ramp(50, 150), (2, 2), NAMES)
    study.set_mask_prediction(masked.id, "r1", (100, 200, 260, 320), ramp(80, 60, 0.5), (2, 2), NAMES)
    found = study.mask_prediction(masked.id)
    assert (found.run, found.classes, found.scale) == ("r1", ("background", "gland"), (2.0, 2.0))
    assert found.array.shape == (2, 100, 150) and found.array.dtype == np.uint8
    np.testing.assert_allclose(found.read()[:, :50], ramp(50, 150), atol=0.003)
    np.testing.assert_allclose(found.read((100, 200, 200, 300)), ramp(80, 60, 0.5)[:, :50, :50], atol=0.003)
    assert not found.array[:, 60:, :90].any()  # not predicted yet
    assert study.change_counter() == counter
    assert study.undo() == "Undone: Added the mask class gland"


def test_a_grid_over_the_whole_image(study: Study, masked: ImageRecord) -> None:
    study.set_mask_prediction(
        masked.id, "r1", (0, 0, 200, 300), ramp(256, 256), (200 / 256, 300 / 256), NAMES
    )
    assert study.mask_prediction(masked.id).array.shape == (2, 256, 256)


def test_a_new_run_replaces_and_an_old_view_stays_readable(study: Study, masked: ImageRecord) -> None:
    study.set_mask_prediction(masked.id, "r1", (0, 0, 200, 300), ramp(200, 300), (1, 1), NAMES)
    old = study.mask_prediction(masked.id)
    study.add_class("stroma", kind="mask")
    three = np.concatenate([ramp(20, 30), np.zeros((1, 20, 30))])
    study.set_mask_prediction(masked.id, "r2", (0, 0, 20, 30), three, (1, 1), [*NAMES, "stroma"])
    new = study.mask_prediction(masked.id)
    assert new.run == "r2" and new.array.shape == (3, 200, 300)
    assert old.array[:].shape == (2, 200, 300)
    assert not new.array[:, 30:].any()
    study.update_class("gland", kind="mask", new_name="crypt")
    assert study.mask_prediction(masked.id).classes == ("background", "crypt", "stroma")
    study.drop_mask_prediction(masked.id)
    assert study.mask_prediction(masked.id) is None


def test_other_programs_can_read_it(study: Study, masked: ImageRecord) -> None:
    study.set_pixel_size(masked.id, 0.5)
    study.set_mask_prediction(masked.id, "r1", (0, 0, 200, 300), ramp(50, 75), (4, 4), NAMES)
    group = zarr.open_group(study.path / "rasters.zarr", path=f"predictions/{masked.id}", mode="r")
    (multiscale,) = group.attrs["ome"]["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == ["c", "y", "x"]
    scale, move = multiscale["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [1, 2, 2] and move["translation"] == [0, 0.75, 0.75]
    assert group[multiscale["datasets"][0]["path"]].shape == (2, 50, 75)
    from napari_mtssl.images import open_image

    with pytest.raises(ValueError):  # an image of two channels is none of ours, but it is found
        open_image(study.path / "rasters.zarr" / "predictions" / str(masked.id))


def damage(folder, how: str) -> None:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    if how == "gone":
        shutil.rmtree(folder)
    elif how == "a file":
        shutil.rmtree(folder)
        folder.write_text("hello")
    else:
        for path in files:
            if how == "noise" or (how == "metadata") == (path.name == "zarr.json"):
                path.write_bytes(random.Random(0).randbytes(50) if how != "empty" else b"")


@pytest.mark.parametrize("how", ["gone", "a file", "noise", "metadata", "data", "empty"])
def test_damage_never_keeps_a_study_from_opening(study: Study, masked: ImageRecord, how: str) -> None:
    study.set_mask_prediction(masked.id, "r1", (0, 0, 200, 300), ramp(200, 300), (1, 1), NAMES)
    study.close()
    damage(study.path / "rasters.zarr", how)
    with Study.open(study.path) as opened:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = opened.mask_prediction(masked.id)
        if found is not None:  # the description is sound
            with pytest.raises(StudyError, match=r"slide1.png cannot be read .*: predict again") as error:
                found.read()
            assert "\n" not in str(error.value)
        elif how not in ("gone", "a file"):
            assert [w.category for w in caught] == [LostRasterWarning]
            assert "predict again to make it anew" in str(caught[0].message)
        opened.set_mask_prediction(masked.id, "r2", (0, 0, 200, 300), ramp(200, 300), (1, 1), NAMES)
        np.testing.assert_allclose(opened.mask_prediction(masked.id).read(), ramp(200, 300), atol=0.003)


def test_the_same_run_mends_damaged_data(study: Study, masked: ImageRecord) -> None:
    study.set_mask_prediction(masked.id, "r1", (0, 0, 200, 300), ramp(200, 300), (1, 1), NAMES)
    damage(study.path / "rasters.zarr", "data")
    part = ramp(20, 20)
    with pytest.warns(LostRasterWarning, match="slide1.png cannot be read"):
        study.set_mask_prediction(masked.id, "r1", (0, 0, 20, 20), part, (1, 1), NAMES)
    np.testing.assert_allclose(study.mask_prediction(masked.id).read((0, 0, 20, 20)), part, atol=0.003)


def test_image_predictions(study: Study, image: ImageRecord) -> None:
    for name in ("normal", "pneumonia"):
        study.add_class(name, kind="diagnosis")
    assert study.image_predictions().columns.tolist() == ["image_id", "run", "kind", "class", "probability"]
    frame = pd.DataFrame({"kind": "diagnosis", "class": ["normal", "pneumonia"], "probability": [0.25, 0.75]})
    counter = study.change_counter()
    study.set_image_prediction(image.id, "r1", frame)
    study.set_image_prediction(image.id, "r2", frame[::-1])
    assert study.image_predictions(image.id).to_numpy().tolist() == [
        [image.id, "r2", "diagnosis", "pneumonia", 0.75],
        [image.id, "r2", "diagnosis", "normal", 0.25],
    ]
    assert study.change_counter() == counter
    study.remove_image(image.id)
    assert study.image_predictions().empty
    study.undo()
    assert len(study.image_predictions()) == 2


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (
            lambda s, i: s.set_mask_prediction(i, "r", (0, 0, 2, 2), np.ones((3, 2, 2)), (1, 1), NAMES),
            r"shape \(3, 2, 2\) do not fit 2 classes",
        ),
        (
            lambda s, i: s.set_mask_prediction(i, "r", (0, 0, 2, 2), np.ones((1, 2, 2)), (1, 1), ["x"]),
            "has no mask class 'x'",
        ),
        (
            lambda s, i: s.set_mask_prediction(i, "r", (0, 0, 2, 2), np.ones((2, 2, 2)), (0, 1), NAMES),
            "A scale is two numbers",
        ),
        (
            lambda s, i: s.set_image_prediction(
                i, "r", pd.DataFrame({"kind": ["grade"], "class": ["x"], "probability": [1]})
            ),
            "has no grade class 'x'",
        ),
        (lambda s, i: s.set_image_prediction(i, "r", pd.DataFrame({"kind": []})), "missing: class, prob"),
    ],
)
def test_one_clear_sentence(study: Study, masked: ImageRecord, act, sentence) -> None:
    with pytest.raises(StudyError, match=sentence):
        act(study, masked.id)


def test_the_most_probable_class_stays_so_with_eight_bits(study, masked):
    rng = np.random.default_rng(0)
    probs = rng.dirichlet([50.0, 50.0, 50.0], (40, 60)).transpose(2, 0, 1)  # nearly the same, all of them
    study.add_class("stroma", kind="mask")
    study.set_mask_prediction(masked.id, "r", (0, 0, 200, 300), probs, (5, 5), [*NAMES, "stroma"])
    kept = study.mask_prediction(masked.id).read()
    assert (kept.argmax(0) == probs.argmax(0)).all()
    assert np.abs(kept - probs).max() < 1.5 / 255


def test_a_prediction_of_a_class_that_was_removed_counts_as_none_until_that_is_undone(study, masked):
    study.set_mask_prediction(masked.id, "r", (0, 0, 200, 300), ramp(50, 75), (4, 4), NAMES)
    study.remove_class(NAMES[1], "mask")
    assert study.mask_prediction(masked.id) is None
    study.undo()
    assert study.mask_prediction(masked.id).classes == tuple(NAMES)
