import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from napari_mtssl.images import ImageError, image_files
from napari_mtssl.images.folders import open_images


def test_an_ome_zarr_image_is_known_by_its_name_also_from_inside(tmp_path):
    zarr = tmp_path / "slide.ome.zarr"
    (zarr / "0").mkdir(parents=True)
    (zarr / ".zattrs").write_text("{}")
    assert image_files([zarr, zarr / "0", tmp_path]) == [zarr]


def test_a_zarr_folder_of_another_name_is_told_to_be_renamed(tmp_path):
    (tmp_path / "slide").mkdir()
    with pytest.raises(ImageError, match="no images in the folder"):
        image_files([tmp_path / "slide"])
    (tmp_path / "slide" / "zarr.json").write_text("{}")
    with pytest.raises(ImageError, match=r"does not end on \.zarr: rename it"):
        image_files([tmp_path / "slide"])


def test_folders_below_are_named_where_a_folder_has_only_those(tmp_path):
    for name in ("PAT1", "PAT2", "PAT3/day 2"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.png").touch()
    (tmp_path / "PAT3" / "notes.txt").touch()
    with pytest.raises(ImageError) as caught:
        image_files([tmp_path])
    assert str(caught.value) == (
        f"There are no images in the folder {tmp_path} itself, but in folders below it: name these "
        f"({tmp_path / 'PAT1'}, {tmp_path / 'PAT2'} and others)."
    )
    with pytest.raises(ImageError, match=r"name these \(.*PAT3/day 2\)"):
        image_files([tmp_path / "PAT3"])
    (tmp_path / "slides" / "a.ome.zarr" / "0").mkdir(parents=True)
    (tmp_path / "slides" / "a.ome.zarr" / "thumb.png").touch()
    assert image_files([tmp_path / "slides"]) == [tmp_path / "slides" / "a.ome.zarr"]


def test_what_cannot_be_read_of_a_folder_is_told_and_left_out(tmp_path):
    for name in ("a", "c"):
        iio.imwrite(tmp_path / f"{name}.png", np.zeros((9, 9), np.uint8))
    (tmp_path / "b.png").write_text("words")
    tifffile.imwrite(tmp_path / "s.tif", np.zeros((2, 9, 9), np.uint8), photometric="minisblack")
    (tmp_path / "e.png").touch()
    opened, left_out = open_images([tmp_path, tmp_path / "a.png"], pixel_size_um=2.0)
    assert [image.path.name for image in opened] == ["a.png", "c.png", "s_000.tif", "s_001.tif"]
    assert {image.pixel_size_um for image in opened} == {2.0}
    assert [str(error).split()[0] for error in left_out] == ["b.png", "e.png"]
    with pytest.raises(ImageError, match=r"b\.png"):
        open_images([tmp_path, tmp_path / "b.png"])
    for name in ("a.png", "c.png", "s.tif"):
        (tmp_path / name).unlink()
    with pytest.raises(ImageError, match=r"b\.png .*; e\.png is empty .*\.$"):
        open_images([tmp_path])
