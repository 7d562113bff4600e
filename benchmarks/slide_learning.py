"""Training from whole slides: the programs that `slides.py` runs, one at a time, and reads."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import time
from pathlib import Path

import numpy as np

STEPS_TIMED = 60
LABELS = 300
SMALL_TRAINING = {"depth": 10, "widen": 1, "batch_size": 16, "pool": 500, "steps": 2_000}
KILL_AT = 130


def do_training(*slides: str) -> dict:
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


def do_tissue(slide: str) -> dict:
    """Train label super-resolution from a slide whose tissue is all labelled, in blocks of 128 pixels."""
    import torch

    from napari_mtssl.engine.devices import seeded
    from napari_mtssl.images import ImagePool, open_image
    from napari_mtssl.images.tissue import find_tissue
    from napari_mtssl.methods.superres import SuperRes
    from napari_mtssl.methods.superres.statistics import bin_names
    from napari_mtssl.study import Grid, Study

    torch.set_num_threads(1)
    rng, names, image = np.random.default_rng(0), bin_names(), open_image(slide)
    with tempfile.TemporaryDirectory() as folder, Study.create(Path(folder) / "s.mtssl") as study:
        study.add_class("gland", kind="mask")
        for name in names:
            study.add_class(name, kind="block")
        record = study.add_image(slide, height=image.height, width=image.width)
        grid = Grid(128, 128)
        study.set_grid(record.id, grid)
        places = np.stack(np.meshgrid(*[np.arange(0, image.height - 128, 128)] * 2, indexing="ij"), -1)
        places = places.reshape(-1, 2)[find_tissue(image).contains(places.reshape(-1, 2) + 64)] // 128
        study.set_blocks(record.id, {(int(i), int(j)): str(rng.choice(names)) for i, j in places})
        method = SuperRes(
            SuperRes.configure("robust", downsample=1), SuperRes.vocabulary_of(study), torch.device("cpu")
        )
        began = time.perf_counter()
        samples = method.samples(study, ImagePool(), "train")
        method.prepare(samples)
        ready, optimiser, took = time.perf_counter() - began, method.optimiser(), 0.0
        for step in range(STEPS_TIMED):
            at = time.process_time()
            with seeded(step, method.device):
                output = method.step(samples, step / method.config.steps, method.config.batch_size)
                total = sum(output.weights[k] * loss for k, loss in output.losses.items())
                optimiser.zero_grad(set_to_none=True)
                total.backward()
            optimiser.step()
            method.after_step()
            took += time.process_time() - at  # of the reading thread, too
    return {
        "blocks": len(places),
        "held": len(samples.fields),
        "steps_per_s": round(STEPS_TIMED / took, 2),
        "ready_s": round(ready, 1),
        "peak_gb": round(_peak_gb(), 2),
    }


def do_lost(scratch: str) -> dict:
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


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
