"""QuPath's files. The shapes of these come from its documentation and from files of versions 0.2 to 0.5."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_mtssl.study import ImageRecord, ImportReport, Study, StudyError, exchange

from .conftest import add_image, everything, many_cells

RED = {"name": "Tumor", "color": [200, 0, 0]}


def feature(kind: str, coordinates: object, classification: object = RED, **more) -> dict:
    properties = {"objectType": "annotation", **more.pop("properties", {})}
    if classification is not None:
        properties["classification"] = classification
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": properties,
        **more,
    }


def square(x: float, y: float, side: float) -> list:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def load(study: Study, image: ImageRecord, tmp_path: Path, root: object, **options) -> ImportReport:
    path = tmp_path / "in.geojson"
    path.write_text(root if isinstance(root, str) else json.dumps(root), encoding="utf-8")
    return exchange.import_geojson(study, path, image.id, **options)


def places(study: Study) -> list[list]:
    return study.cells()[["row", "col", "class"]].to_numpy().tolist()


@pytest.fixture
def other(tmp_path: Path, image: ImageRecord):
    with Study.create(tmp_path / "other", annotator="bob") as made:
        made.add_image(image.path, height=image.height, width=image.width)
        yield made


# -- reading -------------------------------------------------------


def test_the_centre_of_the_first_pixel(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    load(study, image, tmp_path, feature("Point", [0.5, 0.5]))
    assert places(study) == [[0, 0, "Tumor"]]


@pytest.mark.parametrize(
    ("kind", "coordinates", "expected"),
    [
        ("Point", [20.5, 10.5], [[10, 20]]),
        ("Point", [20, 10, 0], [[9.5, 19.5]]),
        ("MultiPoint", [[20.5, 10.5], [3.75, 4.25]], [[10, 20], [3.75, 3.25]]),
        ("Polygon", [square(10, 20, 4)], [[21.5, 11.5]]),
        ("Polygon", [square(10, 20, 4)[::-1]], [[21.5, 11.5]]),
        ("Polygon", [[[10, 20], [16, 20], [10, 26]]], [[21.5, 11.5]]),  # a triangle that is not closed
        ("MultiPolygon", [[square(0, 0, 2)], [square(100, 100, 1)]], [[0.5, 0.5], [100, 100]]),
        ("Polygon", [[[10, 20], [14, 20], [10, 20]]], [[19.5, 34 / 3 - 0.5]]),  # no area
    ],
)
def test_places(study: Study, image: ImageRecord, tmp_path: Path, kind, coordinates, expected) -> None:
    report = load(study, image, tmp_path, [feature(kind, coordinates)])
    assert report.added == len(expected)
    np.testing.assert_allclose(study.cells()[["row", "col"]], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["detection", "cell"])
def test_a_torn_nucleus_is_one_cell(study: Study, image: ImageRecord, tmp_path: Path, kind: str) -> None:
    torn = feature("MultiPolygon", [[square(0, 0, 1)], [square(20, 30, 4)]])
    torn["properties"]["objectType"] = kind
    load(study, image, tmp_path, torn)
    np.testing.assert_allclose(study.cells()[["row", "col"]], [[31.5, 21.5]])


def test_a_hole_pushes_the_centroid_away(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    load(study, image, tmp_path, feature("Polygon", [square(0, 0, 10), square(5, 5, 5)]))
    expected = (5 * 100 - 7.5 * 25) / 75 - 0.5
    np.testing.assert_allclose(study.cells()[["row", "col"]], [[expected, expected]])


def test_a_cell_is_where_its_nucleus_is(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    nucleus = {"type": "Polygon", "coordinates": [square(10, 10, 2)]}
    load(study, image, tmp_path, feature("Polygon", [square(0, 0, 30)], nucleusGeometry=nucleus))
    assert places(study) == [[10.5, 10.5, "Tumor"]]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: {"type": "FeatureCollection", "features": [f]},
        lambda f: [f],
        lambda f: f,
        lambda f: [feature("Polygon", [square(0, 0, 50)], None, properties={"childObjects": [f]})],
    ],
    ids=["collection", "list", "single", "child"],
)
def test_top_levels(study: Study, image: ImageRecord, tmp_path: Path, wrap) -> None:
    assert load(study, image, tmp_path, wrap(feature("Point", [1.5, 2.5]))).added == 1
    assert places(study) == [[2, 1, "Tumor"]]


@pytest.mark.parametrize(
    ("classification", "name", "colour"),
    [
        ({"name": "Tumor", "color": [200, 0, 0]}, "Tumor", "#c80000"),
        ({"name": "Tumor", "colorRGB": -3670016}, "Tumor", "#c80000"),  # QuPath up to 0.3
        ({"name": "Tumor", "colorRGB": 0x0000FF}, "Tumor", "#0000ff"),
        ({"names": ["Tumor", "Positive"], "color": [250, 62, 62]}, "Tumor: Positive", "#fa3e3e"),
        ({"name": "Tumor: Positive", "color": [1, 2, 3]}, "Tumor: Positive", "#010203"),
        ({"name": "Immune cells"}, "Immune cells", None),
        ("Stroma", "Stroma", None),
    ],
)
def test_classes_and_colours(
    other: Study, image: ImageRecord, tmp_path: Path, classification, name, colour
) -> None:
    report = load(other, image, tmp_path, [feature("Point", [1, 1], classification)])
    assert report.classes_created == (name,)
    made = other.classes()[1]
    assert made.name == name
    assert made.colour == (colour or "#e69f00")
    assert made.key == "1"


def test_a_class_that_is_there_keeps_its_colour(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    before = study.classes()
    root = [feature("Point", [1, 1], {"name": "TUMOUR", "color": [1, 2, 3]})]
    assert load(study, image, tmp_path, root).classes_created == ()
    assert study.classes() == before
    assert places(study) == [[0.5, 0.5, "tumour"]]


def test_what_has_no_class_or_place_is_counted(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    root = [
        feature("Point", [1, 1]),
        feature("Point", [2, 2], None),
        feature("Point", [2, 2], {}),
        feature("LineString", [[0, 0], [5, 5]]),
        feature("MultiPoint", []),
        {"type": "Feature", "geometry": None, "properties": {"classification": RED}},
        {"type": "Feature", "geometry": None, "properties": None},
    ]
    report = load(study, image, tmp_path, root)
    assert (report.added, report.skipped) == (1, 6)
    assert "6 objects left out (no class or no place)" in str(report)


NOT_A_NUMBER = json.dumps(feature("Point", [float("nan"), 1]))  # JSON has none, but programs write it


@pytest.mark.parametrize(
    ("root", "sentence"),
    [
        ("", r"in.geojson is no GeoJSON: Expecting value"),
        ("{'a': 1}", r"in.geojson is no GeoJSON: Expecting property name"),
        ("[1, 2", r"in.geojson is no GeoJSON"),
        ("3", "is JSON, but no GeoJSON"),
        ({"cells": []}, "is JSON, but no GeoJSON"),
        ([1, 2], "is JSON, but no GeoJSON"),
        ({"type": "FeatureCollection"}, "is JSON, but no GeoJSON"),
        ({"type": "FeatureCollection", "features": []}, "no cells to import: it is empty"),
        (
            [feature("Point", [1, 1], None)],
            "no cells to import: of its 1 object none has a class and a place",
        ),
        (
            [feature("Point", [1, 1]), feature("Point", [1])],
            "Object 2 of in.geojson cannot be read as GeoJSON",
        ),
        ([feature("Point", ["a", "b"])], "Object 1 of in.geojson cannot be read"),
        ([feature("Polygon", [[[1, 1], [2]]])], "Object 1 of in.geojson cannot be read"),
        ([feature("Polygon", [1, 2])], "Object 1 of in.geojson cannot be read"),
        ([feature("Point", [1, 1], 7)], "Object 1 of in.geojson cannot be read"),
        (
            [feature("Point", [1, 1], {"name": "x", "color": ["red"]})],
            "Object 1 of in.geojson cannot be read",
        ),
        (NOT_A_NUMBER, "row or column is missing or infinite"),
        (
            [feature("Point", [1, 1]), feature("Point", [1000, 1])],
            "Row 0.5, column 999.5 lies outside slide1.png",
        ),
    ],
)
def test_wrong_files(study: Study, image: ImageRecord, tmp_path: Path, root, sentence: str) -> None:
    study.add_cell(image.id, 9, 9, "tumour")
    before, counter = everything(study), study.change_counter()
    with pytest.raises(StudyError, match=sentence) as caught:
        load(study, image, tmp_path, root)
    assert "\n" not in str(caught.value)
    assert everything(study) == before
    assert study.change_counter() == counter


def test_unknown_image(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no image number 42"):
        exchange.import_geojson(study, tmp_path / "in.geojson", 42)
    with pytest.raises(StudyError, match="no image number 42"):
        exchange.export_geojson(study, 42, tmp_path / "out.geojson")


# -- writing -------------------------------------------------------


def exported(study: Study, image: ImageRecord, tmp_path: Path, **options) -> dict:
    path = tmp_path / "out.geojson"
    n = exchange.export_geojson(study, image.id, path, **options)
    root = json.loads(path.read_text(encoding="utf-8"))
    assert len(root["features"]) == n
    return root


def test_what_qupath_reads(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    study.add_cell(image.id, 10, 20.25, "tumour", source="model", confidence=0.875)
    root = exported(study, image, tmp_path)
    (found,) = root.pop("features")
    assert root == {"type": "FeatureCollection"}
    uuid.UUID(found.pop("id"))
    assert found == {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [20.75, 10.5]},
        "properties": {
            "objectType": "annotation",
            "classification": {"name": "tumour", "color": [255, 0, 0]},
            "metadata": {"source": "model", "status": "accepted"},
            "measurements": {"confidence": 0.875},
        },
    }


def test_an_image_without_cells_is_an_empty_collection(
    study: Study, image: ImageRecord, tmp_path: Path
) -> None:
    assert exported(study, image, tmp_path) == {"type": "FeatureCollection", "features": []}


def test_only_the_cells_of_that_image(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    second = add_image(study, tmp_path / "b.png")
    study.add_cell(image.id, 1, 1, "tumour")
    study.add_cell(second.id, 2, 2, "tumour")
    assert [f["geometry"]["coordinates"] for f in exported(study, second, tmp_path)["features"]] == [
        [2.5, 2.5]
    ]


def test_an_object_keeps_its_name_in_every_export(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    study.add_cells(many_cells(image.id, 20))
    first = [f["id"] for f in exported(study, image, tmp_path)["features"]]
    assert len(set(first)) == 20
    assert [f["id"] for f in exported(study, image, tmp_path)["features"]] == first


def test_predictions_are_detections_and_do_not_come_back_as_labels(
    study: Study, image: ImageRecord, other: Study, tmp_path: Path
) -> None:
    study.add_cell(image.id, 10, 10, "lymphocyte")
    guesses = pd.DataFrame({"row": [10, 50], "col": [11, 60], "class": "tumour", "confidence": [0.9, 0.8]})
    study.set_predictions(image.id, "run", guesses)
    assert len(exported(study, image, tmp_path)["features"]) == 1
    cell, guess = exported(study, image, tmp_path, predictions=True)["features"]
    assert cell["properties"]["objectType"] == "annotation"
    assert guess["properties"]["objectType"] == "detection"
    assert guess["geometry"]["coordinates"] == [60.5, 50.5]
    assert guess["properties"]["measurements"] == {"confidence": 0.8}
    report = exchange.import_geojson(other, tmp_path / "out.geojson", image.id)
    assert (report.added, report.skipped, report.predicted) == (1, 1, 1)
    assert "1 prediction left out (nobody reviewed them)" in str(report)
    report = exchange.import_geojson(other, tmp_path / "out.geojson", image.id, predictions=True)
    assert (report.added, report.unchanged) == (1, 1)
    assert other.cells()[["class", "source", "status", "confidence"]].to_numpy().tolist()[1] == [
        "tumour", "model", "accepted", 0.8,
    ]  # fmt: skip


def test_predictions_without_a_study(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    cells = pd.DataFrame({"row": [1.0, 2.0], "col": [3.0, 4.0], "class": "tumour", "confidence": [0.5, 1.0]})
    path = tmp_path / "p.geojson"
    assert exchange.write_predictions(path, cells, {"tumour": "#0a0b0c"}, "x.png") == 2
    first, second = json.loads(path.read_text())["features"]
    assert first["id"] != second["id"]
    assert first["properties"]["objectType"] == "detection"
    assert first["properties"]["classification"] == {"name": "tumour", "color": [10, 11, 12]}
    assert second["geometry"]["coordinates"] == [4.5, 2.5]
    assert exchange.import_geojson(study, path, image.id, predictions=True).added == 2


def test_there_and_back_with_everything(
    study: Study, image: ImageRecord, other: Study, tmp_path: Path
) -> None:
    study.update_class("tumour", new_name='Tümor: "p53"', colour="#0123ab")
    study.add_cell(image.id, 1, 1, 'Tümor: "p53"')
    study.add_cell(image.id, 2, 2, "background", source="model", status="rejected", confidence=0.1 + 0.2)
    study.add_cell(image.id, 3, 3, "lymphocyte", source="model", status="corrected")
    path = tmp_path / "out.geojson"
    exchange.export_geojson(study, image.id, path)
    exchange.import_geojson(other, path, image.id)
    columns = ["row", "col", "class", "source", "status", "confidence"]
    assert other.cells()[columns].equals(study.cells()[columns])
    assert {(c.name, c.colour) for c in other.classes()} == {(c.name, c.colour) for c in study.classes()}
    for each in (study, other):
        assert exchange.import_geojson(each, path, image.id) == ImportReport(added=0, unchanged=3)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(-0.5, 199.5), st.floats(-0.5, 299.5)), min_size=1, max_size=5))
def test_every_place_comes_back_to_the_last_bit(tmp_path_factory, points) -> None:
    folder = tmp_path_factory.mktemp("bits")
    with Study.create(folder / "s") as study, Study.create(folder / "t") as other:
        image = add_image(study, folder / "a.png")
        other.add_image(image.path, height=image.height, width=image.width)
        with study.edit("All"):
            for i, (row, col) in enumerate(points):
                study.add_class(f"class {i}")  # so that none is the same as another
                study.add_cell(image.id, row, col, f"class {i}")
        exchange.export_geojson(study, image.id, folder / "a.geojson")
        exchange.import_geojson(other, folder / "a.geojson", image.id)
        exchange.export_csv(other, folder / "a.csv")
        exchange.import_csv(study, folder / "a.csv")
        assert places(other) == places(study) == [[r, c, f"class {i}"] for i, (r, c) in enumerate(points)]
