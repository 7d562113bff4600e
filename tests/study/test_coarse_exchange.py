"""Blocks, regions, probability maps and statistics, in and out."""

from __future__ import annotations

import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_mtssl.study import Grid, ImageRecord, Study, StudyError, exchange

from .conftest import add_image, all_rows


@pytest.fixture
def coarse(study: Study, image: ImageRecord) -> ImageRecord:
    """An image of 200 rows and 300 columns with a grid of blocks of 64 by 50 pixels, three with a class."""
    for name, colour in (("little", "#0000ff"), ("much", "#ff0000")):
        study.add_class(name, colour, kind="block")
    study.set_grid(image.id, Grid(64, 50))
    study.set_blocks(image.id, {(0, 0): "much", (1, 2): "little", (3, 5): "much"})
    return image


@pytest.fixture
def fresh(coarse: ImageRecord, tmp_path: Path):
    """Another study of the same image, without labels."""
    with Study.create(tmp_path / "fresh") as made:
        made.add_image(coarse.path, height=200, width=300)
        yield made


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# -- tables of blocks -----------------------------


def test_blocks_go_out_and_come_back(study: Study, coarse: ImageRecord, fresh: Study, tmp_path: Path) -> None:
    assert exchange.export_blocks_csv(study, tmp_path / "b.csv") == 3
    assert (tmp_path / "b.csv").read_text().splitlines()[:2] == ["image,row,col,class", "slide1.png,0,0,much"]
    with pytest.raises(StudyError, match=r"slide1.png has no grid: say how large its blocks are"):
        exchange.import_blocks_csv(fresh, tmp_path / "b.csv")
    report = exchange.import_blocks_csv(fresh, tmp_path / "b.csv", grid=Grid(64, 50))
    assert str(report) == "3 blocks added, 0 already there, new classes: much, little."
    assert fresh.blocks(1).equals(study.blocks(coarse.id))
    counter = fresh.change_counter()
    assert exchange.import_blocks_csv(fresh, tmp_path / "b.csv").unchanged == 3
    assert fresh.change_counter() == counter
    study.set_blocks(coarse.id, {(0, 0): "little"})
    exchange.export_blocks_csv(study, tmp_path / "b.csv")
    assert exchange.import_blocks_csv(fresh, tmp_path / "b.csv").changed == 1
    assert fresh.undo() == "Undone: Imported b.csv"


def test_a_table_may_bring_its_grid(study: Study, coarse: ImageRecord, fresh: Study, tmp_path: Path) -> None:
    study.set_grid(coarse.id, Grid(1 / 3 + 30, 40.5, -2.25, 1e-3), erase=True)
    study.set_blocks(coarse.id, {(1, 1): "much"})
    exchange.export_blocks_csv(study, tmp_path / "b.csv", details=True)
    exchange.import_blocks_csv(fresh, tmp_path / "b.csv")
    assert fresh.grid(1) == study.grid(coarse.id)
    assert fresh.undo() == "Undone: Imported b.csv"
    assert fresh.grid(1) is None


def test_no_blocks_is_a_table_of_names(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    assert exchange.export_blocks_csv(study, tmp_path / "b.csv") == 0
    assert (tmp_path / "b.csv").read_text() == "image,row,col,class\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image,row,col\nslide1.png,1,1\n", "needs the columns image,row,col,class; class is missing"),
        ("image,row,col,class\n", "has no blocks: there is nothing below"),
        (
            "image,row,col,class\nslide1.png,103.5,88,x\n",
            r"line 2: 103.5 in the column row is no index of a bl",
        ),
        ("image,row,col,class\nslide1.png,1,,x\n", "line 2: the column col is empty"),
        ("image,row,col,class\nslide1.png,9,1,x\n", r"Block \(9, 1\) lies outside slide1.png"),
        ("image,row,col,class\nother.png,1,1,x\n", "no image 'other.png'"),
    ],
)
def test_wrong_tables_of_blocks(study: Study, coarse: ImageRecord, tmp_path: Path, text, sentence) -> None:
    before = all_rows(study)
    with pytest.raises(StudyError, match=sentence):
        exchange.import_blocks_csv(study, write(tmp_path / "b.csv", text))
    assert all_rows(study) == before


# -- QuPath -----------------------------


def test_qupath_gets_rectangles_and_polygons(study: Study, coarse: ImageRecord, tmp_path: Path) -> None:
    study.add_region(coarse.id, np.array([[9.5, 19.5], [9.5, 29.5], [20, 29.5]]), "little")
    assert exchange.export_regions_geojson(study, coarse.id, tmp_path / "b.geojson") == 4
    features = json.loads((tmp_path / "b.geojson").read_text())["features"]
    block, region = features[1], features[3]
    assert block["geometry"]["coordinates"] == [
        [[100, 64], [150, 64], [150, 128], [100, 128], [100, 64]]  # x, y
    ]
    assert block["properties"]["classification"] == {"name": "little", "color": [0, 0, 255]}
    assert block["properties"]["objectType"] == "annotation"
    assert region["geometry"]["coordinates"] == [[[20, 10], [30, 10], [30, 20.5], [20, 10]]]
    assert len({f["id"] for f in features}) == 4


def test_regions_go_out_and_come_back(
    study: Study, coarse: ImageRecord, fresh: Study, tmp_path: Path
) -> None:
    simple = np.array([[1 / 3, 2e-17], [50.1, 7], [33, 66]])
    study.add_region(coarse.id, simple, "much")
    outer, hole = [[10, 10], [10, 90], [90, 90], [90, 10]], [[40, 40], [60, 40], [60, 60], [40, 60]]
    study.add_region(coarse.id, exchange_ring([np.array(outer, float), np.array(hole, float)]), "little")
    exchange.export_regions_geojson(study, coarse.id, tmp_path / "r.geojson")
    features = json.loads((tmp_path / "r.geojson").read_text())["features"]
    assert [len(f["geometry"]["coordinates"]) for f in features] == [1, 1, 1, 1, 2]
    report = exchange.import_regions_geojson(fresh, tmp_path / "r.geojson", 1, grid=Grid(64, 50))
    assert (report.added, report.noun) == (5, "coarse label")
    assert fresh.blocks(1).equals(study.blocks(coarse.id))
    np.testing.assert_array_equal(fresh.regions(1)["polygon"][0], simple)  # to the last bit
    for box in ((0, 0, 200, 300), (30, 30, 70, 70)):
        mine, theirs = study.coarse_map(coarse.id, box)[0], fresh.coarse_map(1, box)[0]
        np.testing.assert_array_equal(mine > 0, theirs > 0)
    counter = fresh.change_counter()
    assert exchange.import_regions_geojson(fresh, tmp_path / "r.geojson", 1).unchanged == 5
    assert fresh.change_counter() == counter
    assert fresh.class_named("much", "block").colour == "#ff0000"


def exchange_ring(rings):
    from napari_mtssl.study.polygons import ring_of

    return ring_of(rings)


def test_without_a_grid_rectangles_are_regions(
    study: Study, coarse: ImageRecord, fresh: Study, tmp_path: Path
) -> None:
    exchange.export_regions_geojson(study, coarse.id, tmp_path / "r.geojson")
    report = exchange.import_regions_geojson(fresh, tmp_path / "r.geojson", 1)
    assert (report.added, report.noun) == (3, "region")
    mine, theirs = study.coarse_map(coarse.id, (0, 0, 200, 300))[0], fresh.coarse_map(1, (0, 0, 200, 300))[0]
    np.testing.assert_array_equal(mine > 0, theirs > 0)


def feature(coordinates, kind="Polygon", name: str | None = "much") -> str:
    said = {"classification": {"name": name}} if name else {}
    geometry = {"type": kind, "coordinates": coordinates}
    return json.dumps({"type": "Feature", "geometry": geometry, "properties": said})


SQUARE = [[[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]]


def test_what_is_no_area_is_left_out(study: Study, coarse: ImageRecord, tmp_path: Path) -> None:
    parts = [
        feature(SQUARE),
        feature([1, 2], "Point"),
        feature(SQUARE, name=None),
        feature([SQUARE] * 2, "MultiPolygon"),
    ]
    text = f'{{"type": "FeatureCollection", "features": [{",".join(parts)}]}}'
    report = exchange.import_regions_geojson(study, write(tmp_path / "q.geojson", text), coarse.id)
    assert (report.added, report.unchanged, report.skipped) == (1, 2, 2)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is no GeoJSON"),
        ('{"type": "FeatureCollection", "features": []}', "has no polygons to import: it is empty"),
        (feature([1, 2], "Point"), "of its 1 object none has a class and an area"),
        (feature([[[0, 0], [1, 1]]]), "Object 1 of q.geojson cannot be read"),
        (feature([[[0, "a"]] * 5]), "Object 1 of q.geojson cannot be read"),
        (feature([[[x + 900, y] for x, y in SQUARE[0]]]), "This region lies outside slide1.png"),
    ],
)
def test_wrong_geojson(study: Study, coarse: ImageRecord, tmp_path: Path, text, sentence) -> None:
    before = all_rows(study)
    with pytest.raises(StudyError, match=sentence):
        exchange.import_regions_geojson(study, write(tmp_path / "q.geojson", text), coarse.id)
    assert all_rows(study) == before


# -- probability maps -----------------------------


def test_names_of_bins() -> None:
    assert exchange.bin_names(exchange.BIN_EDGES)[0] == "0-20 %"
    assert exchange.bin_names(exchange.BIN_EDGES)[-2:] == ["90-95 %", "95-100 %"]
    for edges in ([0, 0.5], [0.1, 1], [0, 0.5, 0.5, 1], [1]):
        with pytest.raises(StudyError, match="Edges of bins ascend from 0 to 1"):
            exchange.bin_names(edges)


def test_one_block_to_an_element(study: Study, image: ImageRecord) -> None:
    values = np.array([[0.0, 0.19, 0.2], [0.95, 1.0, np.nan]])
    report = exchange.import_probability_map(study, values, image.id)
    assert report.added == 5
    assert study.grid(image.id) == Grid(100.0, 100.0)
    assert study.blocks(image.id)["class"].tolist() == ["0-20 %", "0-20 %", "20-30 %", "95-100 %", "95-100 %"]
    colours = [study.class_named(n, "block").colour for n in ("0-20 %", "95-100 %")]
    assert colours == ["#2c7bb6", "#d7191c"]
    assert exchange.import_probability_map(study, values, image.id).unchanged == 5


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.tuples(st.integers(1, 60), st.integers(1, 60)), seed=st.integers(0, 99))
def test_blocks_have_the_mean_of_the_elements_in_them(study: Study, image: ImageRecord, shape, seed) -> None:
    values = np.random.default_rng(seed).random(shape)
    study.set_grid(image.id, Grid(50, 60), erase=True)
    exchange.import_probability_map(study, values, image.id, edges=[0, 0.25, 0.5, 0.75, 1])
    rows = np.floor((np.arange(shape[0]) + 0.5) * 200 / shape[0] / 50)
    cols = np.floor((np.arange(shape[1]) + 0.5) * 300 / shape[1] / 60)
    found = study.blocks(image.id).set_index(["i", "j"])["class"]
    for i in range(4):
        for j in range(5):
            inside = values[np.ix_(rows == i, cols == j)]
            if inside.size:
                mean = inside.mean()
            else:  # smaller than an element
                mean = values[int((i + 0.5) * 50 * shape[0] / 200), int((j + 0.5) * 60 * shape[1] / 300)]
            low, high = (float(x) for x in found[(i, j)].removesuffix(" %").split("-"))
            assert low <= 100 * mean <= high


def test_files_of_probabilities(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    values = np.array([[0, 255], [128, 64]], np.uint8)
    iio.imwrite(tmp_path / "p.png", values)
    np.save(tmp_path / "p.npy", values / 255)
    zarr.save(tmp_path / "p.zarr", values / 255)
    rows = "".join(f"slide1,{i},{j},{values[i, j] / 255}\n" for i in range(2) for j in range(2))
    write(tmp_path / "p.csv", f"image,row,col,probability\n{rows}")
    exchange.import_probability_map(study, tmp_path / "p.png", image.id)
    expected = study.blocks(image.id)
    assert expected["class"].tolist() == ["0-20 %", "95-100 %", "50-60 %", "20-30 %"]
    for name in ("p.npy", "p.zarr", "p.csv"):
        study.set_grid(image.id, Grid(99, 99), erase=True)
        study.set_grid(image.id, Grid(100, 150))
        exchange.import_probability_map(study, tmp_path / name, image.id)
        assert study.blocks(image.id).equals(expected)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (np.array([[0.0, 35.0]]), "has values from 0 to 35; probabilities are from 0 to 1"),
        (np.array([[-0.1]]), "probabilities are from 0 to 1"),
        (np.array([[np.nan]]), "probabilities are from 0 to 1"),
        (np.zeros((3, 4, 5)), "has the shape .* rows and columns"),
        ("image,row,col,probability\nslide1.png,0,0,1.5\n", "line 2: a probability is a number from 0 to 1"),
        ("image,row,col,probability\nslide1.png,0,0,\n", "line 2: the column probability is empty"),
        ("image,row,col,class\nslide1.png,0,0,1\n", "needs the columns image,row,col,probability"),
        ("image,row,col,probability\nslide1.png,0,0,0.5\n", "slide1.png has no grid"),
        ("image,row,col,probability\n" + "slide1.png,0,0,0.5\n" * 2, "line 3: this block has a prob"),
        (np.array([["a"]]), "holds no numbers"),
        (np.array([[20.0, 80.0]]), "divide per cent by 100"),
        (np.arange(27, dtype=np.uint8).reshape(3, 3, 3), "is a picture in colour"),
    ],
)
def test_wrong_probabilities(study: Study, image: ImageRecord, tmp_path: Path, source, sentence) -> None:
    before = all_rows(study)
    if isinstance(source, str):
        source = write(tmp_path / "p.csv", source)
    with pytest.raises(StudyError, match=sentence):
        exchange.import_probability_map(study, source, image.id)
    assert all_rows(study) == before


# -- statistics -----------------------------


def test_statistics_go_out_and_come_back(study: Study, coarse: ImageRecord, tmp_path: Path) -> None:
    study.add_class("gland", kind="mask")
    text = "block_class,mask_class,mean,spread\nLITTLE,gland,12.5 %,5%\nmuch,gland,0.875,0.1\n"
    report = exchange.import_statistics_csv(study, write(tmp_path / "s.csv", text))
    assert str(report) == "2 statistics added, 0 already there."
    assert study.statistics().to_numpy().tolist() == [
        ["little", "gland", 0.125, 0.05, "expert"],
        ["much", "gland", 0.875, 0.1, "expert"],
    ]
    before = study.statistics()
    assert exchange.export_statistics_csv(study, tmp_path / "t.csv") == 2
    study.set_statistics(before[:1].assign(mean=0.5))
    report = exchange.import_statistics_csv(study, tmp_path / "t.csv")
    assert (report.added, report.changed) == (1, 1)
    pd.testing.assert_frame_equal(study.statistics(), before)


def test_statistics_make_the_classes_of_a_study_without_any(study: Study, tmp_path: Path) -> None:
    text = "block_class,mask_class,mean,spread\nfull,background,5%,5%\nfull,mucus,95%,5%\nno,mucus,0,0\n"
    report = exchange.import_statistics_csv(study, write(tmp_path / "s.csv", text))
    assert report.classes_created == ("full", "no", "mucus")
    assert [c.name for c in study.classes("mask")] == ["background", "mucus"]
    assert len(study.statistics()) == 3


def test_bins_take_the_name_that_the_study_has_for_them(study: Study, image: ImageRecord) -> None:
    study.add_class("0-50", kind="block")
    study.set_grid(image.id, Grid(image.height, image.width / 2))
    exchange.import_probability_map(study, np.array([[0.2, 0.8]]), image.id, edges=[0, 0.5, 1])
    assert study.blocks(image.id)["class"].tolist() == ["0-50", "50-100 %"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("block_class,mask_class,mean\na,b,1\n", "spread is missing"),
        ("block_class,mask_class,mean,spread\nmany,gland,0.5,0.1\n", "no block class 'many'; it has: little"),
        ("block_class,mask_class,mean,spread\nmuch,gland,50,10\n", "numbers from 0 to 1"),
        ("block_class,mask_class,mean,spread\nmuch,gland,half,0\n", "'half' in the column mean is no number"),
        ("block_class,mask_class,mean,spread\n" + "much,gland,0.5,0.1\n" * 2, "twice"),
    ],
)
def test_wrong_statistics(study: Study, coarse: ImageRecord, tmp_path: Path, text, sentence) -> None:
    study.add_class("gland", kind="mask")
    before = all_rows(study)
    with pytest.raises(StudyError, match=sentence):
        exchange.import_statistics_csv(study, write(tmp_path / "s.csv", text))
    assert all_rows(study) == before


def test_several_images(study: Study, coarse: ImageRecord, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    twin = add_image(study, tmp_path / "sub" / "slide1.png")
    study.set_grid(twin.id, Grid(10, 10))
    study.set_blocks(twin.id, {(5, 5): "much"})
    exchange.export_blocks_csv(study, tmp_path / "b.csv")
    images = pd.read_csv(tmp_path / "b.csv")["image"].unique().tolist()
    assert images == [str(coarse.path), str(twin.path)]
    assert exchange.import_blocks_csv(study, tmp_path / "b.csv").unchanged == 4
