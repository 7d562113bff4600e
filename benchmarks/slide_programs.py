"""Opening and predicting whole slides: the programs that `slides.py` runs, one at a time, and reads."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TIMED = 6  # tiles of 512 x 512 whose time is taken
LABELS = 300
CHEAPER = "napari_mtssl.engine.workers"
ROUNDS = 3  # of each number of workers: a computer is not as fast at every moment


def do_open(slide: str) -> dict:
    """First picture of a slide: what a window of 1,600 pixels shows of it, and napari's layer data."""
    import dask.array  # noqa: F401 - napari has loaded these before any slide is opened
    import napari.settings  # noqa: F401

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


def do_train(run: str, settings: str, steps: str) -> dict:
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


def do_predict(slide: str, run: str, out: str) -> dict:
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


def do_speed(slide: str, run: str) -> dict:
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


def do_seam(slide: str, run: str) -> dict:
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


def do_cells(slide: str, run: str, folder: str) -> dict:
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


def do_dask(slide: str, run: str, scratch: str, *more: str) -> dict:
    """One worker and two in turns, and with `more` two of which one is killed in the middle; all are warm.

    Seconds of the processor are those of all workers, and of this program, which keeps what comes and is the
    scheduler; a fortieth of the time goes to being there. Ratios are of all rounds together.
    """
    from collections import defaultdict

    import zarr  # noqa: F401 - loaded by the first tile that is kept, otherwise
    from distributed import Client, LocalCluster

    from napari_mtssl.engine.checkpoint import load_method
    from napari_mtssl.engine.runners import DaskTiles, tile_job
    from napari_mtssl.engine.slide_prediction import SlideStore, plan_slide, predict_slide
    from napari_mtssl.images import open_image

    method, image = load_method(run, "last", "cpu"), open_image(slide)
    plan = plan_slide(method, image, tile=256)
    job = tile_job(Path(run), plan, "last", "cpu")
    seconds, left, spent = defaultdict(list), defaultdict(list), defaultdict(list)
    digests, outputs = {}, {}
    for name in ("one", "two", *more) * ROUNDS:
        workers = 1 if name == "one" else 2
        store = SlideStore(Path(tempfile.mkdtemp(dir=scratch)), plan.identity, method.vocabulary["cell"])
        # as docs/slides.md starts a cluster
        settings = {"threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
        settings |= {"preload_nanny": [CHEAPER], "scheduler_kwargs": {"preload": [CHEAPER]}}
        with (
            LocalCluster(n_workers=workers, memory_limit=0, **settings) as cluster,
            Client(cluster) as client,
        ):
            pids = client.run(os.getpid)
            warm = DaskTiles(client, job)
            list(warm([(number, plan.tiles[number]) for number in range(8 * workers)]))
            there, here = _all_seconds(client), time.process_time()
            began = time.perf_counter()
            half = began
            for tile in predict_slide(method, plan, store, executor=DaskTiles(client, job)):
                if tile.done == tile.total // 2:
                    half = time.perf_counter()
                    if name == "killed":
                        os.kill(next(iter(pids.values())), signal.SIGKILL)
                outputs[tile.number] = tile.output
            seconds[name].append(time.perf_counter() - began)
            left[name].append(time.perf_counter() - half)
            spent[name].append([_all_seconds(client) - there, time.process_time() - here])
        digests[name] = store.cells().to_csv(index=False)
    # what is left to this program when others predict: it bounds how many workers one slide can use
    store = SlideStore(Path(tempfile.mkdtemp(dir=scratch)), plan.identity, method.vocabulary["cell"])
    began = time.process_time()
    list(predict_slide(method, plan, store, executor=lambda pairs: ((n, outputs[n]) for n, box in pairs)))
    kept = (time.process_time() - began) / len(plan.tiles)
    figures = {"two_workers": round(sum(seconds["one"]) / sum(seconds["two"]), 2)}
    if "killed" in more:
        figures |= {
            "identical_after_kill": digests["killed"] == digests["two"] == digests["one"],
            "time_after_kill": round(sum(left["killed"]) / sum(left["two"]), 2),
        }
    return figures | {
        "cells_compared": digests["one"].count("\n") - 1,
        "dask_tiles": len(plan.tiles),
        "dask_kept_ms_a_tile": round(1000 * kept, 1),
        "dask_seconds": {name: np.round(values, 1).tolist() for name, values in seconds.items()},
        "dask_processor": {name: np.round(values, 1).tolist() for name, values in spent.items()},
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def _all_seconds(client) -> float:
    """Seconds of the processor that all workers have used."""
    return sum(client.run(time.process_time).values())


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
