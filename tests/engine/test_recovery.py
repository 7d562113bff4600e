"""What goes wrong while training: bad losses, too little memory, mistakes, disks and folders."""

import errno
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file

from napari_mtssl.engine import checkpoint as ckpt
from napari_mtssl.engine.events import (
    CheckpointWritten,
    Failed,
    Finished,
    LossNotFinite,
    OutOfMemory,
    Stepped,
)
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.methods.base import MethodError


def poison(monkeypatch, tiny, bad_steps, how):
    """Spoil the loss (or only its gradient) of the steps taken at these counts."""
    real = tiny.Tiny.step

    def step(method, *args):
        output = real(method, *args)
        if method.steps_taken in bad_steps:
            if how == "gradient":  # finite loss, gradient 0 * inf
                output.losses["labels"] = output.losses["labels"] + torch.sqrt(method.net[0].weight.sum() * 0)
            else:
                output.losses["labels"] = output.losses["labels"] * float(how)
        return output

    monkeypatch.setattr(tiny.Tiny, "step", step)


@pytest.mark.parametrize("how", ["nan", "inf", "gradient"])
@pytest.mark.parametrize("bad_step", [1, 20, 25])
def test_a_loss_that_is_not_finite_goes_back_to_good_weights(make_run, monkeypatch, tiny, how, bad_step):
    poison(monkeypatch, tiny, {bad_step}, how)
    run = make_run(steps=40)
    events = list(run.events)
    (said,) = [e for e in events if isinstance(e, LossNotFinite)]
    assert said.restored_step < bad_step <= said.step
    assert f"went back to step {said.restored_step}" in said.message
    assert isinstance(events[-1], Finished) and events[-1].step == 40
    assert events[-1].scores["accuracy"] > 0.9
    for event in events:
        if isinstance(event, Stepped):
            assert all(x == x and abs(x) < 1e9 for x in event.losses.values())
    for path in run.dir.glob("*.safetensors"):
        assert all(torch.isfinite(x).all() for x in load_file(path).values()), path


def test_checkpoints_are_good_at_all_times_despite_a_bad_gradient(make_run, monkeypatch, tiny):
    poison(monkeypatch, tiny, {20}, "gradient")
    run = make_run(steps=40)
    for event in run.events:
        if isinstance(event, CheckpointWritten):
            assert all(torch.isfinite(x).all() for x in load_file(event.path).values())


def test_bad_weights_are_not_kept_when_the_listener_leaves(make_run, monkeypatch, tiny):
    poison(monkeypatch, tiny, {15}, "gradient")
    rare = TrainOptions(validate_every=10, checkpoint_every=10, report_seconds=1e9, pseudo_seconds=1e-9)
    run = make_run(options=rare)
    for event in run.events:
        if event.step == 15:  # the loss is finite, the weights are not
            assert not all(torch.isfinite(x).all() for x in run.method.state().values())
            run.events.close()
    saved = ckpt.load(run.dir / "last.safetensors")
    assert saved.step == 10 and all(torch.isfinite(x).all() for x in saved.state.values())


def test_after_three_restarts_training_gives_up_and_keeps_good_weights(make_run, monkeypatch, tiny):
    poison(monkeypatch, tiny, range(15, 10_000), "nan")
    run = make_run(steps=40)
    events = list(run.events)
    assert sum(isinstance(e, LossNotFinite) for e in events) == 2
    assert isinstance(events[-1], Failed)
    assert "3 times" in events[-1].reason and "Lower the learning rate (0.01)" in events[-1].reason
    saved = ckpt.load(run.dir / "last.safetensors")
    assert 10 <= saved.step < 15
    assert all(torch.isfinite(x).all() for x in saved.state.values())


def allocate_too_much():
    torch.empty(2**60, dtype=torch.uint8)


def raise_cuda():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def raise_python():
    raise MemoryError


@pytest.mark.parametrize("fail", [allocate_too_much, raise_cuda, raise_python])
def test_out_of_memory_halves_the_batch(make_run, monkeypatch, tiny, fail):
    real, batches = tiny.Tiny.step, []

    def step(method, samples, progress, batch_size):
        batches.append(batch_size)
        if batch_size > 4:
            fail()
        return real(method, samples, progress, batch_size)

    monkeypatch.setattr(tiny.Tiny, "step", step)
    run = make_run(steps=12)
    events = list(run.events)
    said = [e for e in events if isinstance(e, OutOfMemory)]
    assert [(e.step, e.old_batch, e.new_batch) for e in said] == [(0, 16, 8), (0, 8, 4)]
    assert "with 4" in said[-1].message
    assert batches == [16, 8] + [4] * 12
    assert isinstance(events[-1], Finished)
    assert (
        ckpt.load(run.dir / "last.safetensors").meta["batch_size"] == 4
    )  # a resumed run need not fail again


def test_out_of_memory_with_two_samples_says_what_to_do(make_run, monkeypatch, tiny):
    monkeypatch.setattr(tiny.Tiny, "step", lambda *args: raise_cuda())
    events = list(make_run().events)
    assert [e.new_batch for e in events if isinstance(e, OutOfMemory)] == [8, 4, 2]
    assert isinstance(events[-1], Failed)
    assert "Not even 2 samples" in events[-1].reason and "another device" in events[-1].reason


def test_an_error_that_is_no_lack_of_memory_is_not_mistaken_for_one(make_run, monkeypatch, tiny, caplog):
    def step(*args):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(tiny.Tiny, "step", step)
    events = list(make_run().events)
    assert [event.kind for event in events] == ["started", "failed"]
    assert events[-1].reason == "RuntimeError: mat1 and mat2 shapes cannot be multiplied"
    assert "in step" in events[-1].detail and "Traceback" in events[-1].detail
    assert "training failed at step 0" in caplog.text


def test_a_mistake_of_the_user_ends_in_its_sentence_and_keeps_the_weights(
    make_run, monkeypatch, tiny, caplog
):
    real = tiny.Tiny.describe

    def describe(method, *args):
        if method.steps_taken == 13:
            raise MethodError("Label some cells.")
        return real(method, *args)

    monkeypatch.setattr(tiny.Tiny, "describe", describe)
    run = make_run()
    events = list(run.events)
    assert isinstance(events[-1], Failed) and events[-1].reason == "Label some cells."
    assert ckpt.load(run.dir / "last.safetensors").step == 13
    assert not caplog.records


def test_a_deleted_run_folder_ends_the_run_with_a_sentence(make_run):
    run = make_run()
    events = []
    for event in run.events:
        events.append(event)
        if event.step == 5 and run.dir.exists():
            shutil.rmtree(run.dir)
    assert isinstance(events[-1], Failed)
    assert "is gone: the study was moved or deleted" in events[-1].reason


def test_a_full_disk_ends_the_run_with_a_sentence_and_the_former_checkpoint(make_run, monkeypatch):
    run = make_run()
    events = []
    for event in run.events:
        events.append(event)
        if event.step == 15:

            def full(*args):
                raise OSError(errno.ENOSPC, "No space left on device")

            monkeypatch.setattr(os, "fsync", full)
    assert isinstance(events[-1], Failed) and events[-1].reason.startswith("The disk is full")
    assert events[-1].mendable  # no traceback for what is no fault of the program
    assert ckpt.load(run.dir / "last.safetensors").step == 10
