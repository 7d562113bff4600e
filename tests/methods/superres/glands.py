"""Studies of made-up glands, every block labelled by its true share."""

import imageio.v3 as iio
import numpy as np

from napari_mtssl.methods.superres.statistics import bin_names, to_bins
from napari_mtssl.study import Grid, Study

SIDE = 32
TINY = {
    "widths": "8-12-16-24",
    "crop": 128,
    "batch_size": 4,
    "views": 1,
    "steps": 120,
    "learning_rate": 1e-2,
    "warmup": 5,
}


def make_study(path, images, *, side=SIDE, split="train", sixteen=False):
    """A study of made-up tissue with every block labelled by its true share."""
    names = bin_names()
    with Study.create(path) as study:
        study.add_class("gland", kind="mask")
        for name in names:
            study.add_class(name, kind="block")
        for number, made in enumerate(images):
            add_image(study, path.parent / f"{path.stem}{number}.png", made, side, split, sixteen)
    return path


def add_image(study, file, made, side=SIDE, split="train", sixteen=False):
    pixels = made.image.astype(np.uint16) * 16 if sixteen else made.image
    if sixteen:
        file = file.with_suffix(".tif")
    iio.imwrite(file, pixels)
    image = study.add_image(file, height=made.mask.shape[0], width=made.mask.shape[1], split=split)
    study.set_grid(image.id, Grid(side, side))
    kinds = to_bins(made.shares(side))
    names = bin_names()
    study.set_blocks(image.id, {(i, j): names[kinds[i, j]] for i, j in np.ndindex(kinds.shape)})
    return image
