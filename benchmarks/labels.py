"""How long a brush stroke and its undo take until on disk, how the file grows, how fast studies open.

python benchmarks/labels.py --json labels.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from napari_mtssl.study import Grid, Study

STROKES = 300
BLOCKS = CELLS = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mtssl-labels-", dir=".") as folder:
        figures = _strokes(Path(folder)) | _blocks(Path(folder)) | _cells(Path(folder))
    text = json.dumps({name: round(value, 3) for name, value in figures.items()}, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


def _study(folder: Path, name: str, side: int) -> Study:
    (folder / f"{name}.png").write_bytes(b"pixels do not matter here")
    study = Study.create(folder / name)
    study.add_image(folder / f"{name}.png", height=side, width=side)
    return study


def _strokes(folder: Path) -> dict[str, float]:
    """Paint with a round brush of 81 pixels, each time on four tiles of a mask of 2000 by 2000."""
    study = _study(folder, "strokes", 2000)
    code = study.add_class("gland", kind="mask").code
    rng = np.random.default_rng(0)
    disc = np.hypot(*np.mgrid[-40:41, -40:41]) <= 40
    corners = 256 * rng.integers(1, 7, (STROKES, 2)) - 40 + rng.integers(-20, 20, (STROKES, 2))
    painted = [
        _time(lambda c=c: study.paint_mask(1, *c, disc * np.uint16(code), where=disc)) for c in corners
    ]
    undone = [_time(study.undo) for _ in range(50)]
    read = _time(lambda: study.mask(1))
    study.close()
    size = (study.path / "study.sqlite").stat().st_size
    return {
        "stroke_ms": 1e3 * statistics.median(painted),
        "stroke_max_ms": 1e3 * max(painted),
        "undo_ms": 1e3 * statistics.median(undone),
        "read_mask_ms": 1e3 * read,
        "kb_per_stroke": size / 1e3 / STROKES,
    }


def _blocks(folder: Path) -> dict[str, float]:
    """Label many blocks in one edit, and open the study again."""
    study = _study(folder, "blocks", 40_000)
    study.add_class("much", kind="block")
    study.set_grid(1, Grid(64, 64))
    blocks = {(n // 400, n % 400): "much" for n in range(BLOCKS)}
    labelled = _time(lambda: study.set_blocks(1, blocks))
    study.close()

    def open_and_read() -> None:
        with Study.open(study.path) as opened:
            assert len(opened.blocks(1)) == BLOCKS

    return {"label_100k_blocks_s": labelled, "open_100k_blocks_s": _time(open_and_read)}


def _cells(folder: Path) -> dict[str, float]:
    """Open a study with many cells and read them."""
    study = _study(folder, "cells", 2000)
    study.add_class("tumour")
    rng = np.random.default_rng(0)
    places = pd.DataFrame(rng.uniform(0, 1999, (CELLS, 2)), columns=["row", "col"])
    study.add_cells(places.assign(image_id=1, **{"class": "tumour"}))
    study.close()

    def open_and_read() -> None:
        with Study.open(study.path) as opened:
            assert len(opened.cells()) == CELLS

    return {"open_100k_cells_s": _time(open_and_read)}


def _time(act) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
