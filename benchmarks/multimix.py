"""MultiMix on OpenIST lungs and NIH chest X-rays: Dice, AUROC, and what the bridge costs.

python benchmarks/multimix.py --json multimix.json --out multimix-output

Learns from ``openist_lungs`` and ``nih_cxr`` below MTSSL_DATA, and scores on images and patients put aside
there. With --out, an interrupted table goes on where it was. --cross-masks names a folder of another source.

python benchmarks/multimix.py --only-cost
python benchmarks/multimix.py --live --json live.json

Need no data: what a step costs, and how soon a mask is on screen after Train.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from napari_mtssl.engine.devices import pick_device, training_threads
from napari_mtssl.evaluation.multimix import CAPTIONS, reproduce_multimix
from napari_mtssl.evaluation.multimix_trials import KIND, MASK
from napari_mtssl.evaluation.series import Progress
from napari_mtssl.evaluation.synthetic_chest import make_chest
from napari_mtssl.evaluation.table import markdown, write_json
from napari_mtssl.methods.multimix import FieldBank, MultiMix

ROWS = "MultiMix,U-Net,Enc,MultiMix-paper,random-forest"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--out", type=Path, help="keep single trials here, the table and the pictures")
    parser.add_argument("--rows", default=ROWS)
    parser.add_argument("--seg-labels", default="10")
    parser.add_argument("--cls-labels", default="40")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cross-masks", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="one less than there are cores by default")
    parser.add_argument("--only-cost", action="store_true", help="only what a step costs")
    parser.add_argument("--live", action="store_true", help="measure the window instead of the table")
    options = parser.parse_args()
    if options.live:
        live(options.json)
        return
    threads = options.threads or max(1, (os.cpu_count() or 2) - 1)
    figures = step_cost(options.device, threads)
    print(
        f"A step takes {figures['step_seconds']:.2f} s, {figures['saliency_step_ratio']:.2f} times "
        f"one without saliency; an image {figures['predict_seconds']:.3f} s",
        flush=True,
    )
    if not options.only_cost:
        data = Path(os.environ.get("MTSSL_DATA", "../shared/data"))
        missing = [n for n in ("openist_lungs", "nih_cxr") if not (data / n).is_dir()]
        if missing:
            sys.exit(
                f"{data / missing[0]} is missing: get OpenIST's lungs and ChestX-ray14 (NIH Clinical "
                "Center), and point MTSSL_DATA at the folder above."
            )
        table = reproduce_multimix(
            data / "openist_lungs",
            data / "nih_cxr",
            cross_masks=options.cross_masks,
            seg_labels=[int(n) for n in options.seg_labels.split(",")],
            cls_labels=[int(n) for n in options.cls_labels.split(",")],
            rows=options.rows.split(","),
            seeds=options.seeds,
            out=options.out,
            device=options.device,
            threads=threads,
            progress=tell,
        )
        print(markdown(table["results"], CAPTIONS))
        figures |= table
    if options.json:
        write_json(figures, options.json)


def live(path: Path | None) -> None:
    """Measure the window on made-up chests."""
    from multimix_live import measure
    from superres_live import with_display

    with_display()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    print(json.dumps(figures, indent=2))
    if path is not None:
        write_json(figures, path)


def tell(now: Progress) -> None:
    if now.scores is not None:
        shown = {k: v for k, v in now.scores.items() if k in ("dice", "auroc", "cross_dice", "seconds")}
        text = ", ".join(f"{k} {v:.3f}" for k, v in shown.items() if v is not None)
        print(
            f"[{now.done}/{now.total}] {now.trial.row} {now.trial.budget} seed {now.trial.seed}: {text}",
            flush=True,
        )


def step_cost(device: str, threads: int, rounds: int = 5) -> dict[str, float]:
    """Median seconds of a step of the default, its ratio to one with an empty bridge, and of a prediction."""
    import numpy as np

    chosen = pick_device(device)
    size = MultiMix.configure().size
    chests = [make_chest(n, n % 2 == 1, size=size) for n in range(24)]
    images = np.stack([c.pixels / 255 for c in chests]).astype(np.float32)
    masks = {n: np.stack([~c.lungs, c.lungs]).astype(np.float32) for n, c in enumerate(chests[:8])}
    kinds = [int(c.sick) if n < 12 else -1 for n, c in enumerate(chests)]
    bank = FieldBank.from_arrays(images, masks, {KIND: kinds}, device=chosen)
    # on one thread the processor's time is the step's own, whatever else the machine does
    clock = time.process_time if chosen.type == "cpu" and threads == 1 else time.perf_counter
    methods, times = {}, {"saliency": [], "zeros": []}
    for bridge in times:
        method = MultiMix(MultiMix.configure(bridge=bridge), {"mask": MASK, KIND: ("normal", "sick")}, chosen)
        method.prepare(bank)
        methods[bridge] = (method, method.optimiser())
    with training_threads(threads):
        for number in range(rounds + 1):
            for bridge, (method, optimiser) in methods.items():
                begin = clock()
                output = method.step(bank, 0.5, method.config.batch_size)
                total = torch.stack([output.losses[n] * output.weights[n] for n in output.losses]).sum()
                optimiser.zero_grad(set_to_none=True)
                total.backward()
                optimiser.step()
                method.after_step()
                if number:
                    times[bridge].append(clock() - begin)
        method = methods["saliency"][0]
        begin = clock()
        method.predict_fields(bank.images)
        predict = (clock() - begin) / len(images)
    median = {bridge: sorted(each)[len(each) // 2] for bridge, each in times.items()}
    return {
        "step_seconds": median["saliency"],
        "saliency_step_ratio": median["saliency"] / median["zeros"],
        "predict_seconds": predict,
    }


if __name__ == "__main__":
    main()
