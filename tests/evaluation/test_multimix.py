import json
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from napari_mtssl.cli.app import app
from napari_mtssl.engine.checkpoint import load
from napari_mtssl.evaluation.multimix import (
    EXTRA,
    FOREST,
    ROWS,
    _fingerprint,
    _read,
    _trial,
    reproduce_multimix,
)
from napari_mtssl.evaluation.multimix_data import Field
from napari_mtssl.evaluation.multimix_forest import FieldForest
from napari_mtssl.evaluation.multimix_trials import Clock, Side
from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.evaluation.synthetic_chest import make_chest, write_chests
from napari_mtssl.methods.multimix import MultiMix
from napari_mtssl.methods.multimix.config import PARTS

TINY = {"size": 32, "steps": 2, "batch_size": 2, "class_batch": 2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chests")
    return (
        write_chests(folder / "here", masks=10, classes=20, size=64),
        write_chests(folder / "there", masks=4, classes=6, source="portable", size=64),
    )


ALL = ["U-Net", "Enc-ours", "MultiMix", FOREST]


@pytest.fixture(autouse=True)
def small_forests(monkeypatch):
    monkeypatch.setattr("napari_mtssl.evaluation.multimix_forest.SIZE", 32)
    monkeypatch.setattr("napari_mtssl.evaluation.multimix_pictures.SHOWN", 2)


def test_rows_are_the_papers_and_controls():
    names = ["U-Net", "Enc", "Enc-SSL", "UMTL", "UMTL-S", "UMTL-SSL", "UMTL-SSL-S"]
    assert list(ROWS) == [*names, "MultiMix-paper", "MultiMix"]
    assert {row["variant"] for row in ROWS.values()} == set(PARTS)
    for row in (*ROWS.values(), *EXTRA.values()):
        MultiMix.configure("robust", **row)


def test_what_a_row_does_not_learn_does_not_count():
    assert _trial("U-Net", 40, 10, 0) == _trial("U-Net", 100, 10, 0)
    assert _trial("Enc-SSL", 40, 10, 0) == _trial("Enc-SSL", 40, 50, 0)
    assert len({_trial("UMTL", c, m, 0) for c in (40, 100) for m in (10, 50)}) == 4


def test_a_table_of_two_sources(folders, tmp_path):
    (masks, classes), (cross_masks, cross_classes) = folders
    told = []
    result = reproduce_multimix(
        masks,
        classes,
        cross_masks=cross_masks,
        cross_classes=cross_classes,
        seg_labels=[2],
        cls_labels=[2],
        rows=ALL,
        seeds=1,
        out=tmp_path,
        overrides=TINY,
        threads=1,
        progress=told.append,
    )
    results = result["results"]
    assert set(results) == set(ALL)
    for row, cells in results.items():
        assert list(cells) == ["2-2"]
        for cell in cells.values():
            assert ("dice" in cell) == ("Enc" not in row) == ("cross_dice" in cell)
            assert ("auroc" in cell) == (not row.startswith("U-Net")) == ("cross_auroc" in cell)
            assert "hd95_mm" not in cell and cell["seconds"]["mean"] >= 0
    assert told[-1].total == len(ALL)
    pictures = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert pictures == {
        f"{name}-2-2{end}.png"
        for name in ("boxes", "bland-altman", "consistency", "boundaries", "masks", "roc")
        for end in ("", "-cross")
    }
    assert json.loads((tmp_path / "table.json").read_text()) == result
    again = reproduce_multimix(
        masks, classes, cross_masks=cross_masks, cross_classes=cross_classes, seg_labels=[2], cls_labels=[2],
        rows=["MultiMix"], seeds=1, out=tmp_path, overrides=TINY, threads=1,
    )  # fmt: skip
    assert again["results"]["MultiMix"]["2-2"] == results["MultiMix"]["2-2"]


def test_an_interrupted_training_goes_on_and_ends_the_same(folders, tmp_path):
    def table(out, progress=None):
        return reproduce_multimix(
            *folders[0], seg_labels=[2], cls_labels=[2], rows=["MultiMix"], seeds=1, out=out,
            overrides={**TINY, "steps": 4}, threads=1, progress=progress,
        )["results"]["MultiMix"]["2-2"]  # fmt: skip

    def leave(now):
        if now.step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        table(tmp_path / "a", leave)
    run_dir = tmp_path / "a" / "runs" / "MultiMix-2-2-0"
    assert load(run_dir / "last.safetensors").step == 1
    steps = []
    found = table(tmp_path / "a", lambda now: steps.append(now.step))
    whole = table(tmp_path / "b")
    assert 1 not in steps and 4 in steps
    assert found["dice"] == whole["dice"] and found["auroc"] == whole["auroc"]
    (tmp_path / "a" / "trials" / "MultiMix-2-2-0.json").unlink()  # scored anew, not trained anew
    assert table(tmp_path / "a", lambda now: steps.append(-now.step))["dice"] == whole["dice"]
    assert -4 not in steps


def test_command_line(folders, tmp_path):
    (masks, classes), (test_masks, test_classes) = folders
    file = tmp_path / "table.json"
    arguments = [
        "reproduce", "multimix", "--masks", str(masks), "--classes", str(classes),
        "--test-masks", str(test_masks), "--test-classes", str(test_classes), "--seg-labels", "1,2",
        "--cls-labels", "2", "--rows", "random-forest,U-Net", "--seeds", "1", "--json", str(file),
        "--set", "size=32", "--set", "steps=1", "--set", "batch_size=2",
    ]  # fmt: skip
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 0, outcome.output
    table = json.loads(file.read_text())
    assert list(table["results"]["random-forest"]) == ["2-1", "2-2"]
    assert set(table["results"]["U-Net"]["2-1"]) >= {"dice", "jaccard", "hd95_px", "ssim"}
    assert table["settings"]["images"] == {
        "train": {"masks": 10, "classes": 20}, "test": {"masks": 4, "classes": 6}
    }  # fmt: skip
    assert "| random forest |" in outcome.output


def test_what_is_not_possible_is_said(folders):
    (masks, classes), _ = folders
    for settings, message in (
        ({"rows": ["V-Net"]}, "no row 'V-Net'"),
        ({"seg_labels": [0]}, "At least one mask"),
        ({"seg_labels": [99], "rows": [FOREST]}, "masks to learn from, not 99"),
        ({"cls_labels": [99], "seg_labels": [2], "rows": [FOREST]}, "images of .*, not 99"),
        ({"seg_labels": [2, 99], "cls_labels": [2]}, "masks to learn from, not 99"),  # and nothing is learnt
    ):
        with pytest.raises(DataError, match=message):
            reproduce_multimix(masks, classes, seeds=1, overrides=TINY, **{"rows": ["UMTL"], **settings})


def test_kept_scores_are_those_of_these_classes_and_masks(tmp_path):
    fields = [Field(tmp_path / f"{n}.png", str(n), tmp_path / f"{n}@.png", "") for n in range(2)]
    classes = [Field(tmp_path / f"{n}.png", str(n), None, "sick" if n else "normal") for n in range(2)]
    for n in range(4):
        PIL.Image.new("L", (8, 8), 40 * n).save(tmp_path / (f"{n}.png" if n < 2 else f"{n - 2}@.png"))
    first = _fingerprint(Side(fields, classes))
    assert _fingerprint(Side(fields, classes)) == first
    other = [replace(item, kind="normal" if item.kind == "sick" else "sick") for item in classes]
    crossed = [replace(a, mask=b.mask) for a, b in zip(fields, fields[::-1], strict=True)]
    grouped = [replace(item, group="0") for item in classes]
    others = {_fingerprint(Side(fields, other)), _fingerprint(Side(crossed, classes))}
    others.add(_fingerprint(Side(fields, grouped)))
    assert len(others) == 3 and first not in others


def test_images_of_patients_who_are_scored_on_are_left_out_and_counted(tmp_path):
    def save(name):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("L", (8, 8), 10 + len(list(tmp_path.rglob("*.png")))).save(tmp_path / name)

    for folder, patients in (("masks", (1, 2, 3)), ("held", (3, 4))):
        for patient in patients:
            save(f"{folder}/{patient}_{folder}.png")
            save(f"{folder}/{patient}_{folder}@.png")
    for kind, patients in (("sick", (4, 5)), ("normal", (6, 7))):
        for patient in patients:
            save(f"classes/{kind}/{patient}_a.png")
            save(f"others/{kind}/{patient + 10}_a.png")
    folders = (tmp_path / name for name in ("masks", "classes", "held", "others"))
    (masks, classes), (held, _), _, left_out = _read(*folders, None, None)
    assert [item.group for item in masks] == ["1", "2"] and [item.group for item in held] == ["3", "4"]
    assert [item.group for item in classes] == ["6", "7", "5"] and left_out == 2


def test_a_damaged_note_of_the_time_begins_the_trial_anew(tmp_path):
    clock = Clock(tmp_path / "run", {"seed": 1})
    clock.keep()
    (tmp_path / "run" / "weights").touch()
    Clock(tmp_path / "run", {"seed": 1})
    assert (tmp_path / "run" / "weights").exists()
    (tmp_path / "run" / "trial.json").write_text("")
    assert Clock(tmp_path / "run", {"seed": 1}).read()["seconds"] < 1
    assert not (tmp_path / "run" / "weights").exists()


def test_a_mask_of_another_size_ends_the_command_with_a_sentence(tmp_path):
    masks, classes = write_chests(tmp_path, masks=4, classes=4, size=64)
    wrong = sorted(masks.glob("*@.png"))[1]
    PIL.Image.open(wrong).resize((32, 64)).save(wrong)
    folders, file = ["--masks", masks, "--classes", classes], tmp_path / "t.json"
    arguments = ["reproduce", "multimix", *folders, "--json", file]
    outcome = CliRunner().invoke(app, [str(each) for each in arguments])
    assert outcome.exit_code == 2
    said = " ".join(outcome.output.split())
    assert wrong.name in said and "64 x 32 pixels and its image 64 x 64" in said


def test_forests_find_lungs_and_fluid():
    chests = [make_chest(seed, seed % 2 == 1, size=64) for seed in range(24)]
    images = np.stack([c.pixels / 255 for c in chests]).astype(np.float32)
    lungs, sick = np.stack([c.lungs for c in chests]), np.array([c.sick for c in chests])
    trees = FieldForest(0)
    trees.fit_masks(images[:6], lungs[:6].astype(np.float32))
    found = trees.masks(images[18:20]) > 0.5
    assert 2 * (found & lungs[18:20]).sum() / (found.sum() + lungs[18:20].sum()) > 0.85
    trees.fit_classes(images[:16], sick[:16].astype(int))
    probabilities = trees.classes(images[16:], 2)
    assert probabilities.shape == (8, 2) and np.allclose(probabilities.sum(1), 1)
