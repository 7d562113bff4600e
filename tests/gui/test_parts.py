"""The small parts: calls kept apart, mistakes in words, curves, work in threads."""

import sqlite3

import pytest
from psygnal import Signal

from napari_mtssl.gui import worker
from napari_mtssl.gui.notify import guarded, in_words
from napari_mtssl.gui.plots import Curves
from napari_mtssl.gui.rows import Calmly
from napari_mtssl.study import StudyError

pytestmark = pytest.mark.gui


def test_calls_are_kept_apart_and_none_is_lost(qtbot):
    calls = []
    calmly = Calmly(lambda: calls.append(1), interval=50)
    for _ in range(20):
        calmly()
    qtbot.waitUntil(lambda: len(calls) == 1, timeout=2000)
    for _ in range(20):
        calmly()
    assert len(calls) == 1
    qtbot.waitUntil(lambda: len(calls) == 2, timeout=2000)
    calmly()
    calmly.now()
    assert len(calls) == 3
    calmly()
    calmly.stop()
    qtbot.wait(120)
    assert len(calls) == 3


class Emitter:
    changed = Signal()


def test_our_mistakes_have_words_and_defects_have_none():
    assert in_words(StudyError("Say so.")) == "Say so."
    assert "folder" in in_words(sqlite3.OperationalError("disk I/O error"))
    assert "'/x/y'" in in_words(FileNotFoundError(2, "No such file", "/x/y"))
    assert in_words(ValueError("numpy says")) is None
    assert in_words(KeyError("a")) is None


def test_a_mistake_inside_a_signal_keeps_its_words():
    def refuse():
        raise StudyError("Read only.")

    emitter = Emitter()
    emitter.changed.connect(refuse)
    with pytest.raises(Exception, match="Read only") as caught:
        emitter.changed.emit()
    assert in_words(caught.value) == "Read only."


def test_a_guarded_slot_tells_mistakes_drops_what_qt_adds_and_lets_defects_through(told):
    class Panel:
        @guarded
        def slot(self, wanted):
            if wanted == "mistake":
                raise StudyError("Change this.")
            if wanted == "defect":
                raise KeyError("oops")
            return wanted

    panel = Panel()
    assert panel.slot("fine", True) == "fine"
    panel.slot("mistake", False)
    assert ("warning", "Change this.") in told
    with pytest.raises(KeyError):
        panel.slot("defect")


def test_curves_keep_recent_detail_and_draw_only_when_seen(qtbot):
    curves = Curves("Loss", "nothing yet")
    qtbot.addWidget(curves)
    for step in range(5000):
        curves.add(step, {"total": 1 / (step + 1)})
    steps, values = curves.data["total"]
    assert len(steps) <= Curves.MAX_POINTS
    assert steps == sorted(steps)
    assert steps[-5:] == [4995, 4996, 4997, 4998, 4999]
    assert len(values) == len(steps)
    curves.draw()
    assert not curves._curves
    curves.show()
    curves.draw()
    assert list(curves._curves) == ["total"]
    curves.clear()
    assert not curves.data


def test_what_a_thread_raises_comes_as_a_last_event_in_words(qtbot):
    heard, ended = [], []

    def work():
        yield 1
        raise StudyError("The study is gone.")

    worker.start(work, on_event=heard.append, on_end=lambda: ended.append(1), ask_to_end=lambda: None)
    qtbot.waitUntil(lambda: bool(ended), timeout=5000)
    assert heard[0] == 1
    assert heard[1].reason == "The study is gone."
    assert heard[1].detail == ""  # the sentence says all


def test_a_defect_in_a_thread_is_said_with_its_traceback(qtbot):
    heard, ended = [], []

    def work():
        yield 1
        raise ZeroDivisionError("1 / 0")

    worker.start(work, on_event=heard.append, on_end=lambda: ended.append(1), ask_to_end=lambda: None)
    qtbot.waitUntil(lambda: bool(ended), timeout=5000)
    assert "ZeroDivisionError" in heard[1].reason and "Traceback" in heard[1].detail


def test_quitting_asks_and_the_last_words_arrive(qtbot):
    import time

    asked, heard, ended = [], [], []

    def work():
        while not asked:
            yield "busy"
            time.sleep(0.01)
        yield "bye"

    made = worker.start(
        work, on_event=heard.append, on_end=lambda: ended.append(1), ask_to_end=lambda: asked.append(1)
    )
    qtbot.waitUntil(lambda: bool(heard), timeout=5000)
    made.quit()
    qtbot.waitUntil(lambda: bool(ended), timeout=5000)
    assert heard[-1] == "bye"
    assert worker.wait_for_all()
