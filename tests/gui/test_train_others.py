"""From blocks, masks and classes to a corrected layer: real runs of the other methods on tiny images."""

import numpy as np
import pytest
from qtpy.QtCore import QUrl

from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.gui.jobs import FoldsScored, TrainJob, TrainRequest
from napari_mtssl.gui.panels.train_progress import awaited
from napari_mtssl.gui.rasters import BLOCKS, PAINT, PREDICTED, PROBABILITY, SALIENCY
from napari_mtssl.gui.training import State
from napari_mtssl.study import Grid, Study

pytestmark = [pytest.mark.gui, pytest.mark.slow]

QUICK = {
    "superres": {"widths": "8-8", "crop": 32, "batch_size": 2, "views": 1},
    "joint-unet": {"base": 4, "size": 64, "batch_size": 2, "tta": 1},
    "multimix": {"size": 32, "batch_size": 2},
}


@pytest.fixture
def tissue_path(study_path):
    """Both images with a grid; blocks of the first are labelled, statistics by name."""
    with Study.open(study_path) as study:
        for name in ("0-20", "80-100"):
            study.add_class(name, kind="block")
        study.add_class("spot", kind="mask", key="1")
        for image in study.images():
            study.set_grid(image.id, Grid(16, 16))
        names = ["0-20", "80-100"]
        study.set_blocks(
            study.images()[0].id, {(i, j): names[(i + j) % 2] for i in range(6) for j in range(6)}
        )
    return study_path


@pytest.fixture
def specimens_path(study_path):
    """Four images; three have a class of both heads and a mask."""
    import imageio.v3

    rng = np.random.default_rng(0)
    with Study.open(study_path) as study:
        study.add_class("cell", kind="mask", key="1")
        for kind, names in (("pattern", ("golgi", "speckled")), ("intensity", ("weak", "strong"))):
            for name in names:
                study.add_class(name, kind=kind)
        for n in range(2):
            path = study_path.parent / f"more{n}.png"
            imageio.v3.imwrite(path, rng.integers(0, 255, (96, 96, 3), dtype=np.uint8))
            study.add_image(path, height=96, width=96)
        code = study.class_named("cell", "mask").code
        for n, image in enumerate(study.images()[:3]):
            study.paint_mask(image.id, 20, 20, np.full((40, 40), code, np.uint16))
            study.set_mask_complete(image.id, True)
            study.set_image_class(image.id, "pattern", ("golgi", "speckled")[n % 2])
            study.set_image_class(image.id, "intensity", ("weak", "strong")[n % 2])
    return study_path


@pytest.fixture
def lungs_path(study_path):
    """Four images; two have a mask, two a diagnosis."""
    import imageio.v3

    rng = np.random.default_rng(0)
    with Study.create(study_path.with_name("lungs.mtssl")) as study:
        study.add_class("lung", kind="mask")
        for name in ("normal", "pneumonia"):
            study.add_class(name, kind="diagnosis")
        code = study.class_named("lung", "mask").code
        for n in range(4):
            path = study_path.parent / f"chest{n}.png"
            imageio.v3.imwrite(path, rng.integers(0, 255, (64, 64), dtype=np.uint8))
            image = study.add_image(path, height=64, width=64)
            if n < 2:
                study.paint_mask(image.id, 10, 10, np.full((30, 30), code, np.uint16))
                study.set_mask_complete(image.id, True)
                study.set_image_class(image.id, "diagnosis", ("normal", "pneumonia")[n])
        return study.path


@pytest.fixture
def ready(make_dock):
    """Open a study with settings that make a run of its method take seconds."""

    def make(path, steps=3):
        dock = make_dock(path)
        panel = dock.train_panel
        panel.library_ready()
        panel.advanced.expand(animate=False)
        for name, value in QUICK[dock.workspace.task.method].items():
            field = panel.form.fields.get(name)
            if field is None:
                continue
            if hasattr(field, "setValue"):
                field.setValue(value)
            elif hasattr(field, "findData"):
                field.setCurrentIndex(field.findData(value))
            else:
                field.setText(str(value))
        panel.steps.setValue(steps)
        return dock

    return make


def test_settings_are_those_of_a_study_that_is_opened_later(ready, tissue_path, tmp_path):
    with Study.create(tmp_path / "later.mtssl") as study:
        study.add_class("red")
    dock = ready(tissue_path)
    panel = dock.train_panel
    dock.workspace.open(study.path)
    assert "HydraMix" in panel.method.text()
    assert "widen" in panel.form.fields and panel.steps.value() == 1200


def errors(told):
    return [message for severity, message in told if severity == "error"]


def test_blocks_become_an_outline_and_a_correction_is_taken_in(ready, tissue_path, wait, told):
    dock = ready(tissue_path)
    panel, kinds = dock.train_panel, []
    dock.runner.event.connect(lambda event: kinds.append(event.kind))
    assert "label super-resolution" in panel.method.text()
    panel.start_button.click()
    wait(lambda: dock.runner.state is State.WAITING or not dock.runner.busy, 120)
    assert dock.runner.failure is None, dock.runner.failure
    dock.draw_now()
    assert np.asarray(dock.rasters.found[PREDICTED].data).any()
    assert PROBABILITY in dock.viewer.layers
    assert sum(dock.rasters.areas().values()) == 96 * 96
    image = dock.workspace.image.id
    assert dock.workspace.study.mask_prediction(image).classes == ("background", "spot")

    layer = dock.rasters.found[PAINT].__wrapped__
    dock.deeds.take_tool("mask", "paint", 9)
    with layer.block_history():
        layer.paint((30, 30), layer.selected_label)
    rounds = kinds.count("started")
    wait(lambda: kinds.count("started") > rounds, 60)
    wait(lambda: dock.runner.state is State.WAITING or not dock.runner.busy, 120)
    assert dock.runner.failure is None, dock.runner.failure
    for name in (BLOCKS, PREDICTED, PAINT):
        dock.viewer.layers.remove(name)
    dock.workspace.step_image(1)
    panel.stop_button.click()
    wait(lambda: not dock.runner.busy, 20)
    assert not errors(told)


def test_specimens_get_masks_and_classes_with_the_weights_of_their_tasks(ready, specimens_path, wait, told):
    dock = ready(specimens_path)
    panel = dock.train_panel
    assert dock.workspace.task.name == "specimens"
    panel.form.fields["balance"].setCurrentIndex(panel.form.fields["balance"].findData("gradnorm"))
    dock.workspace.select_image(dock.workspace.study.images()[3].id)
    panel.mode.setCurrentIndex(1)
    panel.start_button.click()
    wait(lambda: not dock.runner.busy, 120)
    assert dock.runner.failure is None, dock.runner.failure
    dock.draw_now()
    image = dock.workspace.image.id
    assert np.asarray(dock.rasters.found[PREDICTED].data).any()
    said = dock.workspace.study.image_predictions(image)
    assert set(said["kind"]) == {"pattern", "intensity"}
    # the intensity asks nothing of what the others share: no weight of it is balanced
    assert {name.split(" ")[0] for name in panel.shown.balance.data} == {"mask", "pattern"}
    dock.mask_review.accept()
    given = dock.workspace.study.image_classes(image)
    assert given["source"].tolist() == ["model", "model"]
    dock.mask_review.use_predicted.emit()
    assert dock.workspace.study.mask_state(image).complete

    panel.predict_all_button.click()
    wait(lambda: not dock.runner.busy, 60)
    assert dock.runner.failure is None, dock.runner.failure
    assert dock.workspace.study.image_predictions()["image_id"].nunique() == 4
    assert not errors(told)


def test_lungs_get_a_mask_a_diagnosis_and_the_saliency_and_a_correction_is_learnt(
    ready, lungs_path, wait, told
):
    dock = ready(lungs_path)
    panel, kinds = dock.train_panel, []
    dock.runner.event.connect(lambda event: kinds.append(event.kind))
    assert dock.workspace.task.name == "lungs"
    dock.workspace.select_image(dock.workspace.study.images()[2].id)
    panel.start_button.click()
    wait(lambda: dock.runner.state is State.WAITING or not dock.runner.busy, 120)
    assert dock.runner.failure is None, dock.runner.failure
    dock.draw_now()
    image = dock.workspace.image.id
    assert sum(dock.rasters.areas().values()) == 64 * 64
    assert SALIENCY in dock.viewer.layers
    said = dock.workspace.study.image_predictions(image)
    assert said["class"].tolist() == ["normal", "pneumonia"]
    np.testing.assert_allclose(said["probability"].sum(), 1, atol=1e-3)
    rounds = kinds.count("started")
    dock.workspace.set_kind("diagnosis")
    dock.deeds.digit("2", "images")
    dock.deeds.use_predicted()
    wait(lambda: kinds.count("started") > rounds, 60)
    wait(lambda: dock.runner.state is State.WAITING or not dock.runner.busy, 120)
    assert dock.runner.failure is None, dock.runner.failure
    dock.tabs.setCurrentIndex(3)
    wait(lambda: dock.mask_review.seen_class.count() == 2, 5)
    dock.rasters.found[SALIENCY].data[:] = 0
    previews = kinds.count("preview")
    dock.mask_review.seen_how.setCurrentText("smooth-gradient")
    dock.mask_review.seen_button.click()  # while it waits for labels
    wait(lambda: kinds.count("preview") > previews or not dock.runner.busy, 90)
    assert dock.runner.failure is None, dock.runner.failure
    dock.draw_now()
    assert np.asarray(dock.rasters.found[SALIENCY].data).any()
    panel.stop_button.click()
    wait(lambda: not dock.runner.busy, 20)
    dock.rasters.found[SALIENCY].data[:] = 0
    dock.mask_review.seen_how.setCurrentText("grad-cam")
    dock.mask_review.seen_button.click()
    wait(lambda: not dock.runner.busy, 30)
    assert dock.runner.failure is None, dock.runner.failure
    dock.draw_now()
    assert np.asarray(dock.rasters.found[SALIENCY].data).any()
    assert dock.rasters.found[SALIENCY].visible
    chosen = np.array(dock.rasters.found[SALIENCY].data)
    dock.rasters.found[SALIENCY].data[:] = 0
    panel.predict_button.click()  # shows what was chosen, not the plain gradient
    wait(lambda: not dock.runner.busy, 30)
    dock.draw_now()
    np.testing.assert_allclose(dock.rasters.found[SALIENCY].data, chosen, atol=1e-5)
    assert not errors(told)


def test_while_it_waits_it_shows_what_is_asked_for_and_predicts_what_the_user_turns_to(lungs_path):
    request = TrainRequest(lungs_path, "multimix", overrides=QUICK["multimix"], steps=2)
    job = TrainJob(request, TrainOptions(threads=1, preview_seconds=0, pseudo_seconds=0))
    with Study.open(lungs_path) as study:
        images = [image.id for image in study.images()]
    sight, said, waiting = ("diagnosis", "normal", "grad-cam"), [], False
    job.control.viewport = (images[2], (0, 0, 64, 64))
    for event in job.events():
        assert event.kind not in ("failed", "not_explained"), event
        if event.kind == "waiting":  # the thread has not looked at what is asked for since
            waiting, job.control.sight = True, sight
        elif waiting:
            said.append((event.image_id, event.prediction.mask is not None))
            assert np.ptp(event.prediction.pictures["saliency"]) > 0
            if len(said) == 1:
                job.control.viewport = (images[3], (0, 0, 64, 64))
            elif len(said) == 2:
                job.control.sight = sight  # the same, of another image
            else:
                job.control.stop()
    assert said == [(images[2], False), (images[3], True), (images[3], False)]
    with Study.open(lungs_path) as study:
        assert study.mask_prediction(images[3]) is not None


def test_closing_the_window_while_another_method_trains(ready, specimens_path, wait, told):
    from qtpy.QtCore import QThreadPool

    dock = ready(specimens_path, 5000)
    kinds = []
    dock.runner.event.connect(lambda event: kinds.append(event.kind))
    dock.train_panel.start_button.click()
    wait(lambda: "step" in kinds or not dock.runner.busy, 60)
    assert dock.runner.failure is None, dock.runner.failure
    dock.viewer.close()
    assert QThreadPool.globalInstance().activeThreadCount() == 0
    assert not errors(told)


def test_what_is_missing_is_said_in_words(ready, tissue_path, wait, told):
    dock = ready(tissue_path)
    study = dock.workspace.study
    for image in study.images():
        blocks = study.blocks(image.id)
        study.set_blocks(image.id, dict.fromkeys(zip(blocks["i"], blocks["j"], strict=True)))
    dock.train_panel.start_button.click()
    assert not dock.runner.busy
    assert "No block of the images" in dock.train_panel.shown.error.text()
    assert not errors(told)


def test_cross_validation_by_patient_from_a_button(ready, specimens_path, wait, told):
    dock = ready(specimens_path, 2)
    panel = dock.train_panel
    panel.folds.count.setValue(5)
    panel.folds.button.click()
    wait(lambda: not dock.runner.busy, 60)
    assert "use fewer folds" in panel.shown.error.text()  # three images are labelled, each its own patient
    panel.folds.count.setValue(2)
    panel.folds.button.click()
    assert not panel.folds.button.isEnabled() and panel.stop_button.isEnabled()
    wait(lambda: not dock.runner.busy, 120)
    assert dock.runner.failure is None, dock.runner.failure
    assert "2 of 2 trainings are done" in panel.folds.scores.text()
    assert "mask dice" in panel.folds.scores.text()
    text = panel.folds.report.read_text()
    assert "| Accuracy | FoldA | FoldB | mean ± sd |" in text and "AUROC over all folds" in text
    assert "| true \\ said |" in text and "![Losses" in text
    panel.folds.open_button.click()
    pages = panel.folds.window_.pages
    assert "mean ± sd" in pages.toPlainText() and "Label is the pattern" in pages.toPlainText()
    assert not pages.loadResource(2, QUrl("curves.png")).isNull()
    panel.folds.window_.close()
    assert not errors(told)


def test_balances_that_are_compared_are_shown_beside_each_other(ready, specimens_path):
    panel = ready(specimens_path).train_panel
    first = {"mask_dice": (0.91, 0.01), "pattern_accuracy": (0.8, 0.02), "mask_accuracy": (0.97, 0.0)}
    others = {"single-task networks": {"mask_dice": (0.9, 0.0), "pattern_accuracy": (0.75, 0.0)}}
    panel.shown.begin()
    panel.on_event(FoldsScored(0, 4, 9, "single-task networks, fold 2", 5, 10, first, others))
    said = panel.folds.scores.text()
    assert "Now: single-task networks, fold 2" in said and "settings above" in said
    assert "0.910" in said and "0.750" in said and "0.970" in said
    panel.folds.ended()  # without a last word: it failed
    assert "Now" not in panel.folds.scores.text() and "4 of 9" in panel.folds.scores.text()
    panel.shown.on_event(FoldsScored(0, 4, 9, "x", 1, 10, first))
    panel.shown._begun = (panel.shown._begun[0] - 60, 0.0)
    panel.shown.on_event(FoldsScored(0, 4, 9, "x", 5, 10, first))
    assert panel.progress.format() == "training 5 of 9  ·  about 1 min 0 s left"
    panel.shown.ended()
    assert panel.progress.format() == "training 5 of 9"


def test_a_cross_validation_tells_how_far_it_is_and_can_be_stopped(ready, specimens_path, wait, told):
    dock = ready(specimens_path, 5000)
    panel = dock.train_panel
    events = []
    dock.runner.event.connect(events.append)
    panel.folds.count.setValue(2)
    panel.folds.validate.setChecked(False)
    panel.folds.button.click()
    wait(lambda: any(event.at_step for event in events) or not dock.runner.busy, 60)
    assert "training 1 of 2" in panel.progress.format() and "of 5,000" in panel.progress.format()
    assert "fold 1" in panel.folds.scores.text()
    panel.stop_button.click()
    wait(lambda: not dock.runner.busy, 30)
    assert dock.runner.failure is None, dock.runner.failure
    assert panel.folds.report is None and panel.folds.open_button.isHidden()  # no fold was done
    assert panel.progress.format() == "0 of 2 trainings done"
    assert panel.folds.button.isEnabled()
    assert not errors(told)


def test_folds_run_on_a_cluster_that_is_named(ready, specimens_path, wait, told):
    distributed = pytest.importorskip("distributed")
    dock = ready(specimens_path, 2)
    panel = dock.train_panel
    panel.folds.count.setValue(2)
    panel.folds.validate.setChecked(False)
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        panel.where.setEditText(cluster.scheduler_address)
        panel.folds.button.click()
        wait(lambda: not dock.runner.busy, 120)
    assert dock.runner.failure is None, dock.runner.failure
    assert panel.folds.report.is_file()
    panel.where.setEditText("elsewhere")
    panel.folds.button.click()
    assert not dock.runner.busy and any("no runner 'elsewhere'" in text for _, text in told)
    assert "no runner 'elsewhere'" in panel.shown.error.text()


def test_what_is_awaited_of_held_out_images_is_said(ready, specimens_path, wait, told):
    dock = ready(specimens_path, 2)
    panel, study = dock.train_panel, dock.workspace.study

    assert "let an image with labels be used to validate" in panel.shown.scores._placeholder.text()
    unlabelled = next(i.id for i in study.images() if i.id not in study.masked_images())
    study.set_split(unlabelled, "validation")
    assert "no image used to validate has a label" in awaited(study)
    study.set_image_class(unlabelled, "intensity", study.classes("intensity")[0].name)
    panel.mode.setCurrentIndex(1)
    panel.start_button.click()
    wait(lambda: not dock.runner.busy, 60)
    assert dock.runner.failure is None, dock.runner.failure
    assert "1 labelled image used" in panel.shown.scores._placeholder.text()
    assert panel.shown.scores.data and not errors(told)
