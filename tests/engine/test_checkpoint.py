import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from napari_mtssl.engine import checkpoint as ckpt
from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.hydramix import HydraMix


def train_a_little(method, optimiser, samples, steps=3):
    method.prepare(samples)
    for _ in range(steps):
        output = method.step(samples, 0.0, 8)
        optimiser.zero_grad()
        output.losses["labels"].backward()
        optimiser.step()
        method.after_step()


def equal(one, two):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[k], two[k]) for k in one)
    return one == two


@pytest.mark.parametrize("make", ["adamw", "sgd", "capturable"])
def test_weights_and_optimiser_come_back_as_they_were(tiny, tmp_path, make):
    method = tiny.make_method()
    parameters = method.net.parameters()
    optimiser = {
        "adamw": lambda: torch.optim.AdamW(parameters, betas=(0.8, 0.9)),
        "sgd": lambda: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
        "capturable": lambda: torch.optim.Adam(parameters, lr=torch.tensor(1e-3)),
    }[make]()
    train_a_little(method, optimiser, tiny.make_samples())
    path = ckpt.save(tmp_path, "last", method, optimiser, 3, notes={"pixel_size_um": 0.5})
    saved = ckpt.load(path)
    assert saved.step == 3
    assert saved.meta["vocabulary"] == {"cell": list(tiny.CLASSES)} and saved.meta["pixel_size_um"] == 0.5
    assert equal(saved.state, method.state())
    assert equal(saved.optimiser_state(), optimiser.state_dict())


def test_moments_lie_in_memory_as_their_weights_do(tiny, tmp_path):
    method = tiny.make_method()
    method.net.to(memory_format=torch.channels_last)
    optimiser = method.optimiser()
    train_a_little(method, optimiser, tiny.make_samples())
    saved = ckpt.load(ckpt.save(tmp_path, "last", method, optimiser, 3))
    again = method.optimiser()
    ckpt.restore_optimiser(again, saved.optimiser_state())
    assert equal(again.state_dict(), optimiser.state_dict())
    weight = method.net[3].weight
    assert not weight.is_contiguous()
    assert again.state[weight]["exp_avg"].stride() == weight.stride()


def test_files_are_safetensors_with_readable_metadata(tiny, tmp_path):
    from safetensors import safe_open

    method = tiny.make_method()
    ckpt.save(tmp_path, "best", method, method.optimiser(), 0)
    assert len(list(tmp_path.iterdir())) == 2
    for path in tmp_path.iterdir():
        assert path.suffix == ".safetensors"
        with safe_open(path, framework="np") as file:
            json.loads(file.metadata()["napari_mtssl"])


def test_only_the_newest_optimiser_state_is_kept(tiny, tmp_path):
    method = tiny.make_method()
    optimiser = method.optimiser()
    for which in ("last", "best", "last", "last"):
        ckpt.save(tmp_path, which, method, optimiser, 0)
    assert len(list(tmp_path.glob("last.*.optim.safetensors"))) == 1
    assert len(list(tmp_path.glob("best.*.optim.safetensors"))) == 1


def test_a_method_comes_back_to_predict(tiny, tmp_path, registered):
    method = tiny.make_method(steps=7)
    train_a_little(method, method.optimiser(), tiny.make_samples())
    ckpt.save(tmp_path, "last", method, method.optimiser(), 3)
    again = ckpt.load_method(tmp_path, device="cpu")
    assert again.config == method.config and again.vocabulary == method.vocabulary
    patches = tiny.make_samples().patches
    assert torch.equal(again.classify(patches), method.classify(patches))


def test_a_setting_younger_than_the_checkpoint_gets_its_default_not_the_presets(tmp_path):
    # as written before there was a head for types of cells, which `robust` has by now
    vocabulary = {"cell": ("background", "round", "long", "square")}
    small = {"widen": 1, "steps": 20}
    old = HydraMix(HydraMix.configure("robust", **small, type_weight=0.0), vocabulary, torch.device("cpu"))
    saved = ckpt.load(ckpt.save(tmp_path, "last", old, old.optimiser(), 3))
    for younger in ("type_weight", "type_colour"):
        del saved.meta["config"][younger]
    again = ckpt.build_method(saved, torch.device("cpu"))
    assert again.network.cell_type is None
    assert again.config == old.config
    assert equal(again.state(), old.state())
    now = HydraMix(HydraMix.configure("robust", **small), vocabulary, torch.device("cpu"))
    assert now.network.cell_type is not None


def test_clear_words_for_what_is_no_checkpoint(tiny, tmp_path):
    with pytest.raises(MethodError, match="has no checkpoint yet"):
        ckpt.find(tmp_path)
    with pytest.raises(MethodError, match="There is no checkpoint"):
        ckpt.load(tmp_path / "last.safetensors")
    path = tmp_path / "last.safetensors"
    path.write_bytes(b"no tensors here")
    with pytest.raises(MethodError, match="is damaged"):
        ckpt.load(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(MethodError, match="not of napari-mtssl"):
        ckpt.load(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"napari_mtssl": json.dumps({"version": 99})})
    with pytest.raises(MethodError, match="newer napari-mtssl"):
        ckpt.load(path)


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_save_that_fails_anywhere_leaves_a_whole_checkpoint(tiny, tmp_path, monkeypatch, operation):
    method, samples = tiny.make_method(), tiny.make_samples()
    optimiser = method.optimiser()
    train_a_little(method, optimiser, samples)
    ckpt.save(tmp_path, "last", method, optimiser, 3)
    train_a_little(method, optimiser, samples)
    real, calls, failures = getattr(os, operation), 0, 0
    for fail_at in range(1, 10):
        calls = 0

        def fail(*args, fail_at=fail_at):
            nonlocal calls
            calls += 1
            if calls == fail_at:
                raise OSError(28, "No space left on device")
            return real(*args)

        monkeypatch.setattr(os, operation, fail)
        try:
            ckpt.save(tmp_path, "last", method, optimiser, 6)
        except OSError:
            failures += 1
        monkeypatch.setattr(os, operation, real)
        saved = ckpt.load(tmp_path / "last.safetensors")
        steps = {int(s["step"]) for s in saved.optimiser_state()["state"].values()}
        assert steps == {saved.step}  # weights and optimiser belong together
        assert not list(tmp_path.glob(".*.tmp"))
        if calls < fail_at:
            break
    assert failures >= 2
    assert saved.step == 6


FOREVER = """
    import sys
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    sys.path.insert(0, {folder!r})
    import tiny_method
    from napari_mtssl.engine.control import Control
    from napari_mtssl.engine.options import TrainOptions
    from napari_mtssl.engine.source import FixedSource
    from napari_mtssl.engine.train import train

    run = Path(sys.argv[1])
    source = FixedSource(tiny_method.make_samples(), tiny_method.make_samples(seed=1))
    options = TrainOptions(validate_every=3, checkpoint_every=1, report_seconds=0, preview_seconds=0)
    resume = (run / "last.safetensors").exists()
    method = tiny_method.make_method(steps=10**6)
    for event in train(method, source, run_dir=run, control=Control(), options=options, resume=resume):
        if event.kind == "failed":
            sys.exit(event.detail)
        print(event.kind, event.step, flush=True)
"""


@pytest.mark.slow
def test_killed_at_random_moments_a_run_can_always_be_resumed(tmp_path):
    script = tmp_path / "forever.py"
    script.write_text(textwrap.dedent(FOREVER.format(folder=str(Path(__file__).parent))))
    run = tmp_path / "run"
    run.mkdir()
    moments, reached = random.Random(0), -1
    for _ in range(3):
        process = subprocess.Popen([sys.executable, script, run], stdout=subprocess.PIPE, text=True)
        said = ""
        while not said.startswith("checkpoint"):
            said = process.stdout.readline()
            assert said, "the run ended by itself"
        time.sleep(moments.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        saved = ckpt.load(run / "last.safetensors")
        assert saved.step > reached
        reached = saved.step
        steps = {int(s["step"]) for s in saved.optimiser_state()["state"].values()}
        assert steps == {reached}
        ckpt.load(ckpt.find(run, "best"))
