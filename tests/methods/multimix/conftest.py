import numpy as np
import pytest
import torch

from napari_mtssl.methods.multimix import FieldBank, MultiMix

VOCABULARY = {"mask": ("background", "disc"), "diagnosis": ("dark", "bright")}


def discs(count, size=32, seed=0):
    """Noisy images of one disc: its mask, and whether it is darker or brighter than what is round it."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size]
    bright = np.arange(count) % 2
    images, masks = np.empty((count, size, size), np.float32), np.empty((count, 2, size, size), np.float32)
    for index in range(count):
        row, col = rng.uniform(0.35, 0.65, 2) * size
        radius = rng.uniform(0.18, 0.28) * size
        disc = np.clip(radius - np.hypot(rows - row, cols - col) + 0.5, 0, 1)
        step = 0.35 if bright[index] else -0.35
        images[index] = 0.5 + step * disc + rng.normal(0, 0.04, (size, size))
        masks[index] = 1 - disc, disc
    return np.clip(images, 0, 1), masks, bright


@pytest.fixture
def bank():
    images, masks, bright = discs(24)
    classes = np.where(np.arange(24) < 12, bright, -1)
    return FieldBank.from_arrays(images, {i: masks[i] for i in range(6)}, {"diagnosis": classes})


@pytest.fixture
def make():
    def made(preset="robust", vocabulary=VOCABULARY, **settings):
        settings = {
            "size": 32,
            "batch_size": 2,
            "class_batch": 4,
            "unlabelled_masks": 2,
            "steps": 20,
        } | settings
        config = MultiMix.configure(preset, **settings)
        return MultiMix(config, vocabulary, torch.device("cpu"))

    return made
