import os
import subprocess
import sys

import pytest
import torch

from napari_mtssl.engine.devices import is_out_of_memory, pick_device, seeded, step_seed, training_threads
from napari_mtssl.methods.base import MethodError


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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_is_held_although_dask_says_otherwise():
    """Pages of a tensor are cleared by the kernel once, not again for each tensor."""
    program = (
        "import resource, torch\n"
        "from napari_mtssl.engine.devices import hold_memory\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(20): torch.ones(1_000_000)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "given_back = faults(); hold_memory(); faults(); print(given_back, faults())\n"
    )
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    given_back, held = map(int, said.stdout.split())
    assert given_back > 10_000 and held < 2000
