"""In a window of 1400 x 900 nothing of the dock is cut off, and what one presses most is in sight."""

import pytest
from qtpy.QtWidgets import QAbstractButton, QCheckBox, QLabel
from superqt import QCollapsible

from napari_mtssl.gui.tasks import TASKS
from napari_mtssl.study import Study
from napari_mtssl.study.templates import TEMPLATES, use_template

pytestmark = pytest.mark.gui

NARROWEST, SCROLL_BAR = 392, 19  # of the dock, and what frame and bar take of it


@pytest.fixture
def full(make_dock, study_path):
    """A study with classes of all kinds, every section open."""
    with Study.open(study_path) as study:
        for name in TEMPLATES:
            if name != "cells":
                use_template(study, name)
    dock = make_dock(study_path)
    dock.train_panel.library_ready()
    for section in dock.findChildren(QCollapsible):
        section.expand(animate=False)
    dock.train_panel.folds.open_button.show()  # as after a cross-validation
    dock.window().resize(1400, 900)
    dock.window().show()
    return dock


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_no_step_is_wider_than_the_dock(full, task, qtbot):
    full.workspace.set_task(task)
    for step in range(full.tabs.count()):
        full.tabs.setCurrentIndex(step)
        qtbot.wait(20)
        assert full.minimumWidth() == NARROWEST
        panel = full.tabs.currentWidget().widget()
        assert panel.minimumSizeHint().width() <= NARROWEST - SCROLL_BAR, step
        for widget in panel.findChildren(QAbstractButton) + panel.findChildren(QLabel):
            if not widget.isVisible() or (isinstance(widget, QLabel) and widget.wordWrap()):
                continue
            if isinstance(widget, QLabel | QCheckBox) or widget.text():
                assert widget.width() >= widget.sizeHint().width() - 1, widget.text()


def test_train_is_in_sight_with_all_settings_open(full, qtbot):
    full.tabs.setCurrentIndex(2)
    qtbot.wait(50)
    panel, area = full.train_panel, full.tabs.currentWidget()
    assert panel.advanced.isExpanded() and panel.form.fields
    bottom = panel.start_button.mapTo(area.viewport(), panel.start_button.rect().bottomLeft()).y()
    assert bottom < area.viewport().height()


def test_the_list_of_predictions_names_all_its_columns(full, predicted, qtbot):
    predicted(full)
    full.tabs.setCurrentIndex(3)
    qtbot.wait(50)
    table = full.review_panel.table
    header = table.horizontalHeader()
    for column in range(full.review_panel.model.columnCount()):
        text = str(full.review_panel.model.headerData(column, header.orientation()))
        assert header.sectionSize(column) >= header.fontMetrics().boundingRect(text).width() + 4, text
