"""Training from the dock: a real run on a tiny study, and everything that may happen meanwhile."""

import shutil
import time

import pytest
from qtpy.QtCore import QThreadPool

from napari_mtssl.engine.session import TrainingSession
from napari_mtssl.gui.layers import LABELS, PREDICTIONS, PSEUDO, UNCERTAINTY
from napari_mtssl.gui.panels.classes import NAME
from napari_mtssl.gui.training import State, duration
from napari_mtssl.images import ImageError
from napari_mtssl.study import Study

pytestmark = [pytest.mark.gui, pytest.mark.slow]


@pytest.fixture
def heard(quick_training):
    """Kinds of events, in order."""
    kinds = []

    def remember(event):
        kinds.append(event.kind)

    quick_training.runner.event.connect(remember)
    return kinds


def tracebacks(told):
    return [message for severity, message in told if severity == "error"]


def test_update_once_trains_predicts_and_ends(quick_training, wait, heard, told):
    dock, panel = quick_training, quick_training.train_panel
    panel.mode.setCurrentIndex(1)
    panel.start_button.click()
    assert not panel.start_button.isEnabled()
    assert panel.stop_button.isEnabled()
    wait(lambda: not dock.runner.busy)
    assert dock.runner.failure is None
    assert heard[0] == "started"
    assert "finished" in heard
    assert heard[-1] == "preview"
    assert panel.progress.value() == panel.progress.maximum()
    study = dock.workspace.study
    image = dock.workspace.image.id
    assert len(dock.workspace.predictions) == len(study.predictions(image))
    dock.draw_now()
    assert len(dock.layers.points[PREDICTIONS].data) == len(dock.workspace.pending())
    assert UNCERTAINTY in dock.viewer.layers
    assert panel.losses.data["total"][0][-1] == 4
    assert panel.run_choice.currentText() == "hydramix-0001"
    assert set(panel.timings) == {"first_step_s", "first_prediction_s"}
    assert not tracebacks(told)


def test_live_takes_in_corrections_made_after_it_was_up_to_date(quick_training, wait, heard, predicted):
    dock, panel = quick_training, quick_training.train_panel
    panel.start_button.click()
    wait(lambda: dock.runner.state is State.WAITING)
    predicted(dock)
    dock.review_panel.step(1)
    dock.review_panel.accept_button.click()
    dock.layers.points[LABELS].add([84, 30])
    rounds = heard.count("started")
    wait(lambda: heard.count("started") > rounds)
    wait(lambda: dock.runner.state is State.WAITING)
    rounds = heard.count("started")
    dock.workspace.study.update_class("red", colour="#00aa00")  # nothing is to be learnt of that
    dock.workspace.study.set_group(dock.workspace.image.id, "anna")
    time.sleep(1)
    assert heard.count("started") == rounds
    assert len(dock.workspace.study.runs()) == 1  # the same network went on
    assert panel.progress.format() == "up to date"
    panel.stop_button.click()
    wait(lambda: not dock.runner.busy, 20)
    assert panel.progress.format() == "done"
    assert panel.network.currentText() == "Go on with hydramix-0001"
    assert dock.runner.state is State.IDLE


def test_training_waits_where_its_labels_are_gone_and_goes_on_when_they_are_back(
    quick_training, wait, heard, told
):
    dock, panel = quick_training, quick_training.train_panel
    panel.steps.setValue(5000)
    panel.start_button.click()
    wait(lambda: "step" in heard)
    study, image = dock.workspace.study, dock.workspace.image.id
    study.set_split(image, "test")
    wait(lambda: dock.runner.state is State.LACKING)
    assert told[-1][0] == "warning" and told[-1][1].endswith("Training waits for that.")
    assert panel.progress.format() == "waiting for labels" and "Up to date" not in panel.log.toPlainText()
    for _ in range(2):  # also from where it waits
        rounds = heard.count("started")
        study.set_split(image, "train")
        wait(lambda rounds=rounds: heard.count("started") > rounds and heard[-1] in ("step", "preview"))
        study.set_split(image, "test")
        wait(lambda: dock.runner.state is State.LACKING)
    panel.stop_button.click()
    wait(lambda: not dock.runner.busy, 20)
    assert "failed" not in heard and len(study.runs()) == 1
    assert not tracebacks(told)


def test_labels_made_while_training_are_taken_in_between_steps(quick_training, wait, heard, told):
    dock, panel = quick_training, quick_training.train_panel
    panel.steps.setValue(5000)
    panel.start_button.click()
    wait(lambda: "step" in heard)
    dock.layers.points[LABELS].add([84, 30])
    wait(lambda: "labels_changed" in heard)
    assert any("1 new" in message for _, message in told)
    panel.stop_button.click()
    assert dock.runner.state is State.STOPPING
    wait(lambda: not dock.runner.busy, 20)
    assert heard[-1] == "finished"


def test_a_class_renamed_while_training_goes_on_by_its_new_name(quick_training, wait, heard, told):
    dock, panel = quick_training, quick_training.train_panel
    panel.steps.setValue(5000)
    panel.start_button.click()
    wait(lambda: "preview" in heard)
    dock.label_panel.table.item(1, NAME).setText("navy")
    seen = len(heard)
    wait(lambda: "started" in heard[seen:] and "preview" in heard[seen:][heard[seen:].index("started") :])
    dock.workspace.study.remove_class("navy", into="red")
    dock.workspace.everything_changed()
    seen = len(heard)
    wait(lambda: "labels_changed" in heard[seen:] and "preview" in heard[seen:])
    panel.stop_button.click()
    wait(lambda: not dock.runner.busy, 20)
    assert not tracebacks(told) and not [message for severity, message in told if severity == "warning"]
    assert len(dock.workspace.study.runs()) == 1
    image = dock.workspace.image.id
    assert set(dock.workspace.study.predictions(image)["class"]) <= {"red"}


def test_pause_and_go_on(quick_training, wait, heard):
    dock, panel = quick_training, quick_training.train_panel
    panel.steps.setValue(5000)
    panel.start_button.click()
    wait(lambda: "step" in heard)
    panel.pause_button.click()
    wait(lambda: dock.runner.state is State.PAUSED)
    assert panel.pause_button.text() == "Go on"
    assert panel.pause_button.toolTip().startswith("Go on")
    assert panel.progress.format().startswith("paused at step ") and "left" not in panel.progress.format()
    count = heard.count("step")
    panel.pause_button.click()
    wait(lambda: heard.count("step") > count)
    assert panel.pause_button.toolTip().startswith("Wait")
    assert panel.network.currentIndex() == 0
    panel.stop_button.click()
    wait(lambda: not dock.runner.busy, 20)
    assert panel.progress.format().startswith("stopped at step ") and "left" not in panel.progress.format()
    assert panel.network.currentText() == "Go on with hydramix-0001"
    assert not panel.settings.resume_note.isHidden()


@pytest.mark.parametrize(
    ("kept", "said"),
    [((), "Nothing is labelled yet"), (("red", "blue"), "No place is labelled 'background'")],
)
def test_what_cannot_be_trained_is_said_before_anything_slow_begins(quick_training, told, kept, said):
    dock, panel = quick_training, quick_training.train_panel
    study = dock.workspace.study
    cells = study.cells()
    study.delete_cells(cells.loc[~cells["class"].isin(kept), "id"])
    dock.workspace.cells_changed.emit()
    panel.start_button.click()
    assert not dock.runner.busy
    assert not panel.shown.error_row.isHidden()
    assert said in panel.shown.error.text()
    assert any(said in message for severity, message in told if severity == "warning")
    assert not tracebacks(told)
    panel.shown.error_button.click()
    assert panel.log_section.isExpanded()
    assert panel.start_button.isEnabled()


def test_settings_stay_when_their_section_is_closed_and_another_preset_replaces_them(dock):
    panel = dock.train_panel
    panel.library_ready()
    panel.advanced.expand(animate=False)
    usual = panel.form.fields["batch_size"].value()
    panel.form.fields["batch_size"].setValue(usual + 1)
    panel.advanced.collapse(animate=False)
    assert panel.form.overrides()["batch_size"] == usual + 1
    panel.advanced.expand(animate=False)
    assert panel.form.fields["batch_size"].value() == usual + 1
    panel.preset.setCurrentIndex(1)
    assert panel.form.fields["batch_size"].value() != usual + 1


def test_steps_typed_before_the_library_is_there_stay(dock, make_dock, study_path):
    panel = dock.train_panel
    panel.steps.setValue(60)
    panel.library_ready()
    assert panel.steps.value() == 60
    other = make_dock(study_path).train_panel
    other.library_ready()
    assert other.steps.value() == 1200  # of the preset


def test_a_setting_that_is_not_valid_is_said_in_words(quick_training):
    dock, panel = quick_training, quick_training.train_panel
    panel.form.fields["learning_rate"].setText("fast")
    panel.start_button.click()
    assert not dock.runner.busy
    assert "learning_rate" in panel.shown.error.text()
    assert not dock.workspace.study.runs()


def test_a_device_that_is_not_there_is_said_in_words(quick_training, wait):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    panel = quick_training.train_panel
    panel.device.setCurrentIndex(panel.device.findData("cuda"))
    panel.start_button.click()
    wait(lambda: not quick_training.runner.busy)
    assert "CUDA" in quick_training.runner.failure.reason


def test_layers_removed_and_images_switched_while_training(quick_training, wait, heard, told):
    dock, panel = quick_training, quick_training.train_panel
    panel.steps.setValue(5000)
    panel.start_button.click()
    wait(lambda: "preview" in heard)
    for name in (PREDICTIONS, PSEUDO, LABELS, "first.png"):
        dock.viewer.layers.remove(name)
    seen = len(heard)
    wait(lambda: len(heard) > seen + 3)
    assert PREDICTIONS not in dock.viewer.layers  # what the user removed stays away
    dock.workspace.step_image(1)
    seen = len(heard)
    wait(lambda: "preview" in heard[seen:])
    dock.workspace.step_image(1)
    panel.stop_button.click()
    wait(lambda: not dock.runner.busy, 20)
    assert not tracebacks(told)


def test_the_study_folder_deleted_while_training(quick_training, wait, heard, told):
    dock, panel = quick_training, quick_training.train_panel
    panel.steps.setValue(5000)
    panel.start_button.click()
    wait(lambda: "step" in heard)
    shutil.rmtree(dock.workspace.study.path)
    wait(lambda: not dock.runner.busy, 30)
    wait(lambda: dock.workspace.study is None, 10)
    assert any("gone" in message for _, message in told)
    assert not any("another study was opened" in message for _, message in told)
    assert not tracebacks(told)


def test_closing_the_dock_while_training_stops_it_and_keeps_the_weights(quick_training, wait, heard, told):
    dock, panel = quick_training, quick_training.train_panel
    path = dock.workspace.study.path
    panel.steps.setValue(5000)
    panel.start_button.click()
    wait(lambda: "step" in heard)
    dock.viewer.window.remove_dock_widget(dock)
    assert QThreadPool.globalInstance().activeThreadCount() == 0
    with Study.open(path) as study:
        assert (study.run("hydramix-0001").path / "last.safetensors").exists()
    assert any("stopped" in message for _, message in told)
    assert not tracebacks(told)


def test_closing_the_window_while_training_leaves_no_thread(quick_training, wait, heard, told):
    dock, panel = quick_training, quick_training.train_panel
    panel.steps.setValue(5000)
    panel.start_button.click()
    wait(lambda: "step" in heard)
    dock.viewer.close()
    assert QThreadPool.globalInstance().activeThreadCount() == 0
    assert not tracebacks(told)


def test_opening_another_study_while_training_stops_it(quick_training, wait, heard, tmp_path, told):
    dock, panel = quick_training, quick_training.train_panel
    panel.steps.setValue(5000)
    panel.start_button.click()
    wait(lambda: "step" in heard)
    Study.create(tmp_path / "other.mtssl").close()
    panel.losses.add(1, {"total": 1.0})
    dock.open_study(tmp_path / "other.mtssl")
    assert sum("for another study was opened; what was learnt is kept" in message for _, message in told) == 1
    heard.clear()
    wait(lambda: not dock.runner.busy, 20)
    assert dock.workspace.study.name == "other"
    assert not [layer.name for layer in dock.viewer.layers]
    assert not heard  # what the old study's training still said is of no image here
    assert not panel.losses.data and not panel.progress.format() and panel.network.currentIndex() == 0


def test_an_image_taken_out_while_all_are_predicted_is_passed_over(quick_training, wait, told):
    from napari_mtssl.gui.jobs import PredictJob, Target

    dock, panel = quick_training, quick_training.train_panel
    panel.mode.setCurrentIndex(1)
    panel.start_button.click()
    wait(lambda: not dock.runner.busy)
    study = dock.workspace.study
    run, images = study.runs()[0].name, study.images()
    job = PredictJob(study.path, *(Target(run, image.id, None, "cpu") for image in images))
    study.remove_image(images[0].id)
    assert {event.image_id for event in job.events()} == {images[1].id}
    study.undo()
    images[0].path.unlink()  # one that cannot be read keeps no other back, and is named
    seen = []
    with pytest.raises(ImageError, match=r"first\.png.* Predicted: 1 image\.$"):
        for event in job.events():
            seen.append(event.image_id)
    assert set(seen) == {images[1].id}
    log = panel.log.toPlainText()
    panel.predict_all_button.click()
    wait(lambda: not dock.runner.busy)
    assert "Predicted: 1 image." in told[-1][1] and "Traceback" not in panel.log.toPlainText()[len(log) :]


def test_one_run_is_trained_by_one_window(quick_training, wait, told):
    dock, panel = quick_training, quick_training.train_panel
    panel.mode.setCurrentIndex(1)
    panel.start_button.click()
    wait(lambda: not dock.runner.busy)
    panel.network.setCurrentIndex(1)  # go on with it
    panel.steps.setValue(5000)
    panel.start_button.click()
    wait(lambda: dock.runner.state is State.TRAINING)
    study = dock.workspace.study
    (run,) = study.runs()
    other = list(TrainingSession(study.path, "hydramix", device="cpu", resume=run.name).events())
    assert [event.kind for event in other] == ["failed"] and "is being trained already" in other[0].reason
    panel.stop_button.click()
    wait(lambda: not dock.runner.busy, 20)
    assert dock.runner.failure is None


def test_predict_the_image_with_a_network_trained_before_and_go_on_with_it(quick_training, wait, heard):
    dock, panel = quick_training, quick_training.train_panel
    panel.mode.setCurrentIndex(1)
    panel.start_button.click()
    wait(lambda: not dock.runner.busy)
    dock.workspace.step_image(1)
    assert len(dock.workspace.predictions) == 0
    heard.clear()
    panel.predict_button.click()
    assert dock.runner.state is State.PREDICTING
    wait(lambda: not dock.runner.busy)
    assert set(heard) == {"preview"}
    with Study.open(dock.workspace.study.path) as study:
        assert len(study.predictions(dock.workspace.image.id)) == len(dock.workspace.predictions)
    panel.network.setCurrentIndex(1)
    panel.start_button.click()
    wait(lambda: not dock.runner.busy)
    assert dock.runner.failure is None
    assert [run.name for run in dock.workspace.study.runs()] == ["hydramix-0001"]


def test_held_out_scores_are_shown(quick_training, wait):
    dock, panel = quick_training, quick_training.train_panel
    study = dock.workspace.study
    cells = study.cells().iloc[:4].assign(image_id=study.images()[1].id)
    study.add_cells(cells[["image_id", "row", "col", "class"]])
    study.set_split(study.images()[1].id, "validation")
    panel.mode.setCurrentIndex(1)
    panel.start_button.click()
    wait(lambda: not dock.runner.busy)
    assert dock.runner.failure is None
    assert "step 4" in dock.review_panel.scores.text()
    assert panel.shown.scores.data


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3725, "1 h 2 min")]
)
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text


def test_training_can_run_on_a_cluster_whose_address_is_typed(quick_training, wait, heard, told):
    distributed = pytest.importorskip("distributed")
    dock, panel = quick_training, quick_training.train_panel
    panel.mode.setCurrentIndex(1)
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        panel.where.setEditText(cluster.scheduler_address)
        panel.start_button.click()
        assert not panel.where.isEnabled()
        wait(lambda: not dock.runner.busy)
    assert dock.runner.failure is None
    assert heard[0] == "started"
    assert panel.run_choice.currentText() == "hydramix-0001"
    assert not tracebacks(told)


def test_where_nothing_runs_is_said_in_words(dock, told):
    panel = dock.train_panel
    assert panel.settings.runner_name() == "thread"
    panel.where.setCurrentIndex(1)
    assert panel.settings.runner_name() == "process"
    panel.where.setEditText("the basement")
    panel.start_button.click()
    assert not dock.runner.busy
    assert any("the basement" in message for _, message in told)
