from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from napari_mtssl.evaluation.multimix_data import (
    class_names,
    group_names,
    mask_shares,
    read_classes,
    read_masks,
    spacing_mm,
    split_groups,
    without_groups_of,
)
from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.study import Study
from napari_mtssl.study.mask_files import export_masks


def save(path, value=0, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.full(size, value, np.uint8)).save(path)
    return path


def test_masks_beside_their_images(tmp_path):
    for index, name in enumerate(("1-10-500", "2-11-500", "alone")):
        save(tmp_path / f"{name}.jpg", index)
    save(tmp_path / "1-10-500@.png", 255)
    soft = np.full((8, 8), 127, np.uint8)
    soft[0, 0] = 255  # what is half covered at the edge of a soft mask is outside
    PIL.Image.fromarray(soft).save(tmp_path / "2-11-500@.png")
    fields = read_masks(tmp_path)
    assert [(f.path.stem, f.mask.name, f.group) for f in fields] == [
        ("1-10-500", "1-10-500@.png", "1-10-500"),
        ("2-11-500", "2-11-500@.png", "2-11-500"),
    ]
    assert (mask_shares(fields[0].mask, 4) == 1).all()
    assert mask_shares(fields[1].mask, 8).sum() == 1


def test_masks_in_folders_of_their_own(tmp_path):
    for stem in ("p1_0", "p1_1", "p2_0"):
        save(tmp_path / "images" / f"{stem}.png")
        save(tmp_path / "masks" / f"{stem}.png", 0 if stem == "p2_0" else 255)
    assert [f.group for f in read_masks(tmp_path)] == ["p1", "p1", "p2"]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_small_numbers_in_a_mask_are_inside(tmp_path, kind):
    save(tmp_path / "images" / "p1.png")
    (tmp_path / "masks").mkdir()
    values = np.zeros((8, 8), kind)
    values[:4], values[4:6] = 1, 2
    PIL.Image.fromarray(values).save(tmp_path / "masks" / "p1.png")
    (field,) = read_masks(tmp_path)
    assert mask_shares(field.mask, 8).sum() == 6 * 8


def test_masks_of_one_bit_with_a_longer_name_and_of_half_the_size(tmp_path):
    save(tmp_path / "images" / "p1.png", size=(40, 61))
    bits = np.zeros((20, 30), bool)
    bits[:5] = True
    (tmp_path / "masks").mkdir()
    PIL.Image.fromarray(bits).save(tmp_path / "masks" / "p1_mask.png")
    (field,) = read_masks(tmp_path)
    assert field.path.name == "p1.png"
    assert mask_shares(field.mask, 8).mean() == 0.25
    save(tmp_path / "masks" / "p1.png", 255, size=(20, 30))
    with pytest.raises(DataError, match=r"p1.png has two masks, p1.png and p1_mask.png: keep one"):
        read_masks(tmp_path)


def test_in_one_folder_an_image_of_the_same_name_is_no_mask(tmp_path):
    save(tmp_path / "p1.jpg")
    save(tmp_path / "p1.bmp")  # the same radiograph in another format
    with pytest.raises(DataError, match="no images with masks"):
        read_masks(tmp_path)
    save(tmp_path / "p2.png")
    save(tmp_path / "p2_mask.png", 255)
    assert [(f.path.name, f.mask.name) for f in read_masks(tmp_path)] == [("p2.png", "p2_mask.png")]


def test_how_opaque_a_mask_is_does_not_count(tmp_path):
    colours = np.zeros((8, 8, 4), np.uint8)
    colours[..., 3], colours[:2, :, 1] = 255, 200
    PIL.Image.fromarray(colours).save(tmp_path / "a.png")
    assert mask_shares(tmp_path / "a.png", 8).sum() == 16
    PIL.Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(DataError, match="one whole number for each pixel"):
        mask_shares(tmp_path / "b.tif", 8)


def test_a_coloured_mask_is_inside_where_it_has_a_colour(tmp_path):
    picture = PIL.Image.fromarray(np.eye(8, dtype=np.uint8))
    picture.putpalette([0, 0, 0, 0, 200, 0])
    picture.save(tmp_path / "green.png")
    assert mask_shares(tmp_path / "green.png", 8).sum() == 8


def test_masks_that_this_program_exported(tmp_path):
    with Study.create(tmp_path / "s.mtssl") as study:
        study.add_class("lung", kind="mask")
        code = next(c.code for c in study.classes("mask") if c.name == "lung")
        records = []
        for name in ("p1", "p2"):
            path = save(tmp_path / "images" / f"{name}.png", size=(20, 30))
            records.append(study.add_image(path, height=20, width=30))
            study.paint_mask(records[-1].id, 5, 5, np.full((10, 10), code, np.uint16))
        export_masks(study, tmp_path / "masks")
        with pytest.raises(DataError, match=r"p1\.png says nothing of some pixels"):
            read_masks(tmp_path)
        for record in records:
            study.set_mask_complete(record.id, True)
        export_masks(study, tmp_path / "masks")
    shares = [mask_shares(f.mask, 10).mean() for f in read_masks(tmp_path)]
    assert shares == pytest.approx([100 / 600] * 2)


def test_masks_that_cannot_be_scored_are_refused(tmp_path):
    for name in ("p1", "p2"):
        save(tmp_path / "images" / f"{name}.png", size=(20, 30))
        save(tmp_path / "masks" / f"{name}.png", size=(20, 30))
    with pytest.raises(DataError, match=r"All masks in .*masks are empty"):
        read_masks(tmp_path)
    save(tmp_path / "masks" / "p1.png", 255, size=(20, 30))
    assert len(read_masks(tmp_path)) == 2  # lungs need not be on every image
    save(tmp_path / "masks" / "p2.png", 255, size=(30, 20))
    with pytest.raises(DataError, match=r"p2\.png has 30 x 20 pixels and its image 20 x 30"):
        read_masks(tmp_path)


def test_classes_with_the_normal_one_first(tmp_path):
    for name in ("Cardiomegaly/7_0.png", "No_findings/7_1.png", "No_findings/8_0.png"):
        save(tmp_path / name)
    fields = read_classes(tmp_path)
    assert class_names(fields) == ("No_findings", "Cardiomegaly")
    assert [(f.kind, f.group) for f in fields] == [
        ("Cardiomegaly", "7"), ("No_findings", "7"), ("No_findings", "8")
    ]  # fmt: skip


def test_group_is_a_part_with_a_number():
    names = ["00012_003.png", "person7_bacteria_2.jpeg", "MCUCXR_0001_0.png", "JPCLN001.png"]
    assert group_names([Path(n) for n in names]) == ["00012", "person7", "MCUCXR_0001_0", "JPCLN001"]


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        read_masks(tmp_path / "none")
    with pytest.raises(DataError, match="no images with masks"):
        read_masks(tmp_path)
    save(tmp_path / "one" / "a.png")
    with pytest.raises(DataError, match="at least two"):
        read_classes(tmp_path)


def test_patients_are_never_on_both_sides(tmp_path):
    for patient in range(20):
        for shot in range(2):
            kind = "sick" if (patient + shot) % 3 == 0 else "normal"
            save(tmp_path / kind / f"{patient}_{shot}.png", patient * 2 + shot)
    fields = read_classes(tmp_path)
    rest, held = split_groups(fields, 0.4)
    assert not {f.group for f in rest} & {f.group for f in held}
    assert len(rest) + len(held) == 40 and 6 <= len({f.group for f in held}) <= 14
    assert without_groups_of(fields, held) == rest
    with pytest.raises(DataError, match="All images to learn from"):
        without_groups_of(held, fields)


def test_spacing_of_the_resized_image(tmp_path):
    import tifffile

    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((40, 20), np.uint8), resolution=(1000, 1000), resolutionunit="CENTIMETER"
    )
    assert spacing_mm(tmp_path / "a.tif", 10) == pytest.approx((0.04, 0.02))
    assert spacing_mm(save(tmp_path / "a.png"), 10) is None
