import json
import shutil

import pytest
import torch
import yaml

from napari_mtssl.engine.checkpoint import load, load_method
from napari_mtssl.engine.events import Failed, Finished, LabelsChanged, Preview, Started, Stepped
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.session import TrainingSession
from napari_mtssl.study import Study

QUIET = TrainOptions(
    validate_every=10, checkpoint_every=10, report_seconds=0.0, preview_seconds=0.0, threads=1
)


@pytest.fixture
def session(study_path, registered):
    def make(options=QUIET, steps=30, **settings):
        overrides = {"steps": steps} if settings.get("resume") is None else {}
        return TrainingSession(
            study_path, "tiny", device="cpu", overrides=overrides, options=options, **settings
        )

    return make


def test_a_session_trains_and_leaves_a_run(session, study_path):
    made = session()
    assert made.run_dir is None
    events = list(made.events())
    assert isinstance(events[-1], Finished) and events[-1].run_dir == made.run_dir
    with Study.open(study_path) as study:
        (run,) = study.runs()
        labelled = len(study.cells(split="train"))
        checksums = {i.path.name: i.checksum for i in study.images("train")}
    assert run.method == "tiny" and run.path == made.run_dir
    assert events[0].n_labelled == labelled
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    assert config["config"]["steps"] == 30
    assert config["classes"] == {"cell": ["background", "red", "blue"]}
    assert load(run.path / "last.safetensors").meta["images"] == checksums
    assert load_method(run.path, device="cpu").vocabulary == {"cell": ("background", "red", "blue")}


def test_two_sessions_with_one_seed_have_the_same_weights(session):
    one, two = session(), session()
    for made in (one, two):
        list(made.events())
    states = [load(made.run_dir / "last.safetensors").state for made in (one, two)]
    assert one.run_dir != two.run_dir
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_a_stopped_session_resumes_to_the_same_weights(session):
    whole, first = session(), session(run_name="part")
    list(whole.events())
    for event in first.events():
        if event.step == 13:
            first.control.stop()
    second = session(resume="part")
    events = list(second.events())
    assert isinstance(events[0], Started) and events[0].step == 13
    assert second.run_dir == first.run_dir
    states = [load(made.run_dir / "last.safetensors").state for made in (whole, second)]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_a_session_that_is_stopped_before_its_first_step_leaves_nothing(session, study_path):
    made = session()
    made.control.stop()
    event = list(made.events())[-1]
    assert isinstance(event, Finished) and (event.step, event.stopped) == (0, True)
    assert made.run_dir is None
    with Study.open(study_path) as study:
        assert study.runs() == []


def test_new_corrected_and_removed_labels_are_taken_in_while_training(session, study_path):
    made = session(steps=10**6)
    said = []
    with Study.open(study_path) as study:
        reds = study.cells(image_id=1).query("`class` == 'red'")["id"].tolist()
        for event in made.events():
            if isinstance(event, Started):
                before = event.n_labelled
            if event.step == 5 and isinstance(event, Stepped):
                study.add_cell(1, 20.0, 20.0, "red")
                study.add_cell(2, 30.0, 40.0, "blue")
                study.set_class(reds[:1], "blue")
                study.move_cell(reds[1], 70.0, 70.0)
                study.delete_cells(reds[2:3])
                study.add_cell(3, 20.0, 20.0, "red")  # held out: no label to learn from
            if isinstance(event, LabelsChanged):
                said.append(event)
                made.control.stop()
    assert isinstance(event, Finished)
    # the cell that moved to where background is labelled makes the study no poorer
    assert [(e.added, e.changed, e.removed, e.n_labelled) for e in said] == [(2, 2, 1, before + 1)]
    assert said[0].step >= 5


def test_training_uses_the_labels_it_took_in(session, study_path, tiny, monkeypatch):
    seen = []
    real = tiny.Tiny.step

    def step(method, samples, *args):
        seen.append(samples.n_labelled)
        return real(method, samples, *args)

    monkeypatch.setattr(tiny.Tiny, "step", step)
    made = session(steps=10**6)
    with Study.open(study_path) as study:
        for event in made.events():
            if event.step == 5 and isinstance(event, Stepped):
                study.add_cell(1, 20.0, 20.0, "red")
            if isinstance(event, LabelsChanged):
                changed_at = event.step
            if isinstance(event, Stepped) and event.step > 5 and seen[-1] > seen[0]:
                made.control.stop()
    assert set(seen[:changed_at]) == {seen[0]}
    assert set(seen[changed_at:]) == {seen[0] + 1}


def test_labels_that_no_longer_allow_training_end_in_a_sentence_and_can_be_mended(session, study_path):
    made = session(steps=10**6)
    with Study.open(study_path) as study:
        for event in made.events():
            if event.step == 5 and isinstance(event, Stepped):
                study.delete_cells(study.cells().query("`class` != 'red'")["id"].tolist())
    assert isinstance(event, Failed) and event.mendable
    assert event.reason == "Label cells of at least two classes."
    assert load(made.run_dir / "last.safetensors").step == event.step


def test_a_study_deleted_while_training_ends_in_a_sentence(session, study_path):
    made = session(steps=10**6)
    for event in made.events():
        if event.step == 5 and study_path.exists():
            shutil.rmtree(study_path)
    assert isinstance(event, Failed)
    assert "deleted" in event.reason and "\n" not in event.reason


def test_an_image_moved_while_training_ends_in_a_sentence(session, study_path):
    made = session(steps=10**6)
    with Study.open(study_path) as study:
        path = study.images()[0].path
        for event in made.events():
            if event.step == 5 and path.exists():
                path.rename(path.with_name("elsewhere.png"))
                study.add_cell(2, 30.0, 40.0, "blue")
    assert isinstance(event, Failed) and event.mendable
    assert path.name in event.reason and "moved" in event.reason


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"overrides": {"speed": 3}}, "speed: no such setting"),
        ({"overrides": {"batch_size": 1}}, "batch_size: "),
        ({"preset": "best"}, "no preset 'best'"),
        ({"method": "magic"}, "no method 'magic'"),
        ({"device": "abacus"}, "no device 'abacus'"),
        ({"resume": "run-7"}, "run-7"),
    ],
)
def test_wrong_settings_end_in_a_sentence_and_leave_no_run(study_path, registered, settings, words):
    events = list(TrainingSession(study_path, **({"method": "tiny", "device": "cpu"} | settings)).events())
    assert len(events) == 1 and isinstance(events[0], Failed) and events[0].mendable
    assert words in events[0].reason and "\n" not in events[0].reason
    with Study.open(study_path) as study:
        assert not study.runs()


def test_no_study_there_ends_in_a_sentence(tmp_path):
    (event,) = TrainingSession(tmp_path / "none.mtssl").events()
    assert isinstance(event, Failed) and "none.mtssl" in event.reason


def test_a_group_that_leaks_ends_in_a_sentence(session, study_path):
    with Study.open(study_path) as study:
        study.set_group(3, "patient0")
    events = list(session().events())
    assert "'patient0' has images in the splits train and validation" in events[-1].reason


def test_previews_come_for_what_the_user_sees(session):
    options = TrainOptions(report_seconds=0.0, preview_seconds=1e-6, threads=1)
    made = session(options=options, steps=10**6)
    made.control.viewport = (2, (0, 0, 60, 60))
    seen = []
    for event in made.events():
        if isinstance(event, Preview):
            seen.append(event)
            made.control.stop()
    assert seen[0].image_id == 2 and seen[0].box == (0, 0, 150, 170)
    assert seen[0].prediction.pictures["uncertainty"].shape == (38, 43)
    assert json.loads((made.run_dir / "events.jsonl").read_text().splitlines()[-1])["kind"] == "finished"


def test_the_number_of_threads_comes_back(session):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        events = session().events()
        next(events)
        assert torch.get_num_threads() == 1
        events.close()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
