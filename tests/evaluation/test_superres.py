"""``reproduce superres`` on made-up glands in GlaS's layout."""

import json
import shutil

import imageio.v3 as iio
import numpy as np
import pytest
from typer.testing import CliRunner

from napari_mtssl.cli import app
from napari_mtssl.evaluation import superres
from napari_mtssl.evaluation.glas import read_glas, split_by_patient
from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.evaluation.series import Trial
from napari_mtssl.evaluation.superres import ROWS
from napari_mtssl.evaluation.synthetic_tissue import tissue

TINY = [f"--set={pair}" for pair in ("steps=2", "widths=4-8", "crop=64", "views=1", "batch_size=2")]


@pytest.fixture(scope="module")
def glas(tmp_path_factory):
    """Four images of three patients, 128 x 192 pixels at half size."""
    root = tmp_path_factory.mktemp("glas")
    lines = ["patient ID,name,grade"]
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for number, patient in enumerate((1, 1, 2, 3)):
        made = tissue(256, 384, seed=number)
        iio.imwrite(root / "images" / f"train_{number}.png", made.image)
        iio.imwrite(root / "labels" / f"train_{number}.png", made.mask * np.uint8(255))
        lines.append(f"{patient},train_{number},benign")
    (root / "Grade.csv").write_text("\n".join(lines) + "\n")
    return root


def run(glas, json_file, *options, test_patients="3"):
    arguments = ["reproduce", "superres", "--train", glas, "--test", glas, "--json", json_file]
    arguments += ["--test-patients", test_patients, "--block", "32", *TINY, *options]
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["exact", "noisy"])
def test_every_row_has_every_metric(glas, tmp_path, labels, monkeypatch):
    from napari_mtssl.methods.superres.patches import PatchClassifier

    monkeypatch.setattr(PatchClassifier.__init__, "__defaults__", (3, 8, 2e-3, 0))  # a few steps will do
    rows = ROWS if labels == "exact" else ("low-resolution", "ours", "block-fractions")
    options = ["--labels", labels, "--seeds", "1", "--out", tmp_path / "o", "--rows", ",".join(rows)]
    result = run(glas, tmp_path / "t.json", *options)
    assert result.exit_code == 0, result.output + repr(result.exception)
    table = json.loads((tmp_path / "t.json").read_text())
    assert tuple(table["results"]) == rows
    for cells in table["results"].values():
        assert {"masked_iou", "masked_dice", "iou", "dice"} <= set(cells["32"])
        assert 0 <= cells["32"]["masked_iou"]["mean"] <= 1
    exact = table["results"]["block-fractions"]["32"]["iou"]["mean"]
    assert exact > 0.6  # true shares of small blocks say much
    assert table["settings"]["labels"] == labels and table["settings"]["test_patients"] == ["3"]
    picture = iio.imread(tmp_path / "o" / "outlines.png")
    assert picture.shape[1] == (1 + len(rows)) * 192
    assert run(glas, tmp_path / "again.json", *options).exit_code == 0
    assert json.loads((tmp_path / "again.json").read_text()) == table  # kept trials are not run again


MISTAKES = {
    "patient": (["--rows", "ours"], "9", "no patient '9'"),
    "leak": (["--rows", "ours"], "", "is among the images to learn from and to score on"),
    "row": (["--rows", "svm"], "3", "no row 'svm'"),
    "labels": (["--labels", "guessed"], "3", "no labels 'guessed'"),
    "block": (["--block", "2"], "3", "too small"),
    "setting": (["--set", "width=3"], "3", "width: no such setting"),
    "everybody": (["--rows", "ours"], "1,2,3", "No image is left to learn from"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistakes_are_told_before_anything_is_trained(kind, glas, tmp_path):
    options, patients, fragment = MISTAKES[kind]
    result = run(glas, tmp_path / "t.json", *options, test_patients=patients)
    assert result.exit_code == 2, result.output + repr(result.exception)
    assert fragment in result.stderr and not (tmp_path / "t.json").exists()


def test_published_layout_is_read_too(glas, tmp_path):
    for view in read_glas(glas):
        iio.imwrite(tmp_path / f"{view.name}.bmp", iio.imread(view.path))
        iio.imwrite(tmp_path / f"{view.name}_anno.bmp", iio.imread(view.mask_path) // 85)
    lines = ["name,patient ID, grade (GlaS), grade (other)"]
    lines += [f"train_{n},{p}, benign, healthy" for n, p in enumerate((1, 1, 2, 3))]
    (tmp_path / "Grade.csv").write_text("\n".join(lines))
    for one, two in zip(read_glas(glas), read_glas(tmp_path), strict=True):
        assert (one.name, one.patient, one.grade) == (two.name, two.patient, two.grade)
        assert all(np.array_equal(a, b) for a, b in zip(one.read(2), two.read(2), strict=True))


def test_half_size_is_the_mean_of_four_pixels(glas):
    view = read_glas(glas)[0]
    whole, half = view.read(), view.read(2)
    assert half[0].shape == (128, 192, 3) and half[1].dtype == bool
    assert np.allclose(half[0][5, 7], whole[0][10:12, 14:16].mean((0, 1)), atol=0.5)
    assert half[1][5, 7] == (whole[1][10:12, 14:16].mean() >= 0.5)


def test_missing_files_are_named(tmp_path, glas):
    with pytest.raises(DataError, match=r"Grade\.csv is missing"):
        read_glas(tmp_path)
    (tmp_path / "Grade.csv").write_text("patient ID,name,grade\n1,train_0,benign\n")
    with pytest.raises(DataError, match=r"train_0 \(\.png or \.bmp\) is missing"):
        read_glas(tmp_path)
    images = read_glas(glas)
    train, test = split_by_patient(images, images, ["2"])
    assert len(train) == 3 and {view.patient for view in test} == {"2"}


@pytest.mark.data
def test_the_real_glands(data_dir):
    if not (data_dir / "glas").is_dir():
        pytest.skip(f"There is no folder glas in {data_dir}: get GlaS (Warwick-QU).")
    images = read_glas(data_dir / "glas")
    assert len(images) >= 85
    pixels, mask = images[0].read(2)
    assert pixels.shape[:2] == mask.shape and 0.05 < mask.mean() < 0.95


@pytest.mark.parametrize("kind", ["16 bit", "grey", "opacity"])
def test_images_of_other_kinds_are_read_as_they_look(glas, tmp_path, kind):
    folder = tmp_path / "glas"
    shutil.copytree(glas, folder)
    for path in (folder / "images").iterdir():
        pixels = iio.imread(path)
        if kind == "16 bit":
            path.unlink()
            iio.imwrite(path.with_suffix(".tif"), pixels.astype(np.uint16) * 257)
        elif kind == "grey":
            iio.imwrite(path, pixels[..., 0])
        else:
            iio.imwrite(path, np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]))
    for path in (folder / "labels").iterdir() if kind == "opacity" else ():
        mask = iio.imread(path)
        iio.imwrite(path, np.dstack([mask, np.full_like(mask, 255)]))
    for before, after in zip(read_glas(glas), read_glas(folder), strict=True):
        (pixels, mask), (now, mask_now) = before.read(2), after.read(2)
        expected = np.repeat(before.read()[0][..., :1], 3, 2) if kind == "grey" else None
        assert np.array_equal(mask, mask_now) and 0.05 < mask_now.mean() < 0.95
        assert np.array_equal(now, pixels) if expected is None else np.array_equal(after.read()[0], expected)


def test_one_image_under_two_names_is_not_learnt_from_and_scored_on(glas, tmp_path):
    folder = tmp_path / "glas"
    shutil.copytree(glas, folder)
    for part in ("images", "labels"):
        shutil.copy(folder / part / "train_0.png", folder / part / "copy.png")
    with (folder / "Grade.csv").open("a") as table:
        table.write("3,copy,benign\n")
    with pytest.raises(DataError, match=r"copy\.png is also among the images to learn from"):
        split_by_patient(read_glas(folder), read_glas(folder), ["3"])


def test_kept_scores_are_those_of_these_masks_and_patients(glas, tmp_path):
    def key():
        train, test = split_by_patient(read_glas(folder), read_glas(folder), ["3"])
        runner = superres._Runner(train, test, "exact", 40.0, 2, tmp_path, "robust", {}, 1)
        return runner.key(Trial("random-forest", 32, 0))

    folder = tmp_path / "glas"
    shutil.copytree(glas, folder)
    before = key()
    assert key() == before
    mask = folder / "labels" / "train_3.png"
    iio.imwrite(mask, np.roll(iio.imread(mask), 20, 1))
    corrected = key()
    assert corrected != before
    table = folder / "Grade.csv"
    table.write_text(table.read_text().replace("1,train_1", "2,train_1"))
    assert key() not in (before, corrected)
