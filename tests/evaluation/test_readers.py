import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from napari_mtssl.evaluation.readers import KINDS, DataError, read_crchistophenotypes


@pytest.fixture
def folder(crc, tmp_path):
    return Path(shutil.copytree(crc / "train", tmp_path / "copy"))


def test_rows_come_before_columns_and_images_in_order(crc):
    fields = read_crchistophenotypes(crc / "train")
    assert [field.name for field in fields] == ["img1", "img2", "img3", "img4"]
    xy = loadmat(crc / "train/img2/img2_epithelial.mat")["detection"]
    assert np.array_equal(fields[1].centroids["epithelial"], xy[:, ::-1] - 1)
    assert fields[0].centroids["fibroblast"].shape == (0, 2)


def test_truth_has_every_nucleus_once(folder):
    first = read_crchistophenotypes(folder)[0]
    assert len(first.truth()) == len(first.nuclei)
    xy = loadmat(folder / "img1/img1_detection.mat")["detection"]
    savemat(folder / "img1/img1_detection.mat", {"detection": np.vstack([xy + 0.3, [[1, 2], [230, 235]]])})
    savemat(folder / "img1/img1_others.mat", {"detection": np.array([[2, 120]], np.uint8)})
    truth = read_crchistophenotypes(folder)[0].truth()
    unknown = truth[truth["class"].isna()]
    assert [1.0, 0.0] in unknown[["row", "col"]].to_numpy().tolist()
    assert truth[truth["class"] == "others"][["row", "col"]].to_numpy().tolist() == [[119, 1]]


def test_the_published_layout(folder, tmp_path):
    expected = read_crchistophenotypes(folder)
    root = tmp_path / "CRCHistoPhenotypes"
    shutil.move(folder, root / "Classification")
    for field in expected:
        (root / "Detection" / field.name).mkdir(parents=True)
        name = f"{field.name}/{field.name}_detection.mat"
        shutil.move(root / "Classification" / name, root / "Detection" / name)
    for given in (root, root / "Classification"):
        fields = read_crchistophenotypes(given)
        assert [field.name for field in fields] == [field.name for field in expected]
        assert all(np.array_equal(a.nuclei, b.nuclei) for a, b in zip(fields, expected, strict=True))


def damage(folder, how):
    mat = folder / "img1/img1_detection.mat"
    if how == "no image":
        (folder / "img1/img1.bmp").unlink()
    elif how == "bad image":
        (folder / "img1/img1.bmp").write_bytes(b"BM")
    elif how == "no mat":
        mat.unlink()
    elif how == "no matlab":
        mat.write_text("x,y")
    elif how == "other variable":
        savemat(mat, {"points": np.ones((2, 2))})
    elif how == "other shape":
        savemat(mat, {"detection": np.ones((2, 3))})
    elif how == "outside":
        savemat(mat, {"detection": np.array([[10.0, 900.0]])})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no image", r"lacks its image img1\.bmp"),
        ("bad image", r"img1\.bmp is not an image"),
        ("no mat", r"img1_detection\.mat is missing"),
        ("no matlab", "not a MATLAB file"),
        ("other variable", "lacks its variable 'detection'"),
        ("other shape", r"shape \(2, 3\)"),
        ("outside", "outside its image of 240 x 240"),
    ],
)
def test_clear_messages(folder, how, message):
    damage(folder, how)
    with pytest.raises(DataError, match=message):
        read_crchistophenotypes(folder)


def test_folder_missing_or_of_something_else(tmp_path):
    with pytest.raises(DataError, match="There is no folder"):
        read_crchistophenotypes(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no folders named img1"):
        read_crchistophenotypes(tmp_path)


@pytest.mark.data
def test_the_real_set():
    root = Path(os.environ.get("MTSSL_DATA", "../shared/data")) / "crchistophenotypes/train"
    if not root.is_dir():
        pytest.skip(f"{root} is missing; it comes from Warwick's CRCHistoPhenotypes. Set MTSSL_DATA.")
    fields = read_crchistophenotypes(root)
    truth = [field.truth() for field in fields]
    for kind in KINDS:
        assert sum((t["class"] == kind).sum() for t in truth) == sum(len(f.centroids[kind]) for f in fields)
    assert sum(t["class"].isna().sum() for t in truth) > 1000
