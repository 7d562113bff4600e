from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_mtssl.study import ImageRecord, ImportReport, Study, StudyError, exchange

from .conftest import add_image, everything, many_cells

PLACES = ["image_id", "row", "col", "class"]


def said(study: Study) -> list[list]:
    return study.cells()[PLACES].to_numpy().tolist()


@pytest.fixture
def other(tmp_path: Path, image: ImageRecord):
    """A second study with the same image, and no classes."""
    with Study.create(tmp_path / "other", annotator="bob") as made:
        made.add_image(image.path, height=image.height, width=image.width)
        yield made


def written(tmp_path: Path, text: str, name: str = "cells.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


# -- CSV -----------------------------------------------------------


def test_csv_there_and_back(study: Study, image: ImageRecord, other: Study, tmp_path: Path) -> None:
    study.add_cells(many_cells(image.id, 100))
    study.add_cell(image.id, 1 / 3, 1e-17, "tumour")
    assert exchange.export_csv(study, tmp_path / "out.csv") == 101
    assert (tmp_path / "out.csv").read_text().partition("\n")[0] == "image,row,col,class"
    report = exchange.import_csv(other, tmp_path / "out.csv")
    assert (report.added, report.unchanged, report.changed, report.skipped) == (101, 0, 0, 0)
    assert set(report.classes_created) == {"tumour", "lymphocyte"}
    assert said(other) == said(study)


def test_csv_with_details(study: Study, image: ImageRecord, other: Study, tmp_path: Path) -> None:
    study.add_cell(image.id, 1, 1, "tumour", source="model", confidence=0.1 + 0.2)
    study.add_cell(image.id, 2, 2, "background", source="model", status="rejected")
    exchange.export_csv(study, tmp_path / "out.csv", details=True)
    exchange.import_csv(other, tmp_path / "out.csv")
    columns = ["row", "class", "source", "status", "confidence"]
    assert other.cells()[columns].equals(study.cells()[columns])


def test_predictions_go_out_beside_labels_and_come_in_only_when_asked_for(
    study: Study, other: Study, image: ImageRecord, tmp_path: Path
) -> None:
    study.add_cell(image.id, 1, 1, "tumour")
    study.add_cell(image.id, 20, 20, "background")
    guesses = pd.DataFrame(
        {"row": [1.0, 40.0], "col": [2.0, 50.0], "class": ["tumour"] * 2, "confidence": [0.7, 0.8]}
    )
    study.set_predictions(image.id, "run", guesses.assign(uncertainty=0.1))
    path = tmp_path / "out.csv"
    assert exchange.export_csv(study, path) == 2
    assert exchange.export_csv(study, path, predictions=True) == 3  # the first is reviewed: it has a label
    assert path.read_text().splitlines() == [
        "image,row,col,class,label,probability",
        "slide1.png,1.0,1.0,tumour,given,",
        "slide1.png,20.0,20.0,background,given,",
        "slide1.png,40.0,50.0,tumour,predicted,0.8",
    ]
    report = exchange.import_csv(other, path)
    assert (report.added, report.background, report.predicted) == (2, 1, 1)
    assert str(report).startswith(
        "1 cell and 1 background point added, 0 already there, 1 prediction left out"
    )
    exchange.import_csv(other, path, predictions=True)
    columns = ["row", "class", "source", "status", "confidence"]
    assert other.cells()[columns].to_numpy().tolist()[2] == [40, "tumour", "model", "accepted", 0.8]
    only = written(tmp_path, "image,row,col,class,label\nslide1,5,5,tumour,predicted\n")
    with pytest.raises(StudyError, match="no labels, only 1 prediction that nobody reviewed"):
        exchange.import_csv(other, only)
    exchange.export_csv(study, path, details=True, predictions=True)
    assert exchange.import_csv(other, path).predicted == 1


def test_images_of_the_same_name_go_by_their_path(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    twin = add_image(study, tmp_path / "b" / image.name)
    study.add_cell(image.id, 1, 1, "tumour")
    study.add_cell(twin.id, 2, 2, "tumour")
    exchange.export_csv(study, tmp_path / "out.csv")
    assert str(exchange.import_csv(study, tmp_path / "out.csv")) == "0 cells added, 2 already there."
    with pytest.raises(
        StudyError, match="'slide1' is more than one image of the study: write its whole path"
    ):
        exchange.import_csv(study, written(tmp_path, "image,row,col,class\nslide1,1,1,tumour\n"))


@pytest.mark.parametrize(
    "text",
    [
        "image,row,col,class\nslide1.png,1.5,2,tumour\n",
        "\ufeffimage;row;col;class\r\nslide1;1.5;2;Tumour\r\n",
        "class\trow\tcol\timage\tnote\ntumour\t1.5\t2\tslide1.png\t\n",
        " image , row , col , class\nslide1.png , 1.5 , 2.0 , tumour \n",
        'image,row,col,class\n"slide1.png","1.5","2","tumour"',
        "image;row;col;class\nslide1;1,5;2,0;tumour\n",
        "sep=;\r\nimage;row;col;class\r\nslide1;1,5;2;tumour\r\n",
        "Image|Row|Col|Class\nslide1|1.5|2|tumour\n",
    ],
    ids=["plain", "excel", "tabs", "spaces", "quotes", "decimal commas", "sep", "bars and capitals"],
)
def test_tables_as_people_write_them(study: Study, image: ImageRecord, tmp_path: Path, text: str) -> None:
    report = exchange.import_csv(study, written(tmp_path, text))
    assert report == ImportReport(added=1, unchanged=0)
    assert said(study) == [[image.id, 1.5, 2.0, "tumour"]]


def test_accents_may_be_signs_of_their_own_as_macos_writes_them(study: Study, tmp_path: Path) -> None:
    import unicodedata

    for form in ("NFC", "NFD"):
        (tmp_path / form).mkdir()
        add_image(study, tmp_path / form / unicodedata.normalize(form, "ä.png"))
    other = {"NFC": "NFD", "NFD": "NFC"}
    for record in study.images():
        name = unicodedata.normalize(other[record.path.parent.name], f"{record.path.parent.name}_ä")
        assert study.find_image(name).id == record.id
    study.remove_image(1)
    table = unicodedata.normalize("NFC", "image,row,col,class\nä,1,2,tumour\n")
    assert exchange.import_csv(study, written(tmp_path, table)).added == 1


def test_a_class_may_be_called_na(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    exchange.import_csv(study, written(tmp_path, "image,row,col,class\nslide1,1,2,NA\n"))
    assert said(study) == [[image.id, 1, 2, "NA"]]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "cells.csv is empty; it needs the columns image,row,col,class"),
        ("image,row,col,class\n", "cells.csv has no cells"),
        (
            "image,row,class\nslide1,1,tumour\n",
            r"needs the columns image,row,col,class; col is missing \(it has: image, row",
        ),
        ("x;y\n1;2\n", "image, row, col, class is missing"),
        (
            "image,row,col,class\nslide9,1,1,tumour\n",
            "line 2: The study .* has no image 'slide9'; it has: slide1.png",
        ),
        (
            "image,row,col,class\nslide1,1,1,tumour\nslide1,one,1,tumour\n",
            "line 3: 'one' in the column row is no number",
        ),
        ("image,row,col,class\nslide1,1,1,tumour\nslide1,1,,tumour\n", "line 3: the column col is empty"),
        ("image,row,col,class\nslide1,1,1,\n", "line 2: the column class is empty"),
        ('image,row,col,class\nslide1,"1,5",1,tumour\n', "line 2: '1,5' in the column row is no number"),
        ('image,row,col,class\nslide1,1,1,"two\nlines"\n', r"'two\?lines' is no name of a class"),
        (f"image,row,col,class\nslide1,1,1,{'x' * 101}\n", "is no name of a class"),
        ("image,row,col,class\nslide1,inf,1,tumour\n", "line 2: Row inf, column 1 lies outside slide1.png"),
        (
            "image,row,col,class\nslide1,1,1,tumour\nslide1,500,1,tumour\n",
            "cells.csv, line 3: Row 500, column 1 lies outside slide1.png",
        ),
        ("\nsep=;\nimage;row;col;class\n\n;;;\nslide1;x;1;tumour\n", "line 6: 'x' in the column row"),
        ("image,row,col,class\n\nslide1,1,,tumour\n", "line 3: the column col is empty"),
        (
            "image,row,col,class\nslide1,1,1,tumour,extra,more\n",
            "cells.csv is no table: its rows hold more values than its first line has names",
        ),
        ('image,row,col,class\n"slide1,1,1,tumour\n', "cells.csv is no table: .*EOF"),
        ("image,row,col,class,status\nslide1,1,1,tumour,maybe\n", "'maybe' is no status"),
        ("image,row,col,class,confidence\nslide1,1,1,tumour,2\n", "confidence is a number from 0 to 1"),
    ],
)
def test_wrong_tables(study: Study, image: ImageRecord, tmp_path: Path, text: str, sentence: str) -> None:
    study.add_cell(image.id, 9, 9, "tumour")
    before, counter = everything(study), study.change_counter()
    with pytest.raises(StudyError, match=sentence) as caught:
        exchange.import_csv(study, written(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert everything(study) == before
    assert study.change_counter() == counter


def test_files_that_are_no_text(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(StudyError, match=r"x.csv is no text in UTF-8"):
        exchange.import_csv(study, tmp_path / "x.csv")
    with pytest.raises(StudyError, match=r"nowhere.csv cannot be read: No such file"):
        exchange.import_csv(study, tmp_path / "nowhere.csv")


# -- merging -------------------------------------------------------


def test_the_same_file_twice_changes_nothing(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    study.add_cells(many_cells(image.id, 30))
    exchange.export_csv(study, tmp_path / "a.csv")
    before, counter, log = everything(study), study.change_counter(), study.edits()
    report = exchange.import_csv(study, tmp_path / "a.csv")
    assert report == ImportReport(added=0, unchanged=30)
    assert everything(study) == before
    assert study.change_counter() == counter
    assert study.edits().equals(log)


def test_what_is_new_is_added_and_the_rest_stays(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    ours = study.add_cell(image.id, 10, 10, "tumour")
    text = "image,row,col,class\nslide1,10.005,10,tumour\nslide1,10.02,10,tumour\nslide1,50,50,lymphocyte\n"
    report = exchange.import_csv(study, written(tmp_path, text))
    assert report == ImportReport(added=2, unchanged=1)
    cells = study.cells()
    assert cells["id"].tolist()[0] == ours
    assert cells[["row", "col"]].to_numpy().tolist() == [[10, 10], [10.02, 10], [50, 50]]


def test_another_class_at_the_same_place_is_told_and_undone(
    study: Study, image: ImageRecord, tmp_path: Path
) -> None:
    study.add_cell(image.id, 10, 10, "tumour")
    study.add_cell(image.id, 20, 20, "tumour", source="model")
    before = everything(study)
    text = "image,row,col,class\nslide1,10,10,lymphocyte\nslide1,20,20,stroma\nslide1,30,30,stroma\n"
    report = exchange.import_csv(study, written(tmp_path, text))
    assert report == ImportReport(added=1, unchanged=0, changed=2, classes_created=("stroma",))
    assert str(report) == "1 cell added, 0 already there, 2 given another class, new classes: stroma."
    cells = study.cells()
    assert cells["class"].tolist() == ["lymphocyte", "stroma", "stroma"]
    assert cells["status"].tolist() == ["accepted", "corrected", "accepted"]
    assert study.undo() == "Undone: Imported cells.csv"
    assert everything(study) == before


def test_two_classes_at_one_place_stay_two(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    path = written(
        tmp_path, "image,row,col,class\nslide1,1,1,tumour\nslide1,1,1,lymphocyte\nslide1,1,1,tumour\n"
    )
    report = exchange.import_csv(study, path)
    assert report == ImportReport(added=2, unchanged=1, contradicted=1)
    assert "1 cell where the file has one of another class, too (both kept)" in str(report)
    assert exchange.import_csv(study, path) == ImportReport(added=0, unchanged=3, contradicted=1)
    assert [c[3] for c in said(study)] == ["tumour", "lymphocyte"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    there=st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abc")), max_size=8, unique=True),
    file=st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abcd")), min_size=1, max_size=8),
)
def test_every_row_is_counted_once_and_a_second_import_adds_nothing(tmp_path_factory, there, file) -> None:
    folder = tmp_path_factory.mktemp("merge")
    with Study.create(folder / "s") as study:
        image = add_image(study, folder / "slide1.png")
        with study.edit("All"):
            for name in "abc":
                study.add_class(name)
            for row, name in there:
                study.add_cell(image.id, row, 0, name)
        before = everything(study)
        text = "image,row,col,class\n" + "".join(f"slide1,{row},0,{name}\n" for row, name in file)
        path = written(folder, text)
        report = exchange.import_csv(study, path)
        assert report.added + report.unchanged + report.changed == len(file)
        assert len(study.cells()) == len(there) + report.added
        now = {(row, name) for _, row, _, name in said(study)}
        assert set(file) <= now
        again = exchange.import_csv(study, path)
        assert (again.added, again.changed, again.unchanged) == (0, 0, len(file))
        if report.added or report.changed:
            study.undo()
        assert everything(study) == before


# -- points --------------------------------------------------------


def test_points_of_a_layer(study: Study, image: ImageRecord) -> None:
    data = np.array([[7, 1.5, 2.5], [7, 3.5, 4.5]])
    frame = exchange.points_to_frame(data, pd.Series(["tumour", "stroma"]))
    assert frame.to_numpy().tolist() == [[1.5, 2.5, "tumour"], [3.5, 4.5, "stroma"]]
    report = exchange.import_points(study, data, image.id, ["tumour", "stroma"])
    assert report == ImportReport(added=2, unchanged=0, classes_created=("stroma",))
    assert exchange.import_points(study, data[:, 1:], image.id, "tumour").changed == 1


@pytest.mark.parametrize(
    ("data", "classes", "sentence"),
    [
        (np.zeros((0, 2)), [], "The layer has no points"),
        (np.zeros((2, 2)), ["tumour"], "There are 2 points, but 1 classes"),
        (np.zeros((2, 2)), ["tumour", np.nan], "1 of 2 points have no class"),
        (np.zeros((2, 2)), ["tumour", ""], "1 of 2 points have no class"),
        (np.zeros(2), "tumour", r"not of shape \(2,\)"),
        (np.array([[np.nan, 1.0]]), "tumour", "row or column is missing"),
        (np.array([[900.0, 1.0]]), "tumour", "lies outside slide1.png"),
    ],
)
def test_wrong_points(study: Study, image: ImageRecord, data, classes, sentence: str) -> None:
    before = everything(study)
    with pytest.raises(StudyError, match=sentence):
        exchange.import_points(study, data, image.id, classes)
    assert everything(study) == before


# -- labels --------------------------------------------------------


@pytest.fixture
def labels(image: ImageRecord) -> np.ndarray:
    out = np.zeros((image.height, image.width), np.int32)
    out[10:13, 20:25] = 7  # centre (11, 22)
    out[0, 0] = 70_000
    out[100:102, 50:52] = 2  # centre (100.5, 50.5)
    return out


def test_centroids_are_those_of_scikit_image(labels: np.ndarray) -> None:
    from skimage.measure import regionprops_table

    rng = np.random.default_rng(0)
    for array in (labels, rng.integers(0, 30, (50, 60)), rng.integers(0, 5, (40, 40)).astype(np.uint8)):
        found = exchange.labels_to_frame(array, "tumour")
        expected = regionprops_table(array, properties=("label", "centroid"))
        np.testing.assert_allclose(found["row"], expected["centroid-0"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(found["col"], expected["centroid-1"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("number", [1, 255])
def test_parts_of_a_mask_are_objects(number: int) -> None:
    mask = np.zeros((40, 50), np.uint8)
    mask[4:7, 10:13] = mask[20:23, 30:33] = mask[23, 33] = number  # the last touches by a corner
    found = exchange.labels_to_frame(mask, {number: "tumour"})
    assert found["class"].tolist() == ["tumour", "tumour"]
    assert found[["row", "col"]].to_numpy()[0].tolist() == [5, 11]
    assert found[["row", "col"]].to_numpy()[1] == pytest.approx([21.2, 31.2])


def test_labels_from_an_array(study: Study, image: ImageRecord, labels: np.ndarray) -> None:
    classes = {7: "tumour", 2: "stroma", 70_000: "tumour"}
    report = exchange.import_labels(study, labels, image.id, classes, source="model")
    assert report == ImportReport(added=3, unchanged=0, classes_created=("stroma",))
    expected = [[image.id, 100.5, 50.5, "stroma"], [image.id, 11, 22, "tumour"], [image.id, 0, 0, "tumour"]]
    assert said(study) == expected
    assert study.cells()["source"].tolist() == ["model"] * 3


def test_a_photo_and_a_map_of_classes_are_no_label_images(study: Study, image: ImageRecord) -> None:
    rng, before = np.random.default_rng(0), everything(study)
    spots = np.kron(rng.integers(0, 3, (40, 60)), np.ones((5, 5), int))  # 1 tumour, 2 stroma, all over
    for array in (rng.integers(0, 255, (200, 300)).astype(np.uint8), spots):
        with pytest.raises(StudyError, match=r"a label image is no label image: its .* separate areas"):
            exchange.import_labels(study, array, image.id, "tumour")
    assert everything(study) == before


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.png"])
def test_labels_from_a_file(
    study: Study, image: ImageRecord, labels: np.ndarray, tmp_path: Path, name: str
) -> None:
    import imageio.v3
    import tifffile

    labels = np.where(labels == 70_000, 300, labels).astype(np.uint16)
    path = tmp_path / name
    {".npy": np.save, ".tif": tifffile.imwrite, ".png": imageio.v3.imwrite}[path.suffix](path, labels)
    assert exchange.import_labels(study, path, image.id, "tumour").added == 3
    assert exchange.import_labels(study, str(path), image.id, "tumour") == ImportReport(added=0, unchanged=3)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda a: a[:-1], r"have the shape \(199, 300\), but slide1.png has 200 rows and 300 columns"),
        (lambda a: a > 0, "not 2-dimensional bool; number the objects of a mask first"),
        (lambda a: a.astype(float), "not 2-dimensional float64"),
        (lambda a: a * 0, "no objects: it is 0 everywhere"),
        (lambda a: np.stack([a] * 3, axis=-1), r"have the shape \(200, 300, 3\)"),
    ],
)
def test_wrong_labels(study: Study, image: ImageRecord, labels: np.ndarray, wrong, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        exchange.import_labels(study, wrong(labels), image.id, "tumour")
    assert study.cells().empty


def test_a_label_without_a_class(study: Study, image: ImageRecord, labels: np.ndarray) -> None:
    with pytest.raises(StudyError, match="The label 2 has no class"):
        exchange.import_labels(study, labels, image.id, {7: "tumour", 70_000: "tumour"})


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.png"])
def test_label_files_that_are_none(study: Study, image: ImageRecord, tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match="There is no file"):
        exchange.import_labels(study, tmp_path / name, image.id, "tumour")
    (tmp_path / name).write_bytes(b"no picture at all")
    with pytest.raises(StudyError, match=f"{name} cannot be read as a label image"):
        exchange.import_labels(study, tmp_path / name, image.id, "tumour")


def test_no_pickle_is_loaded(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StudyError, match=r"a.npy cannot be read as a label image"):
        exchange.import_labels(study, tmp_path / "a.npy", image.id, "tumour")


# -- writing -------------------------------------------------------


def test_an_export_that_fails_leaves_the_old_file(
    study: Study, image: ImageRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.add_cell(image.id, 1, 1, "tumour")
    path = written(tmp_path, "old", "out.csv")
    before = sorted(p.name for p in tmp_path.iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StudyError, match=r"out.csv cannot be written: No space left on device"):
        exchange.export_csv(study, path)
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_link_stays_one_and_what_is_no_file_is_not_replaced(
    study: Study, image: ImageRecord, tmp_path: Path
) -> None:
    import threading

    study.add_cell(image.id, 1, 1, "tumour")
    (tmp_path / "real").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "real" / "out.csv")
    exchange.export_csv(study, tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    text = (tmp_path / "real" / "out.csv").read_text()
    os.mkfifo(tmp_path / "pipe")  # as /dev/stdout may be one
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    exchange.export_csv(study, tmp_path / "pipe")
    reader.join(10)
    assert read == [text]
    assert (tmp_path / "pipe").is_fifo()


def test_where_nothing_can_be_written(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "folder.csv", tmp_path):
        with pytest.raises(StudyError, match="cannot be written"):
            exchange.export_csv(study, path)


def test_exports_have_the_permissions_of_any_file(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    exchange.export_csv(study, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").stat().st_mode == written(tmp_path, "").stat().st_mode


def test_a_read_only_study_can_be_exported(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    study.add_cell(image.id, 1, 1, "tumour")
    study._db.read_only = True
    assert exchange.export_csv(study, tmp_path / "out.csv") == 1
    with pytest.raises(StudyError, match="can only be read"):
        exchange.import_csv(study, tmp_path / "out.csv")
