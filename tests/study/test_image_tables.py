"""Tables of images: classes, groups and splits."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from napari_mtssl.study import ImageRecord, Study, StudyError, exchange

from .conftest import add_image, all_rows


@pytest.fixture
def two(study: Study, image: ImageRecord, tmp_path: Path) -> Study:
    add_image(study, tmp_path / "slide2.png")
    return study


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def said(study: Study) -> list:
    return study.image_classes()[["image_id", "kind", "class"]].to_numpy().tolist()


def test_one_head(two: Study, tmp_path: Path) -> None:
    text = "image,class,group,split\nslide1,normal,anna,train\nslide2.png,,bob,Test\n"
    report = exchange.import_image_classes(two, write(tmp_path / "c.csv", text))
    assert str(report) == (
        "1 image class added, 0 already there, 2 images put into another group or split, new classes: normal."
    )
    assert said(two) == [[1, "diagnosis", "normal"]]
    assert [(i.group, i.split) for i in two.images()] == [("anna", "train"), ("bob", "test")]
    assert exchange.export_image_classes(two, tmp_path / "d.csv") == 2
    assert (tmp_path / "d.csv").read_text() == (
        "image,class,group,split\nslide1.png,normal,anna,train\nslide2.png,,bob,test\n"
    )
    counter = two.change_counter()
    assert exchange.import_image_classes(two, tmp_path / "d.csv").unchanged == 1
    assert two.change_counter() == counter
    assert two.undo() == "Undone: Imported c.csv"
    assert said(two) == [] and two.images()[1].split == "train"


def test_columns_in_capitals(two: Study, tmp_path: Path) -> None:
    text = "Image,Class,Group,Split,Origin\nslide1,normal,anna,test,clinic\n"
    exchange.import_image_classes(two, write(tmp_path / "c.csv", text))
    assert said(two) == [[1, "diagnosis", "normal"], [1, "origin", "clinic"]]
    assert (two.images()[0].group, two.images()[0].split) == ("anna", "test")
    exchange.export_image_classes(two, tmp_path / "d.csv", predictions=True)
    assert "origin_predicted" not in (tmp_path / "d.csv").read_text()  # nobody predicts it


def test_the_only_head_or_the_one_that_is_named(two: Study, tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "image,class\nslide1,high\n")
    two.add_class("low", kind="grade")
    exchange.import_image_classes(two, path)
    exchange.import_image_classes(two, path, kind="intensity")
    assert said(two) == [[1, "grade", "high"], [1, "intensity", "high"]]


def test_a_column_for_each_head(two: Study, tmp_path: Path) -> None:
    text = "image;Pattern;intensity;group\nslide1;speckled;positive;a\nslide2;speckled;;b\n"
    report = exchange.import_image_classes(two, write(tmp_path / "c.csv", text))
    assert report.added == 3
    assert said(two) == [[1, "intensity", "positive"], [1, "pattern", "speckled"], [2, "pattern", "speckled"]]
    exchange.export_image_classes(two, tmp_path / "d.csv")
    assert (tmp_path / "d.csv").read_text().splitlines()[:2] == [
        "image,pattern,intensity,group,split",
        "slide1.png,speckled,positive,a,train",
    ]
    exchange.export_image_classes(two, tmp_path / "e.csv", kind="intensity")
    assert (tmp_path / "e.csv").read_text().startswith("image,class,group,split\nslide1.png,positive,a")


def test_tables_as_they_are_published(two: Study, tmp_path: Path) -> None:
    text = "patient ID,name,grade\n4,slide1,benign\n7,slide2,malignant\n"
    assert exchange.import_image_classes(two, write(tmp_path / "Grade.csv", text)).added == 2
    assert [i.group for i in two.images()] == ["4", "7"]
    assert said(two) == [[1, "grade", "benign"], [2, "grade", "malignant"]]


def test_where_images_come_from(two: Study, tmp_path: Path) -> None:
    text = "image,class,origin\nslide1,normal,clinic\nslide2,,portable\n"
    exchange.import_image_classes(two, write(tmp_path / "c.csv", text))
    assert said(two) == [[1, "diagnosis", "normal"], [1, "origin", "clinic"], [2, "origin", "portable"]]
    exchange.import_image_classes(two, write(tmp_path / "d.csv", "image,class\nslide2,normal\n"))
    exchange.export_image_classes(two, tmp_path / "e.csv")
    lines = (tmp_path / "e.csv").read_text().splitlines()
    assert lines[0] == "image,class,origin,group,split" and lines[2].startswith("slide2.png,normal,portable")
    assert exchange.import_image_classes(two, tmp_path / "e.csv").added == 0


def test_a_changed_class_is_counted(two: Study, tmp_path: Path) -> None:
    two.add_class("normal", kind="diagnosis")
    two.set_image_class(1, "diagnosis", "normal")
    report = exchange.import_image_classes(two, write(tmp_path / "c.csv", "image,class\nslide1,ill\n"))
    assert (report.added, report.changed) == (0, 1)
    assert said(two) == [[1, "diagnosis", "ill"]]


def test_predictions_go_out_and_do_not_come_in(two: Study, tmp_path: Path) -> None:
    for name in ("normal", "ill"):
        two.add_class(name, kind="diagnosis")
    two.add_class("high", kind="grade")
    two.set_image_class(1, "grade", "high")
    frame = pd.DataFrame({"kind": "diagnosis", "class": ["normal", "ill"], "probability": [0.2, 0.8]})
    two.set_image_prediction(2, "r", frame)
    exchange.export_image_classes(two, tmp_path / "d.csv", predictions=True)
    table = pd.read_csv(tmp_path / "d.csv")
    assert table["diagnosis_predicted"].fillna("").tolist() == ["", "ill"]
    assert table["diagnosis_probability"][1] == 0.8
    before = all_rows(two)
    exchange.import_image_classes(two, tmp_path / "d.csv")
    assert all_rows(two) == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "picture,class\nslide1,a\n",
            r"needs the columns image; image is missing \(it has: picture, class\)",
        ),
        ("image\nslide1\n", "needs a column class, or one column for each head"),
        ("image,class\nslide9,a\n", "has no image 'slide9'"),
        ("image,class,split\nslide1,a,later\n", "line 2: 'later' is no split. Choose one of: train"),
        ("image,class\nslide1,a\nslide1.png,b\n", r"line 3: slide1.png is there twice"),
        ("image,class\n", "has no images: there is nothing below"),
        ("image,cell\nslide1,a\n", "The cell classes are not for whole images"),
        ("image,class,Class\nslide1,a,b\n", "2 columns called class"),
        ("image,Grade,GRADE\nslide1,a,b\n", "2 columns called grade"),
        ("image,25%\nslide1,a\n", "'25%' names no kind of class"),
    ],
)
def test_wrong_tables(two: Study, tmp_path: Path, text, sentence) -> None:
    before = all_rows(two)
    with pytest.raises(StudyError, match=sentence):
        exchange.import_image_classes(two, write(tmp_path / "c.csv", text))
    assert all_rows(two) == before


def test_a_head_that_is_not_there(two: Study, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no classes of the kind 'grade'; it has: none"):
        exchange.export_image_classes(two, tmp_path / "d.csv", kind="grade")


def test_images_of_one_group_never_part(two: Study, tmp_path: Path) -> None:
    table = tmp_path / "splits.csv"
    table.write_text("image,group,split\nslide1,anna,train\nslide2,anna,test\n")
    with pytest.raises(StudyError, match="group 'anna' into train and test, but images of one group"):
        exchange.import_image_classes(two, table)
    assert two.parted_groups() == {} and "anna" not in {image.group for image in two.images()}
    table.write_text("image,group,split\nslide1,anna,test\nslide2,anna,test\n")
    exchange.import_image_classes(two, table)
    table.write_text("image,split\nslide1,train\n")
    with pytest.raises(StudyError, match="also those that the file does not name"):
        exchange.import_image_classes(two, table)
    two.set_split(two.images()[0].id, "train")  # from Python it can be done, one after the other
    assert two.parted_groups() == {"anna": ("train", "test")}
    table.write_text("image,class\nslide1,normal\n")
    exchange.import_image_classes(two, table)  # which changes nothing about it


@pytest.mark.parametrize(
    ("header", "twice"),
    [("image,class,class", "class"), ("image,pattern, pattern", "pattern"), ("image,class,image", "image")],
)
def test_two_columns_of_one_name_are_refused(study, image, tmp_path, header, twice):
    (tmp_path / "t.csv").write_text(f"{header}\nslide1,a,b\n")
    before = all_rows(study)
    with pytest.raises(StudyError, match=rf"t.csv has 2 columns called {twice}: keep the one that is meant"):
        exchange.import_image_classes(study, tmp_path / "t.csv")
    assert all_rows(study) == before


def test_two_columns_that_nobody_reads_do_not_matter(study, image, tmp_path):
    (tmp_path / "t.csv").write_text("image,row,col,class,note,note,,\nslide1,1,2,tumour,a,b,,\n")
    assert exchange.import_csv(study, tmp_path / "t.csv").added == 1
    (tmp_path / "t.csv").write_text("image,row,col,class,label,label\nslide1,1,2,tumour,given,predicted\n")
    with pytest.raises(StudyError, match="2 columns called label"):
        exchange.import_csv(study, tmp_path / "t.csv")
