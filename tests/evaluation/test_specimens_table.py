import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_mtssl.cli.app import app
from napari_mtssl.evaluation import specimens, study_folds
from napari_mtssl.evaluation.hep2 import keep_heads, synthetic
from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.evaluation.series import Trial
from napari_mtssl.evaluation.specimens import Plan, Stopped, image_set, reproduce, rows, settings_of
from napari_mtssl.evaluation.specimens_form import fold_letter
from napari_mtssl.evaluation.specimens_pictures import GRID, _drawn, draw_roc, macro_roc, roc_of
from napari_mtssl.evaluation.specimens_report import auroc_table, by_fold, mean_between, outcomes, write

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


def test_a_second_draw_scores_the_same_patients_after_other_labels(tmp_path):
    data = synthetic(8, 2, size=64)
    plan = Plan(data, tmp_path, folds=2, overrides=QUICK, only=(1,), draws=2)
    assert plan.seeds == (1, 3)
    cell = reproduce(plan, ["equal"], [7])["results"]["equal"]["7"]
    assert len(cell["mask_dice"]["runs"]) == 2 and len(set(cell["mask_dice"]["runs"])) == 2
    first, second = (np.load(tmp_path / "outcomes" / f"equal-7-{seed}.npz")["names"] for seed in plan.seeds)
    np.testing.assert_array_equal(first, second)


def test_a_table_is_made_kept_and_reported(tmp_path):
    data = keep_heads(synthetic(8, 2, size=64), ["intensity"])
    plan = Plan(data, tmp_path, folds=2, overrides=QUICK)
    names = ["gradnorm-0.6-bce", "single-task"]
    told = []
    result = reproduce(plan, names, ["all", 8], told.append)
    cell = result["results"]["gradnorm-0.6-bce"]["8"]
    for metric in ("mask_dice", "mask_accuracy", "intensity_accuracy", "auroc", "delta_m", "seconds"):
        assert len(cell[metric]["runs"]) == 2, metric
    assert "delta_m" not in result["results"]["single-task"]["all"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert told[-1].done == told[-1].total == 8
    again = reproduce(plan, names, ["all", 8])
    assert again["results"] == result["results"]  # kept, seconds included
    write(result, plan)
    text = (tmp_path / "report.md").read_text()
    assert "| Accuracy | FoldA | FoldB | mean ± sd |" in text and "| positive |" in text
    assert (tmp_path / "roc_intensity.png").stat().st_size > 1000
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert "gradnorm-0.6-bce, 8 labelled images" in by_fold(result["results"], (0, 1))
    assert not list(tmp_path.glob("runs/*/*.safetensors"))
    # what was made before with other rows or folds stays in the folder, and out of the report
    counted = outcomes(tmp_path, "intensity", ["gradnorm-0.6-bce-all"], (0, 1))
    assert [len(truth) for _, truth in counted.values()] == [16]
    old = tmp_path / "outcomes"
    (old / "gradnorm-0.6-bce-all-2.npz").write_bytes((old / "gradnorm-0.6-bce-all-0.npz").read_bytes())
    write(reproduce(plan, names[:1]), plan)
    text = (tmp_path / "report.md").read_text()
    assert "single-task" not in text and "labelled, " not in text
    matrix = text.split("true \\ said")[1].splitlines()[2:4]
    assert sum(int(n) for line in matrix for n in line.split("|")[2:-1]) == 16


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
    assert "| Epoch | mask loss | intensity loss |" in text and "| 2 |" in text
    assert "| Model | Mask accuracy | Label accuracy | Intensity accuracy |" in text


def test_an_epoch_between_two_reports_has_a_loss_too():
    curve = np.array([(1, 4.0), (4, 3.0), (8, 1.0)])  # means of the steps since the row before
    assert mean_between(curve, 0, 2) == pytest.approx(3.5)
    assert mean_between(curve, 5, 7) == 1.0
    assert mean_between(curve, 2, 6) == pytest.approx(2.0)
    assert np.isnan(mean_between(curve, 8, 9))


def test_folds_have_letters():
    assert [fold_letter(n) for n in (0, 4, 25, 26, 52)] == ["A", "E", "Z", "AA", "BA"]


def test_other_patients_of_a_study_are_other_folds():
    data = synthetic(8, 1, size=64)
    other = replace(data, groups=data.groups[::-1])
    assert specimens._digest(data) != specimens._digest(other)
    assert specimens._digest(replace(data, study=True)) != specimens._digest(replace(other, study=True))


def test_more_labelled_images_than_a_fold_leaves_are_refused_before_anything_is_learnt(tmp_path):
    plan = Plan(synthetic(6, 2, size=64), tmp_path, folds=3)
    with pytest.raises(DataError, match="A fold leaves 8 labelled images to learn from, not 9"):
        specimens.reproduce(plan, ["equal"], [4, 9])
    with pytest.raises(DataError, match=r"A fold leaves [1-7] labelled images"):
        specimens.reproduce(replace(plan, validate=True), ["equal"], ["all", 8])
    assert not (tmp_path / "runs").exists()


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
    for wrong, said in (
        (["--only-folds", "x"], "'x' in --only-folds is no number"),
        (["--labels", "0"], "'0' in --labels is no number of images"),
        (["--labels", "all,x"], "'x' in --labels is no number of images"),
        (["--balancers", ""], "nothing to train"),
        (["--balancers", "gradnorm", "--alphas", "-1"], "'-1' is no alpha"),
        (["--balancers", "gradnorm", "--alphas", ""], "GradNorm needs an alpha"),
        (["--set", "size=100"], "must be a multiple of 32"),
    ):
        done = CliRunner().invoke(app, [*arguments, *wrong])
        assert done.exit_code == 2 and said in " ".join(done.output.split()), done.output


def test_a_cluster_that_cannot_be_had_is_said_so(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    plan = Plan(synthetic(7, 1, size=64), tmp_path, folds=2, overrides=QUICK)
    with pytest.raises(DataError, match="distributed"):
        reproduce(plan, ["equal"], cluster="tcp://nowhere:1")
    assert specimens.default_threads() >= 1


@pytest.fixture(scope="module")
def cluster():
    """A Dask cluster of one worker in this process."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
    ) as found:
        yield found.scheduler_address


def test_folds_on_a_cluster_are_those_without_and_only_what_is_left_is_run(cluster, tmp_path, monkeypatch):
    data = keep_heads(synthetic(7, 1, size=64), ["intensity"])
    plan = Plan(data, tmp_path / "there", folds=3, overrides=QUICK, only=(0, 1))
    told = []
    result = reproduce(plan, ["equal"], progress=told.append, cluster=cluster)
    here = reproduce(replace(plan, folder=tmp_path / "here"), ["equal"])
    for metric in ("mask_dice", "intensity_accuracy"):
        there, near = (r["results"]["equal"]["all"][metric]["runs"] for r in (result, here))
        assert there == pytest.approx(near, nan_ok=True)
    assert told[-1].done == 2
    run = []
    monkeypatch.setattr(
        "napari_mtssl.evaluation.specimens_trial.run_trial",
        lambda plan, trial, tell: run.append(trial.seed) or {"mask_dice": 0.5},
    )
    result = reproduce(replace(plan, only=()), ["equal"], cluster=cluster)
    assert run == [2] and result["results"]["equal"]["all"]["mask_dice"]["runs"][2] == 0.5


def test_folds_on_a_cluster_end_when_asked_for(cluster, tmp_path):
    data = keep_heads(synthetic(7, 1, size=64), ["intensity"])
    plan = Plan(data, tmp_path, folds=2, overrides=QUICK | {"steps": 100_000})
    steps = []
    with pytest.raises(Stopped):
        reproduce(
            plan,
            ["equal"],
            progress=lambda now: steps.append(now.step),
            cluster=cluster,
            stopped=lambda: any(steps),
        )
    assert 0 < max(steps) < 100_000


def test_roc_of_several_classes_is_one_against_the_rest_and_their_mean(tmp_path):
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 20)
    probs = rng.dirichlet(np.ones(3), 60) + np.eye(3)[truth] * (1.0, 0.3, 0.0)
    wrong, right = roc_of(np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, True, False, False]))
    assert wrong.tolist() == [0, 0, 0.5, 1] and right.tolist() == [0, 0.5, 1, 1]
    from sklearn.metrics import roc_auc_score

    table = auroc_table({"m": (probs, truth)}, ["a", "b", "c"], "pattern")
    values = [float(cell) for cell in table.splitlines()[-1].split("|")[2:-1]]
    each = [roc_auc_score(truth == k, probs[:, k]) for k in range(3)]
    assert values == pytest.approx([*each, np.mean(each)], abs=1e-3)
    mean = macro_roc(probs, truth)
    assert mean[0] == 0 and mean[-1] == 1 and (np.diff(mean) >= 0).all()
    assert np.trapezoid(mean, GRID) == pytest.approx(np.mean(each), abs=0.01)
    # a class that no image has cannot be scored, and the others can
    some = truth < 2
    assert "| a | b | c | macro |" in table
    assert (
        auroc_table({"m": (probs[some], truth[some])}, ["a", "b", "c"], "x").splitlines()[-1].count("|  |")
        == 1
    )
    assert draw_roc(
        {"m": (probs, truth), "n": (probs, truth)}, ["a", "b", "c"], tmp_path / "r.png", "pattern"
    )
    assert (tmp_path / "r.png").stat().st_size > 5000
    assert not draw_roc({"m": (probs[:5], truth[:5])}, ["a", "b", "c"], tmp_path / "none.png", "pattern")


def test_the_weight_of_the_mask_is_tuned_on_patients_held_out(tmp_path):
    data = keep_heads(synthetic(8, 1, size=64), ["intensity"])
    plan = Plan(data, tmp_path, folds=2, overrides=QUICK, only=(0,))
    result = reproduce(plan, ["tuned", "single-task"])
    assert set(result["results"]["tuned"]["all"]) >= {"mask_dice", "intensity_accuracy", "delta_m"}
    runs = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert [name for name in runs if "tuning" in name] == [
        f"tuned-all-0-tuning{w}" for w in ("0.3", "1", "3")
    ]
    import yaml

    chosen = yaml.safe_load((tmp_path / "runs" / "tuned-all-0" / "config.yaml").read_text())["config"]
    assert chosen["mask_weight"] in (0.3, 1.0, 3.0) and chosen["balance"] == "fixed"


def test_what_cannot_be_split_is_said_so(tmp_path):
    data = keep_heads(synthetic(7, 1, size=64), ["intensity"])
    with pytest.raises(DataError, match="7 patients cannot be split into 8 folds"):
        reproduce(Plan(data, tmp_path, folds=8, overrides=QUICK), ["equal"])
    with pytest.raises(DataError, match="no fold 2; of 2 folds the last is 1"):
        reproduce(Plan(data, tmp_path, folds=2, overrides=QUICK, only=(2,)), ["equal"])
    one = data[np.arange(7) < 2]
    with pytest.raises(DataError, match="none can be held out"):
        Plan(one, tmp_path, folds=2).held_out(one[one.groups == one.groups[0]])


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
        assert "less than six" in notes["nucleolar"]
        assert 20 <= len(study.masked_images("train")) < len(study.images("train"))
    with make_study(tmp_path) as again:
        assert len(again.images()) == 80
    text = report([("a", "pattern", "golgi", "numem", 0.5)], {"mask_dice": 0.9}, "run", 3, 1.0, 2.0)
    assert "| 0.900 |  |  |" in text


def test_rows_of_a_study_are_named_in_words():
    found = {"balance": "gradnorm", "balance_alpha": 0.6, "mask_loss": "both"}
    weights = {"mask_weight": 1.0, "class_weight": 1.0}
    assert study_folds.row_of({**found, **weights}) == "gradnorm-0.6-both"
    assert study_folds.in_words("gradnorm-0.6-both") == "GradNorm, alpha 0.6"
    assert study_folds.in_words("single-task-both") == "single-task networks"
    # weights of one are equal weights, which are not trained twice
    assert study_folds.row_of({**found, **weights, "balance": "fixed"}) == "equal-both"
    assert study_folds.row_of({**found, **weights, "balance": "fixed", "mask_weight": 2.0}) == "fixed-both"


def test_what_is_told_of_a_comparison_that_was_stopped():
    rows = ["equal-both", "tuned-both", "single-task-both"]

    class Chosen:
        chosen = (0, 1, 2)

    def done(*pairs):
        return {Trial(row, "all", fold): {} for row, fold in pairs}

    early = done((rows[0], 0), (rows[1], 0))
    assert study_folds._reported(Chosen, early, rows) == ((0,), rows[:2])
    later = early | done((rows[2], 0), (rows[0], 1))
    assert study_folds._reported(Chosen, later, rows) == ((0,), rows)
    assert study_folds._reported(Chosen, {}, rows)[0] == ()
