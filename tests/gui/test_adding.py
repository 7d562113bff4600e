"""What is said of files that were left out."""

from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pytest

from napari_mtssl.gui.adding import add_files
from napari_mtssl.study import Study


@pytest.mark.parametrize(
    ("good", "bad", "sentences"),
    [
        (0, 1, ""),
        (1, 1, " The other one was added."),
        (2, 1, " The other 2 were added."),
        (0, 2, " Left out, too: bad1.png."),
        (1, 3, " Left out, too: bad1.png, bad2.png. The other one was added."),
    ],
)
def test_every_file_that_is_left_out_is_named(tmp_path, good, bad, sentences):
    paths = []
    for number in range(bad):
        paths.append(tmp_path / f"bad{number}.png")
        paths[-1].touch()
    for number in range(good):
        paths.append(tmp_path / f"good{number}.png")
        iio.imwrite(paths[-1], np.full((9, 9), number, np.uint8))
    with Study.create(tmp_path / "s") as study:
        records, unread = add_files(study, paths)
    assert len(records) == good
    assert str(unread) == f"bad0.png is empty (0 bytes); copy the file again.{sentences}"
