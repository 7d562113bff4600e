"""Mask, pattern and intensity of made-up HEp-2 specimens from 40 labelled of 400; GlaS; the cost of GradNorm.

python benchmarks/specimens.py --json specimens.json --out specimens-output

600 specimens of 150 patients in three folds by patient: 400 to learn from, 40 of them labelled, 200 to test
on. With --out, a stopped table goes on where it was, and may be made in pieces: --parts, --folds, --rows.
GlaS is read below MTSSL_DATA, and left out with a message if it is not there.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from napari_mtssl.engine.devices import pick_device, training_threads
from napari_mtssl.engine.loop import balanced_weights, weighted_sum
from napari_mtssl.evaluation import specimens
from napari_mtssl.evaluation.hep2 import read_specimens, synthetic
from napari_mtssl.evaluation.table import markdown, write_json
from napari_mtssl.methods.joint_unet import JointUNetMethod

# Chosen on patients made with other seeds.
SYNTHETIC = {
    "size": 128,
    "steps": 800,
    "learning_rate": 3e-3,
    "unlabelled_ratio": 0.5,
    "strong": 0.5,
    "warped": 0.0,
    "tta": 4,
    # forty labels are of thirty patients and more here, so that guesses are mostly right
    "class_consistency": 1.0,
}
# Small and quick, all labelled: whether a task is lost shows soon.
SMALL = SYNTHETIC | {"size": 64, "steps": 150, "unlabelled_ratio": 0.0}
# Glands are coarse: the stem of ResNet-34 costs them nothing, and a step takes a third of the time.
GLAS: dict = {"encoder": "resnet34", "base": 16, "size": 192, "steps": 900}
# Guesses are learnt from pasted views alone, which on other folds of other patients did better than holes.
FEW = GLAS | {"strong": 0.0}
ROWS = "equal,gradnorm-0.6-both,single-task"
# Every rule there is against a network for each task, where one training takes half a minute.
BALANCE = SMALL | {"steps": 400}
RULES = "equal,tuned,uncertainty,famo,dbmtl,gradnorm-0.06-both,gradnorm-0.6-both,single-task"
RULE = "equal"  # of the headline, and of the part 'few'
COLLAPSE = "gradnorm-6-both,gradnorm-6-raw-both"
GLAS_LABELLED = 15  # of about a hundred
PARTS = ("ratio", "synthetic", "balance", "alpha6", "glas", "few")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--out", type=Path, help="keep single trials here")
    parser.add_argument("--parts", default=",".join(PARTS), help="what is measured")
    parser.add_argument("--folds", default="", help="only these, from 0; each also draws other labels")
    parser.add_argument(
        "--rows", default=ROWS, help="of the parts 'synthetic', 'balance', 'alpha6' and 'glas'"
    )
    parser.add_argument(
        "--draws", type=int, default=1, help="how often each fold of the part 'few' is learnt"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=specimens.default_threads())
    options = parser.parse_args()
    parts = options.parts.split(",")
    if wrong := [part for part in parts if part not in PARTS]:
        sys.exit(f"There is no part '{wrong[0]}'. Choose of: {', '.join(PARTS)}.")
    result: dict = {}
    if "ratio" in parts:
        result["gradnorm_step_ratio"] = step_ratio(options.device, options.threads)
        print(f"A step with GradNorm takes {result['gradnorm_step_ratio']:.3f} times one with fixed weights")
    rows = options.rows.split(",")
    with specimens.scratch() as temporary:
        folder = options.out or Path(temporary)
        if "synthetic" in parts:
            result["synthetic"] = table(synthetic_plan(options, folder), rows, [40])
            result |= headline(result["synthetic"])
        if "balance" in parts:
            result["balance"] = table(small_plan(options, folder, BALANCE), given(options, RULES), ["all"])
        if "alpha6" in parts:
            result["alpha6"] = table(small_plan(options, folder, SMALL), given(options, COLLAPSE), ["all"])
            result["alpha6_majority"] = majority(small_plan(options, folder, SMALL))
        if "glas" in parts and (plan := glas_plan(options, folder, GLAS)):
            result["glas"] = table(plan, rows, ["all"])
        if "few" in parts and (plan := glas_plan(options, folder, FEW)):
            plan = replace(plan, draws=options.draws)
            result["few"] = table(plan, [RULE, f"{RULE}{specimens.SUPERVISED}"], [GLAS_LABELLED])
    if options.json:
        write_json(result, options.json)


def table(plan: specimens.Plan, rows: list[str], budgets: list) -> dict:
    found = specimens.reproduce(plan, rows, budgets, tell)
    print(markdown(found["results"], specimens.CAPTIONS), flush=True)
    return found


def synthetic_plan(options: argparse.Namespace, folder: Path) -> specimens.Plan:
    return specimens.Plan(
        synthetic(150, 4, SYNTHETIC["size"], seed=0),
        folder / "synthetic",
        folds=3,
        overrides=SYNTHETIC,
        device=options.device,
        threads=options.threads,
        only=chosen(options),
    )


def given(options: argparse.Namespace, otherwise: str) -> list[str]:
    return (otherwise if options.rows == ROWS else options.rows).split(",")


def small_plan(options: argparse.Namespace, folder: Path, settings: dict) -> specimens.Plan:
    return specimens.Plan(
        synthetic(100, 2, SMALL["size"], seed=0),
        folder / "small",
        overrides=settings,
        device=options.device,
        threads=options.threads,
        only=chosen(options),
    )


def majority(plan: specimens.Plan) -> dict:
    """Accuracy, in each fold, of always saying the class that is most frequent in the other folds."""
    folds, out = plan.fold_of(), {}
    for kind, truth in plan.data.labels.items():
        best = [np.bincount(truth[folds != k]).argmax() for k in range(plan.folds)]
        out[kind] = [float((truth[folds == k] == best[k]).mean()) for k in range(plan.folds)]
    masks = plan.data.masks
    out["mask"] = [float((masks[folds == k] == 0).mean()) for k in range(plan.folds)]
    return out


def glas_plan(options: argparse.Namespace, folder: Path, settings: dict) -> specimens.Plan | None:
    data = Path(os.environ.get("MTSSL_DATA", "../shared/data")) / "glas"
    if not data.is_dir():
        print(f"{data} is missing: get GlaS (Warwick) and point MTSSL_DATA at the folder above.")
        return None
    return specimens.Plan(
        read_specimens(data, GLAS["size"]),
        folder / "glas",
        overrides=settings,
        device=options.device,
        threads=options.threads,
        only=chosen(options),
    )


def chosen(options: argparse.Namespace) -> tuple[int, ...]:
    return tuple(int(k) for k in options.folds.split(",") if k)


def headline(found: dict) -> dict:
    cells = found["results"]
    names = {
        "mask_dice": "mask_dice",
        "pattern_accuracy": "label_accuracy",
        "intensity_accuracy": "intensity_accuracy",
    }
    out: dict = {ours: cells[RULE]["40"][theirs]["mean"] for ours, theirs in names.items() if RULE in cells}
    if specimens.SINGLE in cells:
        alone = cells[specimens.SINGLE]["40"]
        out["single_task"] = {ours: alone[theirs]["mean"] for ours, theirs in names.items()}
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
