"""A program that predicts a slide and is killed by a test: python slide_child.py SLIDE FOLDER LOG."""

import sys
import time
from pathlib import Path

import numpy as np
import tiny_method

from napari_mtssl.engine import slide_prediction
from napari_mtssl.images import open_image
from napari_mtssl.images.tissue import TissueMask

TILE = 128


def corner(height, width):
    """Tissue in all but one corner."""
    mask = np.ones((8, 8), bool)
    mask[:4, :4] = False
    return TissueMask(mask, height, width)


def prepared(path, **settings):
    method = tiny_method.make_method()
    method.prepare(tiny_method.make_samples())
    with tiny_method.torch.random.fork_rng():
        tiny_method.torch.manual_seed(5)
        tiny_method.nn.init.normal_(method.average[0].weight, std=0.5)
    image = open_image(path)
    plan = slide_prediction.plan_slide(
        method, image, tissue=corner(image.height, image.width), tile=TILE, **settings
    )
    return method, plan


if __name__ == "__main__":
    slide, folder, log = map(Path, sys.argv[1:])
    method, plan = prepared(slide)
    store = slide_prediction.SlideStore(folder, plan.identity, method.vocabulary["cell"])
    with log.open("a") as stream:
        for tile in slide_prediction.predict_slide(method, plan, store):
            stream.write(f"{tile.number}\n")
            stream.flush()
            time.sleep(0.01)
    store.close()
