import errno
import json
import sqlite3
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import pytest
import torch

from napari_mtssl.engine import events as said
from napari_mtssl.engine.control import Control
from napari_mtssl.engine.devices import (
    is_out_of_memory,
    pick_device,
    seeded,
    step_seed,
    training_threads,
)
from napari_mtssl.engine.failures import explain
from napari_mtssl.engine.meter import LossMeter, SpeedMeter, all_finite
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.runlog import RunLog, drop_rows_after
from napari_mtssl.engine.snapshot import Snapshot, tensors_finite
from napari_mtssl.methods.base import MethodError
from napari_mtssl.study import StudyError

# -- events --------------------------------------------------------------------------------------------------

FRAME = pd.DataFrame({"row": [1.0, 2.0], "col": [1.0, 2.0]})
EVENTS = [
    said.Started(0, 10, "cpu", 5, 6),
    said.Stepped(1, 10, {"a": 1.0}, {"a": 0.5}, 0.5, 3.0, 3.0),
    said.PseudoLabels(1, FRAME),
    said.Preview(1, 2, (0, 0, 8, 8), FRAME, {"uncertainty": np.zeros((2, 2))}, 4, 1, 9),
    said.Validated(2, {"accuracy": 0.5}, True),
    said.CheckpointWritten(2, Path("last.safetensors"), "last"),
    said.LabelsChanged(3, 7, 2, 1, 0),
    said.LossNotFinite(4, 3, "went back"),
    said.OutOfMemory(4, 32, 16, "halved"),
    said.Paused(4),
    said.Resumed(4),
    said.Finished(10, False, Path("run"), {"accuracy": 0.5}),
    said.Failed(10, "No.", "Traceback", True),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: e.kind)
def test_every_event_becomes_json(event):
    out = json.loads(json.dumps(said.to_json(event)))
    assert out["kind"] == event.kind and out["step"] == event.step
    assert out.keys() == {"kind", *vars(event)}


def test_frames_and_arrays_become_their_sizes():
    out = said.to_json(EVENTS[3])
    assert out["frame"] == {"rows": 2} and out["maps"] == {"uncertainty": [2, 2]}


def test_all_events_are_listed_here_and_have_a_kind_of_their_own():
    # the window has an event of its own, if it was imported in this process
    classes = {c for c in said.Event.__subclasses__() if c.__module__ == said.__name__}
    assert {type(e) for e in EVENTS} == classes
    assert len({c.kind for c in classes}) == len(classes)


# -- control -------------------------------------------------------------------------------------------------


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


def test_options_are_checked():
    with pytest.raises(ValueError, match="at least 1"):
        TrainOptions(checkpoint_every=0)
    with pytest.raises(ValueError, match="threads"):
        TrainOptions(threads=0)


# -- devices -------------------------------------------------------------------------------------------------


def test_devices_by_name():
    assert pick_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert pick_device("auto").type == expected
    for name in ("abacus", "cpu:3", "cuda:x", "auto:1"):
        with pytest.raises(MethodError, match="There is no device"):
            pick_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(MethodError, match="no CUDA device; choose the device 'auto' or 'cpu'"):
        pick_device("cuda")


def test_seeds_differ_by_seed_step_and_attempt():
    seeds = {step_seed(a, b, c) for a in range(10) for b in range(10) for c in range(3)}
    assert len(seeds) == 300
    assert all(0 <= s < 2**63 for s in seeds)
    assert step_seed(1, 2) == step_seed(1, 2, 0)


def test_seeded_draws_repeat_and_leave_no_trace():
    torch.manual_seed(0)
    outer = [torch.rand(2), torch.rand(2)]
    torch.manual_seed(0)
    first = torch.rand(2)
    draws = []
    for _ in range(2):
        with seeded(7, torch.device("cpu")):
            draws.append(torch.rand(3))
    assert torch.equal(*draws)
    assert torch.equal(first, outer[0]) and torch.equal(torch.rand(2), outer[1])


def test_threads_come_back_even_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), training_threads(3):
        assert torch.get_num_threads() == 3
        raise KeyError
    assert torch.get_num_threads() == before


def test_real_lack_of_memory_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(torch.OutOfMemoryError("CUDA"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))


# -- meter and snapshot --------------------------------------------------------------------------------------


def test_losses_are_averaged_over_the_steps_that_had_them():
    meter = LossMeter()
    one, two, four = (torch.tensor(x, requires_grad=True) for x in (1.0, 2.0, 4.0))
    meter.add({"a": one, "b": two}, {"a": 1.0, "b": 1.0}, one + two)
    meter.add({"a": two, "b": four}, {"a": 1.0, "b": 1.0}, two + four)
    meter.add({"a": four}, {"a": 1.0}, four)
    assert meter.read() == pytest.approx({"a": 7 / 3, "b": 3.0, "total": 13 / 3})
    assert meter.read() == {}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_loss_among_many_is_noticed(bad):
    meter = LossMeter()
    for value in (1.0, bad, 1.0, -bad, 2.0):
        loss = torch.tensor(value)
        meter.add({"a": loss, "b": torch.tensor(1.0)}, {}, torch.tensor(0.0))
    means = meter.read()
    assert not all_finite(means) and means["b"] == 1.0


def test_speed_is_smoothed_and_pauses_do_not_count():
    now = [0.0]
    speed = SpeedMeter(lambda: now[0])
    assert speed.read(100) == (0.0, 0.0)
    for _ in range(4):
        speed.step()
        now[0] += 0.5
    assert speed.read(100) == pytest.approx((2.0, 50.0))
    now[0] += 1000.0
    speed.restart()
    speed.step()
    now[0] += 1.0
    per_step = 0.8 * 0.5 + 0.2 * 1.0
    assert speed.read(10) == pytest.approx((1 / per_step, 10 * per_step))


def test_a_snapshot_is_a_copy_and_can_be_used_twice(tiny):
    method, samples = tiny.make_method(), tiny.make_samples()
    method.prepare(samples)
    optimiser = method.optimiser()

    def step():
        torch.manual_seed(1)
        output = method.step(samples, 0.0, 8)
        optimiser.zero_grad()
        output.losses["labels"].backward()
        optimiser.step()
        return method.net[0].weight.detach().clone()

    step()
    snapshot = Snapshot.take(1, method, optimiser)
    first = step()
    step()
    for _ in range(2):
        snapshot.restore(method, optimiser)
        assert torch.equal(step(), first)


def test_a_snapshot_of_bad_weights_is_none(tiny):
    method = tiny.make_method()
    method.prepare(tiny.make_samples())
    assert Snapshot.take(0, method, method.optimiser()) is not None
    method.net[0].weight.data[0, 0, 0, 0] = float("nan")
    assert Snapshot.take(0, method, method.optimiser()) is None


def test_large_weights_are_finite():
    assert tensors_finite([torch.full((1000,), 3e38), torch.tensor(5)])
    assert not tensors_finite([torch.ones(3), torch.tensor([1.0, float("inf"), -float("inf")])])
    assert tensors_finite([])


# -- failures and log ----------------------------------------------------------------------------------------


def test_every_failure_is_one_sentence(tmp_path):
    cases = [
        (MethodError("Label some cells."), "Label some cells."),
        (StudyError("The study is locked."), "The study is locked."),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "The disk is full: free some space, then resume the run.",
        ),
        (FileNotFoundError(2, "No such file or directory", "a.png"), "a.png"),
        (MemoryError(), "memory of cpu is not enough"),
        (sqlite3.OperationalError("disk I/O error"), "sqlite3.OperationalError: disk I/O error"),
        (ValueError("operands could not be broadcast"), "ValueError: operands could not be broadcast"),
    ]
    for error, words in cases:
        reason = explain(error, tmp_path, torch.device("cpu"))
        assert words in reason and "\n" not in reason
    assert "is gone" in explain(KeyError("x"), tmp_path / "gone")


def test_rows_after_a_step_and_broken_lines_are_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,seconds,name,value\n1,0.1,loss/a,1.0\n2,0.2,loss/a,0.9\n3,0.3,loss/a,0.8\n3,0.")
    drop_rows_after(path, 2)
    assert path.read_text().split() == ["step,seconds,name,value", "1,0.1,loss/a,1.0", "2,0.2,loss/a,0.9"]


def test_the_log_of_a_failure_never_hides_the_failure(tmp_path, caplog):
    log = RunLog(tmp_path / "gone")
    log.write_end(EVENTS[-1])
    log.close()
    assert "could not be logged" in caplog.text
