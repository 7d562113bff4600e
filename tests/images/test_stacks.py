import numpy as np
import pytest
import tifffile

from napari_mtssl.images import ImageError, open_planes, stack_of

from .test_dicom import write


def whole(image):
    return image.read(0, 0, image.height, image.width)[..., 0]


def test_planes_of_a_tiff_stack_are_images_of_one_group(tmp_path):
    planes = np.random.default_rng(0).integers(0, 255, (3, 12, 16), dtype=np.uint8)
    path = tmp_path / "chest.tif"
    tifffile.imwrite(path, planes, photometric="minisblack", metadata={"axes": "ZYX"})
    found = open_planes(path, pixel_size_um=2.0)
    assert [image.path.name for image in found] == ["chest_000.tif", "chest_001.tif", "chest_002.tif"]
    assert all(np.array_equal(whole(image), plane) for image, plane in zip(found, planes, strict=True))
    assert {stack_of(image.path) for image in found} == {"chest"} and found[0].pixel_size_um == 2
    written = found[0].path.stat().st_mtime_ns
    assert open_planes(path)[0].path.stat().st_mtime_ns == written  # once
    assert stack_of(path) is None and [image.path for image in open_planes(found[1].path)] == [found[1].path]


def test_frames_of_a_dicom_file_keep_their_pixel_size(tmp_path):
    frames = np.arange(2 * 10 * 14, dtype=np.uint16).reshape(2, 10, 14)
    path = write(
        tmp_path / "film.dcm", frames[0], NumberOfFrames=2, PixelSpacing=["0.2", "0.2"],
        WindowCenter=140, WindowWidth=280, VOILUTFunction="LINEAR_EXACT",
    )  # fmt: skip
    import pydicom

    file = pydicom.dcmread(path)
    file.PixelData = frames.tobytes()
    file.save_as(path)
    found = open_planes(path)
    assert len(found) == 2 and found[1].pixel_size_um == pytest.approx(200)
    assert np.allclose(whole(found[1]) / 65535 * 280, frames[1], atol=0.01)
    assert all(b"Doe^Jane" not in image.path.read_bytes() for image in found)


def test_stacks_that_stay_closed_say_so(tmp_path):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(
        path, np.zeros((2, 3, 8, 8), np.uint8), photometric="minisblack", metadata={"axes": "TZYX"}
    )
    with pytest.raises(ImageError, match="stack of several axes"):
        open_planes(path)
