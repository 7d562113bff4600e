import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from napari_mtssl.images import ImageError, is_image, open_image

SECRET = "Doe^Jane"


def write(path, pixels, photometric="MONOCHROME2", syntax=ExplicitVRLittleEndian, encoded=None, **tags):
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = syntax
    file.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1")
    file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file.PatientName, file.PatientID, file.PatientBirthDate = SECRET, "4711", "19700101"
    file.Rows, file.Columns = pixels.shape[:2]
    file.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    if pixels.ndim == 3:
        file.PlanarConfiguration = 0
    file.PhotometricInterpretation = photometric
    file.BitsAllocated = file.BitsStored = pixels.dtype.itemsize * 8
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in tags.items():
        setattr(file, name, value)
    file.PixelData = pixels.tobytes() if encoded is None else encapsulate(encoded)
    file["PixelData"].VR = "OB" if encoded is not None or pixels.dtype.itemsize == 1 else "OW"
    file.save_as(path, enforce_file_format=True)
    return path


def grey_of(path):
    image = open_image(path)
    assert image.dtype == np.uint16 and image.channels == 1
    return image.read(0, 0, image.height, image.width)[..., 0]


@pytest.fixture
def ramp():
    return np.arange(1000, 1000 + 20 * 30, dtype=np.uint16).reshape(20, 30)


def broken(path, ramp, old, new, **tags):
    """A file in which bytes of a value are others: pydicom writes no words where numbers belong."""
    write(path, ramp, **tags)
    held = path.read_bytes()
    assert held.count(old) == 1
    path.write_bytes(held.replace(old, new))
    return path


@pytest.mark.parametrize(
    "tags", [{"PixelSpacing": ["0.1234", "0.5"]}, {"WindowCenter": "0.1234", "WindowWidth": "9"}]
)
def test_what_an_image_can_do_without_may_be_broken(tmp_path, ramp, tags):
    path = broken(tmp_path / "a.dcm", ramp, b"0.1234", b"abcdef", **tags)
    assert (grey_of(path).min(), grey_of(path).max()) == (0, 65535)
    assert open_image(path).pixel_size_um is None
    assert open_image(write(tmp_path / "b.dcm", ramp, PixelSpacing="0.5")).pixel_size_um is None  # one side


@pytest.mark.parametrize("tag", ["NumberOfFrames", "RescaleSlope", "RescaleIntercept", "WindowCenter"])
def test_an_empty_number_is_one_that_is_not_said(tmp_path, ramp, tag):
    found = grey_of(write(tmp_path / "a.dcm", ramp, **{tag: ""}))
    assert (found.min(), found.max()) == (0, 65535)


@pytest.mark.parametrize("tag", ["NumberOfFrames", "RescaleSlope"])
def test_words_where_numbers_must_be_are_refused(tmp_path, ramp, tag):
    more = {"RescaleIntercept": "0"} if tag == "RescaleSlope" else {}
    path = broken(tmp_path / "a.dcm", ramp, b"7777", b"wxyz", **{tag: "7777"}, **more)
    with pytest.raises(ImageError, match=r"a.dcm is not a DICOM file that can be read"):
        open_image(path)


def test_a_table_that_is_cut_short_is_refused(tmp_path, ramp):
    for said, held in (([10, 0, 8], 2), ([256, 0, 8], 100)):
        table = Dataset()
        table.LUTDescriptor, table.LUTData = said, bytes(range(held)) + bytes(held)
        image = open_image(write(tmp_path / "a.dcm", ramp, VOILUTSequence=[table]))
        with pytest.raises(ImageError, match=r"a.dcm cannot be decoded"):
            image.read(0, 0, 5, 5)


def test_least_to_greatest_without_a_window(tmp_path, ramp):
    path = write(tmp_path / "a.dcm", ramp)
    assert is_image(path) and open_image(path).pixel_size_um is None
    grey = grey_of(path)
    assert grey[0, 0] == 0 and grey[-1, -1] == 65535
    assert (np.diff(grey.ravel().astype(int)) > 0).all()


def test_monochrome1_is_shown_bright_where_it_is_dense(tmp_path, ramp):
    plain, negative = (
        grey_of(write(tmp_path / f"{kind}.dcm", ramp, kind)) for kind in ("MONOCHROME2", "MONOCHROME1")
    )
    assert np.array_equal(negative, 65535 - plain)


def test_rescale_and_window(tmp_path):
    stored = np.array([[0, 100, 200, 300]], np.int16)
    path = write(
        tmp_path / "a.dcm", stored, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=[100.5, 7],
        WindowWidth=[201, 9],
    )  # fmt: skip
    # values -100, 100, 300, 500; the window shows 0 black and 200 white
    assert grey_of(path)[0].tolist() == [0, 32768, 65535, 65535]
    exact = write(
        tmp_path / "b.dcm", stored, WindowCenter=150, WindowWidth=300, VOILUTFunction="LINEAR_EXACT"
    )
    assert grey_of(exact)[0].tolist() == [0, 21845, 43690, 65535]
    smooth = write(tmp_path / "c.dcm", stored, WindowCenter=100, WindowWidth=200, VOILUTFunction="SIGMOID")
    assert grey_of(smooth)[0, 1] == 32768 and 0 < grey_of(smooth)[0, 0] < 10000


def test_spacing_in_the_patient_before_that_on_the_detector(tmp_path, ramp):
    both = write(
        tmp_path / "a.dcm", ramp, PixelSpacing=["0.143", "0.143"], ImagerPixelSpacing=["0.16", "0.16"]
    )
    assert open_image(both).pixel_size_um == pytest.approx(143)
    detector = write(tmp_path / "b.dcm", ramp, ImagerPixelSpacing=["0.16", "0.16"])
    assert open_image(detector).pixel_size_um == pytest.approx(160)
    oblong = write(tmp_path / "c.dcm", ramp, PixelSpacing=["0.1", "0.2"])
    assert open_image(oblong).pixel_size_um is None


def enhanced(path, frames, shared, each=()):
    """Write frames with groups of what is said of all, and of each of them."""

    def sequence(groups):
        items = []
        for group in groups:
            items.append(Dataset())
            for name, tags in group.items():
                inner = Dataset()
                for tag, value in tags.items():
                    setattr(inner, tag, value)
                setattr(items[-1], name, [inner])
        return items

    groups = {"SharedFunctionalGroupsSequence": sequence([shared])}
    if each:
        groups["PerFrameFunctionalGroupsSequence"] = sequence(each)
    write(path, frames[0], NumberOfFrames=len(frames), **groups)
    file = dcmread(path)
    file.PixelData = frames.tobytes()
    file.save_as(path)
    return path


MEASURES = {"PixelMeasuresSequence": {"PixelSpacing": ["0.7", "0.7"], "SliceThickness": "5"}}


def test_what_an_enhanced_file_says_of_all_frames(tmp_path):
    shared = {
        **MEASURES,
        "PixelValueTransformationSequence": {
            "RescaleSlope": 2,
            "RescaleIntercept": -100,
            "RescaleType": "HU",
        },
        "FrameVOILUTSequence": {"WindowCenter": 100.5, "WindowWidth": 201},
    }
    stored = np.array([[[0, 100, 200, 300]]], np.int16)
    path = enhanced(tmp_path / "a.dcm", stored, shared)
    assert grey_of(path)[0].tolist() == [0, 32768, 65535, 65535]
    assert open_image(path).pixel_size_um == pytest.approx(700)


def test_what_an_enhanced_file_says_of_its_one_frame(tmp_path):
    each = {
        "PixelValueTransformationSequence": {
            "RescaleSlope": 2,
            "RescaleIntercept": -100,
            "RescaleType": "HU",
        },
        "FrameVOILUTSequence": {"WindowCenter": 150, "WindowWidth": 300, "VOILUTFunction": "LINEAR_EXACT"},
        **MEASURES,
    }
    stored = np.array([[[0, 50, 125, 300]]], np.int16)
    path = enhanced(tmp_path / "a.dcm", stored, {}, [each])
    assert grey_of(path)[0].tolist() == [0, 0, 32768, 65535]
    assert open_image(path).pixel_size_um == pytest.approx(700)


def test_padding_is_a_stored_value(tmp_path):
    stored = np.array([[-2000, 0, 50, 100]], np.int16)
    path = write(tmp_path / "a.dcm", stored, RescaleSlope=2, RescaleIntercept=-1024, PixelPaddingValue=-2000)
    assert grey_of(path)[0].tolist() == [0, 0, 32768, 65535]


def test_colour(tmp_path, rgb):
    image = open_image(write(tmp_path / "a.dcm", rgb, "RGB"))
    assert (image.channels, image.dtype) == (3, np.uint8)
    assert np.array_equal(image.read(0, 0, 70, 90), rgb)


def test_nothing_of_the_patient_is_read(tmp_path, ramp, monkeypatch):
    person = {"PatientOrientationInFrameSequence": {"PatientName": SECRET}}
    moment = {"FrameContentSequence": {"FrameComments": SECRET, "FrameAcquisitionDateTime": "19700101"}}
    window = {"FrameVOILUTSequence": {"WindowCenter": 1, "WindowWidth": 9, "PatientID": SECRET}}
    path = enhanced(tmp_path / "a.dcm", ramp[None], {**MEASURES, **person}, [{**moment, **window}])
    assert SECRET in str(dcmread(path).PatientName) and str(dcmread(path)).count(SECRET) == 4
    import pydicom

    read = []
    original = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *a, **k: read.append(original(*a, **k)) or read[-1])
    grey_of(path)
    assert len(read) == 2
    for file in read:
        assert "Window Center" in str(file) and "Pixel Spacing" in str(file)
        assert all(
            word not in str(file) for word in (SECRET, "Patient", "Slice Thickness", "Comments", "1970")
        )


def test_lossless_jpeg_is_decoded(tmp_path, ramp):
    encoded = imagecodecs.ljpeg_encode(ramp)
    path = write(tmp_path / "a.dcm", ramp, syntax=JPEGLosslessSV1, encoded=[encoded])
    assert np.array_equal(grey_of(path), grey_of(write(tmp_path / "b.dcm", ramp)))


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (JPEGLosslessSV1, lambda pixels: imagecodecs.ljpeg_encode(pixels, bitspersample=12)),
        (JPEGLSLossless, imagecodecs.jpegls_encode),
        (JPEGLosslessSV1, lambda pixels: imagecodecs.ljpeg_encode(pixels)),
    ],
)
def test_signs_survive_lossless_compression(tmp_path, syntax, encode):
    signed = np.arange(-1024, 1024, 4, dtype=np.int16).reshape(16, 32)
    encoded = encode(signed.view(np.uint16) & 0xFFF)  # twelve bits are stored, the four above them are not
    path = write(tmp_path / "a.dcm", signed, syntax=syntax, encoded=[encoded], BitsStored=12, HighBit=11)
    assert np.array_equal(grey_of(path), grey_of(write(tmp_path / "b.dcm", signed)))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless])
def test_a_broken_stream_is_not_taken_for_a_missing_codec(tmp_path, ramp, syntax):
    path = write(tmp_path / "a.dcm", ramp, syntax=syntax, encoded=[b"\xff\xd8\xff\xe0garbage"])
    with pytest.raises(ImageError, match=r"a\.dcm cannot be decoded; it may be cut short or damaged"):
        grey_of(path)


def test_compressed_without_a_codec_is_a_clear_message(tmp_path, ramp, monkeypatch):
    monkeypatch.setattr("napari_mtssl.images.dicom.CODECS", {})
    path = write(tmp_path / "a.dcm", ramp, syntax=JPEGLosslessSV1, encoded=[b"\xff\xd8\xff\xd9"])
    image = open_image(path)
    with pytest.raises(ImageError, match=r"JPEG Lossless.*install pylibjpeg") as caught:
        image.read(0, 0, 2, 2)
    assert SECRET not in str(caught.value)


def test_what_cannot_be_opened(tmp_path, ramp):
    (tmp_path / "no.dcm").write_bytes(b"nothing of the kind")
    with pytest.raises(ImageError, match="not a DICOM file"):
        open_image(tmp_path / "no.dcm")
    several = write(tmp_path / "film.dcm", ramp, NumberOfFrames=3)
    with pytest.raises(ImageError, match="3 frames"):
        open_image(several)
    short = write(tmp_path / "short.dcm", ramp)
    short.write_bytes(short.read_bytes()[:-1100])
    with pytest.raises(ImageError, match="cut short"):
        open_image(short)


@pytest.mark.parametrize(
    ("syntax", "encoded"), [(ExplicitVRLittleEndian, None), (JPEGLosslessSV1, [b"\xff\xd8\xff\xd9"])]
)
def test_a_file_without_pixels_says_so(tmp_path, ramp, syntax, encoded):
    path = write(tmp_path / "a.dcm", ramp, syntax=syntax, encoded=encoded)
    file = dcmread(path)
    del file.PixelData
    file.save_as(path)
    with pytest.raises(ImageError, match=r"a\.dcm is a DICOM file without pixels"):
        open_image(path)


def test_a_file_that_ends_within_its_header_says_so(tmp_path, ramp):
    path = write(tmp_path / "a.dcm", ramp)
    whole = path.read_bytes()
    rows = whole.index(b"\x28\0\x10\0US")
    path.write_bytes(whole[: rows + 9])  # the tag of a number of rows, and the half of it
    with pytest.raises(ImageError, match=r"a\.dcm is not a DICOM file that can be read, or is cut short"):
        open_image(path)


def test_pixels_of_a_deflated_file_are_found(tmp_path, ramp):
    path = write(tmp_path / "a.dcm", ramp, syntax=DeflatedExplicitVRLittleEndian)
    assert np.array_equal(grey_of(path), grey_of(write(tmp_path / "b.dcm", ramp)))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("meta", [False, True])
def test_old_files_without_a_preamble(tmp_path, ramp, syntax, meta):
    stored = ramp.astype(">u2") if syntax == ExplicitVRBigEndian else ramp
    whole = write(tmp_path / "a.dcm", stored, syntax=syntax)
    file = dcmread(whole)
    file.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1")  # of the group that such a file begins with
    old = tmp_path / "old.dcm"
    if not meta:
        del file.file_meta
    file.preamble = None
    file.save_as(
        old,
        enforce_file_format=False,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
    )
    assert old.read_bytes()[128:132] != b"DICM"
    assert np.array_equal(grey_of(old), grey_of(whole))


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's guesses at what it is given
@pytest.mark.parametrize("start", [b"\x08\0", b"\x02\0", b"\0\x08", b"\x89PNG\r\n", b"", b"\0" * 64])
def test_what_only_is_called_dicom(tmp_path, start):
    rng = np.random.default_rng(0)
    path = tmp_path / "no.dcm"
    for size in (1, 9, 300, 3000):
        path.write_bytes(start + rng.bytes(size))
        with pytest.raises(ImageError, match="not a DICOM file"):
            open_image(path)


def test_files_without_an_ending_are_known_by_their_first_bytes(tmp_path, ramp):
    from napari_mtssl.images import image_files

    plain, number = tmp_path / "IM0001", tmp_path / "1.2.840.113619.2.55"
    for path in (plain, number, tmp_path / "DICOMDIR"):
        write(path, ramp)
    (tmp_path / "notes").write_text("nothing of the kind" * 20)
    assert image_files([tmp_path]) == [number, plain]
    assert np.array_equal(grey_of(plain), grey_of(number))
    with pytest.raises(ImageError, match="known kind; use DICOM"):
        open_image(tmp_path / "notes")
