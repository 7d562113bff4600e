"""Whole slides: opening, memory and speed of prediction, seams, and what a kill in the middle costs.

python benchmarks/slides.py --json slides.json --scratch FOLDER

The slides are made up (20 % tissue), the network is trained for a short while on such cells. Every part is a
program of its own, so that memory is its own; `--only` runs some, and the JSON file keeps the figures of
the others. Slides and the network stay in the scratch folder; an interrupted prediction goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PARTS = ("open", "memory", "robust", "seam", "kill", "dask")
OPENED, SMALL, LARGE, KILLED = 100_000, 10_000, 40_000, 6_000
LABELS, STEPS = 300, 300
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
        print(json.dumps(INNER[name](*arguments)))
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


def _robust(scratch: Path) -> dict:
    run = _network(scratch, "robust", {}, FEW)
    found = _program("predict", _slide(scratch, SMALL), run, scratch / "robust")
    return {
        "mpix_per_s": round(found["mpix"] / found["seconds"], 3),
        "mpix_of_tiles": found["mpix"],
        "peak_gb_robust_10k": round(found["peak_gb"], 2),
    }


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
    return _program("dask", _slide(scratch, KILLED), _network(scratch, "small", NETWORK), scratch)


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
    run = scratch / f"run-{name}"
    if not (run / "last.safetensors").exists():
        _program("train", run, json.dumps(settings), steps)
    return run


def _program(name: str, *arguments: object) -> dict:
    """Run a part in a program of its own and read what it prints."""
    command = [sys.executable, __file__, "--inner", name, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


# -- programs ----------------------------------------------------------------------------------------------


def _do_open(slide: str) -> dict:
    """First picture of a slide: what a window of 1,600 pixels shows of it, and napari's layer data."""
    import dask.array  # noqa: F401 - napari has loaded it before any slide is opened

    from napari_mtssl.gui.slides import read_slides
    from napari_mtssl.images import open_image

    began = time.perf_counter()
    open_image(slide)
    cold = time.perf_counter() - began  # loads OpenSlide
    before, began = _resident_mb(), time.perf_counter()
    ((levels, _, _),) = read_slides(slide)
    np.asarray(levels[-1])
    seconds = time.perf_counter() - began
    return {
        "seconds": round(seconds, 3),
        "mb": round(_resident_mb() - before, 1),
        "cold_seconds": round(cold + seconds, 3),
    }


def _do_train(run: str, settings: str, steps: str) -> dict:
    import pandas as pd
    import PIL.Image

    from napari_mtssl.engine.control import Control
    from napari_mtssl.engine.devices import pick_device, seeded
    from napari_mtssl.engine.events import Failed
    from napari_mtssl.engine.options import TrainOptions
    from napari_mtssl.engine.source import FixedSource
    from napari_mtssl.engine.train import train
    from napari_mtssl.evaluation.synthetic import CLASSES, cell_field
    from napari_mtssl.images import ImagePool
    from napari_mtssl.methods.hydramix import HydraMix
    from napari_mtssl.study import Study

    device = pick_device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        made = cell_field(800, 800, seed=99)
        path = Path(folder) / "field.png"
        PIL.Image.fromarray(made.image).save(path)
        rng = np.random.default_rng(0)
        cells = made.cells.sample(LABELS, random_state=0)[["row", "col", "class"]]
        places = rng.uniform(20, 780, (4000, 2))
        far = (
            np.linalg.norm(places[:, None] - made.cells[["row", "col"]].to_numpy()[None], axis=2).min(1) > 12
        )
        empty = pd.DataFrame(places[far][:LABELS], columns=["row", "col"]).assign(**{"class": "background"})
        with Study.create(Path(folder) / "f.mtssl") as study:
            record = study.add_image(path, height=800, width=800)
            for name in CLASSES:
                study.add_class(name)
            study.add_cells(pd.concat([cells, empty]).assign(image_id=record.id))
            config = HydraMix.configure("robust", steps=int(steps), **json.loads(settings))
            with seeded(config.seed, device):
                method = HydraMix(config, HydraMix.vocabulary_of(study), device)
            samples = method.samples(study, ImagePool(), "train")
        Path(run).mkdir(exist_ok=True)
        options = TrainOptions(int(steps) + 1, int(steps) + 1, pseudo_seconds=0, preview_seconds=0)
        for event in train(
            method, FixedSource(samples), run_dir=Path(run), control=Control(), options=options
        ):
            if isinstance(event, Failed):
                raise SystemExit(event.reason)
    return {}


def _do_predict(slide: str, run: str, out: str) -> dict:
    """Do what `napari-mtssl predict` does with a slide."""
    from napari_mtssl.cli.slides import write_slide
    from napari_mtssl.engine.checkpoint import load_method
    from napari_mtssl.engine.slide_prediction import SlideStore, plan_slide
    from napari_mtssl.images import open_image

    method, image = load_method(run, "last", "cpu"), open_image(slide)
    Path(out).mkdir(exist_ok=True)
    write_slide(method, image, None, {"cell": {"tumour": "#e6194b", "lymphocyte": "#4363d8"}}, Path(out))
    peak = _peak_gb()
    plan = plan_slide(method, image)
    store = SlideStore(Path(out) / f"{image.path.stem}.prediction", plan.identity, method.vocabulary["cell"])
    mpix = sum((b[2] - b[0]) * (b[3] - b[1]) for b in plan.tiles) / 1e6
    return {"peak_gb": peak, "mpix": round(mpix, 1), "seconds": store.seconds, "cells": len(store.cells())}


def _do_seam(slide: str, run: str) -> dict:
    """Tiles against a larger part of the slide at once."""
    from napari_mtssl.engine.checkpoint import load_method
    from napari_mtssl.engine.dense import dense_maps
    from napari_mtssl.images import open_image

    method, image = load_method(run, "last", "cpu"), open_image(slide)
    row0, col0, side, tile = 2048, 2048, 1024, 256
    whole = dense_maps(method, image, (row0, col0, row0 + side, col0 + side))
    stride = method.geometry.stride
    worst = 0.0
    for top in range(0, side, tile):
        for left in range(0, side, tile):
            box = (row0 + top, col0 + left, row0 + top + tile, col0 + left + tile)
            for name, part in dense_maps(method, image, box).items():
                rows = slice(top // stride, (top + tile) // stride)
                cols = slice(left // stride, (left + tile) // stride)
                worst = max(worst, float(np.abs(whole[name][:, rows, cols] - part).max()))
    return {"seam": float(f"{worst:.3g}")}


def _do_cells(slide: str, run: str, folder: str) -> dict:
    """Predict, say each tile on standard error, and digest the cells."""
    import hashlib

    from napari_mtssl.engine.checkpoint import load_method
    from napari_mtssl.engine.slide_prediction import SlideStore, plan_slide, predict_slide
    from napari_mtssl.images import open_image

    method, image = load_method(run, "last", "cpu"), open_image(slide)
    plan = plan_slide(method, image)
    store = SlideStore(Path(folder), plan.identity, method.vocabulary["cell"])
    before = len(store.done())
    for tile in predict_slide(method, plan, store):
        print(tile.number, file=sys.stderr, flush=True)
    digest = hashlib.sha256(store.cells().to_csv(index=False).encode()).hexdigest()
    return {"digest": digest, "before": before, "total": len(plan.tiles)}


def _do_dask(slide: str, run: str, scratch: str) -> dict:
    """One worker, two, and two of which one is killed in the middle; all warm when the clock starts."""
    from distributed import Client, LocalCluster

    from napari_mtssl.engine.checkpoint import load_method
    from napari_mtssl.engine.runners import DaskTiles, tile_job
    from napari_mtssl.engine.slide_prediction import SlideStore, plan_slide, predict_slide
    from napari_mtssl.images import open_image

    method, image = load_method(run, "last", "cpu"), open_image(slide)
    plan = plan_slide(method, image, tile=256)
    job = tile_job(Path(run), plan, "last", "cpu")
    seconds, digests, left = {}, {}, {}
    for name, workers in (("one", 1), ("two", 2), ("killed", 2)):
        store = SlideStore(Path(tempfile.mkdtemp(dir=scratch)), plan.identity, method.vocabulary["cell"])
        settings = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
        with (
            LocalCluster(n_workers=workers, memory_limit=0, **settings) as cluster,
            Client(cluster) as client,
        ):
            pids = client.run(os.getpid)
            warm = DaskTiles(client, job)
            list(warm([(number, plan.tiles[number]) for number in range(8 * workers)]))
            began = time.perf_counter()
            half = began
            for tile in predict_slide(method, plan, store, executor=DaskTiles(client, job)):
                if tile.done == tile.total // 2:
                    half = time.perf_counter()
                    if name == "killed":
                        os.kill(next(iter(pids.values())), signal.SIGKILL)
            seconds[name], left[name] = time.perf_counter() - began, time.perf_counter() - half
        digests[name] = store.cells().to_csv(index=False)
    return {
        "two_workers": round(seconds["one"] / seconds["two"], 2),
        "identical_after_kill": digests["killed"] == digests["two"] == digests["one"],
        "time_after_kill": round(left["killed"] / left["two"], 2),
        "cells_compared": digests["one"].count("\n") - 1,
        "dask_tiles": len(plan.tiles),
        "load": [round(value, 1) for value in os.getloadavg()],
    }


INNER = {
    "open": _do_open,
    "train": _do_train,
    "predict": _do_predict,
    "seam": _do_seam,
    "cells": _do_cells,
    "dask": _do_dask,
}

if __name__ == "__main__":
    main()
