"""The pictures of docs/lungs.md: a small table on made-up chests, of two machines. No real image is shown.

python docs/make_lungs_pictures.py [--out docs/images] [--steps N]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import PIL.Image

from napari_mtssl.evaluation.multimix import reproduce_multimix
from napari_mtssl.evaluation.synthetic_chest import write_chests

SHOWN = {
    "masks-12-4-cross": "lungs-masks",
    "boxes-12-4-cross": "lungs-boxes",
    "roc-12-4": "lungs-roc",
}


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--steps", type=int, default=80)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        masks, classes = write_chests(work / "clinic", masks=30, classes=80, size=160)
        cross, _ = write_chests(work / "portable", masks=12, classes=2, source="portable", size=160)
        reproduce_multimix(
            masks,
            classes,
            cross_masks=cross,
            seg_labels=[4],
            cls_labels=[12],
            rows=["U-Net", "random-forest", "MultiMix"],
            seeds=1,
            out=work / "table",
            overrides={"steps": options.steps, "size": 64},
        )
        for name, shown in SHOWN.items():
            picture = PIL.Image.open(work / "table" / "pictures" / f"{name}.png").convert("RGB")
            picture.thumbnail((1200, 1200))
            picture.quantize(128).save(options.out / f"{shown}.png", optimize=True)


if __name__ == "__main__":
    main()
