"""Made-up chest radiographs: a few masks and diagnoses, training, prediction, scores on other patients."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from napari_mtssl.cli.console import notes

if TYPE_CHECKING:
    from napari_mtssl.evaluation.synthetic_chest import Chest
    from napari_mtssl.study import Study

STEPS = 150  # enough to see it work
SIZE = 256
LEARN, HELD_OUT = 48, 12  # patients
PAINTED, DIAGNOSED = 5, 24
SETTINGS = {"size": 96}
HEAD = "diagnosis_accuracy"


def make_study(out: Path) -> Study:
    """Make the demo's study, or open the one of an earlier demo with whatever was labelled there since.

    Returns
    -------
    Study
        Open; a few images have a mask, some a diagnosis, some neither; other patients are there to test on,
        half of them from another machine.
    """
    import imageio.v3 as iio

    from napari_mtssl.evaluation.synthetic_chest import make_chest
    from napari_mtssl.study import Study
    from napari_mtssl.study.templates import use_template

    path, folder = out / "lungs.mtssl", out / "chests"
    if path.exists():
        return Study.open(path)
    folder.mkdir(parents=True, exist_ok=True)
    study = Study.create(path)
    use_template(study, "lungs")
    study.add_class("clinic", kind="origin", note="The machine that is learnt from.")
    study.add_class("portable", kind="origin", note="Another machine, at the bedside.")
    for number in range(LEARN + HELD_OUT):
        held_out = number >= LEARN
        source = "portable" if held_out and number % 4 > 1 else "clinic"
        chest = make_chest(number, number % 2 == 1, source, SIZE)
        file = folder / f"{chest.patient}.png"
        iio.imwrite(file, chest.pixels)
        record = study.add_image(
            file,
            height=SIZE,
            width=SIZE,
            group=chest.patient,
            split="validation" if held_out else "train",
        )
        study.set_image_class(record.id, "origin", source)
        if held_out or number < PAINTED:
            paint(study, record.id, chest)
        if held_out or number < DIAGNOSED:
            study.set_image_class(record.id, "diagnosis", "pneumonia" if chest.sick else "normal")
    return study


def paint(study: Study, image_id: int, chest: Chest) -> None:
    """Say of every pixel whether it is lung."""
    code = next(c.code for c in study.classes("mask") if c.name == "lung")
    study.paint_mask(image_id, 0, 0, chest.lungs.astype("uint16") * code)
    study.set_mask_complete(image_id, True)


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
    overrides = {"steps": steps, **SETTINGS}
    session = TrainingSession(study_path, "multimix", overrides=overrides, options=options_without_window())
    finished = follow(session)
    trained = time.monotonic()
    with Study.open(study_path) as study:
        method = load_method(finished.run_dir)
        colours, pool, rows = colours_of(study, method), ImagePool(), []
        said = study.image_classes(split="validation")
        said = said[said["kind"] == "diagnosis"].set_index("image_id")["class"].to_dict()
        for record in study.images("validation"):
            image = pool(record)
            found = predicted(method, image)
            write_results(method, image, found, colours, out)
            best = found.image.loc[found.image["probability"].idxmax()]
            rows.append(
                (record.path.stem, said.get(record.id, ""), str(best["class"]), float(best["probability"]))
            )
    seconds = trained - begin, time.monotonic() - trained
    save_curves(finished.run_dir / "metrics.csv", out / "losses.png")
    text = report(rows, dict(finished.scores), finished.run_dir.name, finished.step, seconds)
    (out / "report.md").write_text(text, encoding="utf-8")
    notes.print(f"The report is {out / 'report.md'}.")


def report(
    rows: list[tuple[str, str, str, float]],
    scores: dict[str, float],
    run: str,
    steps: int,
    seconds: tuple[float, float],
) -> str:
    """Write the demo's outcome as Markdown.

    Returns
    -------
    str
    """
    lines = [
        "# napari-mtssl: demo of Lungs",
        "",
        f"MultiMix (preset `robust`) on made-up chest radiographs: {PAINTED} masks and {DIAGNOSED} diagnoses",
        f"of {LEARN} patients.",
        "",
        f"- Training: {steps} steps in {seconds[0]:.0f} s, run `{run}`",
        f"- Prediction: {len(rows)} images in {seconds[1]:.1f} s",
        "",
        "![Losses](losses.png)",
        "",
        "## Scores on patients nobody labelled for training",
        "",
        "| images | Dice of the lungs | accuracy of the diagnosis |",
        "|---|---|---|",
        *(
            f"| {where} | "
            + " | ".join(f"{scores[n]:.3f}" if n in scores else "" for n in (prefix + "dice", prefix + HEAD))
            + " |"
            for where, prefix in (("same machine", ""), ("another machine", "cross_"))
        ),
        "",
        "| image | true | predicted | probability |",
        "|---|---|---|---|",
        *(f"| {stem} | {true} | {name} | {p:.2f} |" for stem, true, name, p in rows),
        "",
        "Masks are `*.mask.png`, outlines `*.outlines.png`, probabilities `*.classes.csv`.",
        "The study, to go on with in napari: `lungs.mtssl`.",
        "",
    ]
    return "\n".join(lines)
