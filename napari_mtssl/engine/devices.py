"""Where training runs: choosing the device, its random numbers, its threads and its memory."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from napari_mtssl.methods.base import MethodError

DEVICES = ("auto", "cpu", "cuda", "mps")

# Of glibc's mallopt: how much freed memory is kept, and from which size a block is mapped by itself.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
HELD = 32 << 20  # bytes; as much as glibc comes to hold by itself, where nobody has told it otherwise

# What PyTorch says when an allocation fails, besides raising OutOfMemoryError on CUDA.
_MEMORY_WORDS = ("can't allocate memory", "not enough memory", "out of memory")


def pick_device(name: str = "auto") -> torch.device:
    """Turn a user's choice into a device.

    Parameters
    ----------
    name : str
        ``auto`` (CUDA, then MPS, then CPU), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises
    ------
    MethodError
        If the name is unknown or this computer has no such device.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, index = name.partition(":")
    if kind not in DEVICES or (index and not (kind == "cuda" and index.isdigit())):
        raise MethodError(f"There is no device '{name}'. Choose one of: {', '.join(DEVICES)}.")
    if kind == "cuda" and not cuda:
        raise MethodError(
            "This computer or its PyTorch has no CUDA device; choose the device 'auto' or 'cpu'."
        )
    if kind == "mps" and not mps:
        raise MethodError("This computer has no MPS device; choose the device 'auto' or 'cpu'.")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise MethodError(f"There is no device '{name}': {torch.cuda.device_count()} CUDA device(s) found.")
    return torch.device(name)


def step_seed(seed: int, step: int, attempt: int = 0) -> int:
    """Seed of one training step, so that a resumed run draws what an uninterrupted one draws.

    Parameters
    ----------
    seed, step : int
    attempt : int
        Counts the times weights were restored: a replayed step must not draw the same fatal batch again.
    """
    digest = hashlib.blake2b(f"{seed}/{step}/{attempt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's default generators inside the block; the CPU's and CUDA's come back as they were."""
    cuda = device.type == "cuda"
    index = torch.cuda.current_device() if cuda and device.index is None else device.index or 0
    with torch.random.fork_rng(devices=[index] if cuda else []):
        # not torch.manual_seed, which spends a third of a millisecond on devices that are not used
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.default_generators[index].manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield


@contextmanager
def training_threads(wanted: int | None = None) -> Iterator[int]:
    """Leave one core to the window while training; the former number of threads comes back afterwards.

    Parameters
    ----------
    wanted : int, optional
        Number of CPU threads; by default one less than there are cores.
    """
    before = torch.get_num_threads()
    count = max(1, (os.cpu_count() or 2) - 1) if wanted is None else wanted
    torch.set_num_threads(count)
    try:
        yield count
    finally:
        torch.set_num_threads(before)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device's (or the computer's) memory was not enough."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _MEMORY_WORDS)


def free_memory(device: torch.device) -> None:
    """Give cached memory back after an allocation failed."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def hold_memory() -> None:
    """Have this process keep freed memory for the next tensors, instead of giving each back at once.

    Dask starts workers with ``MALLOC_TRIM_THRESHOLD_=65536``, which also stops glibc from learning that
    large blocks come and go: each tensor is then fresh pages, which the kernel must clear. Prediction took
    2.5 times and training 2.2 times as long. Does nothing where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, HELD)
        mallopt(_TRIM_THRESHOLD, 2 * HELD)
