import json
import shutil
from dataclasses import replace

import pytest

from napari_mtssl.evaluation import reproduce as module
from napari_mtssl.evaluation import trials
from napari_mtssl.evaluation.protocol import CLASSES
from napari_mtssl.evaluation.readers import DataError, read_crchistophenotypes
from napari_mtssl.evaluation.reproduce import ROWS, check_no_leak, reproduce_hydramix
from napari_mtssl.evaluation.series import SeriesError, Trial
from napari_mtssl.methods.base import MethodError

TINY = {"steps": 2, "depth": 10, "widen": 1, "pool": 60, "batch_size": 8}


def run(crc, **options):
    fixed = {"labels": (9,), "seeds": 1, "overrides": TINY, "device": "cpu", "whole_images": (), "threads": 1}
    options = fixed | options
    return reproduce_hydramix(crc / "train", crc / "test", **options)


@pytest.fixture(scope="module")
def whole(crc, tmp_path_factory):
    """One small reproduction of everything, and what it said on the way."""
    out, said = tmp_path_factory.mktemp("out"), []
    result = run(crc, labels=(12, 9), seeds=2, whole_images=(12,), out=out, progress=said.append)
    return result, out, said


@pytest.mark.slow
def test_every_row_budget_and_metric(whole):
    result, _, _ = whole
    assert tuple(result["results"]) == ROWS
    for row, cells in result["results"].items():
        assert list(cells) == ["9", "12"]
        for budget, cell in cells.items():
            wanted = {"accuracy", "macro_f1", "ece", "seconds"}
            wanted |= {f"confusion/{a} -> {b}" for a in CLASSES for b in CLASSES}
            if row != "random-forest":
                wanted.add("centroid_px")
            if budget == "12":
                wanted |= {"detection_precision", "detection_recall", "detection_f1", "detection_seconds"}
                wanted |= {"weighted_f1", "weighted_f1_found", "f1_epithelial", "f1_inflammatory"}
            assert set(cell) == wanted
            assert all(len(summary["runs"]) == 2 for summary in cell.values())
            assert 0 <= cell["accuracy"]["mean"] <= 1
    assert result["settings"]["labels"] == [9, 12]
    assert result["settings"]["configs"]["cnn"]["variant"] == "cnn"
    assert result["seconds"] > 0


def test_the_forest_beats_chance_from_few_labels(whole):
    assert whole[0]["results"]["random-forest"]["12"]["accuracy"]["mean"] > 0.5


def test_files_hold_the_same(whole):
    result, out, _ = whole
    assert json.loads((out / "table.json").read_text()) == result
    assert "### Accuracy of patches" in (out / "table.md").read_text()
    assert (out / "table.png").stat().st_size > 10_000


def test_progress_counts_to_the_end(whole):
    said = whole[2]
    total = 2 * (2 + 1) * 4
    assert {p.total for p in said} == {total}
    assert [p.done for p in said] == sorted(p.done for p in said)
    assert said[-1].done == total and said[-1].scores
    assert any(p.step == p.steps == 2 for p in said)


def test_a_killed_reproduction_goes_on(crc, tmp_path, monkeypatch):
    real = trials.hydra_patches

    def killed(sets, config, *rest):
        if config.variant == "cnn":
            raise KeyboardInterrupt
        return real(sets, config, *rest)

    monkeypatch.setattr(trials, "hydra_patches", killed)
    with pytest.raises(KeyboardInterrupt):
        run(crc, out=tmp_path, methods=("no-sce", "cnn"))
    kept = tmp_path / "trials" / "no-sce-9-0-patches.json"
    entry = json.loads(kept.read_text())
    done = []

    def counted(sets, config, *rest):
        done.append(config.variant)
        return real(sets, config, *rest)

    monkeypatch.setattr(trials, "hydra_patches", counted)
    result = run(crc, out=tmp_path, methods=("no-sce", "cnn"))
    assert done == ["cnn"]
    assert result["results"]["no-sce"]["9"]["accuracy"]["mean"] == entry["scores"]["accuracy"]
    run(crc, out=tmp_path, methods=("no-sce",), overrides=TINY | {"steps": 3})
    assert done == ["cnn", "no-sce"]  # other settings, other scores


def test_a_training_that_was_killed_goes_on_to_the_same_scores(crc, tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "CHECKPOINT_STEPS", 1)
    options = {"methods": ("hydramix",), "overrides": TINY | {"steps": 4}}
    one = run(crc, out=tmp_path / "one", **options)["results"]["hydramix"]["9"]
    said = []

    def listen(progress):
        said.append(progress.step)

    def kill(progress):
        if progress.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(trials, "REPORT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run(crc, out=tmp_path / "two", progress=kill, **options)
    two = run(crc, out=tmp_path / "two", progress=listen, **options)["results"]["hydramix"]["9"]
    assert [step for step in said if step] == [3, 4]
    for metric in ("accuracy", "macro_f1", "ece", "centroid_px"):
        assert one[metric] == two[metric]

    (tmp_path / "two/trials/hydramix-9-0-patches.json").unlink()  # killed while it was scored
    del said[:]
    again = run(crc, out=tmp_path / "two", progress=listen, **options)["results"]["hydramix"]["9"]
    assert not any(said) and again["accuracy"] == one["accuracy"]
    assert again["seconds"] == two["seconds"]

    del said[:]
    run(crc, out=tmp_path / "two", progress=listen, **options | {"overrides": TINY | {"steps": 3}})
    assert [step for step in said if step] == [1, 2, 3]  # other settings: from the start


def test_a_damaged_trial_is_named(crc, tmp_path):
    run(crc, out=tmp_path, methods=("random-forest",))
    (tmp_path / "trials" / "random-forest-9-0-patches.json").write_text("{")
    with pytest.raises(SeriesError, match=r"random-forest-9-0-patches\.json is damaged"):
        run(crc, out=tmp_path, methods=("random-forest",))


def test_kept_scores_are_those_of_these_nuclei(crc):
    train, test = (read_crchistophenotypes(crc / side) for side in ("train", "test"))
    before = check_no_leak(train, test)
    kinds = dict(test[0].centroids)
    kinds["epithelial"], kinds["inflammatory"] = kinds["inflammatory"], kinds["epithelial"]
    swapped = [replace(test[0], centroids=kinds), *test[1:]]
    assert check_no_leak(train, test) == before
    after = check_no_leak(train, swapped)
    assert after["test"] != before["test"] and after["train"] == before["train"]


def test_too_many_labels_are_refused_before_anything_is_learnt(crc, monkeypatch):
    monkeypatch.setattr(trials, "_fit", lambda *_: pytest.fail("it was learnt from"))
    with pytest.raises(DataError, match="ask for fewer"):
        run(crc, methods=("hydramix",), labels=(9, 100_000))
    with pytest.raises(DataError, match="ask for fewer"):  # clicks of a kind that is rare
        run(crc, methods=("hydramix",), labels=(1_000,), whole_images=(1_000,))


def test_same_seed_same_scores(crc):
    one, two = (run(crc, methods=("hydramix",), threads=1)["results"]["hydramix"]["9"] for _ in range(2))
    for metric in ("accuracy", "macro_f1", "ece", "centroid_px"):
        assert one[metric] == two[metric]


def test_an_image_on_both_sides_is_refused_whatever_its_name(crc, tmp_path):
    shutil.copytree(crc / "test", tmp_path / "test")
    for old in sorted((crc / "train/img3").iterdir()):
        new = tmp_path / "test/img99" / old.name.replace("img3", "img99")
        new.parent.mkdir(exist_ok=True)
        shutil.copy(old, new)
    with pytest.raises(DataError, match=r"img99\.bmp is also among the images to learn from"):
        reproduce_hydramix(crc / "train", tmp_path / "test", methods=("random-forest",))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"methods": ("svm",)}, DataError, "no method 'svm'.*random-forest"),
        ({"methods": ()}, DataError, "at least one method"),
        ({"labels": (2,)}, DataError, "2 labels are too few for 3 classes"),
        ({"labels": (100_000,), "methods": ("random-forest",)}, DataError, "ask for fewer"),
        ({"preset": "huge"}, MethodError, "no preset 'huge'"),
        ({"overrides": {"stepz": 3}}, MethodError, "stepz: no such setting"),
        ({"device": "tpu"}, MethodError, "no device 'tpu'"),
    ],
)
def test_mistakes(crc, options, error, message):
    with pytest.raises(error, match=message):
        run(crc, **options)


def test_a_training_that_fails_says_why(crc, monkeypatch):
    def broken(*_):
        raise MethodError("The labels are all of one class.")

    monkeypatch.setattr(trials.HydraMix, "step", broken)
    with pytest.raises(MethodError, match="all of one class"):
        run(crc, methods=("cnn",))


def test_trial_names_are_file_names():
    assert Trial("no-sce", 50, 2, module.WHOLE).name == "no-sce-50-2-whole"
