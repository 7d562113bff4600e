"""Folders of masks: OME-Zarr among them, and which of them nobody has reviewed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from napari_mtssl.study import ImageRecord, Study, StudyError, exchange

from .conftest import add_image, all_rows


@pytest.fixture
def images(study: Study, tmp_path: Path) -> list[ImageRecord]:
    """One image is painted, one predicted, of one a part is painted and the rest predicted."""
    code = study.add_class("lung", kind="mask").code
    found = [add_image(study, tmp_path / f"{name}.png", 20, 30) for name in ("given", "guessed", "both")]
    probs = np.zeros((2, 20, 30), np.float32)
    probs[0, :, :10] = probs[1, :, 10:] = 1
    for image in found:
        study.set_mask_prediction(image.id, "run", (0, 0, 20, 30), probs, (1, 1), ["background", "lung"])
    study.paint_mask(found[0].id, 0, 0, np.full((20, 30), code, np.uint16))
    study.paint_mask(found[2].id, 0, 0, np.full((2, 3), code, np.uint16))
    return found


def forget(study: Study) -> None:
    for image in study.images():
        study.clear_mask(image.id)


def test_predicted_masks_do_not_come_back_as_labels(
    study: Study, images: list[ImageRecord], tmp_path: Path
) -> None:
    exchange.export_masks(study, tmp_path / "m", predictions=True)
    table = pd.read_csv(tmp_path / "m" / "masks.csv")
    assert dict(zip(table["file"], table["label"], strict=True)) == {
        "given.png": "given",
        "guessed.png": "predicted",
        "both.png": "predicted",
    }
    forget(study)
    report = exchange.import_masks(study, tmp_path / "m")
    assert str(report) == ("1 mask added, 0 already there, 2 predictions left out (nobody reviewed them).")
    assert study.masked_images() == [images[0].id]
    with pytest.raises(StudyError, match=r"guessed.png has no labels, only 1 prediction that nobody"):
        exchange.import_mask(study, tmp_path / "m" / "guessed.png", images[1].id, {1: "lung"})
    assert exchange.import_masks(study, tmp_path / "m", predictions=True).added == 2
    assert [study.mask_state(image.id).source for image in images] == ["human", "model", "model"]


def test_a_table_of_that_name_with_other_columns_says_nothing(
    study: Study, images: list[ImageRecord], tmp_path: Path
) -> None:
    exchange.export_masks(study, tmp_path / "m")
    theirs = "patient,age\n1,70\n"
    (tmp_path / "m" / "masks.csv").write_text(theirs)
    forget(study)
    assert exchange.import_masks(study, tmp_path / "m").added > 0
    with pytest.raises(StudyError, match=r"another table .*masks\.csv"):
        exchange.export_masks(study, tmp_path / "m", predictions=True)
    assert (tmp_path / "m" / "masks.csv").read_text() == theirs


def test_masks_of_no_image_are_named(study: Study, images: list[ImageRecord], tmp_path: Path) -> None:
    exchange.export_masks(study, tmp_path / "m")
    (tmp_path / "m" / "givn.png").write_bytes((tmp_path / "m" / "given.png").read_bytes())
    assert "1 file of no image of the study (givn.png)" in str(exchange.import_masks(study, tmp_path / "m"))


def test_masks_of_a_stack_go_to_its_planes(study: Study, tmp_path: Path) -> None:
    import tifffile

    study.add_class("lung", kind="mask")
    planes = tmp_path / "chest.tif.planes"
    (tmp_path / "m").mkdir()
    planes.mkdir()
    records = [add_image(study, planes / f"chest_{n:03d}.tif", 20, 30) for n in (0, 2)]  # one was taken out
    pages = np.zeros((3, 20, 30), np.uint8)
    pages[0, :4], pages[2, :9] = 1, 1
    tifffile.imwrite(tmp_path / "m" / "chest_mask.tif", pages, photometric="minisblack")
    assert exchange.import_masks(study, tmp_path / "m", "lung").added == 2
    code = study.class_named("lung", "mask").code
    assert [(study.mask(record.id) == code).sum() for record in records] == [120, 270]
    tifffile.imwrite(tmp_path / "m" / "chest_mask.tif", pages[:2])
    with pytest.raises(
        StudyError, match=r"chest_mask.tif has the shape \(2, 20, 30\), but the stack of its name 3"
    ):
        exchange.import_masks(study, tmp_path / "m", "lung")


def test_numbers_of_a_mask_with_a_palette_count_and_so_do_negative_ones(
    study: Study, images: list[ImageRecord], tmp_path: Path
) -> None:
    forget(study)
    numbers = np.zeros((20, 30), np.uint8)
    numbers[:5] = 1
    picture = PIL.Image.fromarray(numbers)
    picture.putpalette([0, 0, 0, 128, 0, 0])
    picture.save(tmp_path / "a.png")
    exchange.import_mask(study, tmp_path / "a.png", images[0].id, {0: "background", 1: "lung"})
    code = study.class_named("lung", "mask").code
    assert (study.mask(images[0].id) == code).sum() == 150
    np.save(tmp_path / "b.npy", -numbers.astype(np.int16))
    exchange.import_mask(study, tmp_path / "b.npy", images[1].id, "lung")
    assert (study.mask(images[1].id) == code).sum() == 150


def test_only_predictions_are_refused(study: Study, images: list[ImageRecord], tmp_path: Path) -> None:
    exchange.export_masks(study, tmp_path / "m", [images[1].id], predictions=True)
    before = all_rows(study)
    with pytest.raises(StudyError, match=r"m has no labels, only 1 prediction .* 'import --predictions'"):
        exchange.import_masks(study, tmp_path / "m")
    assert all_rows(study) == before


def test_what_is_reviewed_later_is_a_label_in_the_same_folder(
    study: Study, images: list[ImageRecord], tmp_path: Path
) -> None:
    exchange.export_masks(study, tmp_path / "m", predictions=True)
    code = study.class_named("lung", "mask").code
    study.paint_mask(images[1].id, 0, 0, np.full((20, 30), code, np.uint16))
    exchange.export_masks(study, tmp_path / "m", [images[1].id], predictions=True)
    (tmp_path / "m" / "given.png").unlink()
    exchange.export_masks(study, tmp_path / "m", [images[2].id], predictions=True)
    table = pd.read_csv(tmp_path / "m" / "masks.csv")
    said = dict(zip(table["file"], table["label"], strict=True))
    assert said == {"guessed.png": "given", "both.png": "predicted"}
    forget(study)
    exchange.import_masks(study, tmp_path / "m")
    assert study.masked_images() == [images[1].id]


def test_nothing_is_said_where_all_are_labels(
    study: Study, images: list[ImageRecord], tmp_path: Path
) -> None:
    exchange.export_masks(study, tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "both.png",
        "classes.csv",
        "given.png",
    ]


@pytest.mark.parametrize("ending", [".zarr", ".ome.zarr"])
def test_ome_zarr_comes_back_from_a_folder(
    study: Study, images: list[ImageRecord], tmp_path: Path, ending: str
) -> None:
    for image in images:
        path = tmp_path / "m" / f"{image.path.stem}{ending}"
        exchange.export_mask_zarr(study, image.id, path, predictions=True)
    mask = study.mask(images[0].id)
    forget(study)
    report = exchange.import_masks(study, tmp_path / "m")
    assert (report.added, report.predicted) == (1, 2)
    np.testing.assert_array_equal(study.mask(images[0].id), mask)
    for path in (tmp_path / "m" / f"both{ending}", tmp_path / "m" / f"both{ending}" / "labels" / "mask"):
        with pytest.raises(StudyError, match="has no labels, only 1 prediction"):
            exchange.import_mask_zarr(study, path, images[2].id)
    exchange.import_masks(study, tmp_path / "m", predictions=True)
    assert [study.mask_state(image.id).source for image in images] == ["human", "model", "model"]


def test_masks_never_replace_images_or_tables_of_the_user(
    study: Study, images: list[ImageRecord], tmp_path: Path
) -> None:
    before = [image.path.read_bytes() for image in images]
    with pytest.raises(StudyError, match="is an image of the study, which would be lost"):
        exchange.export_masks(study, images[0].path.parent)
    for write in (exchange.export_csv, exchange.export_image_classes):
        with pytest.raises(StudyError, match="is an image of the study"):
            write(study, images[1].path)
    with pytest.raises(StudyError, match="is an image of the study"):
        exchange.export_mask_geojson(study, images[0].id, images[0].path)
    assert [image.path.read_bytes() for image in images] == before
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "classes.csv").write_text("image,pattern\n")
    with pytest.raises(StudyError, match="another table"):
        exchange.export_masks(study, tmp_path / "m")
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["classes.csv"]


def test_what_is_said_twice_of_masks_is_refused(
    study: Study, images: list[ImageRecord], tmp_path: Path
) -> None:
    exchange.export_masks(study, tmp_path / "m", [images[0].id])
    (tmp_path / "m" / "given_mask.png").write_bytes((tmp_path / "m" / "given.png").read_bytes())
    with pytest.raises(StudyError, match=r"given\.png and given_mask\.png are both a mask"):
        exchange.import_masks(study, tmp_path / "m")
    (tmp_path / "m" / "given_mask.png").unlink()
    (tmp_path / "m" / "classes.csv").write_text("value,class\n0,background\n1,lung\n1,heart\n")
    with pytest.raises(StudyError, match="the value 1 twice"):
        exchange.import_masks(study, tmp_path / "m")
