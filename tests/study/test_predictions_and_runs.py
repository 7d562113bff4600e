from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_mtssl.study import PREDICTION_COLUMNS, ImageRecord, Study, StudyError

from .conftest import add_image


def guesses(*places: tuple[float, float], name: str = "tumour") -> pd.DataFrame:
    frame = pd.DataFrame(places, columns=["row", "col"], dtype=float)
    return frame.assign(**{"class": name, "confidence": 0.75, "uncertainty": 0.25})


def test_predictions_are_read_back(study: Study, image: ImageRecord) -> None:
    assert list(study.predictions(image.id).columns) == PREDICTION_COLUMNS
    study.set_predictions(image.id, "run-1", guesses((1, 2), (3, 4)).drop(columns="uncertainty"))
    found = study.predictions(image.id)
    assert found["run"].tolist() == ["run-1"] * 2
    assert found[["row", "col", "confidence"]].to_numpy().tolist() == [[1, 2, 0.75], [3, 4, 0.75]]
    assert np.isnan(found["uncertainty"]).all()
    study.set_predictions(image.id, "run-2", guesses((5, 6)))
    found = study.predictions(image.id)
    assert found[["run", "row", "uncertainty"]].to_numpy().tolist() == [["run-2", 5, 0.25]]


def test_only_the_newest_if_there_are_very_many(study: Study, image: ImageRecord) -> None:
    study.set_predictions(image.id, "run-1", guesses((1, 2), (3, 4), (5, 6)))
    assert study.predictions(image.id, most=2)["row"].tolist() == [3, 5]
    assert study.predictions(image.id, most=9).equals(study.predictions(image.id))


def test_the_most_uncertain_of_a_class_or_a_confidence(study: Study, image: ImageRecord) -> None:
    frame = guesses((1, 2), (3, 4), (5, 6), (7, 8))
    frame = frame.assign(uncertainty=[0.3, np.nan, 0.1, 0.2], confidence=[0.7, 0.1, 0.9, 0.8])
    frame.loc[3, "class"] = "lymphocyte"
    study.set_predictions(image.id, "run-1", frame)
    assert study.count_predictions(image.id) == 4
    assert study.predictions(image.id, 2, doubtful=True)["row"].tolist() == [1, 3]
    assert study.predictions(image.id, class_name="lymphocyte")["row"].tolist() == [7]
    assert study.predictions(image.id, 1, confidence=(0.75, 1.0), doubtful=True)["row"].tolist() == [7]
    assert study.predictions(image.id, 1, box=(4, 0, 9, 9), doubtful=True)["row"].tolist() == [7]


def test_a_box_replaces_its_inside(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    other = add_image(study, tmp_path / "b.png")
    study.set_predictions(other.id, "run-1", guesses((1, 1)))
    study.set_predictions(image.id, "run-1", guesses((0, 0), (9.9, 9.9), (10, 0), (0, 10)))
    study.set_predictions(image.id, "run-2", guesses((5, 5)), box=(0, 0, 10, 10))
    found = study.predictions(image.id)
    assert found[["run", "row", "col"]].to_numpy().tolist() == [
        ["run-1", 10, 0],
        ["run-1", 0, 10],
        ["run-2", 5, 5],
    ]
    assert len(study.predictions(other.id)) == 1


def test_an_empty_prediction_empties(study: Study, image: ImageRecord) -> None:
    study.set_predictions(image.id, "run-1", guesses((1, 2)))
    study.set_predictions(image.id, "run-1", guesses())
    assert study.predictions(image.id).empty


def test_predictions_are_no_labels_and_no_edits(study: Study, image: ImageRecord) -> None:
    cell = study.add_cell(image.id, 1, 1, "lymphocyte")
    before, counter, log = study.cells(), study.change_counter(), study.edits()
    study.set_predictions(image.id, "run-1", guesses((1, 1), (50, 50)))
    assert study.cells().equals(before)
    assert study.change_counter() == counter
    assert study.edits().equals(log)
    study.undo()
    assert len(study.predictions(image.id)) == 2
    study.redo()
    assert study.cells()["id"].tolist() == [cell]


def test_pending_until_there_is_a_cell(study: Study, image: ImageRecord) -> None:
    study.set_predictions(image.id, "run-1", guesses((10, 10), (50, 50)))
    assert len(study.pending_predictions(image.id)) == 2
    study.add_cell(image.id, 10, 15.9, "tumour", source="model")
    pending = study.pending_predictions(image.id)
    assert pending["row"].tolist() == [50]
    assert pending.index.equals(pd.RangeIndex(1))
    assert len(study.pending_predictions(image.id, radius=5)) == 2
    study.undo()
    assert len(study.pending_predictions(image.id)) == 2


def test_predictions_come_back_with_their_class_and_image(study: Study, image: ImageRecord) -> None:
    study.set_predictions(image.id, "run-1", guesses((10, 10)))
    study.update_class("tumour", new_name="carcinoma")
    assert study.predictions(image.id)["class"].tolist() == ["carcinoma"]
    study.remove_class("carcinoma")
    assert study.predictions(image.id).empty
    study.undo()
    study.remove_image(image.id)
    study.undo()
    assert study.predictions(image.id)["class"].tolist() == ["carcinoma"]


def test_an_accepted_prediction_goes_in_as_it_is(study: Study, image: ImageRecord) -> None:
    study.set_predictions(image.id, "run-1", guesses((10, 10)))
    study.add_cells(study.pending_predictions(image.id).assign(source="model", status="accepted"))
    (cell,) = study.cells().itertuples()
    assert (cell.row, cell.col, cell.source, cell.confidence) == (10, 10, "model", 0.75)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (guesses((1, 1), name="stroma"), "no class 'stroma'"),
        (guesses((1, 1)).drop(columns="confidence"), "Predictions need the columns .*; missing: confidence"),
    ],
)
def test_wrong_predictions_leave_the_old_ones(study: Study, image: ImageRecord, frame, sentence) -> None:
    study.set_predictions(image.id, "run-1", guesses((1, 2)))
    with pytest.raises(StudyError, match=sentence):
        study.set_predictions(image.id, "run-2", frame)
    assert study.predictions(image.id)["run"].tolist() == ["run-1"]


def test_predictions_within_an_edit_happen_with_it(study: Study, image: ImageRecord) -> None:
    with pytest.raises(StudyError, match="no class"), study.edit("Both"):
        study.set_predictions(image.id, "run-1", guesses((1, 2)))
        study.add_cell(image.id, 1, 1, "nonsense")
    assert study.predictions(image.id).empty


# -- runs -----------------------------


def test_runs_are_numbered_folders(study: Study) -> None:
    assert study.runs() == []
    first = study.new_run("hydramix")
    named = study.new_run("hydramix", "my.best_run")
    second = study.new_run("hydramix")
    assert [r.name for r in (first, second)] == ["hydramix-0001", "hydramix-0002"]
    assert first.path == study.path / "runs" / "hydramix-0001"
    assert first.path.is_dir()
    assert study.runs() == [first, named, second]
    assert study.run("my.best_run") == named
    assert named.method == "hydramix"
    study.close()
    with Study.open(study.path) as again:
        assert again.runs() == [first, named, second]


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", " x", ".hidden", "a b"])
def test_names_that_are_no_folders(study: Study, name: str) -> None:
    with pytest.raises(StudyError, match="cannot name a run: use letters, digits"):
        study.new_run("hydramix", name)
    assert study.runs() == []


def test_a_run_is_never_replaced(study: Study) -> None:
    run = study.new_run("hydramix", "one")
    (run.path / "last.safetensors").write_text("weights")
    with pytest.raises(StudyError, match="There is a run 'one' already: resume it"):
        study.new_run("hydramix", "one")
    assert (run.path / "last.safetensors").read_text() == "weights"


def test_no_such_run(study: Study) -> None:
    with pytest.raises(StudyError, match="no run 'x'; it has: none"):
        study.run("x")
    study.new_run("hydramix")
    with pytest.raises(StudyError, match="no run 'x'; it has: hydramix-0001"):
        study.run("x")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", json.dumps({"method": "x"}), json.dumps({"method": "x", "created": "?"})]
)
def test_a_damaged_run_says_so(study: Study, text: str) -> None:
    run = study.new_run("hydramix")
    (run.path / "run.json").write_text(text)
    with pytest.raises(StudyError, match=r"run.json is damaged"):
        study.run(run.name)
