"""Other processes predict what this one would; one that dies costs nothing but time, or is told."""

import os
import signal
import socket

import dask
import numpy as np
import pandas as pd
import pytest
import torch
from dask.base import get_scheduler
from distributed import Client, LocalCluster
from distributed.comm import CommClosedError

from napari_mtssl.engine import checkpoint
from napari_mtssl.engine.runners import DaskTiles, RunnerError, check_runner, connected, tile_job
from napari_mtssl.engine.slide_prediction import SlideStore, plan_slide, predict_slide
from napari_mtssl.evaluation.slide_files import write_slide
from napari_mtssl.evaluation.slide_generator import made_slide
from napari_mtssl.images import open_image
from napari_mtssl.methods.hydramix import HydraMix

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A run with weights that nobody trained, a slide, and what this process says of it."""
    folder = tmp_path_factory.mktemp("work")
    path = write_slide(made_slide(640, 640, period=128, tissue=0.4), folder / "made.svs", tile=256)
    config = HydraMix.configure("robust", depth=10, widen=1)
    torch.manual_seed(0)
    method = HydraMix(config, {"cell": ("background", "tumour", "lymphocyte")}, torch.device("cpu"))
    run = folder / "run"
    run.mkdir()
    checkpoint.save(run, "best", method, method.optimiser(), 0)
    plan = plan_slide(method, open_image(path), tile=96)
    store = SlideStore(folder / "here", plan.identity, method.classes)
    list(predict_slide(method, plan, store))
    return method, plan, run, store


def same(store, other):
    pd.testing.assert_frame_equal(store.cells(), other.cells())
    for name in ("uncertainty", "foreground"):
        assert np.array_equal(np.asarray(store.grid(name)[0]), np.asarray(other.grid(name)[0]))
    return True


def test_two_workers_and_the_loss_of_one(work, tmp_path):
    method, plan, run, store = work
    with (
        # the nanny is in this process: what it sets must not reach the clusters of other tests
        dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            preload_nanny=["napari_mtssl.engine.workers"],
            scheduler_kwargs={"preload": ["napari_mtssl.engine.workers"]},
        ) as cluster,
        connected(cluster.scheduler_address) as client,
    ):
        for server in (cluster.scheduler, *cluster.workers.values()):  # 20 ms by default: 3 % of a core
            assert server.periodic_callbacks["tick"].callback_time == 500
        pids = client.run(os.getpid)
        there = SlideStore(tmp_path / "there", plan.identity, method.classes)
        numbers = []
        for tile in predict_slide(method, plan, there, executor=DaskTiles(client, tile_job(run, plan))):
            numbers.append(tile.number)
            if len(numbers) == 10:
                os.kill(next(iter(pids.values())), signal.SIGKILL)
        assert sorted(numbers) == list(range(len(plan.tiles)))
        assert len(numbers) > 40
    assert same(store, there)


def test_a_process_of_our_own_and_its_crash(work, tmp_path):
    method, plan, run, store = work
    there = SlideStore(tmp_path / "there", plan.identity, method.classes)
    with connected("process") as client:
        # napari's threads read slides here meanwhile, and send no part of them to the other process
        assert get_scheduler() is None
        executor = DaskTiles(client, tile_job(run, plan))
        with pytest.raises(RunnerError, match="has ended"):
            for tile in predict_slide(method, plan, there, executor=executor):
                if tile.done == 5:
                    for pid in client.run(os.getpid).values():
                        os.kill(pid, signal.SIGKILL)
    done = len(there.done())
    assert 5 <= done < len(plan.tiles)
    rest = list(predict_slide(method, plan, there))
    assert done + len(rest) == len(plan.tiles)
    assert same(store, there)


def test_another_run_on_the_worker_is_refused(work):
    _, plan, run, _ = work
    job = tile_job(run, plan)
    with Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    ) as client:
        other = DaskTiles(client, type(job)(**{**vars(job), "digest": "x"}))
        with pytest.raises(RunnerError, match="another run"):
            next(other([(0, plan.tiles[0])]))


def test_a_cluster_that_does_not_answer_is_waited_for_until_stop():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asked = iter([False, True])
        with (
            pytest.raises(RunnerError, match="no longer waited for"),
            connected(f"tcp://127.0.0.1:{silent.getsockname()[1]}", lambda: next(asked)),
        ):
            pass
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        pytest.raises(RunnerError, match="no longer waited for"),
        connected(cluster.scheduler_address, lambda: bool(cluster.scheduler.clients)),
    ):
        pass


def test_a_cluster_without_workers_is_told():
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
        pytest.raises(RunnerError, match="No worker is left"),
    ):
        next(DaskTiles(client, None, patience=1.5)([(0, (0, 0, 1, 1))]))


def test_a_cluster_that_is_gone_is_told():
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        pytest.raises(
            RunnerError, match=f"connection to the cluster at {cluster.scheduler_address} was lost"
        ),
        connected(cluster.scheduler_address),
    ):
        raise CommClosedError("pool closing")
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        pytest.raises(OSError, match="the disk"),
        connected(cluster.scheduler_address),
    ):
        raise OSError("the disk is full")


def test_the_last_tasks_are_shorter():
    tiles, source = DaskTiles(None, None, batch=4), iter([(n, (0, 0, 1, 1)) for n in range(30)])
    tiles._pace = 0.01
    sizes = []
    while batch := tiles._batch_of(source, threads=2):
        sizes.append(len(batch))
    assert sizes[:4] == [4, 4, 4, 4]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-4:] == [1, 1, 1, 1]
    unknown = (pair for pair in [(n, (0, 0, 1, 1)) for n in range(5)])
    assert len(tiles._batch_of(unknown, threads=100)) == 4


def test_a_task_takes_a_second_or_one_tile():
    tiles, source = DaskTiles(None, None), iter([(n, (0, 0, 1, 1)) for n in range(1000)])
    sizes = []
    for tiles._pace in (None, 5.0, 0.3, 0.01):
        sizes.append(len(tiles._batch_of(source, threads=2)))
    assert sizes == [1, 1, 3, 8]


def test_a_process_that_cannot_be_started_is_a_sentence(monkeypatch):
    def refused(**settings):
        raise RuntimeError("An attempt has been made to start a new process")

    monkeypatch.setattr("distributed.LocalCluster", refused)
    with pytest.raises(RunnerError, match="__main__"), connected("process"):
        pass


def test_names_of_runners():
    for name in ("thread", "process", "tcp://10.0.0.1:8786", "tls://lab:8786"):
        assert check_runner(name) == name
    with pytest.raises(RunnerError, match="no runner 'cluster'"):
        check_runner("cluster")
