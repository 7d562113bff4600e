from __future__ import annotations

import pytest

from napari_mtssl.cli.studies import Template
from napari_mtssl.gui.tasks import task_of
from napari_mtssl.study import Study, StudyError
from napari_mtssl.study.templates import TEMPLATES, use_template

TASKS = {"cells": "cells", "tissue": "tissue", "lungs": "lungs", "specimens": "specimens"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_one_edit_and_tells_what_is_labelled(name, tmp_path):
    with Study.create(tmp_path / "a.mtssl") as study:
        made = use_template(study, name)
        assert made == len(TEMPLATES[name].classes) > 0
        assert all(found.note and found.key for found in study.classes(None) if not found.background)
        assert task_of(study).name == TASKS[name]
        assert use_template(study, name) == 0  # all are there
        study.undo()
        assert [found.name for found in study.classes(None)] == ["background"]


def test_hep2_has_the_report_s_words(tmp_path):
    with Study.create(tmp_path / "a.mtssl") as study:
        study.add_class("Golgi", kind="pattern", note="mine")
        assert use_template(study, "specimens") == 9
        patterns = {found.name: found for found in study.classes("pattern")}
        assert len(patterns) == 7 and patterns["Golgi"].note == "mine"
        assert patterns["centromere"].note.startswith("Several discrete speckles (40-60)")
        assert [found.key for found in study.classes("intensity")] == ["1", "2"]
        with pytest.raises(StudyError, match="choose one of: cells, tissue, lungs, specimens"):
            use_template(study, "brains")


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_two_classes_of_a_study_have_one_colour(name, tmp_path):
    """Classes of all questions stand side by side on the contact sheet."""
    with Study.create(tmp_path / "a.mtssl") as study:
        use_template(study, name)
        for origin in ("clinic", "portable"):
            study.add_class(origin, kind="origin")
        colours = [found.colour for found in study.classes(None) if not found.background]
        assert len(colours) == len(set(colours))
        for more in range(20):
            study.add_class(f"more {more}", kind="grade")  # more than there are colours
        first = [found.colour for found in study.classes("grade")][:12]
        assert len(first) == len(set(first))


def test_the_command_has_all_of_them():
    assert [template.value for template in Template] == list(TEMPLATES)
