"""Outlines from blocks: on made-up glands with a known truth, and on a real image, brown against blue."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_mtssl.cli.console import notes

if TYPE_CHECKING:
    import numpy as np

    from napari_mtssl.evaluation.outlines import OutlineScores
    from napari_mtssl.study import Study

STEPS = 250  # enough to see it work
SIDE = 48  # pixels of a block
NEAR = 24.0  # pixels from the true outline, for the masked scores
# A small network on small crops: the demo is to end before anybody leaves.
QUICK: dict[str, Any] = {
    "widths": "12-16-24-32",
    "stem": 1,
    "crop": 144,
    "batch_size": 4,
    "learning_rate": 6e-3,
    "views": 2,
}


def make_study(out: Path) -> Study:
    """Make the study of made-up glands, or open the one of an earlier demo.

    Returns
    -------
    Study
        Open, with three images to learn from, whose blocks have a class, and one to look at.
    """
    from napari_mtssl.evaluation.synthetic_tissue import tissue

    made = [tissue(384, 384, seed=seed) for seed in range(4)]
    study = _study(out / "tissue.mtssl", "gland")
    for number, view in enumerate(made):
        split = "train" if number < 3 else "test"
        _add(study, out / f"glands{number}.png", view.image, view.mask == 1, split)
    return study


def make_real_study(out: Path) -> Study:
    """Make the study of scikit-image's immunohistochemistry picture.

    Blocks on the left two thirds have the class that an eye would give them: how much of them is brown.
    """
    from skimage import data
    from skimage.color import rgb2hed
    from skimage.filters import gaussian, threshold_otsu

    pixels = data.immunohistochemistry()
    brown = gaussian(rgb2hed(pixels)[..., 2], 2.0)
    study = _study(out / "brown.mtssl", "brown")
    edge = 2 * pixels.shape[1] // 3 // SIDE * SIDE
    _add(study, out / "brown.png", pixels, brown > threshold_otsu(brown), "train", edge)
    return study


def _study(path: Path, name: str) -> Study:
    """Open a study, or make it with one exact class and the bins of shares."""
    from napari_mtssl.methods.superres.statistics import bin_names
    from napari_mtssl.study import Study

    if path.exists():
        return Study.open(path)
    study = Study.create(path)
    study.add_class(name, kind="mask")
    for label in bin_names():
        study.add_class(label, kind="block")
    return study


def _add(
    study: Study, file: Path, pixels: np.ndarray, mask: np.ndarray, split: Any, edge: int | None = None
) -> None:
    """Add an image once; label the blocks left of `edge` by their share, if it is one to learn from."""
    import imageio.v3 as iio
    import numpy as np

    from napari_mtssl.methods.superres.statistics import bin_names, to_bins
    from napari_mtssl.study import Grid

    if file.exists() and any(record.path.name == file.name for record in study.images()):
        return
    iio.imwrite(file, pixels)
    height, width = mask.shape
    record = study.add_image(file, height=height, width=width, split=split)
    study.set_grid(record.id, Grid(SIDE, SIDE))
    if split != "train":
        return
    names = bin_names()
    blocks = {}
    for i, j in np.ndindex(height // SIDE, min(edge or width, width) // SIDE):
        share = mask[i * SIDE : (i + 1) * SIDE, j * SIDE : (j + 1) * SIDE].mean()
        blocks[i, j] = names[int(to_bins(np.array(share)))]
    study.set_blocks(record.id, blocks)


@dataclass(frozen=True)
class Outcome:
    """What one study of the demo has to report."""

    run: str
    blocks: int
    steps: int
    seconds: float
    shown: str
    scores: OutlineScores | None


def run_headless(study_path: Path, out: Path, steps: int) -> None:
    """Train and predict both studies; write pictures and a report."""
    with make_real_study(out) as study:
        real_path = study.path
    glands = _run(study_path, out, steps, scored=True)
    brown = _run(real_path, out, steps, scored=False)
    (out / "report.md").write_text(report(glands, brown), encoding="utf-8")
    notes.print(f"The report is {out / 'report.md'}.")


def _run(path: Path, out: Path, steps: int, scored: bool) -> Outcome:
    """Train on a study and predict its last image."""
    from napari_mtssl.cli.pictures import save_curves
    from napari_mtssl.cli.predict import colours_of
    from napari_mtssl.cli.results import predicted, write_results
    from napari_mtssl.cli.train import follow, options_without_window
    from napari_mtssl.engine.checkpoint import load_method
    from napari_mtssl.engine.session import TrainingSession
    from napari_mtssl.images import ImagePool
    from napari_mtssl.study import Study

    begin = time.monotonic()
    overrides = {**QUICK, "steps": steps}
    finished = follow(
        TrainingSession(path, "superres", overrides=overrides, options=options_without_window())
    )
    seconds = time.monotonic() - begin
    method = load_method(finished.run_dir)
    with Study.open(path) as study:
        record = study.images()[-1]
        image = ImagePool()(record)
        found = predicted(method, image)
        said = write_results(method, image, found, colours_of(study, method), out)
        blocks = sum(len(study.blocks(item.id)) for item in study.images())
    notes.print(f"{image.path.name}: {said}.")
    save_curves(finished.run_dir / "metrics.csv", out / f"{path.stem}.losses.png")
    assert found.mask is not None
    scores = _scores(found.mask[1] > 0.5) if scored else None
    return Outcome(finished.run_dir.name, blocks, finished.step, seconds, image.path.stem, scores)


def _scores(found: np.ndarray) -> OutlineScores:
    """Compare the mask of the last made-up image with its truth."""
    from napari_mtssl.evaluation.outlines import OutlineScores
    from napari_mtssl.evaluation.synthetic_tissue import tissue

    scores = OutlineScores(NEAR)
    scores.add(found, tissue(384, 384, seed=3).mask == 1)
    return scores


def report(glands: Outcome, brown: Outcome) -> str:
    """Write the demo's outcome as Markdown."""
    assert glands.scores is not None
    found = glands.scores.scores()
    dice, near = found["dice"], found["masked_iou"]
    lines = ["# napari-mtssl: demo of Tissue", ""]
    lines += [
        f"Outlines learnt from blocks of {SIDE} pixels, each labelled with the range its share lies in."
    ]
    lines += ["No pixel was painted.", "", "## Made-up glands, an image that was not learnt from", ""]
    lines += [
        f"- Labels: {glands.blocks} blocks on three images",
        f"- Training: {glands.steps} steps in {glands.seconds:.0f} s, run `{glands.run}`",
        f"- Dice {dice:.3f}; IoU within {NEAR:.0f} pixels of the true outline {near:.3f}",
        "",
        f"![Outlines]({glands.shown}.outlines.png)",
        "",
        "![Losses](tissue.losses.png)",
        "",
        "## Immunohistochemistry (scikit-image), brown against the rest",
        "",
        f"- Labels: {brown.blocks} blocks on the left two thirds of the image",
        f"- Training: {brown.steps} steps in {brown.seconds:.0f} s, run `{brown.run}`",
        "",
        f"![Outlines]({brown.shown}.outlines.png)",
        "",
        "Masks: `*.mask.png`; areas: `*.areas.csv`. The studies, to go on with in napari: `tissue.mtssl` and",
        "`brown.mtssl`.",
        "",
    ]
    return "\n".join(lines)
