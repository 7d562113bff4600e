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

PARTS = ("open", "memory", "speed", "seam", "kill", "dask", "training", "lost", "pan")
OPENED, SMALL, LARGE, KILLED = 100_000, 10_000, 40_000, 6_000
LABELS, STEPS = 300, 300
TIMED = 6  # tiles of 512 x 512 whose time is taken
STEPS_TIMED = 60
SMALL_TRAINING = {"depth": 10, "widen": 1, "batch_size": 16, "pool": 500, "steps": 2_000}
KILL_AT = 130
PANNED = 24  # seconds
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
    return _program("dask", _slide(scratch, KILLED), _network(scratch, "small", NETWORK), scratch)


def _training(scratch: Path) -> dict:
    return _program("training", *(_slide(scratch, size) for size in (LARGE, SMALL)))


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
    run = scratch / f"run-{name}"
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


def _do_speed(slide: str, run: str) -> dict:
    """Megapixels of tissue a second of the whole way from the file to cells, and of other programs' networks.

    One thread. Counted in seconds of the processor, so that other work on the computer does not matter; tiles
    and networks take turns.
    """
    import torch
    from peers import Cellpose, StarDist

    from napari_mtssl.engine.checkpoint import load_method
    from napari_mtssl.engine.slide_prediction import plan_slide, predict_tile
    from napari_mtssl.images import open_image, to_float

    torch.set_num_threads(1)
    torch.manual_seed(0)
    method, image = load_method(run, "last", "cpu"), open_image(slide)
    once = load_method(run, "last", "cpu")
    once.config = once.config.model_copy(update={"turns": 1})
    plan = plan_slide(method, image)
    tiles = plan.tiles[len(plan.tiles) // 2 :][:TIMED]
    stardist, cellpose = StarDist().eval(), Cellpose().eval()
    seconds = dict.fromkeys(("ours", "once", "stardist", "cellpose"), 0.0)
    wall = pixels = 0.0
    with torch.no_grad():
        for number, box in enumerate([tiles[0], *tiles]):  # the first one is to warm up
            row0, col0, row1, col1 = box
            tile = torch.from_numpy(to_float(image.read(row0, col0, row1 - row0, col1 - col0)))
            tile = tile.permute(2, 0, 1)[None].contiguous()
            ways = {
                "ours": lambda box=box: predict_tile(method, plan.view, box),
                "once": lambda box=box: predict_tile(once, plan.view, box),
                "stardist": lambda tile=tile: stardist(tile),
                "cellpose": lambda tile=tile: cellpose(tile[:, :2]),
            }
            for name, way in ways.items():
                began, at = time.thread_time(), time.perf_counter()
                way()
                seconds[name] += (time.thread_time() - began) if number else 0.0
                wall += (time.perf_counter() - at) if number and name == "ours" else 0.0
            pixels += (row1 - row0) * (col1 - col0) / 1e6 if number else 0.0
    speed = {name: pixels / spent for name, spent in seconds.items()}
    return {
        "mpix_per_s": round(speed["ours"], 3),
        "mpix_per_s_wall": round(pixels / wall, 3),
        "mpix_per_s_one_turn": round(speed["once"], 3),
        "stardist_mpix_per_s": round(speed["stardist"], 3),
        "cellpose_mpix_per_s": round(speed["cellpose"], 3),
        "peer_ratio": round(speed["ours"] / speed["cellpose"], 2),
        "peer_ratio_one_turn": round(speed["once"] / speed["cellpose"], 2),
        "stardist_ratio": round(speed["ours"] / speed["stardist"], 2),
        "stardist_ratio_one_turn": round(speed["once"] / speed["stardist"], 2),
        "peak_gb_robust": round(_peak_gb(), 2),
    }


def _do_training(*slides: str) -> dict:
    """Train from slides, places renewed, and from the same patches held in memory, step by step in turns."""
    import pandas as pd
    import torch

    from napari_mtssl.engine.devices import seeded
    from napari_mtssl.images import ImagePool, open_image
    from napari_mtssl.images.tissue import find_tissue
    from napari_mtssl.methods.hydramix import HydraMix
    from napari_mtssl.study import Study

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, Study.create(Path(folder) / "s.mtssl") as study:
        for name in ("tumour", "lymphocyte"):
            study.add_class(name)
        for slide in slides:
            image = open_image(slide)
            record = study.add_image(slide, height=image.height, width=image.width)
            places = rng.uniform(0, image.height, (4000, 2))
            places = places[find_tissue(image).contains(places)][:LABELS]
            names = rng.choice(["background", "tumour", "lymphocyte"], len(places))
            study.add_cells(
                pd.DataFrame(places, columns=["row", "col"]).assign(image_id=record.id, **{"class": names})
            )
        config = HydraMix.configure("robust")
        began = time.perf_counter()
        ways = {}
        for name in ("slides", "memory"):
            method = HydraMix(config, HydraMix.vocabulary_of(study), torch.device("cpu"))
            samples = method.samples(study, ImagePool(), "train")
            method.prepare(samples)
            if name == "memory":
                samples.drift = None
            ways[name] = (method, samples, method.optimiser())
        ready = (time.perf_counter() - began) / 2
        seconds = dict.fromkeys(ways, 0.0)
        for step in range(STEPS_TIMED + 20):
            # in turns, the first one by turns too: what else the computer does meets both
            order = list(ways) if step % 2 else list(ways)[::-1]
            for name in order:
                method, samples, optimiser = ways[name]
                at = time.perf_counter()
                with seeded(step, method.device):
                    output = method.step(samples, step / config.steps, config.batch_size)
                    total = sum(output.weights[k] * loss for k, loss in output.losses.items())
                    optimiser.zero_grad(set_to_none=True)
                    total.backward()
                optimiser.step()
                method.after_step()
                seconds[name] += time.perf_counter() - at if step >= 20 else 0.0
        images = {int(i) for i in ways["slides"][1].places["image_id"]}
    return {
        "train_ratio": round(seconds["memory"] / seconds["slides"], 3),
        "train_steps_per_s": round(STEPS_TIMED / seconds["slides"], 2),
        "train_slides": len(images),
        "train_ready_s": round(ready, 1),
        "train_peak_gb": round(_peak_gb(), 2),
        "train_load": round(os.getloadavg()[0], 1),
    }


def _do_lost(scratch: str) -> dict:
    """Kill the worker that trains, while somebody labels: time to go on, steps and labels lost."""
    from distributed import LocalCluster

    from napari_mtssl.engine.events import Failed, Finished, Stepped, WorkerLost
    from napari_mtssl.engine.options import TrainOptions
    from napari_mtssl.engine.runners_training import RunnerSession
    from napari_mtssl.gui.samples import make_field_study
    from napari_mtssl.study import Study

    folder = Path(tempfile.mkdtemp(dir=scratch))
    with make_field_study(folder, 512) as made:
        path, image_id = made.path, made.images()[0].id
        name = next(c.name for c in made.classes() if not c.background)
        before = len(made.cells())
    options = TrainOptions(validate_every=10_000, preview_seconds=0, pseudo_seconds=0, report_seconds=0.0)
    settings = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": 0}
    with LocalCluster(host="127.0.0.1", dashboard_address="127.0.0.1:0", **settings) as cluster:
        session = RunnerSession(
            cluster.scheduler_address, path, device="cpu", overrides=dict(SMALL_TRAINING), options=options
        )
        killed = last = lost = resumed = None
        added = 0
        for event in session.events():
            if isinstance(event, Failed):
                raise SystemExit(event.reason)
            if isinstance(event, WorkerLost):
                lost = last - event.step
            if killed is not None and resumed is None and isinstance(event, Stepped) and lost is not None:
                resumed = time.perf_counter() - killed
            if isinstance(event, Stepped):
                last = event.step if lost is None else last
                if event.step % 5 == 0:
                    with Study.open(path) as study:
                        study.add_cell(image_id, 10.0 + added, 20.0, name)
                    added += 1
                if event.step >= KILL_AT and killed is None:
                    with cluster.get_client() as client:
                        busy = [w for w, tasks in client.processing().items() if tasks]
                        pid = client.run(os.getpid, workers=busy)[busy[0]]
                    os.kill(pid, signal.SIGKILL)
                    killed = time.perf_counter()
                if resumed is not None and event.step >= KILL_AT + 20:
                    session.control.stop()
            if isinstance(event, Finished):
                break
    with Study.open(path) as study:
        there = len(study.cells())
    return {
        "worker_resumed_s": round(resumed, 1),
        "worker_steps_lost": lost,
        "worker_labels_lost": before + added - there,
        "worker_labels_added": added,
        "worker_load": round(os.getloadavg()[0], 1),
    }


def _do_seam(slide: str, run: str) -> dict:
    """Tiles against a larger part of the slide at once."""
    from napari_mtssl.engine.checkpoint import load_method
    from napari_mtssl.engine.dense import dense_maps
    from napari_mtssl.images import open_image
    from napari_mtssl.images.tissue import find_tissue

    method, image = load_method(run, "last", "cpu"), open_image(slide)
    tissue = find_tissue(image)
    side, tile = 1024, 256
    corners = np.arange(0, image.height - side, side)
    row0, col0 = next(  # all of it tissue: glass would be alike however it is cut
        (int(r), int(c))
        for r in corners
        for c in corners
        if tissue.contains(np.mgrid[r : r + side : 32, c : c + side : 32].reshape(2, -1).T).all()
    )
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
    seconds, digests, left, outputs = {}, {}, {}, {}
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
                outputs[tile.number] = tile.output
            seconds[name], left[name] = time.perf_counter() - began, time.perf_counter() - half
        digests[name] = store.cells().to_csv(index=False)
    # what is left to this program when others predict: it bounds how many workers one slide can use
    store = SlideStore(Path(tempfile.mkdtemp(dir=scratch)), plan.identity, method.vocabulary["cell"])
    began = time.thread_time()
    list(predict_slide(method, plan, store, executor=lambda pairs: ((n, outputs[n]) for n, box in pairs)))
    kept = (time.thread_time() - began) / len(plan.tiles)
    return {
        "two_workers": round(seconds["one"] / seconds["two"], 2),
        "identical_after_kill": digests["killed"] == digests["two"] == digests["one"],
        "time_after_kill": round(left["killed"] / left["two"], 2),
        "cells_compared": digests["one"].count("\n") - 1,
        "dask_tiles": len(plan.tiles),
        "dask_kept_ms_a_tile": round(1000 * kept, 1),
        "dask_seconds": {name: round(value, 1) for name, value in seconds.items()},
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def _do_pan(slide: str, scratch: str) -> dict:
    """How late the event loop is while a hand zooms and pans over a slide with a million cells."""
    folder = _million(Path(scratch))
    os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp()) / "napari.yaml")
    import napari
    from qtpy.QtCore import QTimer
    from responsiveness import Heart, wait

    from napari_mtssl.engine.slide_cells import SlideCells
    from napari_mtssl.evaluation.slide_generator import made_slide
    from napari_mtssl.gui.slide_cells import SlideCellLayers

    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(1400, 860)
    began = time.perf_counter()
    viewer.open(slide, plugin="napari-mtssl")
    first_picture = time.perf_counter() - began
    shown = SlideCellLayers(viewer, SlideCells(folder))
    wait(lambda: shown.density is not None, 120, "the map of density")
    wait(lambda: False, 2.0)
    camera = viewer.scene.camera
    centre, far = np.array(camera.center[-2:], float), camera.zoom
    tissue = np.array(made_slide(OPENED, OPENED).pieces[0].centre) * viewer.layers[0].scale[0]
    near = 1 / viewer.layers[0].scale[0]
    turn, most = 0, 0

    def move() -> None:
        nonlocal turn, most
        turn += 1
        # from the whole slide to single pixels and back within eight seconds, while the place wanders
        share = 0.5 - 0.5 * np.cos(2 * np.pi * turn / 200)
        camera.zoom = far * (near / far) ** share
        camera.center = tuple(tissue * (1 + 0.1 * np.array([np.sin(turn / 90), np.cos(turn / 70)])))
        most = max(most, len(shown.points.data) if shown.points.visible else 0)

    timer = QTimer()
    timer.timeout.connect(move)
    heart, busy = Heart(), []

    def note() -> None:
        busy.append(time.thread_time())

    heart.start()
    heart._timer.timeout.connect(note)
    timer.start(40)
    wait(lambda: False, PANNED)
    # at rest between moves, as a person looks: cells come into sight
    for _ in range(4):
        turn = 100
        move()
        timer.stop()
        wait(lambda: False, 1.5)
        most = max(most, len(shown.points.data) if shown.points.visible else 0)
        timer.start(40)
        wait(lambda: False, 2.0)
    timer.stop()
    late = heart.stop()
    counts = shown._counts
    dense = np.array(np.unravel_index(counts.argmax(), counts.shape)) * shown._step * shown._um
    for name, zoom, place in (("far", far, centre), ("near", near, dense)):
        camera.zoom, camera.center = zoom, tuple(place)
        wait(lambda: False, 2.5)
        viewer.window.screenshot(str(Path(scratch) / f"pan-{name}.png"), canvas_only=False, flash=False)
    figures = {
        "p99_ms": round(float(np.percentile(late, 99)), 1),
        "max_ms": round(float(late.max()), 1),
        "median_ms": round(float(np.median(late)), 1),
        # what the thread of the window computed between two beats: the delay on a computer with nothing else
        "busy_p99_ms": round(float(np.percentile(np.diff(busy), 99)) * 1000, 1),
        "busy_max_ms": round(float(np.diff(busy).max()) * 1000, 1),
        "cells": shown._cells.count,
        "drawn": most,
        "open_s": round(first_picture, 2),
        "load": round(os.getloadavg()[0], 1),
    }
    viewer.close()
    return figures


def _million(scratch: Path) -> Path:
    """Folder of a prediction with a million cells in clusters on the tissue of the largest slide."""
    import pandas as pd

    from napari_mtssl.engine.slide_prediction import SlideStore, TileOutput
    from napari_mtssl.evaluation.slide_generator import made_slide

    folder = scratch / "million.prediction"
    if folder.exists():
        return folder
    rng = np.random.default_rng(0)
    part, pieces = scratch / "million.part", made_slide(OPENED, OPENED).pieces
    identity = {"image": f"slide{OPENED}.svs", "size": [OPENED, OPENED], "pixel size": 0.5}
    store = SlideStore(part, identity, ("tumour", "lymphocyte"))
    for number in range(500):
        piece = pieces[number % len(pieces)]
        corner = np.array(piece.centre) + 0.45 * np.array(piece.axes) * rng.uniform(-1, 1, 2) - 1024
        places = np.clip(corner + rng.uniform(0, 2048, (2000, 2)), 0, OPENED - 1)
        frame = pd.DataFrame(places, columns=["row", "col"])
        frame["class"] = rng.choice(["tumour", "lymphocyte"], len(frame))
        store.commit(number, TileOutput(frame.assign(confidence=0.9, uncertainty=0.1), None, {}, 0.0))
    store.close()
    part.rename(folder)
    return folder


INNER = {
    "open": _do_open,
    "train": _do_train,
    "predict": _do_predict,
    "seam": _do_seam,
    "cells": _do_cells,
    "dask": _do_dask,
    "speed": _do_speed,
    "training": _do_training,
    "lost": _do_lost,
    "pan": _do_pan,
}

if __name__ == "__main__":
    main()
