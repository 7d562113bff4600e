"""Whole slides: opening, memory and speed of prediction, seams, and what a kill in the middle costs.

python benchmarks/slides.py --json slides.json --scratch FOLDER

The slides are made up (20 % tissue), the network is trained for a short while on such cells. Every part is a
program of its own, so that memory is its own; `--only` runs some, and the JSON file keeps the figures of
the others. Slides and the network stay in the scratch folder; an interrupted prediction goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import numpy as np

PARTS = ("open", "memory", "speed", "seam", "kill", "dask", "training", "tissue", "lost", "pan")
OPENED, SMALL, LARGE, KILLED = 100_000, 10_000, 40_000, 6_000
STEPS = 300
FEW = 40  # steps of the network whose speed is measured: what it says does not matter
NETWORK = {"depth": 10, "widen": 1, "turns": 1}  # of the parts about memory and tiles, not about speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--scratch", type=Path, help="where slides are kept; by default they are not")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--inner", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inner:
        name, *arguments = options.inner
        print(json.dumps(getattr(import_module(PROGRAMS[name]), f"do_{name}")(*arguments)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.scratch or Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        figures = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
        for part in options.only:
            figures |= globals()[f"_{part}"](scratch)
            for name, value in figures.items():
                print(f"{name}: {value}")
            if options.json:
                options.json.write_text(json.dumps(figures, indent=1) + "\n")


# -- parts -------------------------------------------------------------------------------------------------


def _open(scratch: Path) -> dict:
    found = _program("open", _slide(scratch, OPENED))
    return {"open_s": found["seconds"], "open_mb": found["mb"], "open_cold_s": found["cold_seconds"]}


def _memory(scratch: Path) -> dict:
    run = _network(scratch, "small", NETWORK)
    small, large = (
        _program("predict", _slide(scratch, size), run, scratch / f"memory{size}") for size in (SMALL, LARGE)
    )
    return {
        "peak_gb": round(large["peak_gb"], 2),
        "peak_gb_10k": round(small["peak_gb"], 2),
        "growth": round(large["peak_gb"] / small["peak_gb"], 2),
        "cells_40k": large["cells"],
        "small_mpix_per_s": round(large["mpix"] / large["seconds"], 2),
    }


def _speed(scratch: Path) -> dict:
    return _program("speed", _slide(scratch, SMALL), _network(scratch, "robust", {}, FEW))


def _seam(scratch: Path) -> dict:
    return _program("seam", _slide(scratch, SMALL), _network(scratch, "robust", {}, FEW))


def _kill(scratch: Path) -> dict:
    """Kill the program five times at random; compare with a run that nobody killed."""
    run, slide = _network(scratch, "small", NETWORK), _slide(scratch, KILLED)
    whole = _program("cells", slide, run, Path(tempfile.mkdtemp(dir=scratch)) / "whole")
    folder = Path(tempfile.mkdtemp(dir=scratch)) / "killed"
    rng = np.random.default_rng(0)
    committed: list[int] = []
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, __file__, "--inner", "cells", str(slide), str(run), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        lines = []
        for _ in range(int(rng.integers(2, 12))):
            lines.append(child.stderr.readline())
        time.sleep(float(rng.uniform(0, 0.3)))
        child.send_signal(signal.SIGKILL)
        lines += child.communicate()[1].splitlines(keepends=True)
        committed += [int(line) for line in lines if line.endswith("\n") and line.strip().isdigit()]
    last = _program("cells", slide, run, folder)
    return {
        "resume_exact": last["digest"] == whole["digest"] and len(set(committed)) == len(committed),
        "resume_tiles": [last["before"], last["total"]],
    }


def _dask(scratch: Path) -> dict:
    """Two workers, and two of which one is killed, on a small slide and on one of 2.8 times the area."""
    run = _network(scratch, "small", NETWORK)
    figures = _program("dask", _slide(scratch, KILLED), run, scratch, "killed")
    larger = _program("dask", _slide(scratch, SMALL), run, scratch, "killed")
    return figures | {f"{name}_10k": value for name, value in larger.items()}


def _training(scratch: Path) -> dict:
    return _program("training", *(_slide(scratch, size) for size in (LARGE, SMALL)))


def _tissue(scratch: Path) -> dict:
    """Tissue from a slide with all its blocks labelled, and from as much of one as fits into memory."""
    whole, part = (_program("tissue", _slide(scratch, size)) for size in (LARGE, KILLED))
    figures = {f"tissue_{name}": value for name, value in whole.items()}
    return figures | {
        "tissue_growth": round(whole["peak_gb"] / part["peak_gb"], 2),
        "tissue_ratio": round(whole["steps_per_s"] / part["steps_per_s"], 2),
    }


def _lost(scratch: Path) -> dict:
    return _program("lost", scratch)


def _pan(scratch: Path) -> dict:
    """As it is, and with napari told not to read in the background."""
    slide, figures = _slide(scratch, OPENED), {}
    for name, setting in (("pan", {}), ("pan_waiting", {"NAPARI_ASYNC": "0"})):
        found = _program("pan", slide, scratch, env=setting)
        figures |= {f"{name}_{key}": value for key, value in found.items()}
    return figures


# -- what they share ---------------------------------------------------------------------------------------


def _slide(scratch: Path, size: int) -> Path:
    from napari_mtssl.evaluation.slide_files import write_slide
    from napari_mtssl.evaluation.slide_generator import made_slide

    path = scratch / f"slide{size}.svs"
    if not path.exists():
        part = scratch / f"part{size}.svs"
        write_slide(made_slide(size, size), part)
        part.rename(path)
    return path


def _network(scratch: Path, name: str, settings: dict, steps: int = STEPS) -> Path:
    """Folder of a run, trained on cells of a made-up slide."""
    about = hashlib.blake2b(f"{json.dumps(settings)} {steps}".encode(), digest_size=4).hexdigest()
    run = scratch / f"run-{name}-{about}"  # another network of that name, of another day, is another one
    if not (run / "last.safetensors").exists():
        _program("train", run, json.dumps(settings), steps)
    return run


def _program(name: str, *arguments: object, env: dict[str, str] | None = None) -> dict:
    """Run a part in a program of its own and read what it prints."""
    print(f"-- {name}", file=sys.stderr, flush=True)
    command = [sys.executable, __file__, "--inner", name, *map(str, arguments)]
    if env is not None and sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        command = ["xvfb-run", "-a", "-s", "-screen 0 1600x1200x24", *command]
    environment = os.environ | (env or {})
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    print(done.stdout.splitlines()[-1], file=sys.stderr, flush=True)
    return json.loads(done.stdout.splitlines()[-1])


PROGRAMS = {  # and the file of each
    "open": "slide_programs",
    "train": "slide_programs",
    "predict": "slide_programs",
    "speed": "slide_programs",
    "seam": "slide_programs",
    "cells": "slide_programs",
    "dask": "slide_programs",
    "training": "slide_learning",
    "tissue": "slide_learning",
    "lost": "slide_learning",
    "pan": "slide_window",
}

if __name__ == "__main__":
    main()
