"""``napari-mtssl demo lungs`` without a window."""

import pandas as pd
from typer.testing import CliRunner

from napari_mtssl.cli.app import app
from napari_mtssl.study import Study


def test_the_demo_paints_diagnoses_and_reports(tmp_path, monkeypatch):
    for name, value in (("LEARN", 9), ("HELD_OUT", 2), ("PAINTED", 2), ("DIAGNOSED", 4), ("SIZE", 64)):
        monkeypatch.setattr(f"napari_mtssl.cli.demo.lungs.{name}", value)
    monkeypatch.setattr("napari_mtssl.cli.demo.lungs.SETTINGS", {"size": 32})
    outcome = CliRunner().invoke(app, ["demo", "lungs", "--headless", "--out", str(tmp_path), "--steps", "2"])
    assert outcome.exit_code == 0, outcome.output
    text = (tmp_path / "report.md").read_text()
    assert "2 masks and 4 diagnoses" in text and text.count("| pneumonia |") >= 1
    with Study.open(tmp_path / "lungs.mtssl") as study:
        assert len(study.masked_images("train")) == 2 and len(study.masked_images("validation")) == 2
        assert (study.image_classes(split="train")["kind"] == "diagnosis").sum() == 4
        assert study.foreign_images("validation") == {11}
        stems = [record.path.stem for record in study.images("validation")]
    for stem in stems:
        for end in ("mask.png", "outlines.png", "classes.csv"):
            assert (tmp_path / f"{stem}.{end}").is_file(), sorted(p.name for p in tmp_path.iterdir())
    assert (tmp_path / "losses.png").is_file()
    run("predict", tmp_path / "lungs.mtssl", tmp_path / "chests" / f"{stems[0]}.png", "--out", tmp_path / "o")
    table = tmp_path / "classes.csv"
    run("export", tmp_path / "lungs.mtssl", "--as", "image-classes", "--csv", table, "--predictions")
    line = pd.read_csv(table).set_index("image").loc[f"{stems[0]}.png"]
    assert line["diagnosis_predicted"] in ("normal", "pneumonia") and line["diagnosis_probability"] >= 0.5
    with Study.open(tmp_path / "lungs.mtssl") as study:
        assert study.mask_prediction(study.find_image(stems[0]).id) is not None
        assert all(study.mask_prediction(study.find_image(stem).id) is None for stem in stems[1:])


def run(*arguments):
    outcome = CliRunner().invoke(app, [str(each) for each in arguments])
    assert outcome.exit_code == 0, outcome.output + repr(outcome.exception)
