"""Notifications are read whole and go by themselves."""

import pytest

from napari_mtssl.gui import toasts
from napari_mtssl.gui.notify import show_info, show_warning

pytestmark = pytest.mark.gui

LONG = "The labels of this image lie outside its borders. " * 5


@pytest.fixture
def shown(make_napari_viewer_proxy, monkeypatch):
    """The notifications in a window that is seen."""
    monkeypatch.setattr(toasts, "LEAST_MS", 1500)
    monkeypatch.setattr(toasts, "READ_MS", 5)
    make_napari_viewer_proxy(show=True)
    return toasts._toasts


def test_a_long_message_is_unfolded_and_goes_by_itself(shown, qtbot):
    show_warning(LONG)
    toast = shown()[-1]
    assert toast.message.text() == LONG
    folded = toast.height()
    needed = toast.message.sizeHint().height() + 24  # with the margins around it
    qtbot.waitUntil(lambda: toast.height() > folded and toast.height() >= needed)
    qtbot.waitUntil(lambda: toast.message.height() >= toast.message.sizeHint().height())
    inside = toast.parent().rect()
    qtbot.waitUntil(lambda: inside.contains(toast.geometry()))
    qtbot.waitUntil(lambda: not shown(), timeout=10_000)


def test_what_was_done_gives_way_to_what_is_done_next_and_a_warning_does_not(shown, qtbot):
    show_warning("The file is gone.")
    show_info("Undone: added a cell.")
    show_info("Done again: added a cell.")
    open_ = [toast.message.text() for toast in shown() if not toast.property("closing")]
    assert open_ == ["The file is gone.", "Done again: added a cell."]
    qtbot.waitUntil(lambda: not shown(), timeout=10_000)


def test_long_messages_stay_longer_but_not_for_ever():
    assert toasts.reading_time("Written.") == toasts.LEAST_MS
    assert toasts.LEAST_MS < toasts.reading_time(LONG[:80]) < toasts.reading_time(LONG[:160])
    assert toasts.reading_time(LONG * 10) == toasts.MOST_MS
