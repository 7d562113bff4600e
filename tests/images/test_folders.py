import pytest

from napari_mtssl.images import ImageError, image_files


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
