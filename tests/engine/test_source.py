import numpy as np
import pytest

from napari_mtssl.engine.source import ClassRenamedError, FixedSource, StudySource, check_groups
from napari_mtssl.images import ImagePool
from napari_mtssl.methods.base import MethodError
from napari_mtssl.study import Study


@pytest.fixture
def study(study_path):
    with Study.open(study_path) as study:
        yield study


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("other", ["validation", "test"])
def test_a_group_in_two_splits_is_refused(study, tiny, other):
    first, second, _ = study.images()
    study.set_group(second.id, first.group)
    check_groups(study)  # both in train: fine
    study.set_split(second.id, other)
    with pytest.raises(MethodError, match=f"group '{first.group}' has images in the splits .*{other}"):
        StudySource(tiny.make_method(), study, ImagePool()).training()


def test_training_and_held_out_samples_come_from_their_own_images(study, tiny):
    source = StudySource(tiny.make_method(), study, ImagePool())
    training, held_out = source.training(), source.validation()
    assert set(training.places["image_id"]) == {1, 2} and set(held_out.places["image_id"]) == {3}
    assert training.n_labelled == len(study.cells(split="train"))


def test_no_held_out_samples_without_labels_there(study, tiny):
    study.delete_cells(study.cells(split="validation")["id"].tolist())
    assert StudySource(tiny.make_method(), study, ImagePool()).validation() is None


def test_a_class_that_is_new_says_so(study, tiny):
    source = StudySource(tiny.make_method(), study, ImagePool())
    study.add_class("green")
    source.training()  # a class without cells harms nobody
    assert source.left_out == ()
    study.add_cell(1, 20.0, 20.0, "green")
    source.training()
    assert source.left_out == ("green",)
    study.update_class("red", new_name="crimson")
    with pytest.raises(ClassRenamedError, match="'red' is called 'crimson' since training started"):
        source.training()


def test_a_burst_of_clicks_is_taken_in_once_it_is_over(study, tiny):
    clock = Clock()
    source = StudySource(
        tiny.make_method(), study, ImagePool(), settle_seconds=1.0, quick_seconds=0.0, clock=clock
    )
    source.training()
    assert not source.changed()
    with study.reopen() as window:
        for _ in range(3):
            window.add_cell(1, 20.0, 20.0, "red")
            clock.now += 0.6
            assert not source.changed()
    clock.now += 0.9
    assert not source.changed()
    clock.now += 0.2
    assert source.changed() and source.changed()
    source.training()
    assert not source.changed()


def test_clicks_without_end_are_taken_in_all_the_same(study, tiny):
    clock = Clock()
    source = StudySource(
        tiny.make_method(), study, ImagePool(), settle_seconds=1.0, quick_seconds=0.0, clock=clock
    )
    source.training()
    with study.reopen() as window:
        while not source.changed():
            assert clock.now < 10
            window.add_cell(1, 20.0, 20.0, "red")
            clock.now += 0.7
    assert clock.now >= 4


def test_an_edit_while_samples_are_read_is_seen_afterwards(study, tiny, monkeypatch):
    source = StudySource(tiny.make_method(), study, ImagePool(), settle_seconds=0.0)
    real = tiny.Tiny.samples

    def samples(method, *args):
        found = real(method, *args)
        with study.reopen() as window:
            window.add_cell(1, 20.0, 20.0, "red")
        return found

    monkeypatch.setattr(tiny.Tiny, "samples", samples)
    source.training()
    assert source.changed()


def test_fixed_samples_stay(tiny):
    samples = tiny.make_samples()
    source = FixedSource(samples)
    assert source.training() is samples and source.validation() is None and not source.changed()


def test_the_small_method_reads_the_pixels_of_its_labels(study, tiny):
    samples = StudySource(tiny.make_method(), study, ImagePool()).training()
    cells = study.cells(split="train").set_index("id")
    names = np.array(tiny.CLASSES)[samples.targets]
    assert (cells.loc[samples.places["id"], "class"].to_numpy() == names).all()
    middle = samples.patches[:, :, 6:10, 6:10].mean((2, 3))
    redder = middle[:, 0] > middle[:, 2]
    assert redder[names == "red"].float().mean() > 0.8  # some discs lie over others
    assert redder[names == "blue"].float().mean() < 0.2


def test_what_is_read_quickly_counts_in_the_next_step(study, tiny, monkeypatch):
    clock = Clock()
    source = StudySource(tiny.make_method(), study, ImagePool(), clock=clock)
    source.training()
    with study.reopen() as window:
        window.add_cell(1, 20.0, 20.0, "red")
        assert source.changed()
        real = tiny.Tiny.samples

        def slow(*args):
            clock.now += 0.3
            return real(*args)

        monkeypatch.setattr(tiny.Tiny, "samples", slow)
        source.training()
        window.add_cell(1, 30.0, 20.0, "red")
        assert not source.changed()  # it took long just now: more clicks may follow
        clock.now += 0.6
        assert source.changed()
