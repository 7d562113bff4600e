"""Made-up HEp-2 specimens: a few labelled, training, prediction, scores on patients nobody labelled."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_mtssl.cli.console import notes

if TYPE_CHECKING:
    from napari_mtssl.study import Study

STEPS = 450  # a minute and a half on one core
PATIENTS, EACH, SIZE, LABELLED = 40, 2, 128, 28
# As in benchmarks/specimens.py: cells with patterns of a pixel's size are not resampled.
SETTINGS = {
    "size": SIZE,
    "learning_rate": 3e-3,
    "unlabelled_ratio": 0.5,
    "strong": 0.5,
    "warped": 0.0,
    "balance": "equal",
}


def make_study(out: Path) -> Study:
    """Make the demo's study, or open the one of an earlier demo with whatever was labelled there since.

    Returns
    -------
    Study
        Open; images of the last patients are there to test on, and of the others some are labelled.
    """
    import imageio.v3 as iio

    from napari_mtssl.evaluation.synthetic_hep2 import specimens
    from napari_mtssl.study import Study
    from napari_mtssl.study.templates import use_template

    path, folder = out / "specimens.mtssl", out / "specimens"
    if path.exists():
        return Study.open(path)
    folder.mkdir(parents=True, exist_ok=True)
    study = Study.create(path)
    use_template(study, "specimens")
    items = specimens(PATIENTS, EACH, size=SIZE, seed=5, balanced=True)
    seen: dict[str, int] = {}
    for number, item in enumerate(items):
        file = folder / f"specimen{number:02d}.png"
        iio.imwrite(file, item.image)
        held_out = item.patient >= PATIENTS * 3 // 4
        record = study.add_image(
            file,
            height=SIZE,
            width=SIZE,
            group=f"patient {item.patient}",
            split="validation" if held_out else "train",
        )
        seen[item.pattern] = seen.get(item.pattern, 0) + 1
        if held_out or seen[item.pattern] <= LABELLED // 7:
            label(study, record.id, item)
    return study


def label(study: Study, image_id: int, item: Any) -> None:
    """Say of an image all that is true of it."""
    code = next(c.code for c in study.classes("mask") if c.name == "cell")
    study.paint_mask(image_id, 0, 0, item.mask.astype("uint16") * code)
    study.set_mask_complete(image_id, True)
    study.set_image_class(image_id, "pattern", item.pattern)
    study.set_image_class(image_id, "intensity", item.intensity)


def run_headless(study_path: Path, out: Path, steps: int) -> None:
    """Train, predict and score; write pictures, tables and a report."""
    from napari_mtssl.cli.pictures import save_curves
    from napari_mtssl.cli.predict import colours_of
    from napari_mtssl.cli.results import predicted, write_results
    from napari_mtssl.cli.train import follow, options_without_window
    from napari_mtssl.engine.checkpoint import load_method
    from napari_mtssl.engine.session import TrainingSession
    from napari_mtssl.images import ImagePool
    from napari_mtssl.study import Study

    begin = time.monotonic()
    overrides = {**SETTINGS, "steps": steps}
    session = TrainingSession(study_path, "joint-unet", overrides=overrides, options=options_without_window())
    finished = follow(session)
    trained = time.monotonic()
    with Study.open(study_path) as study:
        method = load_method(finished.run_dir)
        colours, pool, rows = colours_of(study, method), ImagePool(), []
        truth = study.image_classes(split="validation")
        said = {
            (i, kind): name for i, kind, name in truth[["image_id", "kind", "class"]].itertuples(index=False)
        }
        for record in study.images("validation"):
            image = pool(record)
            found = predicted(method, image)
            write_results(method, image, found, colours, out)
            best = found.image.loc[found.image.groupby("kind", sort=False)["probability"].idxmax()]
            for kind, name, probability in best.itertuples(index=False):
                rows.append((record.path.stem, kind, said.get((record.id, kind), ""), name, probability))
    done = time.monotonic()
    save_curves(finished.run_dir / "metrics.csv", out / "losses.png")
    text = report(
        rows, dict(finished.scores), finished.run_dir.name, finished.step, trained - begin, done - trained
    )
    (out / "report.md").write_text(text, encoding="utf-8")
    notes.print(f"The report is {out / 'report.md'}.")


def report(
    rows: list[tuple[str, str, str, str, float]],
    scores: dict[str, float],
    run: str,
    steps: int,
    training: float,
    prediction: float,
) -> str:
    """Write the demo's outcome as Markdown.

    Returns
    -------
    str
    """
    shown = ("mask_dice", "pattern_accuracy", "intensity_accuracy")
    lines = [
        "# napari-mtssl: demo of Specimens",
        "",
        "Joint U-Net (preset `robust`, all tasks with equal weight) on made-up HEp-2 specimens.",
        "",
        f"- Training: {steps} steps in {training:.0f} s, run `{run}`",
        f"- Prediction: {len({row[0] for row in rows})} images in {prediction:.1f} s",
        "",
        "![Losses](losses.png)",
        "",
        "## Scores on patients nobody labelled for training",
        "",
        "| mask Dice | pattern accuracy | intensity accuracy |",
        "|---|---|---|",
        "| " + " | ".join(f"{scores[name]:.3f}" if name in scores else "" for name in shown) + " |",
        "",
        "| image | kind | true | predicted | probability |",
        "|---|---|---|---|---|",
        *(f"| {stem} | {kind} | {true} | {name} | {p:.2f} |" for stem, kind, true, name, p in rows),
        "",
        "Masks are `*.mask.png`, outlines `*.outlines.png`, probabilities `*.classes.csv`.",
        "The study, to go on with in napari: `specimens.mtssl`.",
        "",
    ]
    return "\n".join(lines)
