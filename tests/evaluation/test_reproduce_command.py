"""``napari-mtssl reproduce`` on made-up images, and one sentence for each mistake."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from napari_mtssl.cli import app

TINY = [f"--set={pair}" for pair in ("steps=2", "depth=10", "widen=1", "pool=60", "batch_size=8")]


def run(crc, *options, json_file, train="train", test="test"):
    arguments = ["reproduce", "hydramix", "--train", crc / train, "--test", crc / test, "--json", json_file]
    return CliRunner().invoke(app, [str(a) for a in (*arguments, "--device", "cpu", *options)])


@pytest.mark.slow
def test_the_table_has_every_row_and_budget_with_its_spread(crc, tmp_path):
    rows = "hydramix,random-forest"
    options = ["--labels", "9", "--seeds", 2, "--methods", rows, "--out", tmp_path / "o", *TINY]
    result = run(crc, *options, json_file=tmp_path / "t.json")
    assert result.exit_code == 0, result.output + repr(result.exception)
    table = json.loads((tmp_path / "t.json").read_text())
    assert list(table["results"]) == rows.split(",")
    for row in rows.split(","):
        assert set(table["results"][row]) == {"9"}
        accuracy = table["results"][row]["9"]["accuracy"]
        assert len(accuracy["runs"]) == 2
        assert accuracy["mean"] == pytest.approx(sum(accuracy["runs"]) / 2)
    assert table["settings"]["seeds"] == 2 and table["seconds"] > 0
    assert (tmp_path / "o" / "table.png").stat().st_size > 0
    assert "HydraMix-Net" in result.stdout
    again = run(crc, *options, json_file=tmp_path / "again.json")
    assert again.exit_code == 0
    assert json.loads((tmp_path / "again.json").read_text()) == table  # kept trials are not run again


MISTAKES = {
    "folder": ({"train": "nowhere"}, [], "nowhere"),
    "layout": ({"train": "."}, [], "img1"),
    "leak": ({"test": "train"}, [], "also among the images to learn from"),
    "row": ({}, ["--methods", "svm"], "'svm'"),
    "no row": ({}, ["--methods", ","], "at least one method"),
    "labels": ({}, ["--labels", "fifty"], "'fifty'"),
    "few": ({}, ["--labels", "1"], "too few"),
    "setting of rows": ({}, ["--set", "seed=5"], "Leave --set seed out"),
    "no digit": ({}, ["--labels", "²"], "is no number"),
    "setting": ({}, ["--set", "deepness=1", "--labels", "9"], "deepness"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistakes_are_told_before_anything_is_trained(kind, crc, tmp_path):
    folders, options, fragment = MISTAKES[kind]
    result = run(crc, *options, json_file=tmp_path / "t.json", **folders)
    assert result.exit_code == 2, result.output + repr(result.exception)
    (sentence,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert fragment in sentence
    assert not (tmp_path / "t.json").exists()


def test_only_the_method_with_a_table_has_one(crc, tmp_path):
    arguments = ["reproduce", "other", "--train", crc, "--test", crc, "--json", tmp_path / "t.json"]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 2 and "'other'" in result.stderr
