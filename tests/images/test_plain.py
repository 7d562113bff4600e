import imagecodecs
import numpy as np
import PIL.Image
import pytest

from napari_mtssl.images import ImageError, open_image


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".PNG"])
def test_rgb_round_trip(tmp_path, rgb, suffix):
    path = tmp_path / f"a{suffix}"
    PIL.Image.fromarray(rgb).save(path)
    image = open_image(path)
    assert (image.height, image.width, image.channels, image.dtype) == (70, 90, 3, np.uint8)
    assert image.pixel_size_um is None
    assert image.nbytes_held == 0
    assert np.array_equal(image.read(0, 0, 70, 90), rgb)
    assert np.array_equal(image.levels[0].compute(), rgb)


def test_jpeg_is_close(tmp_path):
    smooth = np.dstack([np.add.outer(np.arange(64), np.arange(80))] * 3).astype(np.uint8)
    PIL.Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    image = open_image(tmp_path / "a.jpg", pixel_size_um=0.5)
    assert image.pixel_size_um == 0.5
    assert np.abs(image.read(0, 0, 64, 80).astype(int) - smooth).max() < 6


@pytest.mark.parametrize("samples", [1, 3, 4])
def test_png_of_16_bit_keeps_every_bit(tmp_path, rng, samples):
    pixels = rng.integers(0, 2**16, (20, 30, samples), dtype=np.uint16)
    pixels[..., 3:] = 65535
    path = tmp_path / "deep.png"
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels.squeeze())))
    image = open_image(path)
    assert image.dtype == np.uint16 and image.channels == min(samples, 3)
    assert np.array_equal(image.read(0, 0, 20, 30), np.broadcast_to(pixels[..., :3], (20, 30, 3)))


def test_alpha_is_composited_on_white(tmp_path):
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[..., 0] = 100
    rgba[0, :, 3] = [0, 255, 51]
    PIL.Image.fromarray(rgba).save(tmp_path / "a.png")
    image = open_image(tmp_path / "a.png")
    assert image.channels == 3
    assert image.read(0, 0, 1, 3)[0].tolist() == [[255, 255, 255], [100, 0, 0], [224, 204, 204]]


def test_palette_becomes_colour(tmp_path, rgb):
    few = (rgb // 128) * 255
    PIL.Image.fromarray(few).quantize(8).save(tmp_path / "p.png")
    assert np.array_equal(open_image(tmp_path / "p.png").read(0, 0, 70, 90), few)


def test_what_cannot_be_labelled_is_refused_with_a_reason(tmp_path, rgb):
    PIL.Image.fromarray(rgb[..., 0] > 100).save(tmp_path / "bits.png")
    with pytest.raises(ImageError, match="True/False pixels; convert it to 8-bit"):
        open_image(tmp_path / "bits.png")
    frames = [PIL.Image.fromarray(np.roll(rgb, shift, axis=0)) for shift in range(3)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="animation of 3 frames"):
        open_image(tmp_path / "moving.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_cut_short_file_is_refused_when_opened(tmp_path, rgb, suffix):
    path = tmp_path / f"a{suffix}"
    PIL.Image.fromarray(rgb).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match="cut short"):
        open_image(path)


def test_a_cut_short_bitmap_is_refused_when_read(tmp_path, rgb):
    path = tmp_path / "a.bmp"
    PIL.Image.fromarray(rgb).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ImageError, match="cut short"):
        open_image(path).read(0, 0, 70, 90)


def test_a_file_that_vanishes_is_told(tmp_path, rgb):
    path = tmp_path / "a.png"
    PIL.Image.fromarray(rgb).save(path)
    image = open_image(path)
    path.unlink()
    with pytest.raises(ImageError, match=r"a\.png cannot be decoded"):
        image.read(0, 0, 5, 5)


def test_text_named_as_an_image(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(ImageError, match="not an image"):
        open_image(tmp_path / "a.png")
