from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from napari_mtssl.study import ImageRecord, Study, StudyError

from .conftest import add_image, everything, many_cells


def test_undo_and_redo_say_what_they_did(study: Study, image: ImageRecord) -> None:
    study.add_cell(image.id, 1, 1, "tumour")
    assert study.can_undo
    assert not study.can_redo
    assert study.undo() == "Undone: Added a tumour cell to slide1.png"
    assert study.cells().empty
    assert study.can_redo
    assert study.redo() == "Redone: Added a tumour cell to slide1.png"
    assert len(study.cells()) == 1
    assert study.redo() is None


def test_nothing_to_undo(study: Study) -> None:
    assert not study.can_undo
    assert study.undo() is None
    assert study.redo() is None
    assert study.change_counter() == 0


def test_edits_of_others_are_counted_and_own_ones_are_not(study: Study, image: ImageRecord) -> None:
    with study.reopen() as other:
        before = study.edits_elsewhere()
        study.add_cell(image.id, 1, 1, "tumour")
        study.undo()
        study.redo()
        with study.edit("nothing at all"):
            pass
        assert (study.edits_elsewhere() - before, other.edits_elsewhere()) == (0, 3)
        other.undo()
        other.redo()
        other.add_cell(image.id, 2, 2, "tumour")
        assert (study.edits_elsewhere() - before, other.edits_elsewhere()) == (3, 3)
    with study.reopen() as again:
        assert again.edits_elsewhere() == 0


def test_undo_restores_the_last_bit(study: Study, image: ImageRecord) -> None:
    row, col, confidence = 1 / 3, 2e-17, np.nextafter(0.7, 1)
    cell = study.add_cell(image.id, row, col, "tumour", source="model", confidence=confidence)
    before = everything(study)
    study.delete_cells(cell)
    study.undo()
    assert everything(study) == before
    assert study.cells()[["row", "col", "confidence"]].to_numpy().tolist() == [[row, col, confidence]]


def test_undo_and_redo_survive_closing(study: Study, image: ImageRecord) -> None:
    ids = study.add_cells(many_cells(image.id, 10))
    study.set_class(ids[:5], "lymphocyte")
    final = everything(study)
    study.delete_cells(ids)
    study.undo()
    study.close()
    with Study.open(study.path) as again:
        assert everything(again) == final
        assert again.can_undo
        assert again.can_redo
        while again.undo():
            pass
        assert everything(again)[0] == []
        assert [c.name for c in again.classes()] == ["background"]
        while again.redo():
            pass
        assert again.cells().empty
        again.undo()
        assert everything(again) == final


def test_a_new_edit_after_undo_drops_what_was_undone(study: Study, image: ImageRecord) -> None:
    study.add_cell(image.id, 1, 1, "tumour")
    study.undo()
    study.add_cell(image.id, 2, 2, "lymphocyte")
    assert not study.can_redo
    assert study.redo() is None
    assert study.cells()["class"].tolist() == ["lymphocyte"]
    study.undo()
    assert study.cells().empty


def test_many_changes_as_one_edit(study: Study, image: ImageRecord) -> None:
    before = everything(study)
    with study.edit("Took over Bob's labels"):
        study.add_class("stroma")
        ids = study.add_cells(many_cells(image.id, 5))
        study.set_class(ids, "stroma")
        study.move_cell(ids[0], 3, 3)
        study.delete_cells(ids[1])
        study.remove_class("lymphocyte")
    after = everything(study)
    assert study.undo() == "Undone: Took over Bob's labels"
    assert everything(study) == before
    study.redo()
    assert everything(study) == after


def test_an_edit_that_fails_half_way_never_happened(study: Study, image: ImageRecord) -> None:
    study.add_cell(image.id, 1, 1, "tumour")
    study.undo()
    before, counter = everything(study), study.change_counter()
    with pytest.raises(StudyError, match="no class 'nonsense'"), study.edit("Two things"):
        study.add_class("stroma")
        study.add_cell(image.id, 1, 1, "nonsense")
    assert everything(study) == before
    assert study.change_counter() == counter
    assert study.can_redo  # nor did it drop what had been undone
    study.add_cell(image.id, 1, 1, "tumour")


def test_an_edit_that_changes_nothing_leaves_no_trace(study: Study, image: ImageRecord) -> None:
    cell = study.add_cell(image.id, 1, 2, "tumour")
    study.add_cell(image.id, 5, 5, "tumour")
    study.undo()
    log, counter = study.edits(), study.change_counter()
    study.move_cell(cell, 1, 2)
    study.set_class(cell, "tumour")
    study.set_status(cell, "accepted")
    study.delete_cells([])
    study.update_class("tumour", new_name="tumour", colour="#ff0000", key="1")
    study.set_split(image.id, "train")
    assert study.edits().equals(log)
    assert study.change_counter() == counter
    assert study.can_redo


def test_the_log_says_who_did_what(study: Study, image: ImageRecord) -> None:
    study.add_cell(image.id, 1, 1, "tumour")
    with Study.open(study.path, annotator="bob") as other:
        other.add_cell(image.id, 2, 2, "tumour")
        other.undo()
    log = study.edits(limit=2)
    assert log["annotator"].tolist() == ["bob", "ada"]
    assert log["what"].tolist() == ["Added a tumour cell to slide1.png"] * 2
    assert log["undone"].tolist() == [True, False]
    assert log["time"].is_monotonic_decreasing
    assert len(study.edits()) == 5


def test_the_counter_grows_with_every_change(study: Study, image: ImageRecord) -> None:
    cell = study.add_cell(image.id, 1, 1, "tumour")
    seen = [study.change_counter()]
    for act in (
        lambda: study.move_cell(cell, 2, 2),
        lambda: study.set_class(cell, "lymphocyte"),
        lambda: study.set_status(cell, "rejected"),
        lambda: study.undo(),
        lambda: study.redo(),
        lambda: study.delete_cells(cell),
        lambda: study.set_split(image.id, "test"),
        lambda: study.update_class("tumour", colour="#123456"),
    ):
        act()
        seen.append(study.change_counter())
    assert seen == list(range(seen[0], seen[0] + len(seen)))


class AnyEdits(RuleBasedStateMachine):
    """Each undo returns to the state before, each redo to the one after, reopened or not."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.study = Study.create(Path(self.folder.name) / "any")
        self.past = [everything(self.study)]
        self.future: list = []
        self.renamed = 0

    def teardown(self) -> None:
        self.study.close()
        self.folder.cleanup()

    def done(self) -> None:
        now = everything(self.study)
        if now != self.past[-1]:
            self.past.append(now)
            self.future.clear()

    def some(self, data: st.DataObject, ids: list[int]) -> list[int]:
        return data.draw(st.lists(st.sampled_from(ids), unique=True, max_size=3)) if ids else []

    @initialize()
    def begin(self) -> None:
        for name in ("tumour", "lymphocyte"):
            self.study.add_class(name)
            self.done()
        add_image(self.study, Path(self.folder.name) / "a.png")
        self.done()

    @rule(n=st.integers(0, 4), seed=st.integers(0, 99), data=st.data())
    def add(self, n: int, seed: int, data: st.DataObject) -> None:
        images, classes = self.study.images(), [c.name for c in self.study.classes()]
        if images:
            image = data.draw(st.sampled_from(images))
            cells = many_cells(image.id, n, seed)
            cells["class"] = data.draw(st.sampled_from(classes))
            self.study.add_cells(cells)
            self.done()

    @rule(data=st.data(), row=st.floats(0, 199), col=st.floats(0, 299))
    def move(self, data: st.DataObject, row: float, col: float) -> None:
        for cell in self.some(data, self.study.cells()["id"].tolist())[:1]:
            self.study.move_cell(cell, row, col)
            self.done()

    @rule(data=st.data(), status=st.sampled_from(["accepted", "corrected", "rejected"]))
    def mark(self, data: st.DataObject, status: str) -> None:
        self.study.set_status(self.some(data, self.study.cells()["id"].tolist()), status)
        self.done()

    @rule(data=st.data())
    def set_class(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([c.name for c in self.study.classes()]))
        self.study.set_class(self.some(data, self.study.cells()["id"].tolist()), name)
        self.done()

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        self.study.delete_cells(self.some(data, self.study.cells()["id"].tolist()))
        self.done()

    @rule(name=st.sampled_from(["a", "b", "c", "d"]), colour=st.sampled_from(["#000000", "#ffffff"]))
    def change_class(self, name: str, colour: str) -> None:
        names = [c.name for c in self.study.classes()]
        if name not in names:
            self.study.add_class(name, colour)
        else:
            self.renamed += 1  # a name that no class had before
            self.study.update_class(name, colour=colour, new_name=f"{name} {self.renamed}")
        self.done()

    @rule(data=st.data())
    def remove_class(self, data: st.DataObject) -> None:
        counts = self.study.counts()["total"]
        unused = [name for name in counts.index[counts == 0] if name != "background"]
        for name in data.draw(st.lists(st.sampled_from(unused), max_size=1)) if unused else []:
            self.study.remove_class(name)
            self.done()

    @rule(name=st.sampled_from(["a.png", "b.png"]), split=st.sampled_from(["train", "test"]))
    def add_image(self, name: str, split: str) -> None:
        found = add_image(self.study, Path(self.folder.name) / name)
        self.done()
        self.study.set_split(found.id, split)
        self.done()

    @rule(data=st.data())
    def remove_image(self, data: st.DataObject) -> None:
        images = self.study.images()
        for image in data.draw(st.lists(st.sampled_from(images), max_size=1)) if images else []:
            self.study.remove_image(image.id)
            self.done()

    @rule(n=st.integers(1, 5))
    def undo(self, n: int) -> None:
        for _ in range(n):
            assert (self.study.undo() is not None) == (len(self.past) > 1)
            if len(self.past) > 1:
                self.future.append(self.past.pop())
            assert everything(self.study) == self.past[-1]

    @precondition(lambda self: self.future)
    @rule(n=st.integers(1, 5))
    def redo(self, n: int) -> None:
        for _ in range(n):
            assert (self.study.redo() is not None) == bool(self.future)
            if self.future:
                self.past.append(self.future.pop())
            assert everything(self.study) == self.past[-1]

    @rule()
    def reopen(self) -> None:
        self.study.close()
        self.study = Study.open(self.study.path)

    @invariant()
    def same(self) -> None:
        assert everything(self.study) == self.past[-1]
        assert self.study.can_undo == (len(self.past) > 1)
        assert self.study.can_redo == bool(self.future)


TestAnyEdits = AnyEdits.TestCase
TestAnyEdits.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
