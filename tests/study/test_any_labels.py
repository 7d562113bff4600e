"""Labels of every kind: each undo returns to the rows before, each redo to those after."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from napari_mtssl.study import STATISTICS_COLUMNS, Grid, Study, StudyError

from .conftest import add_image, all_rows

KINDS = {"cell": "tumour", "block": "much", "mask": "gland", "grade": "benign"}


class AnyLabels(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.study = Study.create(Path(self.folder.name) / "any")
        self.empty = all_rows(self.study)
        self.past = [self.empty]
        self.future: list = []

    def teardown(self) -> None:
        """Undo all is empty, redo all is the same; then gone."""
        last = self.future[0] if self.future else self.past[-1]  # what had been undone is redone, too
        while self.study.undo():
            pass
        assert all_rows(self.study) == self.empty
        while self.study.redo():
            pass
        assert all_rows(self.study) == last
        self.study.close()
        self.folder.cleanup()

    def done(self) -> None:
        now = all_rows(self.study)
        if now != self.past[-1]:
            self.past.append(now)
            self.future.clear()

    def image(self, data: st.DataObject) -> int | None:
        images = self.study.images()
        return data.draw(st.sampled_from(images)).id if images else None

    def name(self, data: st.DataObject, kind: str) -> str:
        return data.draw(st.sampled_from([c.name for c in self.study.classes(kind)]))

    @initialize()
    def begin(self) -> None:
        with self.study.edit("Began"):
            for kind, name in KINDS.items():
                self.study.add_class(name, kind=kind)
                self.study.add_class(f"{name} 2", kind=kind)
            add_image(self.study, Path(self.folder.name) / "a.png", 300, 300)
            add_image(self.study, Path(self.folder.name) / "b.png", 300, 300)
        self.done()

    @rule(data=st.data(), size=st.sampled_from([40.0, 64.5]), erase=st.booleans())
    def lay_grid(self, data: st.DataObject, size: float, erase: bool) -> None:
        if (image := self.image(data)) is not None:
            try:
                self.study.set_grid(image, Grid(size, size), erase=erase)
            except StudyError:
                assert len(self.study.blocks(image)) and not erase
            self.done()

    @rule(data=st.data(), n=st.integers(0, 4))
    def blocks(self, data: st.DataObject, n: int) -> None:
        image = self.image(data)
        if image is not None and self.study.grid(image) is not None:
            names = [None, *(c.name for c in self.study.classes("block"))]
            places = st.tuples(st.integers(0, 3), st.integers(0, 3))
            chosen = data.draw(st.dictionaries(places, st.sampled_from(names), max_size=n))
            self.study.set_blocks(image, chosen)
            self.done()

    @rule(data=st.data(), seed=st.integers(0, 99))
    def regions(self, data: st.DataObject, seed: int) -> None:
        image = self.image(data)
        if image is None:
            return
        there = self.study.regions(image)["id"].tolist()
        act = data.draw(st.sampled_from(["add", "class", "delete"])) if there else "add"
        if act == "add" and self.study.classes("block"):
            polygon = np.random.default_rng(seed).uniform(0, 299, (4, 2))
            self.study.add_region(image, polygon, self.name(data, "block"))
        elif act == "class":
            self.study.set_region_class(there[:2], self.name(data, "block"))
        elif act == "delete":
            self.study.delete_regions(there[-1])
        self.done()

    @rule(data=st.data(), row=st.integers(-20, 290), col=st.integers(-20, 290), size=st.integers(1, 60))
    def paint(self, data: st.DataObject, row: int, col: int, size: int) -> None:
        if (image := self.image(data)) is not None:
            code = data.draw(st.sampled_from([0, *(c.code for c in self.study.classes("mask"))]))
            source = data.draw(st.sampled_from(["human", "model"]))
            self.study.paint_mask(image, row, col, np.full((size, size), code), source=source)
            self.done()

    @rule(data=st.data(), complete=st.sampled_from([True, False, None]))
    def complete(self, data: st.DataObject, complete: bool | None) -> None:
        if (image := self.image(data)) is not None:
            if complete is None:
                self.study.clear_mask(image)
            else:
                self.study.set_mask_complete(image, complete)
            self.done()

    @rule(data=st.data(), take=st.booleans(), confidence=st.none() | st.floats(0, 1))
    def image_class(self, data: st.DataObject, take: bool, confidence: float | None) -> None:
        image = self.image(data)
        if image is not None and self.study.classes("grade"):
            name = None if take else self.name(data, "grade")
            self.study.set_image_class(image, "grade", name, source="model", confidence=confidence)
            self.done()

    @rule(mean=st.floats(0, 1), n=st.integers(0, 2))
    def statistics(self, mean: float, n: int) -> None:
        rows = [
            (coarse.name, exact.name, mean, 0.1, "expert")
            for coarse in self.study.classes("block")[:n]
            for exact in self.study.classes("mask")[:n]
        ]
        self.study.set_statistics(pd.DataFrame(rows, columns=STATISTICS_COLUMNS))
        self.done()

    @rule(data=st.data(), row=st.floats(0, 299))
    def cell(self, data: st.DataObject, row: float) -> None:
        if (image := self.image(data)) is not None:
            self.study.add_cell(image, row, 5, self.name(data, "cell"))
            self.done()

    @rule(data=st.data(), kind=st.sampled_from(list(KINDS)))
    def remove_class(self, data: st.DataObject, kind: str) -> None:
        if self.study.classes(kind):
            name = self.name(data, kind)
            before = all_rows(self.study)
            into = data.draw(st.none() | st.sampled_from([c.name for c in self.study.classes(kind)]))
            try:
                self.study.remove_class(name, kind, into=into)
            except StudyError:
                assert all_rows(self.study) == before
            self.done()

    @rule(kind=st.sampled_from(list(KINDS)), n=st.integers(0, 3), note=st.sampled_from(["", "x"]))
    def add_class(self, kind: str, n: int, note: str) -> None:
        names = [c.name for c in self.study.classes(kind)]
        if f"class {n}" in names:
            self.study.update_class(f"class {n}", kind=kind, note=note, colour="#123456")
        else:
            self.study.add_class(f"class {n}", kind=kind, note=note)
        self.done()

    @rule(data=st.data())
    def remove_image(self, data: st.DataObject) -> None:
        if len(self.study.images()) > 1:
            self.study.remove_image(self.image(data))
            self.done()

    @rule(n=st.integers(1, 4))
    def undo(self, n: int) -> None:
        for _ in range(n):
            assert (self.study.undo() is not None) == (len(self.past) > 1)
            if len(self.past) > 1:
                self.future.append(self.past.pop())
            assert all_rows(self.study) == self.past[-1]

    @precondition(lambda self: self.future)
    @rule(n=st.integers(1, 4))
    def redo(self, n: int) -> None:
        for _ in range(n):
            assert (self.study.redo() is not None) == bool(self.future)
            if self.future:
                self.past.append(self.future.pop())
            assert all_rows(self.study) == self.past[-1]

    @rule()
    def reopen(self) -> None:
        counter = self.study.change_counter()
        self.study.close()
        self.study = Study.open(self.study.path)
        assert self.study.change_counter() == counter

    @invariant()
    def same(self) -> None:
        assert all_rows(self.study) == self.past[-1]
        assert self.study._rows("PRAGMA foreign_key_check") == []


TestAnyLabels = AnyLabels.TestCase
TestAnyLabels.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
