import os
from dataclasses import dataclass
from pathlib import Path

import PIL.Image
import pytest

from napari_mtssl.images import ImageError, ImagePool


@dataclass
class Record:
    path: Path
    height: int = 70
    width: int = 90
    pixel_size_um: float | None = None


@pytest.fixture
def records(tmp_path, rgb):
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path in paths:
        PIL.Image.fromarray(rgb).save(path)
    return [Record(path) for path in paths]


def test_same_image_is_opened_once(records):
    pool = ImagePool()
    image = pool(records[0])
    assert pool(records[0]) is image
    assert pool(Record(records[0].path, pixel_size_um=0.5)).pixel_size_um == 0.5
    pool.clear()
    assert pool(records[0]) is not image


def test_least_recently_used_goes_first(records):
    pool = ImagePool(max_images=2)
    first, second = pool(records[0]), pool(records[1])
    pool(records[0])
    pool(records[2])
    assert len(pool) == 2
    assert pool(records[0]) is first
    assert pool(records[1]) is not second


def test_decoded_pixels_are_bounded(records, rgb):
    pool = ImagePool(max_bytes=2 * rgb.nbytes)
    for record in records:
        pool(record).read(0, 0, 1, 1)
    pool(records[-1])
    assert len(pool) == 2


def test_moved_and_changed_images_are_told(records, rgb):
    pool = ImagePool()
    pool(records[0])
    records[0].path.rename(records[0].path.with_name("elsewhere.png"))
    with pytest.raises(ImageError, match="has moved"):
        pool(records[0])
    pool(records[1])
    PIL.Image.fromarray(rgb[:50]).save(records[1].path)
    os.utime(records[1].path, (1, 1))
    with pytest.raises(ImageError, match="now 50 x 90 pixels but was 70 x 90"):
        pool(records[1])


def test_a_file_that_was_damaged_later_is_named_with_what_to_do(records):
    path = records[0].path
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ImageError, match=rf"{path.stem}.* restore the file, or take the image out"):
        ImagePool()(records[0])
