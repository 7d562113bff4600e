"""Tissue from the command line alone, on what is not the default in any way."""

import json

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from typer.testing import CliRunner

from napari_mtssl.cli import app
from napari_mtssl.evaluation.synthetic_tissue import tissue
from napari_mtssl.study import Grid, Study

NAMES, EDGES = ["none", "little", "half", "much", "all"], [0, 0.05, 0.35, 0.65, 0.95]
TINY = {"widths": "4-6-8", "stem": 1, "crop": 64, "batch_size": 2, "views": 1, "ema": 0.5, "steps": 4}


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


@pytest.fixture
def odd(tmp_path):
    """Sixteen bits of which twelve are used, blocks of 20 x 28 um, five coarse classes, three exact ones."""
    made = tissue(200, 300, seed=5)
    tifffile.imwrite(tmp_path / "slide.tif", made.image.astype(np.uint16) * 16)
    lines = ["image,row,col,class"]
    for i, j in np.ndindex(5, 5):
        share = (made.mask[i * 40 : i * 40 + 40, j * 56 : j * 56 + 56] == 1).mean()
        lines.append(f"slide.tif,{i},{j},{NAMES[np.searchsorted(EDGES, share, side='right') - 1]}")
    del lines[7]  # the last block of the first row but one: nobody labelled it
    (tmp_path / "blocks.csv").write_text("\n".join(lines))
    said = ["block_class,mask_class,mean,spread"]
    for name, mean, spread in zip(NAMES, (0, 20, 50, 80, 100), (0, 9, 9, 9, 0), strict=True):
        said += [f"{name},gland,{0.9 * mean}%,{spread}%", f"{name},mucus,{0.1 * mean}%,{spread}%"]
    (tmp_path / "said.csv").write_text("\n".join(said))
    path = tmp_path / "odd.mtssl"
    run("new", path, tmp_path / "slide.tif", "--pixel-size", 0.5, "--mask-class", "gland, mucus")
    report = run("import", path, tmp_path / "said.csv", "--as", "statistics").stderr
    assert "new classes: none, little, half, much, all." in report
    assert "No class is surer than 3% of a block: that is the spread taken of none, all." in report
    report = run("import", path, tmp_path / "blocks.csv", "--as", "blocks", "--block", "20x28um").stderr
    assert "24 blocks added, 0 already there." in report
    return path


def test_odd_grids_classes_and_bits_from_import_to_export(odd, tmp_path):
    with Study.open(odd) as study:
        assert study.grid(1) == Grid(40.0, 56.0)
        assert [item.name for item in study.classes("mask")] == ["background", "gland", "mucus"]
    shown = run("statistics", odd)
    assert "45.0%" in shown.stdout and "that is the spread taken of none, all" in shown.stderr
    settings = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    assert "24 labelled" in run("train", "superres", odd, *settings).stderr
    out = tmp_path / "out"
    run("predict", odd, tmp_path / "slide.tif", "--out", out)
    areas = pd.read_csv(out / "slide.areas.csv")
    assert areas["pixels"].sum() == 60_000
    assert areas["mm2"].sum() == pytest.approx(0.015) and areas["percent"].sum() == pytest.approx(100)
    mask = iio.imread(out / "slide.mask.png")
    assert mask.shape == (200, 300) and mask.max() <= 2
    assert iio.imread(out / "slide.outlines.png").mean() > 60  # not as dark as the file
    found = json.loads((out / "slide.mask.geojson").read_text())["features"]
    assert {item["properties"]["classification"]["name"] for item in found} <= {"gland", "mucus"}
    files = {way: tmp_path / f"mask.{way}" for way in ("zarr", "geojson", "png")}
    ways = [part for way, path in files.items() for part in (f"--{way}", path)]
    run("export", odd, "--as", "masks", "--predictions", *ways)
    labels = zarr.open_group(files["zarr"])["labels/mask/0"]
    assert labels.shape == (200, 300)
    # the study keeps probabilities with eight bits: close calls may fall to the other side
    assert (iio.imread(files["png"] / "slide.png") == mask).mean() > 0.99
    run("export", odd, "--as", "blocks", "--geojson", tmp_path / "b.geojson", "--csv", tmp_path / "b.csv")
    assert len(pd.read_csv(tmp_path / "b.csv")) == 24
    again = run("import", odd, tmp_path / "b.geojson", "--as", "blocks").stderr
    assert "0 blocks added, 24 already there" in again


def test_a_slide_gets_polygons_of_its_mask(odd, tmp_path, monkeypatch):
    import shapely

    settings = [part for key, value in (TINY | {"steps": 1}).items() for part in ("--set", f"{key}={value}")]
    run("train", "superres", odd, *settings)
    monkeypatch.setattr("napari_mtssl.images.image.LARGE", 1000)
    monkeypatch.setattr("napari_mtssl.engine.slide_prediction_store.BLOCK", 128)
    out = tmp_path / "slide"
    run("predict", odd, tmp_path / "slide.tif", "--out", out)
    areas = pd.read_csv(out / "slide.areas.csv").set_index("name")["pixels"]
    found = json.loads((out / "slide.mask.geojson").read_text())["features"]
    assert areas.sum() == 60_000
    for name in ("gland", "mucus"):
        shapes = [f["geometry"] for f in found if f["properties"]["classification"]["name"] == name]
        area = sum(shapely.geometry.shape(shape).area for shape in shapes)
        assert area == pytest.approx(areas[name], rel=0.02, abs=300)  # corners are cut by half a pixel


def test_the_low_resolution_model_labels_the_other_blocks(odd, tmp_path):
    table = tmp_path / "shares.csv"
    said = run("classify-blocks", odd, "--csv", table, "--steps", 2, "--of", "gland").stderr
    assert "shares of gland in 1 blocks that nobody labelled" in said
    assert pd.read_csv(table)[["row", "col"]].to_numpy().tolist() == [[1, 1]]
    said = run(
        "import", odd, table, "--as", "probability-map", "--edges", "0,.5,1", "--class", "gland"
    ).stderr
    assert "1 block of 1 image, rows to 1, columns to 1, with" in said
    with Study.open(odd) as study:
        means = study.statistics().set_index(["block_class", "mask_class"])["mean"]
        assert (means["0-50 %", "gland"], means["50-100 %", "gland"]) == (0.25, 0.75)
        assert ("0-50 %", "mucus") not in means
        assert len(study.blocks(1)) == 25
        assert study.blocks(1)["class"].str.contains("-").sum() == 1


def test_the_low_resolution_model_gives_classes_of_the_study_itself(odd, tmp_path):
    tifffile.imwrite(tmp_path / "other.tif", np.zeros((80, 120), np.uint16))
    with Study.open(odd) as study:
        study.add_image(tmp_path / "other.tif", height=80, width=120, pixel_size_um=0.5)
    said = run("classify-blocks", odd, "--steps", 2, "--block", "20x28um").stderr
    assert "5 blocks of 2 image(s) got a class" in said
    with Study.open(odd) as study:
        assert study.grid(2) == Grid(40.0, 56.0)
        assert set(study.blocks(2)["class"]) <= set(NAMES)
        study.undo()
        assert len(study.blocks(1)) == 24
        assert len(study.blocks(2)) == 0


def test_statistics_measured_in_painted_blocks(odd):
    assert "paint all pixels of a few blocks" in run("statistics", odd, "--measure", code=2).stderr
    with Study.open(odd) as study:
        code = study.class_named("gland", "mask").code
        study.paint_mask(1, 0, 0, np.full((40, 56), code, np.uint16))
        name = study.blocks(1)["class"].iloc[0]
    shown = run("statistics", odd, "--measure").stdout
    assert "95 % interval" in shown and "measured" in shown
    with Study.open(odd) as study:
        table = study.statistics().set_index(["block_class", "mask_class"])
        # one block all gland; a class without a default is drawn to the mean of it and of equal shares
        assert table.loc[(name, "gland"), "mean"] == pytest.approx((1 + 2 * 2 / 3) / 3)
        assert table.loc[(name, "gland"), "source"] == "measured"
        others = table[table["source"] == "expert"].index.get_level_values(0)
        assert set(others) == set(NAMES) - {name}


def test_a_class_that_nobody_explained(odd):
    with Study.open(odd) as study:
        study.add_class("odd one", kind="block")
    shown = run("statistics", odd)
    assert "Nobody has said what a block of the class 'odd one' contains" in shown.stderr
    assert "nobody" in shown.stdout
