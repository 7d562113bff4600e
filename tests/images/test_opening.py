import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from napari_mtssl.images import SUFFIXES, Image, ImageError, is_image, open_image, register
from napari_mtssl.images.sources import Decoded


def test_names():
    assert is_image("a.PNG") and is_image("b.ome.tif") and is_image("c.ome.zarr")
    assert not is_image("a.txt") and not is_image(".png") and not is_image("png")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.png", None, "There is no file .*missing.png"),
        ("http:/server/a.zarr", None, "is no path of a file, and an address has two slashes"),
        ("notes.txt", b"hello", "not an image of a known kind; use DICOM, or a file that ends in .*tiff"),
        ("a.png", b"", "is empty"),
        ("a.tif", b"", "is empty"),
        ("a.tif", b"no tiff at all", "not a TIFF"),
        ("a.bmp", b"BM no bitmap", "not an image"),
        ("a.zarr", b"zip", "OME-Zarr image is a folder"),
    ],
)
def test_clear_messages(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=message):
        open_image(Path(name) if "/" in name else tmp_path / name)


def test_folder_named_as_a_file(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ImageError, match="is a folder"):
        open_image(tmp_path / "a.png")


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf")])
def test_impossible_pixel_size(tmp_path, rgb, size):
    PIL.Image.fromarray(rgb).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="positive number"):
        open_image(tmp_path / "a.png", pixel_size_um=size)


def test_another_format_takes_one_line(tmp_path):
    def open_slide(path):
        return Image(path, [Decoded((4, 5), np.dtype(np.uint8), lambda: np.ones((4, 5), np.uint8))], 0.5)

    (tmp_path / "a.ome.slide").write_bytes(b"x")
    register([".slide"], open_slide)
    try:
        assert is_image("a.SLIDE")
        assert open_image(tmp_path / "a.ome.slide").read(0, 0, 4, 5).sum() == 60
    finally:
        del SUFFIXES[".slide"]


def test_import_loads_no_decoder():
    code = (
        "import sys, napari_mtssl.images; "
        "print([m for m in ('dask', 'zarr', 'tifffile', 'PIL', 'imagecodecs', 'torch') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
