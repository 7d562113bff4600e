import gc

import numpy as np
import pytest
import tifffile

from napari_mtssl.images import ImageError, open_image
from napari_mtssl.images.units import square_pixel_um


def write(tmp_path, pixels, name="a.tif", **options):
    path = tmp_path / name
    options.setdefault("photometric", "rgb" if pixels.ndim == 3 else "minisblack")
    tifffile.imwrite(path, pixels, **options)
    return path


@pytest.mark.parametrize("options", [{}, {"tile": (32, 32)}, {"compression": "zlib"}, {"rowsperstrip": 7}])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("samples", [None, 3])
def test_round_trip(tmp_path, rng, options, dtype, samples):
    shape = (70, 90) if samples is None else (70, 90, samples)
    pixels = rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    image = open_image(write(tmp_path, pixels, **options))
    assert (image.height, image.width, image.channels, image.dtype) == (70, 90, samples or 1, dtype)
    expected = pixels if samples else np.repeat(pixels[..., None], 3, axis=2)
    assert np.array_equal(image.read(3, 40, 60, 50), expected[3:63, 40:90])
    assert np.array_equal(image.levels[0].compute(), pixels)


def test_byte_order_is_made_native(tmp_path, rng):
    pixels = rng.integers(0, 65535, (40, 50), dtype=np.uint16)
    for options in ({}, {"tile": (16, 16)}):
        image = open_image(write(tmp_path, pixels, byteorder=">", **options))
        region = image.read(0, 0, 40, 50)
        assert region.dtype.isnative and np.array_equal(region[..., 0], pixels)


def test_strips_of_a_large_file_are_read_lazily(tmp_path, rgb, monkeypatch):
    monkeypatch.setattr("napari_mtssl.images.tiff.HOLD", 100)
    image = open_image(write(tmp_path, rgb, rowsperstrip=16, compression="zlib"))
    assert np.array_equal(image.read(10, 10, 30, 30), rgb[10:40, 10:40])
    assert image.nbytes_held == 0


def test_alpha_and_planar_colour(tmp_path, rgb):
    rgba = np.dstack([rgb, np.full((70, 90), 255, np.uint8)])
    rgba[0, 0] = [10, 20, 30, 0]
    for options in ({}, {"tile": (32, 32)}):
        image = open_image(write(tmp_path, rgba, extrasamples=["unassalpha"], **options))
        region = image.read(0, 0, 70, 90)
        assert region[0, 0].tolist() == [255, 255, 255]
        assert np.array_equal(region[1:], rgb[1:])
        planar = write(tmp_path, rgb.transpose(2, 0, 1), planarconfig="separate", **options)
        assert np.array_equal(open_image(planar).read(0, 0, 70, 90), rgb)


def test_pyramid_has_all_levels(tmp_path, rng):
    pixels = rng.integers(0, 256, (256, 320, 3), dtype=np.uint8)
    path = tmp_path / "pyramid.ome.tif"
    with tifffile.TiffWriter(path) as file:
        options = {"tile": (64, 64), "photometric": "rgb"}
        file.write(
            pixels,
            subifds=1,
            metadata={"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25},
            **options,
        )
        file.write(pixels[::2, ::2], subfiletype=1, **options)
    image = open_image(path)
    assert [level.shape for level in image.levels] == [(256, 320, 3), (128, 160, 3)]
    assert np.array_equal(image.levels[1].compute(), pixels[::2, ::2])
    assert image.pixel_size_um == pytest.approx(0.25)
    assert np.array_equal(image.read(-5, 100, 64, 64)[5:], pixels[:59, 100:164])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}, 0.5),
        ({"resolution": (50800, 50800), "resolutionunit": "INCH"}, 0.5),
        ({"resolution": (2, 2), "imagej": True, "metadata": {"unit": "micron"}}, 0.5),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (20000, 10000), "resolutionunit": "CENTIMETER"}, None),
        ({"resolution": (20000, 20000), "resolutionunit": "NONE"}, None),
        ({}, None),
    ],
)
def test_pixel_size_from_tags(tmp_path, rgb, options, expected):
    size = open_image(write(tmp_path, rgb, **options)).pixel_size_um
    assert size is None if expected is None else size == pytest.approx(expected)


def test_pixel_size_from_ome_with_units(tmp_path, rgb):
    metadata = {
        "axes": "YXS",
        "PhysicalSizeX": 0.00022,
        "PhysicalSizeXUnit": "mm",
        "PhysicalSizeY": 220,
        "PhysicalSizeYUnit": "nm",
    }
    assert open_image(write(tmp_path, rgb, "a.ome.tif", metadata=metadata)).pixel_size_um == pytest.approx(
        0.22
    )
    assert open_image(write(tmp_path, rgb, "b.ome.tif", metadata={"axes": "YXS"})).pixel_size_um is None


def test_lengths():
    assert square_pixel_um(1e-6, 1e-6, "metre") == pytest.approx(1)
    assert square_pixel_um(2500, 2500, "Å") == pytest.approx(0.25)
    assert square_pixel_um(1, 1, "pixel") is None
    assert square_pixel_um(float("nan"), 1, "um") is None


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((9, 9), np.float32), "float32 pixels; convert it to 8-bit"),
        (np.zeros((9, 9), bool), "True/False"),
        (np.zeros((9, 9), np.int16), "int16"),
        (np.zeros((5, 9, 9), np.uint8), "stack .* 5 planes"),
    ],
)
def test_what_cannot_be_labelled(tmp_path, pixels, message):
    with pytest.raises(ImageError, match=message):
        open_image(write(tmp_path, pixels, photometric="minisblack"))


def test_many_channels_are_refused(tmp_path):
    path = write(
        tmp_path,
        np.zeros((5, 9, 9), np.uint8),
        "a.ome.tif",
        photometric="minisblack",
        metadata={"axes": "CYX"},
    )
    with pytest.raises(ImageError, match="5 channels"):
        open_image(path)


def test_palette_is_refused(tmp_path):
    path = write(
        tmp_path, np.zeros((9, 9), np.uint8), photometric="palette", colormap=np.zeros((3, 256), np.uint16)
    )
    with pytest.raises(ImageError, match="palette"):
        open_image(path)


@pytest.mark.parametrize(("photometric", "kind"), [("separated", "CMYK"), ("cielab", "CIELAB")])
def test_colours_that_would_be_read_as_others_are_refused(tmp_path, photometric, kind):
    channels = 4 if photometric == "separated" else 3
    path = write(tmp_path, np.zeros((9, 9, channels), np.uint8), photometric=photometric)
    with pytest.raises(ImageError, match=kind):
        open_image(path)


@pytest.mark.parametrize("options", [{}, {"tile": (32, 32)}, {"compression": "zlib"}])
@pytest.mark.parametrize("keep", [0.01, 0.5])
def test_cut_short(tmp_path, rgb, options, keep):
    path = write(tmp_path, rgb, **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(ImageError, match="cut short"):
        open_image(path)


def test_damaged_tile_is_told_when_read(tmp_path, rgb):
    path = write(tmp_path, rgb, tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = bytes(count)
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.tif cannot be decoded"):
        open_image(path).read(0, 0, 20, 20)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning", "error::ResourceWarning")
def test_file_is_closed_with_the_last_use(tmp_path, rgb):
    image = open_image(write(tmp_path, rgb, tile=(32, 32)))
    source = image.sources[0]
    file = source._keep.file
    image.read(0, 0, 5, 5)
    del image
    assert not file.filehandle.closed
    del source
    gc.collect()
    assert file.filehandle.closed
