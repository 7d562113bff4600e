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


def save(path, value=0, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.full(size, value, np.uint8)).save(path)
    return path


def test_masks_beside_their_images(tmp_path):
    for index, name in enumerate(("1-10-500", "2-11-500", "alone")):
        save(tmp_path / f"{name}.jpg", index)
    save(tmp_path / "1-10-500@.png", 255)
    save(tmp_path / "2-11-500@.png", 127)
    fields = read_masks(tmp_path)
    assert [(f.path.stem, f.mask.name, f.group) for f in fields] == [
        ("1-10-500", "1-10-500@.png", "1-10-500"),
        ("2-11-500", "2-11-500@.png", "2-11-500"),
    ]
    assert (mask_shares(fields[0].mask, 4) == 1).all() and (mask_shares(fields[1].mask, 4) == 0).all()


def test_masks_in_folders_of_their_own(tmp_path):
    for stem in ("p1_0", "p1_1", "p2_0"):
        save(tmp_path / "images" / f"{stem}.png")
        save(tmp_path / "masks" / f"{stem}.png")
    assert [f.group for f in read_masks(tmp_path)] == ["p1", "p1", "p2"]


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
