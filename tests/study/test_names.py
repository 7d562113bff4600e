"""Images of the same file name, as scanners write them: nothing of one goes to another."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from napari_mtssl.study import ImageRecord, Study, StudyError, exchange
from napari_mtssl.study.names import ImageNames, folder_of, names_of, unique_names

from .conftest import add_image, all_rows


@pytest.fixture
def pair(study: Study, tmp_path: Path) -> list[ImageRecord]:
    """Two patients' images of one name, each with a mask of a size of its own."""
    code = study.add_class("lung", kind="mask").code
    images = []
    for number in (1, 2):
        folder = tmp_path / f"PAT{number}"
        folder.mkdir()
        images.append(add_image(study, folder / "IM0001", 20, 30))
        study.paint_mask(images[-1].id, 0, 0, np.full((number, 5), code, np.uint16))
    return images


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x.png", "b/y.tif"], ["x", "y"]),
        (["a/x.png", "a/x.jpg"], ["x.png", "x.jpg"]),
        (["p/a/x", "p/b/x", "q/b/x"], ["a_x", "p_b_x", "q_b_x"]),
        (["a/x.png", "b/x.png", "c/a_x.png"], ["a_x.png", "b_x", "c_a_x"]),
        (["a/x.png", "b/X.png"], ["a_x", "b_X"]),
        (["a/x.tif.planes/x_000.tif", "b/x.tif.planes/x_000.tif"], ["a_x_000", "b_x_000"]),
    ],
)
def test_no_two_images_have_files_of_one_name(paths: list[str], names: list[str]) -> None:
    found = unique_names([Path(path) for path in paths])
    assert len({name.casefold() for name in found}) == len(paths)
    assert found == names


def test_a_mask_of_a_name_that_two_images_have_is_refused(
    study: Study, pair: list[ImageRecord], tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    iio.imwrite(tmp_path / "m" / "IM0001_mask.png", np.ones((20, 30), np.uint8))
    before = all_rows(study)
    with pytest.raises(StudyError) as caught:
        exchange.import_masks(study, tmp_path / "m", "lung")
    assert str(caught.value) == (
        f"IM0001_mask.png may be of the image {pair[0].path} or of {pair[1].path}: "
        "rename it to PAT1_IM0001_mask.png or PAT2_IM0001_mask.png."
    )
    assert all_rows(study) == before


def test_masks_of_images_of_one_name_go_out_and_come_back(
    study: Study, pair: list[ImageRecord], tmp_path: Path
) -> None:
    paths = exchange.export_masks(study, tmp_path / "m")
    assert [path.name for path in paths] == ["PAT1_IM0001.png", "PAT2_IM0001.png"]
    before = [study.mask(image.id) for image in pair]
    for image in pair:
        study.clear_mask(image.id)
    assert exchange.import_masks(study, tmp_path / "m").added == 2
    for image, mask in zip(pair, before, strict=True):
        np.testing.assert_array_equal(study.mask(image.id), mask)
    (only,) = exchange.export_masks(study, tmp_path / "one", [pair[1].id])
    assert only.name == "PAT2_IM0001.png"


def test_the_names_of_files_find_their_images(study: Study, pair: list[ImageRecord], tmp_path: Path) -> None:
    for image in pair:
        assert study.find_image(names_of(pair)[image.id]) == image
    with pytest.raises(StudyError, match="'IM0001' is more than one image of the study: write its whole"):
        study.find_image("IM0001")
    other = add_image(study, tmp_path / "PAT1_IM0001.png")  # its own name counts for more
    owner = ImageNames(study.images()).owner
    assert owner(Path("PAT1_IM0001@.png")) == other
    assert owner(Path("PAT2_IM0001.ome.zarr")) == pair[1]
    assert owner(Path("IM0002.png")) is None


def test_images_of_one_name_are_groups_of_their_own(study: Study, tmp_path: Path) -> None:
    def group(path: str) -> str:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        return add_image(study, tmp_path / path).group

    assert group("a/PAT1/IM.0001") == group("a/PAT1/IM.0002") == "IM"
    assert group("a/PAT2/IM.0001") == group("a/PAT2/IM.0002") == "PAT2_IM"
    assert group("b/PAT2/IM.0001") == "b_PAT2_IM"
    assert group("b/PAT2/slide.1.png") == group("b/PAT3/slide.2.png") == "slide"
    stack = "a/PAT1/chest.tif.planes/chest_00"
    assert group(f"{stack}0.tif") == group(f"{stack}1.tif") == "chest"
    stack = "a/PAT2/chest.tif.planes/chest_00"
    assert group(f"{stack}0.tif") == group(f"{stack}1.tif") == "PAT2_chest"
    assert folder_of(tmp_path / f"{stack}0.tif", 1) == "PAT2"
    assert folder_of(tmp_path / f"{stack}0.tif", 2) == "a"
    assert folder_of(Path("/x.png"), 1) == folder_of(Path("/x.png"), 5) == ""


def test_another_study_s_image_of_one_name_does_not_join_the_group_here(study: Study, tmp_path: Path) -> None:
    for folder in ("PAT1", "PAT2"):
        (tmp_path / folder).mkdir()
    (tmp_path / "PAT2" / "IM0001").write_bytes(b"other pixels")
    study.add_image(tmp_path / "PAT2" / "IM0001", height=20, width=30)
    named = add_image(study, tmp_path / "known.png", group="patient 7")
    with Study.create(tmp_path / "mine") as mine:
        add_image(mine, tmp_path / "PAT1" / "IM0001")
        exchange.merge_study(mine, study)
        assert [image.group for image in mine.images()] == ["IM0001", "PAT2_IM0001", named.group]
