import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_mtssl.cli.app import app
from napari_mtssl.evaluation import specimens
from napari_mtssl.evaluation.hep2 import keep_heads, synthetic
from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.evaluation.specimens import Plan, image_set, reproduce, rows, settings_of
from napari_mtssl.evaluation.specimens_report import _drawn, by_fold, write

QUICK = {"encoder": "residual", "steps": 3, "base": 4, "batch_size": 4, "tta": 1}


def test_rows_are_named_as_the_report_names_them():
    found = rows(["0.06", "6"], ["bce", "dice"], ["gradnorm", "equal"])
    assert found[:3] == ["gradnorm-0.06-bce", "gradnorm-6-bce", "equal-bce"] and found[-1] == "single-task"
    assert rows(["0.6"], ["bce"], ["equal", "fixed"], single=False) == ["equal", "fixed"]
    assert settings_of("gradnorm-0.6-dice") == {
        "balance": "gradnorm",
        "balance_alpha": 0.6,
        "mask_loss": "dice",
    }
    assert settings_of("famo-supervised") == {"balance": "famo", "unlabelled_ratio": 0.0}
    assert settings_of("single-task-bce") == {"mask_loss": "bce"}
    assert settings_of("gradnorm-6-raw-bce")["balance_form"] == "raw"
    for wrong in ("gradnorm", "best", "equal-l1", "gradnorm-0.6-bce-x"):
        with pytest.raises(DataError, match="no row"):
            settings_of(wrong)
    with pytest.raises(DataError, match="no loss 'l1'"):
        rows(["1"], ["l1"], ["equal"])


def test_a_budget_leaves_the_rest_without_labels():
    data = synthetic(10, 2, size=64)
    found = image_set(data, 7)
    assert found.n_labelled == 7 and found.n_unlabelled == 13
    assert (found.labels["pattern"] >= 0).sum() == 7
    assert len(np.unique(found.labels["pattern"][found.labelled_index])) == 7
    assert image_set(data).n_labelled == 20


def test_a_table_is_made_kept_and_reported(tmp_path):
    data = keep_heads(synthetic(8, 2, size=64), ["intensity"])
    plan = Plan(data, tmp_path, folds=2, overrides=QUICK)
    names = ["gradnorm-0.6-bce", "equal-supervised", "single-task"]
    told = []
    result = reproduce(plan, names, ["all", 8], told.append)
    cell = result["results"]["gradnorm-0.6-bce"]["8"]
    for metric in ("mask_dice", "mask_accuracy", "intensity_accuracy", "auroc", "delta_m", "seconds"):
        assert len(cell[metric]["runs"]) == 2, metric
    assert "delta_m" not in result["results"]["single-task"]["all"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert told[-1].done == told[-1].total == 12
    again = reproduce(plan, names, ["all", 8])
    assert again["results"] == result["results"]  # kept, seconds included
    write(result, plan)
    text = (tmp_path / "report.md").read_text()
    assert "| Accuracy | FoldA | FoldB | mean ± sd |" in text and "| positive |" in text
    assert (tmp_path / "roc_intensity.png").stat().st_size > 1000
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert "gradnorm-0.6-bce, 8 labelled images" in by_fold(result["results"])
    assert not list(tmp_path.glob("runs/*/*.safetensors"))


def test_the_report_s_eight_trainings_are_rows_with_their_epochs(tmp_path):
    assert len(set(specimens.REPORT)) == 8 and specimens.REPORT[0] == "gradnorm-0.6-dice-30ep"
    for name in specimens.REPORT:
        assert settings_of(name)["balance_alpha"] in (0.06, 0.6, 6)
    data = keep_heads(synthetic(8, 1, size=64), ["intensity"])
    quick = {key: value for key, value in QUICK.items() if key != "steps"}
    plan = Plan(data, tmp_path, folds=2, overrides=quick, only=(0,))
    result = reproduce(plan, ["gradnorm-0.6-bce-2ep"])
    write(result, plan)
    text = (tmp_path / "report.md").read_text()
    assert "| Epoch | mask | intensity |" in text and "| 2 |" in text
    assert "| Model | Mask accuracy | Label accuracy | Intensity accuracy |" in text


def test_no_patient_is_on_both_sides():
    data = synthetic(12, 3, size=64)
    plan = Plan(data, folder=None, folds=3)
    folds = plan.fold_of()
    for fold in range(3):
        assert not set(data.groups[folds == fold]) & set(data.groups[folds != fold])


def test_weights_are_chosen_on_patients_held_out(tmp_path):
    data = keep_heads(synthetic(10, 2, size=64), ["intensity"])
    plan = Plan(data, tmp_path, folds=2, overrides=QUICK, validate=True, only=(1,))
    result = reproduce(plan, ["equal"])
    assert len(result["results"]["equal"]["all"]["mask_dice"]["runs"]) == 1
    assert "validation/mask_dice" in (tmp_path / "runs" / "equal-all-1" / "metrics.csv").read_text()
    assert _drawn("validation/mask_dice", "validation/") and not _drawn("validation/mask_iou", "validation/")


def test_command(tmp_path):
    file = tmp_path / "t.json"
    arguments = ["reproduce", "joint-unet", "--json", str(file), "--patients", "7", "--size", "64"]
    arguments += ["--folds", "2", "--only-folds", "0", "--balancers", "equal", "--no-single-task"]
    for key, value in QUICK.items():
        arguments += ["--set", f"{key}={value}"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out"), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    table = json.loads(file.read_text())
    assert set(table["results"]) == {"equal"} and "label_accuracy" in table["results"]["equal"]["all"]
    assert (tmp_path / "out" / "report.md").is_file()
    done = CliRunner().invoke(app, [*arguments, "--only-folds", "x"])
    assert done.exit_code != 0


def test_a_cluster_that_cannot_be_had_is_said_so(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    plan = Plan(synthetic(7, 1, size=64), tmp_path, folds=2, overrides=QUICK)
    with pytest.raises(DataError, match="distributed"):
        reproduce(plan, ["equal"], cluster="tcp://nowhere:1")
    assert specimens.default_threads() >= 1


def test_folds_on_a_cluster_run_ahead_and_only_what_is_left(monkeypatch, tmp_path):
    submitted, closed = [], []

    class Future:
        def __init__(self, value):
            self.value = value

        def result(self):
            return self.value

    class Client:
        def __init__(self, address):
            assert address == "tcp://there:1"

        def __enter__(self):
            return self

        def __exit__(self, *_):
            closed.append(True)

        def scatter(self, plan, broadcast):
            return plan

        def submit(self, function, plan, trial, pure):
            submitted.append(trial.seed)
            return Future({"mask_dice": 0.5 + trial.seed})

    monkeypatch.setitem(__import__("sys").modules, "distributed", SimpleNamespace(Client=Client))
    plan = Plan(synthetic(7, 1, size=64), tmp_path, folds=3, overrides=QUICK, only=(0, 1))
    result = reproduce(plan, ["equal"], cluster="tcp://there:1")
    assert submitted == [0, 1] and closed
    assert result["results"]["equal"]["all"]["mask_dice"]["runs"] == [0.5, 1.5]
    reproduce(replace(plan, only=()), ["equal"], cluster="tcp://there:1")
    assert submitted == [0, 1, 2]


def test_the_demo_has_a_study_with_every_kind_of_label(tmp_path):
    from napari_mtssl.cli.demo.specimens import make_study, report
    from napari_mtssl.methods.joint_unet import JointUNetMethod

    with make_study(tmp_path) as study:
        assert JointUNetMethod.vocabulary_of(study).keys() == {"mask", "pattern", "intensity"}
        labels = JointUNetMethod.labels_of(study, "train")
        assert len(labels["pattern"]) == 7 and len(labels["intensity"]) == 2
        groups = {record.group for record in study.images("train")}
        assert not groups & {record.group for record in study.images("validation")}
        notes = {item.name: item.note for item in study.classes("pattern")}
        assert "fewer than six" in notes["nucleolar"]
        assert 20 <= len(study.masked_images("train")) < len(study.images("train"))
    with make_study(tmp_path) as again:
        assert len(again.images()) == 80
    text = report([("a", "pattern", "golgi", "numem", 0.5)], {"mask_dice": 0.9}, "run", 3, 1.0, 2.0)
    assert "| 0.900 |  |  |" in text
