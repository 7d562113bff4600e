"""Whether an unusual study of Tissue works as well as the usual one.

The same made-up glands are labelled twice: as ``demo tissue`` does it (8 bits, square blocks, the paper's ten
bins), and with five classes called none, little, half, much and all on blocks of 20 x 28 um (40 x 56 pixels)
of images with 16 bits, of which 12 are used. Both are learnt with the same settings and scored on an image
that neither learnt from. The blocks are about as many and as large: 192 of 48 x 48 pixels, 162 of 40 x 56.

    python benchmarks/superres_odd.py [--seeds 3] [--steps 250] [--json odd.json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 384  # pixels of an image
NAMES, EDGES = ("none", "little", "half", "much", "all"), (0, 0.05, 0.35, 0.65, 0.95)
MEANS, SPREADS = (0.01, 0.2, 0.5, 0.8, 0.99), (0, 0.09, 0.09, 0.09, 0)
UM = 0.5  # of a pixel of the unusual images
BLOCK_UM = (20.0, 28.0)
NEAR = 20.0  # pixels from the true outline


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = json.loads(options.json.read_text()) if options.json and options.json.exists() else []
    done = {(row["study"], row["seed"]) for row in rows}  # an interrupted measurement goes on
    for seed in range(options.seeds):
        for usual in (True, False):
            if ("usual" if usual else "unusual", seed) in done:
                continue
            with tempfile.TemporaryDirectory() as folder:
                scores = measure(Path(folder), usual, seed, options.steps)
            rows.append({"study": "usual" if usual else "unusual", "seed": seed, **scores})
            print({name: round(v, 3) if isinstance(v, float) else v for name, v in rows[-1].items()})
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1))
    for name in ("usual", "unusual"):
        dice = [row["dice"] for row in rows if row["study"] == name]
        print(f"{name}: Dice {np.mean(dice):.3f} +- {np.std(dice, ddof=1) if len(dice) > 1 else 0:.3f}")


def measure(folder: Path, usual: bool, seed: int, steps: int) -> dict[str, Any]:
    """Train on three images, and score a fourth."""
    from napari_mtssl.cli.demo.tissue import QUICK, make_study
    from napari_mtssl.cli.results import predicted
    from napari_mtssl.cli.train import follow, options_without_window
    from napari_mtssl.engine.checkpoint import load_method
    from napari_mtssl.engine.session import TrainingSession
    from napari_mtssl.evaluation.outlines import OutlineScores
    from napari_mtssl.evaluation.synthetic_tissue import tissue
    from napari_mtssl.images import ImagePool
    from napari_mtssl.study import Study

    with make_study(folder) if usual else unusual(folder) as study:
        path, blocks = study.path, sum(len(study.blocks(image.id)) for image in study.images())
    overrides = {**QUICK, "steps": steps, "seed": seed}
    finished = follow(
        TrainingSession(path, "superres", overrides=overrides, options=options_without_window())
    )
    method = load_method(finished.run_dir)
    with Study.open(path) as study:
        found = predicted(method, ImagePool()(study.images()[-1]))
    assert found.mask is not None
    scores = OutlineScores(NEAR)
    scores.add(found.mask[1] > 0.5, tissue(SIDE, SIDE, seed=3).mask == 1)
    said = scores.scores()
    return {"blocks": blocks, "dice": float(said["dice"]), "near_iou": float(said["masked_iou"])}


def unusual(folder: Path) -> Any:
    """Make the study of sixteen bits, five classes and blocks that are not square."""
    import pandas as pd
    import tifffile

    from napari_mtssl.evaluation.synthetic_tissue import tissue
    from napari_mtssl.study import Grid, Study

    study = Study.create(folder / "unusual.mtssl")
    study.add_class("gland", kind="mask")
    for name in NAMES:
        study.add_class(name, kind="block")
    lines = zip(NAMES, MEANS, SPREADS, strict=True)
    table = [(name, "gland", mean, spread, "expert") for name, mean, spread in lines]
    table += [(name, "background", 1 - mean, spread, "expert") for name, _, mean, spread, _ in table]
    study.set_statistics(
        pd.DataFrame(table, columns=["block_class", "mask_class", "mean", "spread", "source"])
    )
    height, width = (side / UM for side in BLOCK_UM)
    for seed in range(4):
        made = tissue(SIDE, SIDE, seed=seed)
        file = folder / f"deep{seed}.tif"
        tifffile.imwrite(file, made.image.astype(np.uint16) * 16, photometric="rgb")
        split = "train" if seed < 3 else "test"
        image = study.add_image(file, height=SIDE, width=SIDE, pixel_size_um=UM, split=split)
        study.set_grid(image.id, Grid(height, width))
        if seed == 3:
            continue
        blocks = {}
        for i, j in np.ndindex(int(SIDE // height), int(SIDE // width)):
            row, col = int(i * height), int(j * width)
            share = (made.mask[row : row + int(height), col : col + int(width)] == 1).mean()
            blocks[i, j] = NAMES[int(np.searchsorted(EDGES, share, side="right")) - 1]
        study.set_blocks(image.id, blocks)
    return study


if __name__ == "__main__":
    main()
