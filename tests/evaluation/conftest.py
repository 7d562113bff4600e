import numpy as np
import PIL.Image
import pytest
from scipy.io import savemat

from napari_mtssl.evaluation.readers import FIRST
from napari_mtssl.evaluation.synthetic import cell_field

KIND_OF = {"tumour": "epithelial", "lymphocyte": "inflammatory"}


def write_field(folder, number, *, seed, size=240, density=0.6, **options):
    """Write a made-up field in CRCHistoPhenotypes' layout."""
    name = f"img{number}"
    place = folder / name
    place.mkdir(parents=True)
    field = cell_field(size, size, density=density, seed=seed, **options)
    PIL.Image.fromarray(field.image).save(place / f"{name}.bmp")
    kinds = field.cells["class"].map(KIND_OF)
    xy = field.cells[["col", "row"]].to_numpy() + FIRST
    for kind in ("epithelial", "fibroblast", "inflammatory", "others"):
        mine = xy[(kinds == kind).to_numpy()]
        savemat(place / f"{name}_{kind}.mat", {"detection": mine if len(mine) else np.empty((0, 0))})
    savemat(place / f"{name}_detection.mat", {"detection": xy})
    return field


@pytest.fixture(scope="session")
def crc(tmp_path_factory):
    """Folders train and test of made-up images in CRCHistoPhenotypes' layout."""
    root = tmp_path_factory.mktemp("crc")
    for number in range(1, 5):
        write_field(root / "train", number, seed=number)
    for number in range(11, 13):
        write_field(root / "test", number, seed=number)
    return root
