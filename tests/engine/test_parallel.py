"""Two processes learn what one learns: the same losses on the same batches, and one set of weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from napari_mtssl.engine.parallel import Together, together
from napari_mtssl.methods.base import MethodError

pytest.importorskip("lightning_fabric")
CHILD = Path(__file__).with_name("devices_child.py")


def program(*command, **settings):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        **settings,
    )


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_one_and_two_processes_give_the_same_loss(tmp_path):
    for devices in (1, 2):
        done = program(CHILD, devices, tmp_path / f"on{devices}-.json")
        assert done.returncode == 0, done.stderr[-3000:]
    one, first, second = (
        json.loads((tmp_path / name).read_text()) for name in ("on1-0.json", "on2-0.json", "on2-1.json")
    )
    assert {"hydramix", "gradnorm", "multimix", "specimens", "balanced_specimens"} < set(one)
    for name in one:
        # two processes say the mean of steps 2 to 10
        rest = [one[name]["losses"][str(step)] for step in range(2, 11)]
        assert first[name]["losses"]["1"] == pytest.approx(one[name]["losses"]["1"], rel=1e-5)
        assert first[name]["losses"]["10"] == pytest.approx(sum(rest) / len(rest), rel=1e-4)
        assert first[name] == second[name]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_trains_on_two_devices(tmp_path):
    from napari_mtssl.gui.samples import make_field_study

    with make_field_study(tmp_path, 256) as study:
        path = study.path
    settings = ("--set", "depth=10", "--set", "widen=1", "--set", "pool=64", "--steps", "4")
    done = program(
        "-m", "napari_mtssl", "train", "hydramix", path, "--devices", "2", "--device", "cpu", *settings
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("Finished at step 4") + done.stdout.count("Finished at step 4") == 1
    (run,) = (path / "runs").iterdir()
    assert sorted(file.suffix for file in run.iterdir() if "safetensors" in file.name) == [".safetensors"] * 2
    rows = (run / "metrics.csv").read_text().splitlines()
    assert len([row for row in rows if row.startswith("4,") and "loss/total" in row]) == 1


def test_what_cannot_be_divided_is_refused(monkeypatch):
    class Fabric:
        global_rank, world_size, device = 0, 2, torch.device("cpu")

    class Whole:
        divided, title, balancer = (), "Lungs", None

    with pytest.raises(MethodError, match="Lungs cannot"):
        Together(Fabric()).share(Whole())
    with pytest.raises(MethodError, match="type mps"):
        together(2, torch.device("mps"))
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(MethodError, match="multi-gpu"):
        together(2, torch.device("cpu"))
