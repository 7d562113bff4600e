"""The model behind the dock, without Qt."""

import numpy as np
import pytest

from napari_mtssl.gui.workspace import Workspace, WorkspaceError


@pytest.fixture
def workspace(study_path):
    made = Workspace()
    made.open(study_path)
    yield made
    made.close()


def test_opening_shows_the_first_image_and_a_class_that_is_no_background(workspace):
    assert workspace.image.path.name == "first.png"
    assert workspace.active == "blue"
    assert workspace.class_of_key("2") == "red"


def test_a_click_is_in_the_study_and_can_be_undone(workspace):
    heard = []
    workspace.cells_changed.connect(lambda: heard.append(1))
    before = len(workspace.cells())
    workspace.add_cell(40.0, 41.5)
    last = workspace.cells().iloc[-1]
    assert (last["row"], last["col"], last["class"], last["source"]) == (40.0, 41.5, "blue", "human")
    assert heard
    assert "blue" in workspace.undo()
    assert len(workspace.cells()) == before
    assert workspace.redo()
    assert len(workspace.cells()) == before + 1


def test_several_moved_cells_are_one_edit(workspace):
    ids = workspace.cells()["id"].tolist()[:3]
    workspace.move_cells([(cell, 50.0 + n, 50.0) for n, cell in enumerate(ids)])
    assert sorted(workspace.cells()["row"])[-1] >= 52.0 or 52.0 in workspace.cells()["row"].tolist()
    workspace.undo()
    assert 52.0 not in workspace.cells()["row"].tolist()


@pytest.mark.parametrize(
    ("verdict", "name", "expected"),
    [
        ("accepted", None, ["red", "blue"]),
        ("corrected", "red", ["red", "red"]),
        ("rejected", None, ["background"] * 2),
    ],
)
def test_a_verdict_turns_predictions_into_cells_in_one_edit(workspace, verdict, name, expected):
    import pandas as pd

    frame = pd.DataFrame({"row": [30.0, 60.0], "col": [80.0, 80.0], "class": ["red", "blue"]})
    frame = frame.assign(confidence=[0.9, 0.4], uncertainty=0.5)
    workspace.study.set_predictions(workspace.image.id, "a-run", frame)
    workspace.show_predictions((0, 0, 96, 96), frame)
    before = len(workspace.cells())
    assert len(workspace.pending()) == 2
    workspace.settle(workspace.pending(), verdict, name)
    made = workspace.cells().iloc[before:]
    assert made["class"].tolist() == expected
    assert set(made["source"]) == {"model"}
    assert set(made["status"]) == {verdict}
    np.testing.assert_allclose(made["confidence"], [0.9, 0.4])
    assert len(workspace.pending()) == 0
    workspace.undo()
    assert len(workspace.pending()) == 2


def test_images_go_round_and_round(workspace):
    names = []
    for _ in range(3):
        workspace.step_image(1)
        names.append(workspace.image.path.name)
    assert names == ["second.png", "first.png", "second.png"]


def test_an_image_that_cannot_be_read_leaves_the_old_one_shown(workspace, study_path):
    (study_path.parent / "second.png").unlink()
    with pytest.raises(ValueError, match=r"second\.png"):
        workspace.step_image(1)
    assert workspace.image.path.name == "first.png"


def test_the_active_class_stays_valid_when_its_class_goes(workspace):
    workspace.study.add_class("rare")
    workspace.classes_edited()
    workspace.set_active("rare")
    workspace.study.remove_class("rare")
    workspace.classes_edited()
    assert workspace.active == "blue"


def test_without_a_study_every_action_says_what_to_do(study_path):
    empty = Workspace()
    for action in (
        lambda: empty.add_cell(1, 1),
        empty.undo,
        lambda: empty.step_image(1),
        lambda: empty.add_images([]),
    ):
        with pytest.raises(WorkspaceError, match=r"step|1 Study"):
            action()
