import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import torch

from napari_mtssl.methods.hydramix import HydraMix, PatchBank
from napari_mtssl.study import Study

CLASSES = ("background", "round", "long")
SMALL = {"depth": 10, "widen": 1, "batch_size": 6, "steps": 20}


def paint(seed: int, size: int = 128) -> tuple[np.ndarray, pd.DataFrame]:
    """A pink field with purple discs and dark bars on a jittered grid, and where they are."""
    rng = np.random.default_rng(seed)
    image = np.full((size, size, 3), (230, 190, 215), np.float32)
    row, col = np.mgrid[:size, :size]
    cells = []
    for r in range(20, size - 10, 28):
        for c in range(20, size - 10, 28):
            y, x = r + rng.uniform(-3, 3), c + rng.uniform(-3, 3)
            kind = CLASSES[1 + int(rng.integers(2))]
            tall, wide = (6, 6) if kind == "round" else (3, 9)
            inside = ((row - y) / tall) ** 2 + ((col - x) / wide) ** 2 < 1
            image[inside] = (110, 70, 150) if kind == "round" else (60, 50, 110)
            cells.append((y, x, kind))
    image += rng.normal(0, 6, image.shape)
    return image.clip(0, 255).astype(np.uint8), pd.DataFrame(cells, columns=["row", "col", "class"])


@pytest.fixture
def make_study(tmp_path):
    """A function that makes a study of some painted images and labels some of their cells."""
    made = []

    def make(images: int = 2, background: int = 5, labelled: bool = True, split: str = "train") -> Study:
        study = Study.create(tmp_path / f"cells{len(made)}.mtssl", annotator="tester")
        made.append(study)
        for name in CLASSES[1:]:
            study.add_class(name)
        for number in range(images):
            pixels, cells = paint(number)
            path = tmp_path / f"field{len(made)}-{number}.png"
            iio.imwrite(path, pixels)
            record = study.add_image(path, height=128, width=128, split=split)
            if labelled:
                study.add_cells(cells.assign(image_id=record.id))
                places = np.linspace(6, 120, background).round()
                rows = [(record.id, 6.0, c, "background") for c in places]
                study.add_cells(pd.DataFrame(rows, columns=["image_id", "row", "col", "class"]))
        return study

    yield make
    for study in made:
        study.close()


@pytest.fixture
def bank() -> PatchBank:
    """Patches of painted cells with their centroids off the middle."""
    rng = np.random.default_rng(0)
    patches, kinds, centroids = [], [], []
    for seed in range(3):
        pixels, cells = paint(seed)
        padded = np.pad(pixels, ((32, 32), (32, 32), (0, 0)), mode="reflect")
        for cell in cells.itertuples():
            r, c = (round(v) + int(rng.integers(-4, 5)) for v in (cell.row, cell.col))
            patches.append(padded[r + 8 : r + 56, c + 8 : c + 56])
            kinds.append(CLASSES.index(cell[3]))
            centroids.append((cell.row - r + 24, cell.col - c + 24))
        for c in (6, 34, 62):
            patches.append(padded[6 + 8 : 6 + 56, c + 8 : c + 56])
            kinds.append(0)
            centroids.append((24, 24))
    patches = np.stack(patches)
    return PatchBank.from_arrays(patches, np.array(kinds), np.array(centroids), patches[::2])


@pytest.fixture
def build():
    """A function that builds a small method."""

    def build(preset: str = "robust", **settings) -> HydraMix:
        wanted = {"patch": 48, **SMALL, **settings}
        return HydraMix(HydraMix.configure(preset, **wanted), {"cell": CLASSES}, torch.device("cpu"))

    return build
