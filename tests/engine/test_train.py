import csv
import json
import shutil
import threading

import pytest
import torch
from safetensors.torch import load_file

from napari_mtssl.engine import checkpoint as ckpt
from napari_mtssl.engine.events import (
    CheckpointWritten,
    Failed,
    Finished,
    LabelsChanged,
    Paused,
    Preview,
    PseudoLabels,
    Resumed,
    Started,
    Stepped,
    Validated,
)
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.preview import Previewer
from napari_mtssl.engine.source import FixedSource
from napari_mtssl.images import open_image


def kinds(events):
    return [event.kind for event in events]


def assert_same_weights(one, two):
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def curve(run_dir):
    """Rows of metrics.csv without the time."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        return [(row["step"], row["name"], row["value"]) for row in csv.DictReader(file)]


def test_a_run_tells_its_story_and_learns(make_run):
    run = make_run(steps=40)
    events = list(run.events)
    assert isinstance(events[0], Started)
    assert isinstance(events[1], Stepped) and events[1].step == 1
    assert isinstance(events[-1], Finished) and not events[-1].stopped
    steps = [e for e in events if isinstance(e, Stepped)]
    assert [e.step for e in steps] == list(range(1, 41))
    assert steps[-1].seconds_left == 0 and steps[5].steps_per_second > 0
    assert steps[-1].losses["labels"] < 0.3 * steps[0].losses["labels"]
    assert {e.step for e in events if isinstance(e, Validated)} == {10, 20, 30, 40}
    assert events[-1].scores["accuracy"] > 0.9
    pseudo = [e for e in events if isinstance(e, PseudoLabels)]
    assert list(pseudo[0].frame.columns) == ["image_id", "row", "col", "class", "confidence"]


def test_losses_are_means_since_the_last_report(make_run):
    every = list(make_run(steps=20).events)
    one = [e for e in every if isinstance(e, Stepped)]
    rare = TrainOptions(validate_every=10, checkpoint_every=10, report_seconds=1e9, preview_seconds=0)
    few = [e for e in make_run(steps=20, options=rare).events if isinstance(e, Stepped)]
    assert [e.step for e in few] == [1, 10, 20]
    expected = sum(e.losses["labels"] for e in one[10:]) / 10
    assert few[-1].losses["labels"] == pytest.approx(expected, rel=1e-5)
    total = few[-1].losses["labels"] + few[-1].losses["agreement"]
    assert few[-1].total < total  # agreement counts less than fully


def test_same_seed_same_weights(make_run):
    one, two, other = make_run(seed=3), make_run(seed=3), make_run(seed=4)
    for run in (one, two, other):
        list(run.events)
    assert_same_weights(one.method.state(), two.method.state())
    name = "network.0.weight"
    assert not torch.equal(one.method.state()[name], other.method.state()[name])


def test_steps_do_not_touch_the_users_random_numbers(make_run):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(make_run(steps=5).events)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("how", ["stop", "leave", "kill"])
def test_resumed_equals_uninterrupted(make_run, how):
    whole = make_run(steps=37)
    list(whole.events)

    first = make_run(steps=37)
    for event in first.events:
        if isinstance(event, Stepped) and event.step == 17:
            if how == "stop":
                first.control.stop()
                continue
            break
    if how == "leave":
        first.events.close()
        assert ckpt.load(first.dir / "last.safetensors").step == 17
    elif how == "kill":  # nothing after the checkpoint of step 10 reached the disk
        copy = first.dir.with_name("killed")
        shutil.copytree(first.dir, copy)
        first.events.close()
        first.dir = copy
        assert ckpt.load(first.dir / "last.safetensors").step == 10

    second = make_run(steps=37, run_dir=first.dir, resume=True)
    events = list(second.events)
    assert isinstance(events[0], Started) and events[0].step == (10 if how == "kill" else 17)
    assert isinstance(events[-1], Finished)
    assert_same_weights(second.method.state(), whole.method.state())
    assert_same_weights(load_file(first.dir / "best.safetensors"), load_file(whole.dir / "best.safetensors"))
    one, two = (ckpt.load(d / "last.safetensors").optimiser_state() for d in (first.dir, whole.dir))
    assert_same_weights(
        *({f"{i}{k}": v for i, s in o["state"].items() for k, v in s.items()} for o in (one, two))
    )
    assert curve(first.dir) == curve(whole.dir)


def test_a_finished_run_goes_on_only_with_more_steps(make_run):
    first = make_run(steps=10)
    list(first.events)
    (failed,) = make_run(steps=10, run_dir=first.dir, resume=True).events
    assert isinstance(failed, Failed) and "already did its 10 steps" in failed.reason
    more = list(make_run(steps=20, run_dir=first.dir, resume=True).events)
    assert more[0].step == 10 and more[-1].step == 20


def test_stop_takes_effect_before_the_next_step(make_run, monkeypatch, tiny):
    run = make_run(steps=1000)
    real = tiny.Tiny.step

    def stop_at_13(method, *args):
        if method.steps_taken == 12:  # from inside step 13, as another thread would
            run.control.stop()
        return real(method, *args)

    monkeypatch.setattr(tiny.Tiny, "step", stop_at_13)
    events = list(run.events)
    assert run.method.steps_taken == 13
    assert isinstance(events[-1], Finished) and events[-1].stopped and events[-1].step == 13
    assert isinstance(events[-2], CheckpointWritten)
    assert_same_weights(load_file(run.dir / "last.safetensors"), run.method.state())


def test_stop_interrupts_a_validation_between_its_forward_passes(make_run, monkeypatch, tiny):
    run = make_run(steps=1000)
    passes = []

    def evaluate(method, samples):
        for part in samples.patches.split(10):
            method.classify(part)
            passes.append(method.steps_taken)
            if len(passes) == 3:
                run.control.stop()
        return {"accuracy": 1.0}

    monkeypatch.setattr(tiny.Tiny, "evaluate", evaluate)
    events = list(run.events)
    assert passes == [10, 10, 10]
    assert kinds(events)[-2:] == ["checkpoint", "finished"]
    assert "validation" not in kinds(events)
    run.method.classify(tiny.make_samples().patches)  # the network is free again


def test_stop_before_the_first_step(make_run):
    run = make_run()
    run.control.stop()
    assert kinds(run.events) == ["started", "finished"]  # of nothing learnt nothing is kept
    assert run.method.steps_taken == 0


def test_pause_waits_saves_and_changes_nothing(make_run):
    plain = make_run()
    list(plain.events)
    run = make_run()
    seen = []
    for event in run.events:
        seen.append(event.kind)
        if isinstance(event, Stepped) and event.step == 7:
            run.control.pause()
        if isinstance(event, Paused):
            assert event.step == run.method.steps_taken == 7
            assert ckpt.load(run.dir / "last.safetensors").step == 7
            run.control.resume()
    assert seen.count("paused") == seen.count("resumed") == 1
    assert_same_weights(run.method.state(), plain.method.state())


def test_what_the_user_turns_to_in_a_pause_is_predicted_and_nothing_is_learnt(make_run, tiny, tmp_path):
    image = open_image(tiny.save_image(tmp_path / "image.png", tiny.draw_discs(128, 128, 5)[0]))
    method = tiny.make_method()
    previewer = Previewer(method, lambda _: image, seconds=0, tile=64)
    run = make_run(method=method, previewer=previewer)
    boxes, paused = set(), False
    for event in run.events:
        if isinstance(event, Stepped) and event.step == 7:
            run.control.pause()
        if isinstance(event, Paused):
            paused = True
            run.control.viewport = (1, (0, 0, 128, 128))
        if isinstance(event, Preview) and paused:
            assert event.step == run.method.steps_taken == 7
            boxes.add(event.box)
            if len(boxes) == 4:
                run.control.resume()
        paused = paused and not isinstance(event, Resumed)
    assert len(boxes) == 4


def test_a_paused_run_takes_no_step_until_resumed_and_can_be_stopped(make_run):
    run = make_run(steps=100_000)
    run.control.pause()
    paused, resumed, seen = threading.Event(), threading.Event(), []

    def listen():
        for event in run.events:
            seen.append(event)
            if isinstance(event, Paused):
                paused.set()
            if isinstance(event, Resumed):
                resumed.set()

    thread = threading.Thread(target=listen)
    thread.start()
    assert paused.wait(60)
    assert not resumed.wait(0.05) and run.method.steps_taken == 0
    run.control.resume()
    assert resumed.wait(60)
    run.control.pause()
    run.control.stop()  # also ends a pause
    thread.join(60)
    assert isinstance(seen[-1], Finished) and seen[-1].stopped


def test_without_held_out_samples_last_is_best(make_run):
    run = make_run(validation=False)
    events = list(run.events)
    assert not [e for e in events if isinstance(e, Validated)]
    assert not (run.dir / "best.safetensors").exists()
    assert ckpt.find(run.dir, "best") == run.dir / "last.safetensors"


def test_best_is_chosen_by_the_first_score(make_run, monkeypatch, tiny):
    scores = iter([5.0, 3.0, 4.0, 2.0])
    monkeypatch.setattr(tiny.Tiny, "evaluate", lambda *args: {"centroid_px": next(scores), "accuracy": 0.5})
    events = list(make_run().events)
    assert [e.best for e in events if isinstance(e, Validated)] == [True, True, False, True]
    assert [e.step for e in events if isinstance(e, CheckpointWritten) and e.which == "best"] == [10, 20, 40]


def test_a_score_that_is_no_number_is_never_the_best_for_long(make_run, monkeypatch, tiny):
    scores = iter([float("nan"), 0.3, float("nan"), 0.2])
    monkeypatch.setattr(tiny.Tiny, "evaluate", lambda *args: {"accuracy": next(scores)})
    events = list(make_run().events)
    assert [e.best for e in events if isinstance(e, Validated)] == [True, True, False, False]


def test_scores_on_other_held_out_labels_begin_a_new_best(make_run, monkeypatch, tiny):
    held_out = [tiny.make_samples(seed=1), tiny.make_samples(40, seed=2)]

    class Source(FixedSource):
        """Held-out labels are edited after step 20."""

        edited = False

        def changed(self):
            edit = not self.edited and run.method.steps_taken == 20
            self.edited |= edit
            return edit

        def validation(self):
            return held_out[self.edited]

    scores = iter([0.9, 0.8, 0.5, 0.4])
    monkeypatch.setattr(tiny.Tiny, "evaluate", lambda *args: {"accuracy": next(scores)})
    run = make_run(source=Source(tiny.make_samples()))
    events = list(run.events)
    assert [e.best for e in events if isinstance(e, Validated)] == [True, False, True, False]
    assert not [e for e in events if isinstance(e, LabelsChanged)]  # none to learn from changed


def test_training_begins_with_given_weights(make_run):
    first = make_run(steps=40)
    list(first.events)
    second = make_run(steps=5, seed=9, checkpoint0=first.dir / "best.safetensors")
    events = list(second.events)
    assert events[0].step == 0
    assert events[1].losses["labels"] < 0.3
    cold = list(make_run(steps=5, seed=9).events)
    assert events[1].losses["labels"] < 0.3 * cold[1].losses["labels"]


def test_weights_for_other_classes_are_refused(make_run, tiny):
    first = make_run(steps=5)
    list(first.events)
    method = tiny.Tiny(tiny.Tiny.configure(), {"cell": ("background", "green")}, torch.device("cpu"))
    (failed,) = make_run(method=method, checkpoint0=first.dir / "last.safetensors").events
    assert "background, red, blue" in failed.reason and "background, green" in failed.reason


def test_the_learning_rate_follows_the_method_for_every_group(make_run, monkeypatch, tiny):
    def optimiser(method):
        weights, others = list(method.net.parameters())[:2], list(method.net.parameters())[2:]
        rate = method.config.learning_rate
        return torch.optim.SGD([{"params": weights, "lr": 0.1 * rate}, {"params": others}], lr=rate)

    monkeypatch.setattr(tiny.Tiny, "optimiser", optimiser)
    run = make_run(steps=20)
    list(run.events)
    groups = ckpt.load(run.dir / "last.safetensors").optimiser_state()["param_groups"]
    expected = run.method.learning_rate(19 / 20)
    assert [g["lr"] for g in groups] == pytest.approx([0.1 * expected, expected])


def test_the_log_holds_every_event_as_json(make_run):
    run = make_run()
    events = list(run.events)
    lines = [json.loads(line) for line in (run.dir / "events.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == kinds(events)
    assert lines[1]["losses"].keys() == {"labels", "agreement"}
    rows = curve(run.dir)
    assert ("40", "validation/accuracy", str(events[-1].scores["accuracy"])) in rows
