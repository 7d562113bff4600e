"""A patch classifier over a 1024 x 1024 image at stride 4: run densely, against run patch by patch.

python benchmarks/dense_inference.py --json dense_inference.json

Dense is the whole image as in the window, in tiles with their halo, reading included: normalisations are
folded into convolutions, and these are in half precision where the processor has it (not with `--precision
float32`). Patch by patch is the network as it was trained, in single precision, on random places in batches,
cutting included, scaled to all places: all of them would take many minutes. The agreement is of these two.
Turning outputs into cells is left out on both sides. On the CPU processor time is compared, so that
other work on the machine does not count. Both use the same threads, the same weights and
the same image, a mirrored mosaic of the immunohistochemistry image that comes with scikit-image. The network
is trained for a short while first: an untrained one may say the same class everywhere and agree anyway.
"""

from __future__ import annotations

import argparse
import inspect
import statistics
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import torch
from skimage import data

from napari_mtssl.engine.control import Control
from napari_mtssl.engine.dense import agreement, boxes, dense_maps, predict_image
from napari_mtssl.engine.devices import pick_device, seeded
from napari_mtssl.engine.events import Failed
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.source import FixedSource
from napari_mtssl.engine.train import train
from napari_mtssl.evaluation.table import write_json
from napari_mtssl.images import Image, ImagePool, open_image
from napari_mtssl.learning.precision import has_bfloat16
from napari_mtssl.methods.hydramix import HydraMix
from napari_mtssl.study import Study

SIZE = 1024
BATCH = 128
TILE = inspect.signature(predict_image).parameters["tile"].default  # what the window uses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--preset", default="robust")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=["auto", "float32"],
        help="of the convolutions of the dense side",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="all by default")
    parser.add_argument("--steps", type=int, default=200, help="of training before measuring")
    parser.add_argument("--sites", type=int, default=1024, help="places that patch by patch is measured on")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        method = _trained(
            Path(scratch), options.preset, options.steps, options.precision, pick_device(options.device)
        )
        image = _mosaic(Path(scratch))
        stride = method.geometry.stride
        n_sites = (SIZE // stride) ** 2
        dense_times, site_times = [], []
        for seed in range(options.repeats):  # by turns: both meet the same machine
            dense_times.append(_timed(method.device, _dense, method, image))
            site_times.append(_timed(method.device, _patchwise, method, image, options.sites, seed))
        dense = statistics.median(dense_times)
        patchwise = statistics.median(site_times) / options.sites * n_sites
        same = agreement(method, image, n=2000)
        said = dense_maps(method, image, (0, 0, 512, 512))["logits"].argmax(axis=0)
        shares = np.bincount(said.ravel(), minlength=len(method.classes)) / said.size
    figures = {
        "speedup": round(patchwise / dense, 2),
        "agreement": round(same.agreement, 4),
        "max_abs_logit_difference": float(f"{same.max_abs_logit_difference:.3g}"),
        # Nearly 1 for one class would make the agreement worthless.
        "share_of_commonest_class": round(float(shares.max()), 3),
        "dense_s": round(dense, 4),
        "patchwise_s": round(patchwise, 2),
        "patchwise_measured_on": options.sites,
        "sites": n_sites,
        "stride": stride,
        "size": SIZE,
        "tile": TILE,
        "preset": options.preset,
        "dense_precision": "bfloat16"
        if options.precision == "auto" and has_bfloat16(method.device)
        else "float32",
        "device": str(method.device),
        "threads": torch.get_num_threads(),
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    if options.json:
        write_json(figures, options.json)


def _trained(folder: Path, preset: str, steps: int, precision: str, device: torch.device) -> HydraMix:
    """Train on our clicks on the sample image."""
    path = folder / "ihc.png"
    PIL.Image.fromarray(data.immunohistochemistry()).save(path)
    clicks = pd.read_csv(str(files("napari_mtssl.sample_data") / "ihc_clicks.csv"))
    with Study.create(folder / "ihc.mtssl") as study:
        record = study.add_image(path, height=512, width=512)
        for name in ("epithelial", "stromal"):
            study.add_class(name)
        study.add_cells(clicks[["row", "col", "class"]].assign(image_id=record.id))
        config = HydraMix.configure(preset, steps=steps, precision=precision)
        with seeded(config.seed, device):
            method = HydraMix(config, HydraMix.vocabulary_of(study), device)
        samples = method.samples(study, ImagePool(), "train")
    run = folder / "run"
    run.mkdir()
    options = TrainOptions(steps + 1, steps + 1, pseudo_seconds=0, preview_seconds=0)
    for event in train(method, FixedSource(samples), run_dir=run, control=Control(), options=options):
        if isinstance(event, Failed):
            raise SystemExit(event.reason)
    return method


def _mosaic(folder: Path) -> Image:
    """Write the sample image and its mirror images side by side."""
    tile = data.immunohistochemistry()
    row = np.concatenate([tile, tile[:, ::-1]], axis=1)
    path = folder / "mosaic.png"
    PIL.Image.fromarray(np.concatenate([row, row[::-1]], axis=0)).save(path)
    image = open_image(path)
    image.read(0, 0, 1, 1)  # decoded now: neither side pays for it
    return image


def _timed(device: torch.device, function, *arguments) -> float:
    """Seconds: of the processor if that computes, else on the wall."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    begin = clock()
    function(*arguments)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - begin


def _dense(method: HydraMix, image: Image) -> None:
    for box in boxes(method, image, TILE):
        dense_maps(method, image, box)


def _patchwise(method: HydraMix, image: Image, count: int, seed: int) -> None:
    """Classify and locate at random places on the dense grid, as a loop over patches would."""
    stride, window = method.geometry.stride, method.geometry.window
    rng = np.random.default_rng(seed)
    for start in range(0, count, BATCH):
        places = rng.integers(0, SIZE // stride, (min(BATCH, count - start), 2)) * stride
        corners = places + (stride - window) // 2
        patches = np.stack([image.read(int(row), int(col), window, window) for row, col in corners])
        method.predict_patches(torch.from_numpy(patches).permute(0, 3, 1, 2))


if __name__ == "__main__":
    main()
