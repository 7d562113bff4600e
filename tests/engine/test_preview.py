import numpy as np
import pytest
import torch

from napari_mtssl.engine import preview as module
from napari_mtssl.engine.dense import predict_box
from napari_mtssl.engine.events import OutOfMemory, Preview
from napari_mtssl.engine.preview import Previewer, sighted
from napari_mtssl.images import open_image
from napari_mtssl.methods.prediction import Prediction
from napari_mtssl.study import StudyError

VIEW = (1, (100, 100, 140, 140))


class Clock:
    """Time that passes only when told."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def made(tiny, tmp_path, monkeypatch):
    """A previewer of 64-pixel tiles on an image of 5 x 5 tiles, and its clock; each tile takes a second."""
    pixels, _ = tiny.draw_discs(320, 320, 30)
    image = open_image(tiny.save_image(tmp_path / "image.png", pixels))
    method, clock = tiny.make_method(), Clock()
    method.prepare(tiny.make_samples())

    def slow(*args):
        clock.now += 1.0
        return predict_box(*args)

    monkeypatch.setattr(module, "predict_part", slow)
    previewer = Previewer(method, lambda image_id: image, seconds=10.0, tile=64, clock=clock)
    return previewer, clock


def run(previewer, clock, seconds, view=VIEW, step=0.25, paused=False, sight=None):
    """Let training go on for so long in steps of a quarter of a second; events with the time they came at."""
    said, end = [], clock.now + seconds
    while clock.now < end:
        clock.now += step
        at = 7 if paused else round(clock.now * 100)
        event = previewer.next_tile(at, view() if callable(view) else view, sight)
        if event is not None:
            said.append((clock.now, event))
    return said


def test_the_visible_tiles_come_first_and_then_the_rest_outwards(made):
    said = run(*made, 30)
    boxes = [event.box for _, event in said]
    assert boxes[:4] == [(64, 64, 128, 128), (64, 128, 128, 192), (128, 64, 192, 128), (128, 128, 192, 192)]
    assert all(not (64 <= box[0] < 192 and 64 <= box[1] < 192) for box in boxes[4:6])
    assert isinstance(said[0][1], Preview) and said[0][1].total == 25


def test_nothing_before_the_time_and_nothing_when_nobody_looks(made):
    previewer, clock = made
    assert run(previewer, clock, 9.5) == []
    assert run(previewer, clock, 30, view=None) == []
    assert run(previewer, clock, 5)


def test_training_has_two_thirds_of_the_time(made):
    previewer, clock = made
    run(previewer, clock, 10)
    said = run(previewer, clock, 300)
    assert 90 <= len(said) <= 101  # each takes a second


def test_the_visible_part_is_predicted_again_and_a_sweep_ends(made):
    previewer, clock = made
    said = run(previewer, clock, 300)
    at = [time for time, event in said if event.box == (64, 64, 128, 128)]
    assert len(at) > 5 and min(np.diff(at)) >= 10
    assert len({event.box for _, event in said}) == 25
    full = [event for _, event in said if event.done == event.total]
    assert full


def test_looking_elsewhere_is_answered_soon(made):
    previewer, clock = made
    run(previewer, clock, 30)
    began = clock.now
    said = run(previewer, clock, 10, view=(1, (260, 260, 300, 300)))
    time, _ = next((t, e) for t, e in said if e.box == (256, 256, 320, 320))
    assert time - began <= 5


def test_another_image_begins_a_new_sweep(made):
    previewer, clock = made
    run(previewer, clock, 40)
    said = run(previewer, clock, 20, view=(2, (0, 0, 64, 64)))
    assert {event.image_id for _, event in said} == {2}
    assert said[0][1].box == (0, 0, 64, 64) and said[0][1].done == 1


def test_previews_are_the_dense_prediction(made, tiny):
    previewer, clock = made
    _, event = run(previewer, clock, 12)[0]
    image = previewer._images(1)
    expected, _ = predict_box(previewer._method, image, event.box)
    assert event.prediction.cells.equals(expected.cells)
    np.testing.assert_array_equal(event.prediction.pictures["uncertainty"], expected.pictures["uncertainty"])


def test_a_preview_too_large_for_the_memory_becomes_smaller(tiny, tmp_path, monkeypatch):
    pixels, _ = tiny.draw_discs(320, 320, 3)
    image = open_image(tiny.save_image(tmp_path / "image.png", pixels))
    clock = Clock()
    method = tiny.make_method()
    method.prepare(tiny.make_samples())

    def picky(method, image, box):
        if box[2] - box[0] > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return predict_box(method, image, box)

    monkeypatch.setattr(module, "predict_part", picky)
    previewer = Previewer(method, lambda image_id: image, seconds=1.0, tile=256, clock=clock)
    said = [event for _, event in run(previewer, clock, 20)]
    assert [type(e) for e in said[:3]] == [OutOfMemory, OutOfMemory, Preview]
    assert "64 pixels" in said[1].message
    assert {e.box for e in said[2:]} >= {(128, 128, 192, 192)}


def test_a_preview_that_never_fits_is_an_error(made, monkeypatch):
    previewer, clock = made

    def never(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(module, "predict_part", never)
    with pytest.raises(torch.OutOfMemoryError):
        run(previewer, clock, 20)


def test_the_saliency_is_of_the_class_that_was_asked_for():
    class Method:
        vocabulary = {"diagnosis": ("normal", "sick")}

        def explain(self, image, kind, name, how):
            return np.full((4, 4), self.vocabulary[kind].index(name) + 2.0)

    pictures = {"saliency": np.zeros((4, 4)), "uncertainty": np.ones((4, 4))}
    said = Prediction(mask=np.ones((2, 4, 4)), pictures=pictures)
    seen = sighted(Method(), None, said, ("diagnosis", "sick", "gradient"))
    assert (seen.pictures["saliency"] == 3).all() and (seen.pictures["uncertainty"] == 1).all()
    for sight in (None, ("diagnosis", "new", "gradient"), ("grade", "sick", "gradient")):
        assert sighted(Method(), None, said, sight) is said
    assert sighted(object(), None, said, ("diagnosis", "sick", "gradient")) is said


def test_another_class_to_be_seen_is_shown_at_once(made):
    previewer, clock = made
    run(previewer, clock, 12, (1, (0, 0, 320, 320)))
    begin = clock.now
    while True:
        clock.now += 0.25
        event = previewer.next_tile(0, VIEW, ("diagnosis", "sick", "gradient"))
        if event is not None:
            break
    assert event.box == (64, 64, 128, 128) and clock.now - begin < 5


def test_while_training_is_paused_each_tile_is_predicted_once_unless_something_else_is_asked_for(made):
    whole, elsewhere = {(r, c) for r in range(0, 320, 64) for c in range(0, 320, 64)}, (2, (0, 0, 64, 64))

    def tiles(seconds=200, **asked):
        return [event.box[:2] for _, event in run(*made, seconds, paused=True, **asked)]

    first = tiles()
    assert len(first) == 25 and set(first) == whole
    assert not tiles() and not tiles(view=(1, (200, 200, 280, 280)))  # the view moves over what is there
    assert set(tiles(sight=("diagnosis", "sick", "gradient"))) == whole
    again = tiles(view=elsewhere, sight=("diagnosis", "sick", "gradient"))
    assert again[0] == (0, 0) and set(again) == whole and len(again) == 25
    assert len(run(*made, 30, view=elsewhere)) > 5  # and training goes on


def test_an_image_that_was_taken_out_of_the_study_ends_no_training(made):
    previewer, clock = made
    images = previewer._images
    assert run(previewer, clock, 15)

    def gone(image_id):
        raise StudyError("The study 's' has no image number 1.")

    previewer._images = gone
    assert run(previewer, clock, 30) == []
    previewer._images = images
    assert run(previewer, clock, 30, view=(2, (0, 0, 64, 64)))
