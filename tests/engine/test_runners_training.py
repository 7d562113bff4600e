"""Training elsewhere says and hears the same as here; the loss of a worker is told and costs few steps."""

import os
import signal

import numpy as np
import pytest
from distributed import LocalCluster
from scipy.spatial import cKDTree

from napari_mtssl.engine.checkpoint import find, load
from napari_mtssl.engine.events import Failed, Finished, LabelsChanged, Started, Stepped, WorkerLost
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.runners import RunnerError
from napari_mtssl.engine.runners_training import RunnerSession
from napari_mtssl.study import Study

pytestmark = pytest.mark.timeout(240)

SMALL = {"widen": 1, "depth": 10, "batch_size": 4, "pool": 64, "steps": 30}
OPTIONS = TrainOptions(
    validate_every=100, checkpoint_every=5, report_seconds=0.0, pseudo_seconds=0, preview_seconds=0, threads=1
)


@pytest.fixture(scope="module")
def study_path(tmp_path_factory):
    import pandas as pd
    import tiny_method

    folder = tmp_path_factory.mktemp("elsewhere")
    with Study.create(folder / "discs.mtssl") as study:
        for name in ("red", "blue"):
            study.add_class(name)
        pixels, truth = tiny_method.draw_discs(150, 170, 20)
        file = tiny_method.save_image(folder / "image.png", pixels)
        image = study.add_image(file, height=150, width=170)
        grid = pd.DataFrame({"row": np.arange(10.0, 150, 10), "col": np.arange(10.0, 150, 10)})
        grid = grid[cKDTree(truth[["row", "col"]]).query(grid)[0] > 14].assign(**{"class": "background"})
        study.add_cells(pd.concat([truth, grid], ignore_index=True).assign(image_id=image.id))
    return folder / "discs.mtssl"


def session(runner, study_path, **settings):
    return RunnerSession(
        runner, study_path, device="cpu", overrides=SMALL | settings, options=OPTIONS, run_name=None
    )


@pytest.fixture(scope="module")
def here(study_path):
    one = session("thread", study_path)
    return one, list(one.events())


def state(run_dir):
    return load(find(run_dir, "last")).state


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", memory_limit=0
    ) as made:
        yield made


def test_a_lost_worker_costs_few_steps_and_no_exactness(study_path, here, cluster):
    there = session(cluster.scheduler_address, study_path)
    heard = []
    for event in there.events():
        heard.append(event)
        if (
            isinstance(event, Stepped)
            and event.step == 13
            and not any(isinstance(e, WorkerLost) for e in heard)
        ):
            with cluster.get_client() as client:
                busy = [worker for worker, tasks in client.processing().items() if tasks]
                os.kill(client.run(os.getpid, workers=busy)[busy[0]], signal.SIGKILL)
    assert isinstance(heard[-1], Finished), heard[-1]
    (lost,) = (event for event in heard if isinstance(event, WorkerLost))
    assert 10 <= lost.step <= 30
    assert [event.step for event in heard if isinstance(event, Started)] == [0, lost.step]
    assert there.run_dir == heard[-1].run_dir
    ours, theirs = state(here[0].run_dir), state(there.run_dir)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_labels_and_stop_reach_the_worker(study_path, cluster):
    there = session(cluster.scheduler_address, study_path, steps=100_000)
    heard = []
    for event in there.events():
        heard.append(event)
        if isinstance(event, Stepped) and len(heard) == 5:
            with Study.open(study_path) as study:
                one = study.cells().head(1)[["image_id", "row", "col", "class"]]
                study.add_cells(one.assign(row=one["row"] + 3))
        if isinstance(event, LabelsChanged):
            there.control.stop()
    assert any(isinstance(event, LabelsChanged) for event in heard)
    assert isinstance(heard[-1], Finished)
    assert heard[-1].stopped


def test_the_crash_of_a_process_is_a_message(study_path):
    there = session("process", study_path, steps=100_000)
    events = there.events()
    for event in events:
        if isinstance(event, Stepped):
            break
    killed = False
    for child in _children():
        os.kill(child, signal.SIGKILL)
        killed = True
    assert killed
    heard = list(events)
    assert isinstance(heard[-1], Failed)
    assert heard[-1].mendable
    assert "has ended at step" in heard[-1].reason


def _children():
    """Processes of this one that compute."""
    import psutil

    found = psutil.Process().children(recursive=True)
    return [child.pid for child in found if "spawn_main" in " ".join(child.cmdline())]


def test_a_wrong_study_is_told_as_here(tmp_path, cluster):
    (heard,) = session(cluster.scheduler_address, tmp_path / "none.mtssl").events()
    assert isinstance(heard, Failed)
    assert heard.mendable


def test_an_address_where_nobody_answers(study_path):
    with pytest.raises(RunnerError, match="no runner"):
        session("moon", study_path)
