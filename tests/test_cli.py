"""The command line: what each command makes, and one sentence for each mistake."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from napari_mtssl.cli import app
from napari_mtssl.cli.console import is_user_error
from napari_mtssl.cli.pictures import overlay
from napari_mtssl.cli.train import parse_settings
from napari_mtssl.images import open_image
from napari_mtssl.study import Study

# The smallest network there is: what is tested here is the command, not the method.
TINY = ["--device", "cpu"]
for _pair in ("depth=10", "widen=1", "pool=64", "batch_size=8"):
    TINY += ["--set", _pair]


COMMANDS = ("demo", "new", "import", "export", "train", "predict", "evaluate", "reproduce")


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def ok(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result


def test_a_window_without_a_display_is_one_sentence(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    result = run()
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: There is no display")


@pytest.fixture
def spots(tmp_path):
    """An image of dark discs on pale ground, and the table of their places with as many between them."""
    return make_spots(tmp_path / "spots.png", tmp_path / "spots.csv")


def make_spots(image, table, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.normal(215, 8, (160, 160, 3))
    rows, cols = np.mgrid[:160, :160]
    centres = np.stack(np.meshgrid(np.arange(20, 160, 40), np.arange(20, 160, 40)), -1).reshape(-1, 2)
    for r, c in centres:
        pixels[np.hypot(rows - r, cols - c) < 6] = (90, 60, 130)
    iio.imwrite(image, pixels.clip(0, 255).astype(np.uint8))
    lines = [[image.name, r, c, "nucleus"] for r, c in centres]
    lines += [[image.name, r, c, "background"] for r, c in centres[:9] + 20]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["image", "row", "col", "class"], *lines])
    return image, table


@pytest.fixture
def study(spots, tmp_path):
    """A labelled study, made by the commands."""
    image, table = spots
    ok("new", tmp_path / "a.mtssl", image)
    ok("import", tmp_path / "a.mtssl", table)
    return tmp_path / "a.mtssl"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study with a run of three steps, and a labelled test image."""
    folder = tmp_path_factory.mktemp("trained")
    path = folder / "a.mtssl"
    image, table = make_spots(folder / "spots.png", folder / "spots.csv")
    held, truth = make_spots(folder / "held.png", folder / "held.csv", seed=1)
    ok("new", path, image)
    with Study.open(path) as opened:
        opened.add_image(held, height=160, width=160, split="test")
    ok("import", path, table, truth)
    ok("train", "hydramix", path, "--steps", 3, "--run", "short", *TINY)
    return path


# -- what the commands make ------------------------------------------------------------


def test_help_names_every_command():
    out = subprocess.run(
        [sys.executable, "-m", "napari_mtssl", "--help"], capture_output=True, text=True, check=True
    )
    for command in COMMANDS:
        assert command in out.stdout


def test_new_keeps_size_pixel_size_and_split(spots, tmp_path):
    ok("new", tmp_path / "b", spots[0], "--pixel-size", "0.5", "--split", "validation")
    with Study.open(tmp_path / "b.mtssl") as opened:
        (record,) = opened.images()
    assert (record.height, record.width, record.pixel_size_um, record.split) == (160, 160, 0.5, "validation")


def test_an_image_at_a_url_is_labelled_trained_from_and_predicted(spots, tmp_path):
    import fsspec

    image, table = spots
    ok("convert", image, tmp_path / "far.ome.zarr")
    url = "memory://commands/far.ome.zarr"
    fsspec.filesystem("memory").put(str(tmp_path / "far.ome.zarr"), "/commands/far.ome.zarr", recursive=True)
    table.write_text(table.read_text().replace("spots.png", "far.ome.zarr"))
    path = tmp_path / "a.mtssl"
    assert "password or a key" in run("new", path, "https://ada:secret@host/far.ome.zarr").output
    ok("new", path, url, "--pixel-size", "0.5")
    ok("import", path, table)
    ok("train", "hydramix", path, "--steps", 1, "--run", "short", *TINY)
    ok("predict", path, url, "--out", tmp_path / "found")
    assert (tmp_path / "found" / "far.ome.geojson").exists()
    ok("export", path, "--csv", tmp_path / "out.csv")
    assert "far.ome.zarr" in (tmp_path / "out.csv").read_text()
    fsspec.filesystem("memory").rm("/commands", recursive=True)


def test_new_with_one_wrong_image_leaves_nothing(spots, tmp_path):
    assert run("new", tmp_path / "b", spots[0], tmp_path / "missing.png").exit_code == 2
    assert not (tmp_path / "b.mtssl").exists()


def test_new_with_a_template_has_its_classes(spots, tmp_path):
    ok("new", tmp_path / "a.mtssl", spots[0], "--template", "specimens")
    with Study.open(tmp_path / "a.mtssl") as study:
        assert study.kinds() == ["cell", "mask", "pattern", "intensity"]


def test_importing_twice_adds_nothing(study, spots):
    with Study.open(study) as opened:
        before = opened.cells()
    assert "25 already there" in ok("import", study, spots[1]).stderr
    with Study.open(study) as opened:
        assert len(opened.cells()) == len(before) == 25


def test_labels_go_to_qupath_and_back(study, spots, tmp_path):
    ok("export", study, "--geojson", tmp_path / "out.geojson", "--csv", tmp_path / "out.csv")
    ok("new", tmp_path / "b", spots[0])
    ok("import", tmp_path / "b", tmp_path / "out.geojson")
    with Study.open(study) as first, Study.open(tmp_path / "b.mtssl") as second:
        columns = ["row", "col", "class"]
        assert first.cells()[columns].equals(second.cells()[columns])
    assert (tmp_path / "out.csv").read_text().startswith("image,row,col,class\nspots.png,")


def test_a_label_image_comes_in_by_its_centroids(study, tmp_path):
    labels = np.zeros((160, 160), np.uint16)
    labels[60:63, 100:103] = 7
    iio.imwrite(tmp_path / "labels.tif", labels)
    ok("import", study, tmp_path / "labels.tif", "--class", "lymphocyte")
    with Study.open(study) as opened:
        cells = opened.cells()
    assert cells.loc[cells["class"] == "lymphocyte", ["row", "col"]].to_numpy().tolist() == [[61, 101]]


def test_every_image_goes_to_its_own_file(trained, tmp_path):
    ok("export", trained, "--geojson", tmp_path / "{image}.geojson")
    for name in ("spots", "held"):
        assert len(json.loads((tmp_path / f"{name}.geojson").read_text())["features"]) == 25


def test_training_leaves_weights_settings_and_curves(trained):
    folder = trained / "runs" / "short"
    assert {"last.safetensors", "config.yaml", "metrics.csv"} <= {p.name for p in folder.iterdir()}
    steps = {row["step"] for row in csv.DictReader((folder / "metrics.csv").open())}
    assert "3" in steps


def test_labels_limits_what_is_used(trained):
    result = ok("train", "hydramix", trained, "--steps", 1, "--labels", 10, *TINY)
    assert "10 labelled" in result.stderr


def test_a_run_can_be_resumed_for_more_steps(trained):
    ok("train", "hydramix", trained, "--steps", 2, "--run", "long", *TINY)
    assert "at step 4" in ok("train", "hydramix", trained, "--run", "long", "--resume", "--steps", 4).stderr
    on = ("train", "superres", trained, "--run", "long", "--resume", "--steps", 6)
    assert_complains(run(*on), "'long' is of the method hydramix, not superres")
    on = ("train", "hydramix", trained, "--run", "long", "--resume", "--preset", "paper")
    assert_complains(run(*on), "leave --preset out")


def test_one_seed_gives_one_result(trained):
    from napari_mtssl.engine.checkpoint import find, load

    for name in ("one", "two"):
        ok("train", "hydramix", trained, "--steps", 2, "--seed", 5, "--run", name, *TINY)
    one, two = (load(find(trained / "runs" / name)).state for name in ("one", "two"))
    assert all((one[key] == two[key]).all() for key in one)


def test_predict_writes_what_other_programs_read(trained, tmp_path):
    image = trained.parent / "held.png"
    ok("predict", trained, "--run", "short", image, "--out", tmp_path / "out", "--device", "cpu")
    with (tmp_path / "out" / "held.csv").open() as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        assert reader.fieldnames == [
            "image",
            "row",
            "col",
            "class",
            "label",
            "probability",
            "uncertainty",
        ]
    features = json.loads((tmp_path / "out" / "held.geojson").read_text())["features"]
    assert len(features) == len(rows)
    for feature, row in zip(features, rows, strict=True):
        x, y = feature["geometry"]["coordinates"]
        assert (y, x) == pytest.approx((float(row["row"]) + 0.5, float(row["col"]) + 0.5), abs=0.06)
        assert feature["properties"]["classification"]["name"] == row["class"] == "nucleus"
    overlay = iio.imread(tmp_path / "out" / "held.overlay.png")
    assert overlay.shape == open_image(image).read(0, 0, 160, 160).shape


def test_predicted_cells_of_the_study_s_images_are_kept_for_the_export_and_the_review(trained, tmp_path):
    image = trained.parent / "spots.png"
    said = ok("predict", trained, "--run", "short", image, "--out", tmp_path / "out", "--device", "cpu")
    assert "for export --predictions: the cells" in said.stderr
    found = pd.read_csv(tmp_path / "out" / "spots.csv")
    with Study.open(trained) as study:
        assert len(study.predictions(study.find_image("spots.png").id)) == len(found)
    ok("export", trained, "--csv", tmp_path / "all.csv", "--predictions")
    assert (pd.read_csv(tmp_path / "all.csv")["label"] == "predicted").sum() == len(found)


def test_tables_of_cells_know_places_far_from_the_corner(tmp_path):
    from napari_mtssl.cli.results import write_cells

    image = tmp_path / "wide.png"
    iio.imwrite(image, np.full((8, 20_000), 200, np.uint8))
    cells = pd.DataFrame({"row": [3.25], "col": [15506.126], "class": ["red"]})
    cells = cells.assign(confidence=0.123456, uncertainty=0.5)
    write_cells(open_image(image), cells, {"red": "#ff0000"}, tmp_path)
    line = pd.read_csv(tmp_path / "wide.csv").iloc[0]
    assert (line["row"], line["col"], line["probability"]) == (3.25, 15506.13, 0.1235)


def test_a_large_image_is_predicted_to_disk_with_the_same_result(trained, tmp_path, monkeypatch):
    image = trained.parent / "held.png"
    ok("predict", trained, "--run", "short", image, "--out", tmp_path / "small", "--device", "cpu")
    monkeypatch.setattr("napari_mtssl.images.image.LARGE", 1000)
    large = ("predict", trained, "--run", "short", image, "--out", tmp_path / "large", "--device", "cpu")
    ok(*large)
    assert (tmp_path / "large" / "held.csv").read_text() == (tmp_path / "small" / "held.csv").read_text()
    assert (tmp_path / "large" / "held.prediction" / "uncertainty.ome.zarr").is_dir()
    assert "1 of 1 tiles were done before" in ok(*large).stderr


def test_evaluate_writes_the_common_form(trained, tmp_path):
    ok(
        "evaluate",
        trained,
        "--run",
        "short",
        "--split",
        "test",
        "--json",
        tmp_path / "s.json",
        "--device",
        "cpu",
    )
    report = json.loads((tmp_path / "s.json").read_text())
    scores = report["results"]["hydramix"]["25"]
    assert {"accuracy", "macro_f1", "centroid_px", "detection_f1", "weighted_f1"} <= set(scores)
    assert set(scores["accuracy"]) == {"mean", "sd", "runs"}
    assert 0 <= scores["accuracy"]["mean"] <= 1
    assert report["settings"]["step"] == 3 and report["seconds"] > 0
    taken = [scores[f"confusion/nucleus -> {name}"]["mean"] for name in ("background", "nucleus")]
    assert sum(taken) == pytest.approx(1)


@pytest.mark.slow
def test_the_demo_shows_the_whole_way_and_goes_on_from_what_is_there(tmp_path):
    ok("demo", "cells", "--headless", "--out", tmp_path, "--steps", 2)
    ok("demo", "cells", "--headless", "--out", tmp_path, "--steps", 2)
    with Study.open(tmp_path / "ihc.mtssl") as opened:
        assert [r.name for r in opened.runs()] == ["hydramix-0001", "hydramix-0002"]
        labels = opened.cells()
    report = (tmp_path / "report.md").read_text()
    assert f"{(labels['class'] == 'epithelial').sum()} epithelial" in report
    assert "| accuracy | macro F1 |" in report
    for name in ("ihc.geojson", "ihc.csv", "ihc.overlay.png", "losses.png"):
        assert (tmp_path / name).stat().st_size > 0, name


def test_an_overlay_rings_every_cell_in_its_colour_at_its_place(tmp_path):
    iio.imwrite(tmp_path / "grey.png", np.full((100, 60), 200, np.uint8))
    cells = pd.DataFrame({"row": [20.0, 80.0], "col": [30.0, 59.0], "class": ["a", "b"]})
    picture = overlay(open_image(tmp_path / "grey.png"), cells, {"a": "#ff0000", "b": "#0000ff"}, radius=6)
    red = np.argwhere((picture == (255, 0, 0)).all(-1))
    assert np.abs(np.hypot(*(red - (20, 30)).T) - 6).max() <= 1
    assert len(red) > 30
    assert (picture == (0, 0, 255)).all(-1).any()  # cut off by the edge, drawn all the same
    assert (picture[50] == 200).all()


def test_an_overlay_of_twelve_bits_in_a_file_of_sixteen_is_not_black(tmp_path):
    iio.imwrite(tmp_path / "dark.png", np.tile(np.linspace(0, 4095, 60).astype(np.uint16), (60, 1)))
    picture = overlay(
        open_image(tmp_path / "dark.png"), pd.DataFrame({"row": [], "col": [], "class": []}), {}
    )
    assert picture[:, 0].max() < 10 and picture[:, -1].min() > 245


def test_an_overlay_of_a_large_image_is_small(tmp_path):
    iio.imwrite(tmp_path / "large.png", np.full((300, 200, 3), 200, np.uint8))
    cells = pd.DataFrame({"row": [150.0], "col": [100.0], "class": ["a"]})
    picture = overlay(open_image(tmp_path / "large.png"), cells, {"a": "#ff0000"}, max_side=100)
    assert picture.shape == (100, 67, 3)
    red = np.argwhere((picture == (255, 0, 0)).all(-1))
    assert np.allclose(red.mean(0), (50, 100 / 3), atol=0.6)


def test_predict_takes_folders_and_stacks_and_keeps_images_of_one_name_apart(trained, tmp_path):
    import tifffile

    for number in (1, 2):
        (tmp_path / f"PAT{number}").mkdir()
        pixels = np.random.default_rng(number).integers(0, 255, (96, 96, 3), np.uint8)
        iio.imwrite(tmp_path / f"PAT{number}" / "IM0001.png", pixels)
    (tmp_path / "PAT2" / "broken.png").write_text("words")
    stack = np.random.default_rng(3).integers(0, 255, (2, 96, 96), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"})
    images = [tmp_path / name for name in ("PAT1", "PAT2", "stack.tif")]
    said = ok("predict", trained, *images, "--run", "short", "--device", "cpu", "--out", tmp_path / "out")
    assert sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.glob("out/**/*.csv")
    ) == [
        "PAT1_IM0001/IM0001.csv",
        "PAT2_IM0001/IM0001.csv",
        "stack_000.csv",
        "stack_001.csv",
    ]
    assert "Left out: broken.png" in said.stderr
    assert "Wrote 4 image(s)" in said.stderr


def test_predictions_one_after_the_other_keep_images_of_one_name_apart(trained, tmp_path):
    out = tmp_path / "out"
    for folder, seed in (("PAT1", 1), ("PAT2", 2)):
        (tmp_path / folder).mkdir()
        pixels = np.random.default_rng(seed).integers(0, 255, (96, 96, 3), np.uint8)
        iio.imwrite(tmp_path / folder / "IM0001.png", pixels)
    for folder in ("PAT1", "PAT2", "PAT1"):
        image = tmp_path / folder / "IM0001.png"
        ok("predict", trained, image, "--run", "short", "--device", "cpu", "--out", out)
    files = sorted(path.relative_to(out).as_posix() for path in out.glob("**/*.csv"))
    assert files == ["IM0001.csv", "PAT2_IM0001/IM0001.csv"]
    (out / "images.json").write_text("[]")
    assert_complains(
        run("predict", trained, tmp_path / "PAT1" / "IM0001.png", "--run", "short", "--out", out),
        "does not say which image is called how",
    )


def test_new_adds_all_that_can_be_read_of_a_folder_and_names_the_rest(spots, tmp_path):
    (tmp_path / "f").mkdir()
    for name in ("b", "e"):
        (tmp_path / "f" / f"{name}.png").write_text("words")
    assert_complains(run("new", tmp_path / "s", tmp_path / "f"), "e.png")
    assert not (tmp_path / "s.mtssl").exists()
    iio.imwrite(tmp_path / "f" / "a.png", np.zeros((9, 9), np.uint8))
    said = ok("new", tmp_path / "s", tmp_path / "f").stderr
    assert [f"Left out: {name}.png" in said for name in "abe"] == [False, True, True]
    assert "with 1 image(s)" in said
    assert_complains(run("new", tmp_path / "t", tmp_path / "f", tmp_path / "f" / "b.png"), "b.png")
    assert not (tmp_path / "t.mtssl").exists()


def test_a_predicted_mask_is_known_as_one_when_it_comes_back(spots, tmp_path):
    from napari_mtssl.cli.results import write_mask
    from napari_mtssl.study.mask_tables import predicted_in

    probabilities = np.stack([np.zeros((160, 160)), np.ones((160, 160))])
    names, colours = ("background", "gland"), {"gland": "#00ff00"}
    write_mask(open_image(spots[0]), probabilities, names, colours, tmp_path)
    assert predicted_in(tmp_path) == {"spots.mask.png"}
    ok("new", tmp_path / "m", spots[0])
    mask = ("import", tmp_path / "m", tmp_path / "spots.mask.png", "--as", "masks", "--class", "1=gland")
    assert_complains(run(*mask), "only 1 prediction that nobody reviewed")
    ok(*mask, "--predictions")


# -- mistakes ------------------------------------------------------------


def assert_complains(result, fragment):
    """Exit code 2, one sentence on standard error that says what is wrong, no traceback."""
    assert result.exit_code == 2, result.output + repr(result.exception)
    (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert fragment in sentence
    assert sentence.endswith((".", ")", "?"))
    assert "Traceback" not in result.output


NEW_MISTAKES = {
    "folder": "no images in the folder",
    "cut.bmp": "cut short",
    "missing.png": "no file",
    "text.png": "text.png",
    "notes.docx": "not an image of a known kind",
    "empty.png": "empty",
}


@pytest.mark.parametrize("name", NEW_MISTAKES)
def test_new_wants_images(name, tmp_path):
    (tmp_path / "text.png").write_text("these are words")
    (tmp_path / "notes.docx").write_text("these are words")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder").mkdir()
    iio.imwrite(tmp_path / "cut.bmp", np.zeros((30, 30, 3), np.uint8))
    (tmp_path / "cut.bmp").write_bytes((tmp_path / "cut.bmp").read_bytes()[:-1])
    assert_complains(run("new", tmp_path / "b", tmp_path / name), NEW_MISTAKES[name])


def test_new_does_not_replace_a_study(study, spots):
    assert_complains(run("new", study, spots[0]), "already")


TABLES = {
    "column": ("image,row,column,class\nspots.png,1,2,nucleus\n", "col is missing"),
    "image": ("image,row,col,class\nother.png,1,2,nucleus\n", "other.png"),
    "number": ("image,row,col,class\nspots.png,one,2,nucleus\n", "'one'"),
    "class": ("image,row,col,class\nspots.png,1,2,\n", "class is empty"),
    "outside": ("image,row,col,class\nspots.png,1,2000,nucleus\n", "outside"),
    "nothing": ("image,row,col,class\n", "no cells"),
    "empty": ("", "empty"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_import_wants_a_table_of_cells(kind, study, tmp_path):
    text, fragment = TABLES[kind]
    (tmp_path / "t.csv").write_text(text)
    assert_complains(run("import", study, tmp_path / "t.csv"), fragment)
    with Study.open(study) as opened:
        assert len(opened.cells()) == 25


FILES = {
    "t.geojson": ("{", "no GeoJSON"),
    "deep.geojson": ("[" * 100_000, "no GeoJSON"),
    "number.geojson": (
        '{"type": "Feature", "geometry": null, "properties": {"classification": {"name": 5}}}',
        "5 is no name of a class",
    ),
    "t.json": ('{"type": "FeatureCollection", "features": []}', "empty"),
    "t.npy": ("", "--class"),
    "t.xlsx": ("", "no file of labels"),
}


@pytest.mark.parametrize("name", FILES)
def test_import_wants_files_it_knows(name, study, tmp_path):
    text, fragment = FILES[name]
    (tmp_path / name).write_text(text)
    assert_complains(run("import", study, tmp_path / name), fragment)


def test_import_of_a_folder_names_the_option_for_masks(study, tmp_path):
    (tmp_path / "masks").mkdir()
    assert_complains(run("import", study, tmp_path / "masks"), "--as masks")


def test_import_wants_labels_of_the_image_s_shape(study, tmp_path):
    np.save(tmp_path / "l.npy", np.ones((5, 5), int))
    assert_complains(run("import", study, tmp_path / "l.npy", "--class", "nucleus"), "shape")


def test_a_label_image_may_have_a_class_for_each_number(study, tmp_path):
    labels = np.zeros((160, 160), np.uint16)
    labels[10:15, 10:15], labels[60:65, 60:65] = 1, 2
    np.save(tmp_path / "l.npy", labels)
    ok("import", study, tmp_path / "l.npy", "--class", "1=tumour,2=stroma")
    with Study.open(study) as opened:
        new = opened.cells().tail(2)
    assert new[["row", "class"]].values.tolist() == [[12, "tumour"], [62, "stroma"]]
    assert_complains(run("import", study, tmp_path / "l.npy", "--class", "1=tumour"), "label 2 has no class")


TRAINING = {
    "preset as a setting": (["hydramix"], ["--set", "preset=paper"], "--preset paper"),
    "depth": (["hydramix"], ["--set", "depth=11"], "6 n + 4"),
    "seed": (["hydramix"], ["--seed", 10**30], "seed"),
    "method": (["hydra"], [], "no method 'hydra'"),
    "preset": (["hydramix"], ["--preset", "best"], "no preset 'best'"),
    "device": (["hydramix"], ["--device", "tpu"], "no device 'tpu'"),
    "setting": (["hydramix"], ["--set", "deepness=3"], "deepness: no such setting"),
    "value": (["hydramix"], ["--set", "depth=many"], "depth"),
    "bound": (["hydramix"], ["--steps", "0"], "steps"),
    "two numbers": (["hydramix"], ["--steps", "3", "--set", "steps=5"], "give one of them"),
    "pair": (["hydramix"], ["--set", "depth"], "key=value"),
    "yaml": (["hydramix"], ["--set", "depth=[1"], "cannot be read"),
    "resume": (["hydramix"], ["--resume"], "--run"),
    "run": (["hydramix"], ["--resume", "--run", "other"], "other"),
    "name": (["hydramix"], ["--run", "a/b"], "a/b"),
}


@pytest.mark.parametrize("kind", TRAINING)
def test_train_wants_settings_that_exist(kind, study):
    method, options, fragment = TRAINING[kind]
    assert_complains(run("train", *method, study, *options), fragment)
    with Study.open(study) as opened:
        assert opened.runs() == []


LABELS = {
    "no class": ([], [], "only the background class"),
    "nothing": (["nucleus"], [], "Nothing is labelled"),
    "only background": (["nucleus"], ["background"], "Only 'background'"),
    "no background": (["nucleus"], ["nucleus"], "background"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_train_wants_two_classes(kind, spots, tmp_path):
    classes, clicks, fragment = LABELS[kind]
    ok("new", tmp_path / "b", spots[0])
    with Study.open(tmp_path / "b.mtssl") as opened:
        (record,) = opened.images()
        for name in classes:
            opened.add_class(name)
        for name in clicks:
            opened.add_cell(record.id, 20.0, 20.0, name)
    assert_complains(run("train", "hydramix", tmp_path / "b", "--steps", 1, *TINY), fragment)
    with Study.open(tmp_path / "b.mtssl") as opened:
        assert opened.runs() == []


def test_train_notices_that_an_image_is_gone(study, spots):
    spots[0].unlink()
    assert_complains(run("train", "hydramix", study, "--steps", 1, *TINY), "spots.png")


def test_predict_wants_a_run(study, spots, tmp_path):
    assert_complains(run("predict", study, spots[0], "--out", tmp_path / "o"), "no run yet")
    assert_complains(run("predict", study, spots[0], "--run", "x", "--out", tmp_path / "o"), "no run 'x'")


def test_predict_wants_images_and_a_folder(trained, tmp_path):
    image = trained.parent / "spots.png"
    (tmp_path / "no.png").write_text("words")
    (tmp_path / "file").touch()
    assert_complains(run("predict", trained, tmp_path / "missing.png", "--out", tmp_path), "no file")
    assert_complains(run("predict", trained, tmp_path / "no.png", "--out", tmp_path), "no.png")
    (tmp_path / "none").mkdir()
    assert_complains(run("predict", trained, tmp_path / "none", "--out", tmp_path), "no images in the folder")
    assert_complains(run("predict", trained, image, "--out", tmp_path / "file"), "cannot be made")
    elsewhere = ("--runner", "laptop")
    assert_complains(run("predict", trained, image, "--out", tmp_path, *elsewhere), "no runner 'laptop'")


def test_evaluate_wants_labels_in_the_split(trained):
    assert_complains(run("evaluate", trained, "--run", "short", "--split", "validation"), "'validation'")
    assert_complains(run("evaluate", trained, "--json", trained), "is a folder")


def test_export_wants_a_target_and_one_image(trained, tmp_path):
    assert_complains(run("export", trained), "--geojson FILE")
    (tmp_path / "file").touch()
    assert_complains(run("export", trained, "--csv", tmp_path / "file" / "a.csv"), "cannot be made")
    assert_complains(run("export", trained, "--geojson", tmp_path / "a.geojson"), "2 images")
    assert_complains(run("export", trained, "--geojson", tmp_path / "a.geojson", "--image", "c.png"), "c.png")


COMMANDS_ON_STUDIES = {
    "import": ["t.csv"],
    "export": ["--csv", "o.csv"],
    "predict": ["spots.png", "--out", "o"],
    "evaluate": [],
}


@pytest.mark.parametrize("command", COMMANDS_ON_STUDIES)
def test_every_command_wants_a_study(command, spots, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("image,row,col,class\n")
    assert_complains(run(command, "nowhere.mtssl", *COMMANDS_ON_STUDIES[command]), "no study")
    (tmp_path / "folder").mkdir()
    assert_complains(run(command, "folder", *COMMANDS_ON_STUDIES[command]), "is no study")


def test_a_real_process_says_one_sentence_and_exits_with_2(tmp_path):
    command = [sys.executable, "-m", "napari_mtssl", "train", "hydramix", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip() == f"Error: There is no study at {tmp_path / 'nowhere'}."
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("reproduce joint-unet", "Missing option '--json'"),
        ("new", "Missing argument 'STUDY'"),
        ("nothing", "No such command 'nothing'"),
        ("train --nothing", "No such option: --nothing"),
        ("new a.mtssl x --split somewhere", "'somewhere' is not one of 'train', 'validation', 'test'"),
        ("train hydramix a.mtssl --steps many", "write a whole number"),
        ("reproduce joint-unet --json a.json --folds 1", "it must be at least 2"),
    ],
)
def test_a_wrong_or_missing_option_is_one_sentence(command, said):
    result = run(*command.split())
    assert_complains(result, said)
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.strip().endswith("-h' shows what there is.")


def test_a_defect_keeps_its_traceback(study, monkeypatch):
    def broken(*_args, **_kwargs):
        raise ValueError("a defect")

    monkeypatch.setattr("napari_mtssl.study.exchange.export_csv", broken)
    result = run("export", study, "--csv", study.parent / "o.csv")
    assert result.exit_code == 1
    assert isinstance(result.exception, ValueError)
    assert "Error:" not in result.stderr


def test_only_our_own_errors_are_the_user_s():
    from napari_mtssl.images import ImageError

    assert is_user_error(ImageError("too small"))
    assert not is_user_error(ValueError("a defect"))
    assert not is_user_error(json.JSONDecodeError("a defect", "", 0))


# -- stopping ------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_and_keeps_the_weights(study, sent):
    command = [sys.executable, "-m", "napari_mtssl", "train", "hydramix", str(study)]
    command += ["--steps", "100000", "--run", "endless", *TINY]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"}
    )
    try:
        log = study / "runs" / "endless" / "metrics.csv"
        deadline = time.monotonic() + 120
        while not (log.exists() and len(log.read_text().splitlines()) > 3):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "no step was made in two minutes"
            time.sleep(0.1)
        process.send_signal(sent)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert "Stopping after this step" in said and "Stopped at step" in said
    assert (log.parent / "last.safetensors").is_file()


# -- small parts ------------------------------------------------------------


def test_settings_are_read_as_yaml():
    read = parse_settings(["depth=16", "balanced=true", "learning-rate=1e-3", "targets=hard"])
    assert read == {"depth": 16, "balanced": True, "learning_rate": "1e-3", "targets": "hard"}


def test_an_image_that_was_changed_is_told_before_anything_is_learnt_from_it(study):
    with Study.open(study) as opened:
        path = opened.images()[0].path
    iio.imwrite(path, 255 - iio.imread(path))
    said = ok("train", "hydramix", study, "--steps", "1", "--run", "again", *TINY).stderr
    assert "Warning:" in said and f"{path.name} has changed since it was added" in " ".join(said.split())


def test_images_that_were_moved_are_found_again_by_name_and_content(tmp_path, spots):
    image, _ = spots
    study = tmp_path / "spots.mtssl"
    ok("new", study, image)
    said = run("relocate", study, tmp_path)
    assert said.exit_code == 2 and "where they were" in said.stderr
    inside = tmp_path / "archive" / "2026"
    inside.mkdir(parents=True)
    other = tmp_path / "archive" / image.name  # of the same name, and another image
    make_spots(other, tmp_path / "other.csv", seed=1)
    image.rename(inside / image.name)
    train = run("train", "hydramix", study, "--steps", 1, *TINY)
    assert train.exit_code == 2
    missing = run("relocate", study, other)
    assert missing.exit_code == 2 and str(image) in missing.stderr
    assert run("relocate", study, tmp_path / "nowhere").exit_code == 2
    assert ok("relocate", study, tmp_path / "archive").stdout == "1 of 1 moved images found again.\n"
    with Study.open(study) as opened:
        assert opened.images()[0].path == inside / image.name
        assert not opened.problems()
        opened.undo()  # it is an edit as any other
        assert opened.problems()
