"""A class that comes up while a network trains is said once and left out; training goes on. Every method."""

import imageio.v3 as iio
import numpy as np
import pytest

from napari_mtssl.engine.checkpoint import load_method
from napari_mtssl.engine.events import ClassesLeftOut, Finished, LabelsChanged, Started, Stepped
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.session import TrainingSession
from napari_mtssl.study import Grid, Study

QUICK = {
    "hydramix": {"depth": 10, "widen": 1, "pool": 64, "batch_size": 4},
    "superres": {"widths": "8-8", "crop": 32, "batch_size": 2, "views": 1},
    "joint-unet": {"base": 4, "size": 64, "batch_size": 2, "tta": 1},
    "multimix": {"size": 32, "batch_size": 2},
}
OPTIONS = TrainOptions(report_seconds=0, preview_seconds=0, pseudo_seconds=0, threads=1, validate_every=2)


@pytest.fixture
def study(tmp_path):
    """Two images to learn from and one held out, each with labels of every kind."""
    rng = np.random.default_rng(0)
    with Study.create(tmp_path / "all.mtssl") as study:
        for kind, names in (("cell", "ab"), ("block", ("0-20", "80-100")), ("mask", "m"), ("grade", "xy")):
            for name in names:
                study.add_class(name, kind=kind)
        code = study.class_named("m", "mask").code
        for n, split in enumerate(("train", "train", "validation")):
            path = tmp_path / f"{n}.png"
            iio.imwrite(path, rng.integers(0, 255, (96, 96, 3), dtype=np.uint8))
            image = study.add_image(path, height=96, width=96, split=split).id
            for at, name in enumerate(("a", "b", "background")):
                study.add_cell(image, 20.0 + 25 * at, 30.0 + 20 * at, name)
            study.set_grid(image, Grid(16, 16))
            study.set_blocks(
                image, {(i, j): ("0-20", "80-100")[(i + j) % 2] for i in range(6) for j in range(6)}
            )
            study.paint_mask(image, 20, 20, np.full((40, 40), code, np.uint16))
            study.set_mask_complete(image, True)
            study.set_image_class(image, "grade", "xy"[n % 2])
        yield study


def make_new(study, image):
    """Classes of every kind that nobody has, and labels of most of them."""
    for kind in ("cell", "block", "mask", "grade"):
        study.add_class("new", kind=kind)
    study.add_cell(image, 60.0, 60.0, "new")
    study.set_blocks(image, {(0, 0): "new"})
    study.paint_mask(image, 0, 0, np.full((9, 9), study.class_named("new", "mask").code, np.uint16))
    study.set_image_class(image, "grade", "new")


@pytest.mark.parametrize("method", QUICK)
def test_training_goes_on_without_a_class_that_is_new(method, study):
    session = TrainingSession(
        study.path, method, device="cpu", overrides={**QUICK[method], "steps": 6}, options=OPTIONS
    )
    said = []
    for event in session.events():
        said.append(event)
        if isinstance(event, Stepped) and event.step == 2:
            make_new(study, 1)
            make_new_held_out = study.image(3)
            study.set_image_class(make_new_held_out.id, "grade", "new")
            study.add_cell(make_new_held_out.id, 60.0, 60.0, "new")
    assert isinstance(said[-1], Finished), said[-1]
    told = [event for event in said if isinstance(event, ClassesLeftOut)]
    assert len(told) == 1 and told[0].names == ("new",)
    assert told[0].message.startswith("The class 'new' had no label when this network was made")
    # the network that is resumed says so at once, and goes on
    again = TrainingSession(
        study.path, device="cpu", resume=session.run_dir.name, overrides={"steps": 8}, options=OPTIONS
    )
    events = list(again.events())
    assert isinstance(events[0], Started) and isinstance(events[1], ClassesLeftOut)
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize("method", ["multimix", "joint-unet"])
def test_a_first_mask_is_left_out_of_a_network_made_without_and_learnt_by_the_next(method, study):
    for image in study.images():
        study.clear_mask(image.id)
    code = study.class_named("m", "mask").code
    session = TrainingSession(
        study.path, method, device="cpu", overrides={**QUICK[method], "steps": 4}, options=OPTIONS
    )
    said = []
    for event in session.events():
        said.append(event)
        if isinstance(event, Stepped) and event.step == 2:
            study.paint_mask(1, 20, 20, np.full((40, 40), code, np.uint16))
    assert isinstance(said[-1], Finished), said[-1]
    assert [event.names for event in said if isinstance(event, ClassesLeftOut)] == [("m",)]
    study.set_mask_complete(1, True)
    after = list(
        TrainingSession(
            study.path, method, device="cpu", overrides={**QUICK[method], "steps": 2}, options=OPTIONS
        ).events()
    )
    assert isinstance(after[-1], Finished) and not any(isinstance(e, ClassesLeftOut) for e in after)
    assert any("mask" in event.losses for event in after if isinstance(event, Stepped))


RENAMED = (("cell", "a", "aa"), ("block", "0-20", "0-25"), ("mask", "m", "mm"), ("grade", "x", "xx"))


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("step", [0, 3])
def test_training_goes_on_when_classes_are_renamed(method, study, step):
    session = TrainingSession(
        study.path, method, device="cpu", overrides={**QUICK[method], "steps": 6}, options=OPTIONS
    )
    said, renamed = [], False
    for event in session.events():
        said.append(event)
        at = 0 if isinstance(event, Started) else event.step if isinstance(event, Stepped) else None
        if at == step and not renamed:
            for kind, name, new in RENAMED:
                study.update_class(name, kind=kind, new_name=new)
            renamed = True
    assert isinstance(said[-1], Finished) and said[-1].step == 6, said[-1]
    assert [event.step for event in said if isinstance(event, Started)] == [0, step]
    assert [run.name for run in study.runs()] == [session.run_dir.name]
    learnt = load_method(session.run_dir)
    assert set(sum(learnt.vocabulary.values(), ())) <= {c.name for c in study.classes(None)}
    assert {"aa", "0-25", "mm", "xx"} & set(sum(learnt.vocabulary.values(), ()))


def test_an_old_network_names_classes_as_they_are_today(study):
    run = quick(study)
    assert run.vocabulary["cell"] == ("background", "a", "b")
    study.update_class("a", new_name="b2")
    study.update_class("b", new_name="a")  # whoever has a name today is meant before who had it once
    study.update_class("b2", new_name="c")
    assert load_method(study.runs()[0].path).vocabulary["cell"] == ("background", "a", "a")
    for _ in range(3):
        study.undo()
    study.remove_class("a", into="b")
    assert load_method(study.runs()[0].path).vocabulary["cell"] == ("background", "a", "b")


def quick(study):
    session = TrainingSession(
        study.path, device="cpu", overrides={**QUICK["hydramix"], "steps": 1}, options=OPTIONS
    )
    assert isinstance(list(session.events())[-1], Finished)
    return load_method(session.run_dir)


def test_a_class_that_becomes_another_leaves_training(study):
    session = TrainingSession(
        study.path, device="cpu", overrides={**QUICK["hydramix"], "steps": 6}, options=OPTIONS
    )
    said = []
    for event in session.events():
        said.append(event)
        if isinstance(event, Stepped) and event.step == 2:
            study.remove_class("a", into="b")
    assert isinstance(said[-1], Finished), said[-1]
    changed = [event for event in said if isinstance(event, LabelsChanged)]
    assert len(changed) == 1 and changed[0].changed == 2  # one in each image to learn from
