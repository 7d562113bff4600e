"""Mask, pattern and intensity of made-up HEp-2 specimens from 40 labelled of 400; the cost of GradNorm.

python benchmarks/specimens.py --json specimens.json --out specimens-output

600 specimens of 150 patients in three folds by patient: 400 to learn from, 40 of them labelled, 200 to score
on. With --out, an interrupted table goes on where it was. With --glas, GlaS below MTSSL_DATA is measured.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import torch

from napari_mtssl.engine.devices import pick_device, training_threads
from napari_mtssl.engine.loop import balanced_weights, weighted_sum
from napari_mtssl.evaluation import specimens
from napari_mtssl.evaluation.hep2 import read_specimens, synthetic
from napari_mtssl.evaluation.table import markdown, write_json
from napari_mtssl.methods.joint_unet import JointUNetMethod

# Chosen on patients made with other seeds.
SYNTHETIC = {
    "batch_size": 16,
    "size": 128,
    "steps": 500,
    "learning_rate": 3e-3,
    "unlabelled_ratio": 0.5,
    "strong": 0.5,
}
RULE = "equal"
GLAS_LABELLED = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--out", type=Path, help="keep single trials here")
    parser.add_argument("--folds", default="0", help="of three; each is one draw of labels and patients")
    parser.add_argument("--rows", default=f"{RULE},single-task")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=specimens.default_threads())
    parser.add_argument("--glas", action="store_true", help="also GlaS, five folds by patient")
    options = parser.parse_args()
    figures = {"gradnorm_step_ratio": step_ratio(options.device, options.threads)}
    print(
        f"GradNorm's step takes {figures['gradnorm_step_ratio']:.3f} times that of fixed weights", flush=True
    )
    with specimens.scratch() as temporary:
        folder = options.out or Path(temporary)
        table = run_synthetic(options, folder / "synthetic")
        figures |= headline(table)
        result = {**figures, "synthetic": table}
        if options.glas:
            result["glas"] = run_glas(options, folder / "glas")
    if options.json:
        write_json(result, options.json)


def run_synthetic(options: argparse.Namespace, folder: Path) -> dict:
    plan = specimens.Plan(
        synthetic(150, 4, 128, seed=0),
        folder,
        folds=3,
        overrides=SYNTHETIC,
        device=options.device,
        threads=options.threads,
        only=tuple(int(k) for k in options.folds.split(",")),
    )
    table = specimens.reproduce(plan, options.rows.split(","), [40], tell)
    print(markdown(table["results"], specimens.CAPTIONS))
    return table


def run_glas(options: argparse.Namespace, folder: Path) -> dict:
    data = Path(os.environ.get("MTSSL_DATA", "../shared/data")) / "glas"
    if not data.is_dir():
        sys.exit(f"{data} is missing: get GlaS (Warwick) and point MTSSL_DATA at the folder above.")
    plan = specimens.Plan(read_specimens(data, 192), folder, device=options.device, threads=options.threads)
    table = specimens.reproduce(plan, [RULE], ["all"], tell)
    few = specimens.reproduce(plan, [RULE, f"{RULE}{specimens.SUPERVISED}"], [GLAS_LABELLED], tell)
    for row, cells in few["results"].items():
        table["results"].setdefault(row, {}).update(cells)
    print(markdown(table["results"], specimens.CAPTIONS))
    return table


def headline(table: dict) -> dict:
    cells = table["results"]
    names = {
        "mask_dice": "mask_dice",
        "pattern_accuracy": "label_accuracy",
        "intensity_accuracy": "intensity_accuracy",
    }
    out: dict = {ours: cells[RULE]["40"][theirs]["mean"] for ours, theirs in names.items() if RULE in cells}
    if specimens.SINGLE in cells:
        out["single_task"] = {
            ours: cells[specimens.SINGLE]["40"][theirs]["mean"] for ours, theirs in names.items()
        }
    return out


def step_ratio(device: str, threads: int, rounds: int = 12) -> float:
    """Median time of a step with GradNorm over that with fixed weights, steps taken in turn."""
    chosen = pick_device(device)
    data = synthetic(10, 4, 128, seed=1)
    methods, times = {}, {"fixed": [], "gradnorm": []}
    samples = specimens.image_set(data, 20, device=chosen)
    for name in times:
        config = JointUNetMethod.configure(**{**SYNTHETIC, "balance": name, "balance_start": "theory"})
        method = JointUNetMethod(config, data.vocabulary, chosen)
        method.prepare(samples)
        methods[name] = (method, method.optimiser())
    with training_threads(threads):
        for number in range(rounds + 2):
            for name, (method, optimiser) in methods.items():
                begin = time.perf_counter()
                output = method.step(samples, 0.5, method.config.batch_size)
                total = weighted_sum(output.losses, balanced_weights(method, output))
                optimiser.zero_grad(set_to_none=True)
                total.backward()
                if method.balancer is not None:
                    method.balancer.learn(method.shared)
                optimiser.step()
                method.after_step()
                if chosen.type == "cuda":
                    torch.cuda.synchronize()
                if number >= 2:
                    times[name].append(time.perf_counter() - begin)
    fixed, gradnorm = (sorted(values)[len(values) // 2] for values in (times["fixed"], times["gradnorm"]))
    return gradnorm / fixed


def tell(progress) -> None:
    if progress.scores is not None:
        shown = {k: round(v, 3) for k, v in progress.scores.items() if v is not None}
        print(f"[{progress.done}/{progress.total}] {progress.trial.name}: {shown}", flush=True)


if __name__ == "__main__":
    main()
