from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
import skimage.data
from scipy.spatial import cKDTree

FOLDER = Path(str(files("napari_mtssl.sample_data")))


@pytest.fixture(scope="module")
def image():
    return skimage.data.immunohistochemistry()


@pytest.fixture(scope="module")
def clicks():
    return {name: pd.read_csv(FOLDER / f"ihc_{name}.csv") for name in ("clicks", "heldout")}


def test_the_image_needs_no_download(image):
    assert image.shape == (512, 512, 3)
    assert (Path(skimage.data.__file__).parent / "ihc.png").is_file()


@pytest.mark.parametrize("name", ["clicks", "heldout"])
def test_columns_classes_and_bounds(clicks, name):
    frame = clicks[name]
    assert list(frame) == ["image", "row", "col", "class"]
    assert set(frame["image"]) == {"ihc.png"}
    assert set(frame["class"]) == {"epithelial", "stromal", "background"}
    assert frame["class"].value_counts().min() >= 10
    assert frame["row"].between(0, 511).all() and frame["col"].between(0, 511).all()
    assert cKDTree(frame[["row", "col"]]).count_neighbors(cKDTree(frame[["row", "col"]]), 6) == len(frame)


def test_regions_are_apart(clicks):
    train, held = clicks["clicks"], clicks["heldout"]
    assert not ((train["row"] >= 300) & (train["col"] >= 250)).any()
    assert ((held["row"] >= 300) & (held["col"] >= 250)).all()


@pytest.mark.parametrize("name", ["clicks", "heldout"])
def test_clicks_are_on_what_they_say(image, clicks, name):
    """Stromal nuclei are blue; around epithelial ones there is brown, around stromal ones not."""
    frame = clicks[name]
    rows, cols = frame["row"].astype(int), frame["col"].astype(int)
    blue, around = [], []
    for row, col in zip(rows, cols, strict=True):
        near = image[max(row - 2, 0) : row + 3, max(col - 2, 0) : col + 3].reshape(-1, 3).mean(0)
        wide = image[max(row - 12, 0) : row + 13, max(col - 12, 0) : col + 13].reshape(-1, 3).mean(0)
        blue.append(near[2] - near[0])
        around.append(wide[0] - wide[2])
    frame = frame.assign(blue=blue, around=around)
    median = frame.groupby("class")[["blue", "around"]].median()
    assert median["blue"]["stromal"] > 15
    assert median["around"]["epithelial"] > 15 > 0 > median["around"]["stromal"]
    assert (frame[frame["class"] == "stromal"]["blue"] > 0).all()
    assert (frame[frame["class"] == "epithelial"]["around"] > 0).all()
