"""Load the network library some time after the dock opened, so that Train starts at once."""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

# What the first step, the first prediction and the review need; scipy alone takes a third of a second.
# torch's first optimiser imports torch._dynamo, which takes longer than torch itself.
MODULES = (
    "scipy.spatial",
    "scipy.cluster.vq",
    "torch",
    "torch._dynamo",
    "napari_mtssl.engine.train",
    "napari_mtssl.engine.preview",
    "napari_mtssl.engine.source",
)


def preload() -> Iterator[str]:
    """Import `MODULES` one by one, in a thread that is not the window's."""
    yield "libraries"
    # The collector walks all objects there are, a quarter of a second at a time with a library this large,
    # and the window waits for it. What was loaded stays for good: it need not be looked at ever again.
    was_on = gc.isenabled()
    gc.disable()
    try:
        map_libraries()
        for name in MODULES:
            importlib.import_module(name)
            yield name
        from napari_mtssl.methods import get_method, method_names

        for name in method_names():
            get_method(name)
            yield name
        gc.freeze()
    finally:
        if was_on:
            gc.enable()


def map_libraries() -> None:
    """Map torch's shared libraries without holding the interpreter lock.

    ``import torch`` maps some 400 MB while it holds the lock: a stall of the window of 0.3 s and more. A
    foreign function called through ctypes lets go of the lock; what is mapped already costs the import
    nothing. Where this finds nothing to map, the import does it as always.
    """
    spec = importlib.util.find_spec("torch")
    if os.name != "posix" or spec is None or spec.origin is None:
        return
    folder = Path(spec.origin).parent / "lib"
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.restype = ctypes.c_void_p
    for stem in ("libc10", "libtorch_cpu", "libtorch", "libtorch_python"):
        for suffix in (".so", ".dylib"):
            library = folder / f"{stem}{suffix}"
            if library.exists():
                dlopen(os.fsencode(library), os.RTLD_NOW)
