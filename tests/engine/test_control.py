from threading import Thread

import pytest

from napari_mtssl.engine.control import Control
from napari_mtssl.engine.options import TrainOptions


def test_waiting_ends_with_resume_with_stop_or_in_time():
    control = Control()
    assert control.wait_while_paused(0)  # not paused
    control.pause()
    assert control.paused and not control.wait_while_paused(0.01)
    for end in (control.resume, control.stop):
        control.pause()
        thread = Thread(target=end)
        thread.start()
        assert control.wait_while_paused(60)
        thread.join()
    assert control.stopped


def test_the_viewport_is_what_was_last_set():
    control = Control()
    assert control.viewport is None
    control.viewport = (1, (0, 0, 5, 5))
    assert control.viewport == (1, (0, 0, 5, 5))


def test_the_same_saliency_can_be_asked_for_again():
    control = Control()
    assert (control.sight, control.asks) == (None, 0)
    for times in (1, 2):
        control.sight = ("diagnosis", "normal", "gradient")
        assert control.asks == times


def test_options_are_checked():
    with pytest.raises(ValueError, match="at least 1"):
        TrainOptions(checkpoint_every=0)
    with pytest.raises(ValueError, match="threads"):
        TrainOptions(threads=0)
