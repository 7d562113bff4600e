"""HydraMix-Net's table on CRCHistoPhenotypes: accuracy by labels, and cells in whole images from 300 clicks.

python benchmarks/hydramix.py --json hydramix.json --out hydramix-output

Learns from the images in ``crchistophenotypes/train`` below MTSSL_DATA and scores on those in
``crchistophenotypes/validation``. With --out, an interrupted table goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from napari_mtssl.evaluation.reproduce import ROWS, reproduce_hydramix
from napari_mtssl.evaluation.series import Progress
from napari_mtssl.evaluation.table import markdown, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--out", type=Path, help="keep single trials here, and the table as text and picture")
    parser.add_argument("--labels", default="50,100,300")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(ROWS))
    parser.add_argument("--whole-images", default="300", help="budgets for which whole images are scored too")
    parser.add_argument("--preset", default="robust")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="one less than there are cores by default")
    options = parser.parse_args()
    data = Path(os.environ.get("MTSSL_DATA", "../shared/data")) / "crchistophenotypes"
    if not data.is_dir():
        sys.exit(
            f"{data} is missing: get CRCHistoPhenotypes (Warwick) and point MTSSL_DATA at the folder above."
        )
    table = reproduce_hydramix(
        data / "train",
        data / "validation",
        labels=_numbers(options.labels),
        seeds=options.seeds,
        methods=options.methods.split(","),
        whole_images=_numbers(options.whole_images),
        out=options.out,
        preset=options.preset,
        device=options.device,
        threads=options.threads,
        progress=_Teller(),
    )
    print(markdown(table["results"]))
    if options.json:
        write_json(table, options.json)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


class _Teller:
    """Prints a line for each trial, and one a minute within it."""

    def __init__(self) -> None:
        self.told = 0.0

    def __call__(self, progress: Progress) -> None:
        trial = progress.trial
        name = f"{trial.row}, {trial.budget} labels, draw {trial.seed}, {trial.task}"
        if progress.scores is not None:
            shown = {
                k: v for k, v in progress.scores.items() if k in ("accuracy", "detection_f1", "weighted_f1")
            }
            text = ", ".join(f"{k} {v:.3f}" for k, v in shown.items())
            print(f"[{progress.done}/{progress.total}] {name}: {text}", flush=True)
        elif progress.steps and time.monotonic() - self.told > 60:
            self.told = time.monotonic()
            print(f"    {name}: step {progress.step} of {progress.steps}", flush=True)


if __name__ == "__main__":
    main()
