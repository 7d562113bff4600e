import numpy as np
import pytest
import zarr

from napari_mtssl.images import ImageError, open_image


def axes_of(letters, unit="micrometer"):
    kinds = {"t": "time", "c": "channel"}
    return [
        {"name": a, "type": kinds.get(a, "space")} | ({"unit": unit} if a in "zyx" and unit else {})
        for a in letters
    ]


def write(tmp_path, levels, letters="yx", version="0.4", scale=0.25, unit="micrometer", name="a.ome.zarr"):
    path = tmp_path / name
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for index, pixels in enumerate(levels):
        chunks = tuple(min(n, 32) for n in pixels.shape)
        array = group.create_array(str(index), shape=pixels.shape, dtype=pixels.dtype, chunks=chunks)
        array[...] = pixels
        factors = [scale * 2**index if a in "yx" else 1.0 for a in letters]
        datasets.append(
            {"path": str(index), "coordinateTransformations": [{"type": "scale", "scale": factors}]}
        )
    image = {"axes": axes_of(letters, unit), "datasets": datasets, "name": "made"}
    if version == "0.4":
        group.attrs["multiscales"] = [image | {"version": "0.4"}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("letters", ["cyx", "tczyx", "yxc"])
def test_rgb_pyramid(tmp_path, rgb, version, letters):
    def arranged(pixels):
        if letters == "yxc":
            return pixels
        planes = pixels.transpose(2, 0, 1)
        return planes if letters == "cyx" else planes[None, :, None]

    path = write(tmp_path, [arranged(rgb), arranged(rgb[::2, ::2])], letters, version)
    image = open_image(path)
    assert (image.height, image.width, image.channels) == (70, 90, 3)
    assert image.pixel_size_um == pytest.approx(0.25)
    assert np.array_equal(image.read(-10, 30, 60, 60)[10:], rgb[:50, 30:90])
    assert np.array_equal(image.levels[1].compute(), rgb[::2, ::2])


@pytest.mark.parametrize(
    ("scale", "unit", "expected"), [(250, "nanometer", 0.25), (0.25, None, None), (1, "pixel", None)]
)
def test_units(tmp_path, rgb, scale, unit, expected):
    image = open_image(write(tmp_path, [rgb[..., 0]], scale=scale, unit=unit))
    assert image.channels == 1
    assert image.pixel_size_um is None if expected is None else image.pixel_size_um == pytest.approx(expected)


def test_scale_of_the_whole_image_multiplies(tmp_path, rgb):
    path = write(tmp_path, [rgb[..., 0]], scale=1.0)
    group = zarr.open_group(path, mode="r+")
    image = dict(group.attrs["multiscales"][0])
    image["coordinateTransformations"] = [{"type": "scale", "scale": [0.5, 0.5]}]
    group.attrs["multiscales"] = [image]
    assert open_image(path).pixel_size_um == pytest.approx(0.5)


def test_written_by_ome_zarr_itself(tmp_path, rgb):
    writer = pytest.importorskip("ome_zarr.writer")
    path = tmp_path / "theirs.zarr"
    group = zarr.open_group(path, mode="w")
    writer.write_image(rgb.transpose(2, 0, 1), group, axes="cyx")
    assert np.array_equal(open_image(path).read(0, 0, 70, 90), rgb)


def test_collection_of_bioformats2raw(tmp_path, rgb):
    root = zarr.open_group(tmp_path / "set.zarr", mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    write(tmp_path / "set.zarr", [rgb[..., 0]], name="0")
    assert np.array_equal(open_image(tmp_path / "set.zarr").read(0, 0, 70, 90)[..., 0], rgb[..., 0])


def test_refusals(tmp_path, rgb):
    with pytest.raises(ImageError, match=r"stack .axis Z has 5"):
        open_image(write(tmp_path, [np.zeros((5, 9, 9), np.uint8)], "zyx", name="z.zarr"))
    with pytest.raises(ImageError, match="4 channels"):
        open_image(write(tmp_path, [np.zeros((4, 9, 9), np.uint8)], "cyx", name="c.zarr"))
    with pytest.raises(ImageError, match="float64 pixels"):
        open_image(write(tmp_path, [np.zeros((9, 9))], name="f.zarr"))
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(ImageError, match="not an OME-Zarr image"):
        open_image(tmp_path / "empty.zarr")
    zarr.create_array(tmp_path / "bare.zarr", shape=(9, 9), dtype="u1")
    with pytest.raises(ImageError, match="not an OME-Zarr image"):
        open_image(tmp_path / "bare.zarr")
    zarr.open_group(tmp_path / "group.zarr", mode="w")
    with pytest.raises(ImageError, match="without OME-Zarr image metadata"):
        open_image(tmp_path / "group.zarr")
    path = write(tmp_path, [rgb[..., 0], rgb[::2, ::2, 0]], name="gap.zarr")
    (path / "1").rename(path / "elsewhere")
    with pytest.raises(ImageError, match="lacks its level '1'"):
        open_image(path)
