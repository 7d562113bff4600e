"""Whether the exported mask of a large slide is the mask: polygons, OME-Zarr, PNG and areas.

A made-up slide has tumour with holes and nests of dark cells in it, many thousands. Its exact mask is kept as
a predicted one, tile by tile, and exported in every way, each in a process of its own.

    python benchmarks/mask_exports.py [--side 20000] [--json exports.json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("background", "tumour", "nest")
TILE, HALO, DARK = 1024, 32, 190
PIXEL_UM = 0.5
GIB = 2**30 if sys.platform == "darwin" else 2**20  # of what the system counts memory in


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        truth = make(root, options.side)
        counts = np.bincount(truth.ravel(), minlength=len(NAMES)).tolist()
        found: dict[str, Any] = {"side": options.side, "pixels": dict(zip(NAMES, counts, strict=True))}
        for way in ("geojson", "zarr", "png", "areas"):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found[way] = pool.apply(export, (root, way))
        found |= check(root, truth)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def make(root: Path, side: int) -> np.ndarray:
    """Make the study of a slide whose prediction is the truth; return that."""
    from scipy.ndimage import gaussian_filter

    from napari_mtssl.evaluation.slide_generator import TUMOUR, made_slide
    from napari_mtssl.study import Study

    made = made_slide(side, side, tissue=0.5)
    truth = np.zeros((side, side), np.uint8)
    (root / "slide.tif").write_bytes(b"nobody reads its pixels")
    with Study.create(root / "s.mtssl") as study:
        image = study.add_image(root / "slide.tif", height=side, width=side, pixel_size_um=PIXEL_UM)
        for name in NAMES[1:]:
            study.add_class(name, kind="mask")
        for row, col in np.ndindex(-(-side // TILE), -(-side // TILE)):
            r, c = row * TILE, col * TILE
            h, w = min(TILE, side - r), min(TILE, side - c)
            pixels = made.read(r - HALO, c - HALO, h + 2 * HALO, w + 2 * HALO).mean(2, dtype=np.float32)
            dark = gaussian_filter(pixels, 4)[HALO : HALO + h, HALO : HALO + w] < DARK
            part = truth[r : r + h, c : c + w]
            part[:] = (made.region(r, c, h, w) == TUMOUR) * (1 + dark)
            probs = (part == np.arange(len(NAMES))[:, None, None]).astype(np.float32)
            study.set_mask_prediction(image.id, "run", (r, c, r + h, c + w), probs, (1.0, 1.0), NAMES)
    return truth


def export(root: Path, way: str) -> dict[str, float]:
    """Export in one way; give seconds and memory."""
    from napari_mtssl.gui.measuring import report
    from napari_mtssl.study import Study, exchange

    began, used = time.perf_counter(), time.process_time()
    with Study.open(root / "s.mtssl") as study:
        if way == "geojson":
            exchange.export_mask_geojson(study, 1, root / "m.geojson", predictions=True)
        elif way == "zarr":
            exchange.export_mask_zarr(study, 1, root / "m.zarr", predictions=True)
        elif way == "png":
            exchange.export_masks(study, root / "png", predictions=True)
        else:
            report(study, []).to_csv(root / "areas.csv", index=False)
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time() - used, 1),
        "gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB, 2),
    }


def check(root: Path, truth: np.ndarray) -> dict[str, Any]:
    """Compare what was written with the truth."""
    import pandas as pd
    import shapely
    import zarr

    from napari_mtssl.study.files import read_array

    features = json.loads((root / "m.geojson").read_text())["features"]
    names = np.array([item["properties"]["classification"]["name"] for item in features])
    shapes = np.array([shapely.geometry.shape(item["geometry"]) for item in features])
    line = pd.read_csv(root / "areas.csv").iloc[0]
    labels = zarr.open_group(root / "m.zarr", mode="r")["labels/mask/0"]
    bands = range(0, len(truth), 2048)
    off = {}
    for value, name in enumerate(NAMES[1:], start=1):
        pixels = int((truth == value).sum())
        off[name] = {
            "polygons": float(shapely.area(shapes[names == name]).sum()) - pixels,
            "mm2": float(line[f"{name}_mm2"]) - pixels * PIXEL_UM**2 / 1e6,
        }
    return {
        "polygons": len(shapes),
        "holes": int(shapely.get_num_interior_rings(shapes).sum()),
        "all_valid": bool(shapely.is_valid(shapes).all()),
        "areas_off_by": off,
        "zarr_equal": all((labels[r : r + 2048] == truth[r : r + 2048]).all() for r in bands),
        "png_equal": bool((read_array(root / "png" / "slide.png") == truth).all()),
    }


if __name__ == "__main__":
    main()
