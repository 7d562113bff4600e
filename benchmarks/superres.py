"""The Tissue table on GlaS: outlines learnt from blocks of 64 pixels, against every baseline.

python benchmarks/superres.py --json superres.json --out superres-output

Learns from the glands of all patients but 2 and 5, at half size, in ``glas`` below MTSSL_DATA, and scores
on those. With --out, an interrupted table goes on where it was. With --labels noisy, blocks have the classes
that a patch classifier gives them.

python benchmarks/superres.py --live --json live.json

Needs no data: how soon outlines are on screen after Train, and how soon a painted block counts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from napari_mtssl.evaluation.series import Progress
from napari_mtssl.evaluation.superres import CAPTIONS, ROWS, reproduce_superres
from napari_mtssl.evaluation.table import markdown, write_json

TEST_PATIENTS = ("2", "5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--out", type=Path, help="keep single trials here, and the table as text and picture")
    parser.add_argument("--labels", default="exact", choices=("exact", "noisy"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--threads", type=int, help="one less than there are cores by default")
    parser.add_argument("--live", action="store_true", help="measure the window instead of the table")
    options = parser.parse_args()
    if options.live:
        live(options.json)
        return
    data = Path(os.environ.get("MTSSL_DATA", "../shared/data")) / "glas"
    if not data.is_dir():
        sys.exit(f"{data} is missing: get GlaS (Warwick-QU) and point MTSSL_DATA at the folder above.")
    table = reproduce_superres(
        data,
        data,
        labels=options.labels,
        seeds=options.seeds,
        rows=options.rows.split(","),
        test_patients=TEST_PATIENTS,
        out=options.out,
        threads=options.threads,
        progress=_Teller(),
    )
    print(markdown(table["results"], CAPTIONS))
    if options.json:
        write_json(table, options.json)


def live(path: Path | None) -> None:
    """Measure the window on made-up glands."""
    from superres_live import measure, with_display

    with_display()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    print(json.dumps(figures, indent=2))
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n")


class _Teller:
    """Prints a line for each trial, and one a minute within it."""

    def __init__(self) -> None:
        self.told = 0.0

    def __call__(self, progress: Progress) -> None:
        trial = progress.trial
        name = f"{trial.row}, blocks of {trial.budget}, seed {trial.seed}"
        if progress.scores is not None:
            shown = {k: v for k, v in progress.scores.items() if k in ("masked_iou", "dice", "seconds")}
            text = ", ".join(f"{k} {v:.3f}" for k, v in shown.items())
            print(f"[{progress.done}/{progress.total}] {name}: {text}", flush=True)
        elif progress.steps and time.monotonic() - self.told > 60:
            self.told = time.monotonic()
            print(f"    {name}: step {progress.step} of {progress.steps}", flush=True)


if __name__ == "__main__":
    main()
