"""A slide by Lungs: the mask tile by tile against each field on its own and against one reduced picture.

    python benchmarks/multimix_slide.py --json FILE [--steps 120]

A network learns discs from fields of 64 pixels, and sees a slide that is 36 of such fields side by side. Then
what looking a slide over and predicting one tile of it costs, in seconds of the processor. One thread.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import imageio.v3
import numpy as np
import torch

from napari_mtssl.engine.dense import dense_maps
from napari_mtssl.images import open_image
from napari_mtssl.images.tissue import TissueMask
from napari_mtssl.methods.multimix import FieldBank, MultiMix
from napari_mtssl.methods.multimix.slide import SlideFields

SIDE, ACROSS = 64, 6
VOCABULARY = {"mask": ("background", "disc"), "diagnosis": ("dark", "bright")}


def discs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw noisy fields of one disc each, its mask, and whether it is brighter than what is round it."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:SIDE, :SIDE]
    bright = np.arange(count) % 2
    images, inside = np.empty((2, count, SIDE, SIDE), np.float32)
    for at in range(count):
        row, col = rng.uniform(0.35, 0.65, 2) * SIDE
        radius = rng.uniform(0.18, 0.28) * SIDE
        inside[at] = np.clip(radius - np.hypot(rows - row, cols - col) + 0.5, 0, 1)
        step = 0.35 if bright[at] else -0.35
        images[at] = np.clip(0.5 + step * inside[at] + rng.normal(0, 0.04, (SIDE, SIDE)), 0, 1)
    return images, np.stack([1 - inside, inside], axis=1), bright


def learnt(steps: int) -> MultiMix:
    """Train on 30 fields, 12 of them with a mask."""
    images, masks, bright = discs(30, 0)
    bank = FieldBank.from_arrays(images, dict(enumerate(masks[:12])), {"diagnosis": bright})
    few = {"batch_size": 4, "class_batch": 4, "unlabelled_classes": 4, "unlabelled_masks": 2}
    config = MultiMix.configure("robust", size=SIDE, steps=steps, largest=0, **few)
    method = MultiMix(config, VOCABULARY, torch.device("cpu"))
    method.prepare(bank)
    optimiser = method.optimiser()
    for step in range(steps):
        torch.manual_seed(step)
        for group in optimiser.param_groups:
            group["lr"] = method.learning_rate(step / steps)
        said = method.step(bank, step / steps, config.batch_size)
        sum(value * said.weights[name] for name, value in said.losses.items()).backward()
        optimiser.step()
        optimiser.zero_grad()
        method.after_step()
    return method


def mosaic(fields: np.ndarray) -> np.ndarray:
    """Put fields (36, h, w) side by side."""
    rows = fields.reshape(ACROSS, ACROSS, *fields.shape[1:])
    return rows.transpose(0, 2, 1, 3).reshape(ACROSS * fields.shape[1], -1)


def dice(probs: np.ndarray, truth: np.ndarray) -> float:
    """Dice at one half."""
    found, true = probs > 0.5, truth > 0.5
    return round(float(2 * (found & true).sum() / (found.sum() + true.sum())), 3)


def on_a_slide(method: MultiMix, folder: Path) -> dict[str, float]:
    """Compare masks of a slide in three ways."""
    images, masks, _ = discs(ACROSS**2, 7)
    pixels, truth = mosaic(images), mosaic(masks[:, 1])
    path = folder / "discs.png"
    imageio.v3.imwrite(path, np.rint(255 * pixels).astype(np.uint8))
    image, side = open_image(path), ACROSS * SIDE
    fields, _ = method.predict_fields(torch.from_numpy(images[:, None]))
    slicer = SlideFields(method)
    whole = slicer.look_over(image, TissueMask(np.ones((1, 1), bool), side, side))
    without = {name: v.copy() for name, v in whole.items()}
    for name in without:
        if name.startswith("network."):
            without[name][2:] = 0
    box = (0, 0, side, side)
    reduced = torch.from_numpy(method.predict_image(image).mask[None])
    large = torch.nn.functional.interpolate(reduced, size=(side, side), mode="bilinear")
    return {
        "dice_tiles": dice(dense_maps(slicer.knowing(whole), image, box)["probs"][1], truth),
        "dice_tiles_without_gradient_statistics": dice(
            dense_maps(slicer.knowing(without), image, box)["probs"][1], truth
        ),
        "dice_fields": dice(mosaic(fields[:, 1].numpy()), truth),
        "dice_reduced": dice(large[0, 1].numpy(), truth),
    }


def cost(method: MultiMix, folder: Path) -> dict[str, float]:
    """Seconds of the processor for looking a slide of 2,048 pixels over, and for one tile."""
    path = folder / "noise.png"
    noise = np.random.default_rng(0).integers(0, 255, (2048, 2048), dtype=np.uint8)
    imageio.v3.imwrite(path, noise)
    image, slicer = open_image(path), SlideFields(method)
    image.read(0, 0, 1, 1)
    began = time.process_time()
    whole = slicer.look_over(image, TissueMask(np.ones((1, 1), bool), 2048, 2048))
    looked = time.process_time()
    tile = 2 * slicer.geometry.halo
    dense_maps(slicer.knowing(whole), image, (448, 448, 448 + tile, 448 + tile))
    took = time.process_time() - looked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "look_s": round(looked - began, 1),
        "tile_px": tile,
        "tile_s": round(took, 1),
        "mpix_per_s": round(tile**2 / took / 1e6, 3),
        "peak_gb": round(peak, 2),
    }


def main() -> None:
    """Learn, compare, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=120)
    options = parser.parse_args()
    torch.set_num_threads(1)
    method = learnt(options.steps)
    folder = options.json.resolve().parent
    result = {"steps": options.steps, **on_a_slide(method, folder), **cost(method, folder)}
    options.json.write_text(json.dumps(result, indent=1))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
