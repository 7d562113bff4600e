import imagecodecs
import numpy as np
import pytest
import tifffile
from pydicom.uid import JPEGLosslessSV1, JPEGLSLossless

from napari_mtssl.images import ImageError, open_planes

from .test_dicom import MEASURES, enhanced, write


def whole(image):
    return image.read(0, 0, image.height, image.width)[..., 0]


def test_planes_of_a_tiff_stack_are_images_of_one_group(tmp_path):
    planes = np.random.default_rng(0).integers(0, 255, (3, 12, 16), dtype=np.uint8)
    path = tmp_path / "chest.tif"
    tifffile.imwrite(path, planes, photometric="minisblack", metadata={"axes": "ZYX"})
    found = open_planes(path, pixel_size_um=2.0)
    assert [image.path.name for image in found] == ["chest_000.tif", "chest_001.tif", "chest_002.tif"]
    assert all(np.array_equal(whole(image), plane) for image, plane in zip(found, planes, strict=True))
    assert found[0].pixel_size_um == 2
    written = found[0].path.stat().st_mtime_ns
    assert open_planes(path)[0].path.stat().st_mtime_ns == written  # once
    assert [image.path for image in open_planes(found[1].path)] == [found[1].path]


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


def rescaled(slope, intercept, **window):
    values = {"RescaleSlope": slope, "RescaleIntercept": intercept, "RescaleType": "US"}
    shown = {"FrameVOILUTSequence": window} if window else {}
    return {"PixelValueTransformationSequence": values, **shown}


def test_each_frame_of_an_enhanced_file_is_shown_as_the_file_says(tmp_path):
    stored = np.tile(np.array([0, 100, 200], np.uint16), (2, 1, 1))
    each = [
        rescaled(1, 0, WindowCenter=100, WindowWidth=200, VOILUTFunction="LINEAR_EXACT"),
        rescaled(2, -100, WindowCenter=100, WindowWidth=400, VOILUTFunction="LINEAR_EXACT"),
    ]
    first, second = open_planes(enhanced(tmp_path / "a.dcm", stored, MEASURES, each))
    assert whole(first)[0].tolist() == [0, 32768, 65535]
    assert whole(second)[0].tolist() == [0, 32768, 65535]  # -100, 100, 300 between -100 and 300
    assert first.pixel_size_um == second.pixel_size_um == pytest.approx(700)


def test_frames_rescaled_differently_share_a_span_without_a_window(tmp_path):
    stored = np.tile(np.array([0, 50, 100], np.uint16), (2, 1, 1))
    path = enhanced(tmp_path / "a.dcm", stored, {}, [rescaled(1, 0), rescaled(2, 0)])
    first, second = map(whole, open_planes(path))
    assert first[0].tolist() == [0, 16384, 32768] and second[0].tolist() == [0, 32768, 65535]


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [(JPEGLosslessSV1, imagecodecs.ljpeg_encode), (JPEGLSLossless, imagecodecs.jpegls_encode)],
)
def test_each_compressed_frame_becomes_a_plane(tmp_path, syntax, encode):
    frames = np.arange(3 * 10 * 14, dtype=np.uint16).reshape(3, 10, 14)
    path = write(
        tmp_path / "film.dcm", frames[0], syntax=syntax, encoded=[encode(frame) for frame in frames],
        NumberOfFrames=3, WindowCenter=210, WindowWidth=420, VOILUTFunction="LINEAR_EXACT",
    )  # fmt: skip
    found = open_planes(path)
    assert len(found) == 3
    for image, frame in zip(found, frames, strict=True):
        assert np.allclose(whole(image) / 65535 * 420, frame, atol=0.01)


def test_a_stack_that_fails_half_way_leaves_nothing_behind(tmp_path, monkeypatch):
    planes = np.zeros((3, 12, 16), np.uint8)
    path = tmp_path / "chest.tif"
    tifffile.imwrite(path, planes, photometric="minisblack", metadata={"axes": "ZYX"})

    def fails(stack):
        yield planes[0]
        raise ImageError("damaged")

    with monkeypatch.context() as patched:
        patched.setattr("napari_mtssl.images.stacks._pages", fails)
        with pytest.raises(ImageError, match="damaged"):
            open_planes(path)
    assert list(tmp_path.iterdir()) == [path]
    assert len(open_planes(path)) == 3


def test_planes_of_which_none_can_be_opened_are_written_anew(tmp_path):
    path = tmp_path / "chest.tif"
    tifffile.imwrite(
        path, np.zeros((3, 12, 16), np.uint8), photometric="minisblack", metadata={"axes": "ZYX"}
    )
    (broken := tmp_path / "chest.tif.planes").mkdir()
    tifffile.imwrite(broken / "chest_000.tif", np.zeros(16, np.uint8))
    first, *rest = open_planes(path)
    assert len(rest) == 2
    first.path.unlink()  # what is the user's doing stays
    assert [image.path for image in open_planes(path)] == [image.path for image in rest]


def test_stacks_that_stay_closed_say_so(tmp_path):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(
        path, np.zeros((2, 3, 8, 8), np.uint8), photometric="minisblack", metadata={"axes": "TZYX"}
    )
    with pytest.raises(ImageError, match="stack of several axes"):
        open_planes(path)
