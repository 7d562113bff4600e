from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_mtssl.study import CELL_COLUMNS, ImageRecord, Study, StudyError

from .conftest import add_image, many_cells


def test_a_click_is_read_back_with_who_and_when(study: Study, image: ImageRecord) -> None:
    before = pd.Timestamp.now(tz="UTC")
    cell = study.add_cell(image.id, 10.25, 20.75, "tumour")
    cells = study.cells()
    assert list(cells.columns) == CELL_COLUMNS
    assert cells.index.equals(pd.RangeIndex(1))
    (row,) = cells.itertuples(index=False)
    assert row[:7] == (cell, image.id, 10.25, 20.75, "tumour", "human", "accepted")
    assert np.isnan(row.confidence)
    assert row.annotator == "ada"
    assert before <= row.time <= pd.Timestamp.now(tz="UTC")


def test_an_empty_study_has_a_table_of_the_same_types(study: Study, image: ImageRecord) -> None:
    empty = study.cells()
    study.add_cell(image.id, 1, 2, "tumour", confidence=0.5)
    assert len(empty) == 0
    assert list(empty.columns) == CELL_COLUMNS
    assert empty.dtypes.equals(study.cells().dtypes)


def test_cells_of_one_image_and_of_one_split(study: Study, image: ImageRecord, tmp_path) -> None:
    other = add_image(study, tmp_path / "slide2.png", split="validation")
    a = study.add_cell(image.id, 1, 1, "tumour")
    b = study.add_cell(other.id, 2, 2, "tumour")
    assert study.cells(image.id)["id"].tolist() == [a]
    assert study.cells(split="validation")["id"].tolist() == [b]
    assert study.cells(image.id, split="validation").empty
    assert study.cells()["id"].tolist() == [a, b]


def test_counts_follow_the_order_of_classes(study: Study, image: ImageRecord) -> None:
    study.add_cell(image.id, 1, 1, "tumour")
    study.add_cell(image.id, 2, 1, "tumour", source="model", confidence=0.9)
    study.add_cell(image.id, 3, 1, "background", source="model", status="rejected")
    counts = study.counts()
    assert counts.index.tolist() == ["background", "tumour", "lymphocyte"]
    assert counts.loc["tumour"].to_dict() == {"human": 1, "model": 1, "total": 2}
    assert counts.loc["background"].to_dict() == {"human": 0, "model": 1, "total": 1}
    assert counts.loc["lymphocyte"].to_dict() == {"human": 0, "model": 0, "total": 0}


def test_move(study: Study, image: ImageRecord) -> None:
    human = study.add_cell(image.id, 1, 1, "tumour")
    model = study.add_cell(image.id, 2, 2, "tumour", source="model", confidence=0.7)
    study.move_cell(human, 5, 6)
    study.move_cell(model, 7, 8)
    cells = study.cells()
    assert cells[["row", "col"]].to_numpy().tolist() == [[5, 6], [7, 8]]
    assert cells["status"].tolist() == ["accepted", "corrected"]
    assert cells["source"].tolist() == ["human", "model"]


def test_set_class_corrects_predictions_and_leaves_others_of_that_class(
    study: Study, image: ImageRecord
) -> None:
    human = study.add_cell(image.id, 1, 1, "tumour")
    model = study.add_cell(image.id, 2, 2, "tumour", source="model")
    right = study.add_cell(image.id, 3, 3, "lymphocyte", source="model")
    study.set_class([human, model, right], "lymphocyte")
    cells = study.cells()
    assert cells["class"].tolist() == ["lymphocyte"] * 3
    assert cells["status"].tolist() == ["accepted", "corrected", "accepted"]


def test_a_rejected_prediction_is_background(study: Study, image: ImageRecord) -> None:
    cell = study.add_cell(image.id, 1, 1, "tumour", source="model")
    study.set_status(cell, "rejected")
    assert study.cells()[["class", "status"]].to_numpy().tolist() == [["background", "rejected"]]
    with pytest.raises(StudyError, match="rejected prediction is kept as a cell of the class 'background'"):
        study.add_cell(image.id, 1, 1, "tumour", source="model", status="rejected")


def test_deleted_cells_stay_deleted_after_reopening(study: Study, image: ImageRecord) -> None:
    ids = study.add_cells(many_cells(image.id, 10))
    study.delete_cells(ids[2:5])
    study.close()
    with Study.open(study.path) as again:
        assert again.cells()["id"].tolist() == ids[:2] + ids[5:]


def test_an_id_is_never_used_again(study: Study, image: ImageRecord) -> None:
    first = study.add_cell(image.id, 1, 1, "tumour")
    study.undo()
    second = study.add_cell(image.id, 1, 1, "tumour")
    study.delete_cells(second)
    assert first < second < study.add_cell(image.id, 1, 1, "tumour")


def test_add_cells_keeps_the_order_and_all_columns(study: Study, image: ImageRecord) -> None:
    frame = many_cells(image.id, 50).assign(
        source="model", status="accepted", confidence=np.linspace(0, 1, 50)
    )
    ids = study.add_cells(frame.assign(uncertainty=0.1))
    cells = study.cells()
    assert cells["id"].tolist() == ids
    for column in frame:
        assert cells[column].tolist() == frame[column].tolist()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"class": "stroma"}, "no class 'stroma', only background, tumour, lymphocyte: add it"),
        ({"row": -2.0}, "Row -2, column .* lies outside slide1.png, which has 200 rows and 300 columns"),
        ({"col": 301.5}, "lies outside slide1.png"),
        ({"row": float("nan")}, "Row nan"),
        ({"row": "here"}, "column 'row' holds something that is no number"),
        ({"image_id": 99}, "no image number 99"),
        ({"source": "robot"}, "'robot' is no source. Choose one of: human, model"),
        ({"status": "done"}, "'done' is no status. Choose one of: accepted, corrected, rejected"),
        ({"confidence": 1.5}, "confidence is a number from 0 to 1"),
    ],
)
def test_one_wrong_row_and_nothing_is_added(study: Study, image: ImageRecord, change, sentence) -> None:
    frame = many_cells(image.id, 3)
    wrong = pd.concat([frame, frame[:1].assign(**change)], ignore_index=True)
    for column, default in {"source": "human", "status": "accepted"}.items():
        if column in wrong:
            wrong[column] = wrong[column].fillna(default)
    counter = study.change_counter()
    with pytest.raises(StudyError, match=sentence):
        study.add_cells(wrong)
    assert study.cells().empty
    assert study.change_counter() == counter


def test_missing_columns_are_named(study: Study, image: ImageRecord) -> None:
    with pytest.raises(StudyError, match="missing: col, class"):
        study.add_cells(pd.DataFrame({"image_id": [image.id], "row": [1.0]}))


def test_what_is_not_there_cannot_be_changed(study: Study, image: ImageRecord) -> None:
    cell = study.add_cell(image.id, 1, 1, "tumour")
    for act in (
        lambda: study.move_cell(77, 1, 1),
        lambda: study.set_class([cell, 77], "lymphocyte"),
        lambda: study.set_status(77, "accepted"),
        lambda: study.delete_cells([cell, 77]),
    ):
        with pytest.raises(StudyError, match="no cell number 77"):
            act()
    assert study.cells()["class"].tolist() == ["tumour"]


def test_the_edge_of_an_image_is_inside(study: Study, image: ImageRecord) -> None:
    study.add_cell(image.id, -0.5, -0.5, "tumour")
    study.add_cell(image.id, 199.5, 299.5, "tumour")
    assert len(study.cells()) == 2
