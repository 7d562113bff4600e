"""In a window of 1400 x 900 nothing of the dock is cut off, and what one presses most is in sight."""

import pytest
from qtpy.QtWidgets import QAbstractButton, QCheckBox, QComboBox, QLabel, QStyle, QStyleOptionComboBox
from superqt import QCollapsible

from napari_mtssl.gui.status import StatusLine
from napari_mtssl.gui.tasks import TASKS
from napari_mtssl.gui.training import State
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


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_choice_of_the_settings_can_be_read(full, task, qtbot):
    full.workspace.set_task(task)
    full.tabs.setCurrentIndex(2)
    full.train_panel.advanced.expand(animate=False)
    qtbot.wait(50)
    boxes = full.train_panel.form.findChildren(QComboBox)
    assert boxes
    for box in boxes:
        option = QStyleOptionComboBox()
        box.initStyleOption(option)
        part = QStyle.SubControl.SC_ComboBoxEditField
        room = box.style().subControlRect(QStyle.ComplexControl.CC_ComboBox, option, part, box).width()
        for at in range(box.count()):
            assert box.fontMetrics().horizontalAdvance(box.itemText(at)) <= room, box.itemText(at)


def test_the_line_below_says_all_of_what_goes_on_beside_a_long_name(full, qtbot, monkeypatch):
    name = "intraepithelial lymphocytes of the crypts"
    full.workspace.study.add_class(name, kind="cell", key="7")
    full.workspace.classes_edited()
    full.workspace.set_active(name, "cell")
    line = full.findChild(StatusLine)
    assert name in line.active.toolTip()
    for state in State:
        with monkeypatch.context() as patched:
            patched.setattr(type(full.runner), "busy", True)
            patched.setattr(full.runner, "look", lambda seen: None)
            patched.setattr(full.runner, "state", state)
            full.crowd.drawn, full.crowd.total = 1_000, 12_345
            full.crowd.changed.emit()
            full.runner.state_changed.emit()
            qtbot.wait(30)
            assert line.state.text() == state.value.split(":")[0] and line.state.toolTip() == state.value
            for label in (line.drawn, line.state):
                assert label.isVisible() and label.width() >= label.sizeHint().width(), label.text()
            assert line.drawn.geometry().right() < line.state.geometry().left()
            assert line.state.geometry().right() < line.stop.geometry().left()
            assert line.stop.geometry().right() < line.width()
