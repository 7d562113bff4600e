"""Where work runs: this program, another process of this computer, or a Dask cluster at an address.

A process is a Dask cluster of one worker on the loopback interface, so the last two are one and the same.
Who may join a cluster at an address, and TLS, are distributed's own settings (``distributed.comm``).
"""

from __future__ import annotations

import logging
import pickle
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from operator import length_hint
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from napari_mtssl.engine.workers import QUIET

if TYPE_CHECKING:
    import numpy as np
    from distributed import Client, Future, LocalCluster

    from napari_mtssl.engine.dense import Box
    from napari_mtssl.engine.slide_prediction import SlidePlan
    from napari_mtssl.engine.tile_output import TileOutput
    from napari_mtssl.images import Image
    from napari_mtssl.methods.base import Method

THREAD, PROCESS = "thread", "process"
REMOTE = ("tcp://", "tls://", "ws://", "wss://", "ucx://", "inproc://")
TASK = 1.0  # seconds that a task takes at most if it has several tiles: what a lost worker has to do again
BATCH = 8  # tiles in a task, at most
AHEAD = 2  # tasks that each thread of a worker has waiting
LOOK = 1.0  # seconds after which it is looked again who is there
LOOKS = 10  # for as many looks a worker that has gone counts as one that may come back
TICK = 0.2  # seconds between two looks at what somebody else does
ANSWER = 10.0  # seconds in which a scheduler answers, and a worker of it is there
PATIENCE = 30.0  # seconds without any worker after which work is given up

logger = logging.getLogger(__name__)


class RunnerError(ValueError):
    """Work cannot run there, or its worker was lost; the message says what to do."""


def check_runner(runner: str) -> str:
    """Give the name of a runner back if it is one.

    Raises
    ------
    RunnerError
        For anything but ``thread``, ``process`` and the address of a Dask scheduler.
    """
    if runner in (THREAD, PROCESS) or runner.startswith(REMOTE):
        return runner
    raise RunnerError(f"There is no runner '{runner}'; choose thread, process, or tcp://HOST:PORT.")


@contextmanager
def connected(runner: str, cancelled: Callable[[], bool] = lambda: False) -> Iterator[Client]:
    """Connect to the workers of a runner: of a process of our own, which ends with it, or of a cluster.

    Nobody else of this program uses them: what napari reads of a slide meanwhile, a Dask array, is read here.

    Parameters
    ----------
    runner : str
    cancelled : callable, optional
        Once it returns True, a cluster that has not answered yet is not waited for any more.

    Raises
    ------
    RunnerError
        If nothing answers at the address, no worker is there, it was cancelled, or the connection is lost.
    """
    from concurrent.futures import CancelledError

    import dask
    from distributed import Client
    from distributed.comm import CommClosedError

    check_runner(runner)
    quiet = {
        **QUIET,
        "distributed.worker.daemon": False,
        "distributed.admin.log-format": "%(name)s: %(message)s",
    }
    if runner == PROCESS:
        # a worker that dies is told at once instead of being tried again
        with (
            dask.config.set({**quiet, "distributed.scheduler.allowed-failures": 0}),
            _process() as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client
        return
    with _answering(runner, cancelled) as client:
        until = time.monotonic() + ANSWER
        while not client.scheduler_info(n_workers=-1)["workers"]:
            if cancelled():
                raise RunnerError(f"The cluster at {runner} is no longer waited for.")
            if time.monotonic() > until:
                raise RunnerError(
                    f"The cluster at {runner} has no worker; start one with: dask worker {runner}"
                )
            time.sleep(TICK)
        try:
            yield client
        except Exception as error:  # a client that lost its scheduler ends in errors of many kinds
            if client.status == "running" and not isinstance(error, (CommClosedError, CancelledError)):
                raise
            raise RunnerError(
                f"The connection to the cluster at {runner} was lost. What is done is kept; start it again "
                "when the cluster is there."
            ) from error


def _answering(address: str, cancelled: Callable[[], bool]) -> Client:
    """Find the scheduler at an address; a thread waits for it, so that this one can be told to give up."""
    from concurrent.futures import Future as AnyFuture
    from concurrent.futures import wait

    from distributed import Client

    found: AnyFuture[Client] = AnyFuture()

    def ask() -> None:
        try:
            found.set_result(Client(address, timeout=ANSWER, set_as_default=False))
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            found.set_exception(error)

    threading.Thread(target=ask, daemon=True, name="cluster").start()
    while not wait([found], timeout=TICK).done:
        if cancelled():
            found.add_done_callback(lambda late: late.exception() or late.result().close())
            raise RunnerError(f"The cluster at {address} is no longer waited for.")
    try:
        return found.result()
    except (OSError, TimeoutError, ValueError) as error:
        raise RunnerError(
            f"No Dask scheduler answers at {address} ({error}); start one with: dask scheduler"
        ) from error


def _process() -> LocalCluster:
    """Start a process of our own: a cluster of one worker on the loopback interface."""
    from distributed import LocalCluster

    try:
        return LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            silence_logs=logging.CRITICAL,
        )
    except RuntimeError as error:
        raise RunnerError(
            "No other process could be started. A script of your own needs the line "
            "if __name__ == '__main__': before what it does; or choose the runner thread."
        ) from error


@dataclass(frozen=True)
class TileJob:
    """What a worker needs to predict tiles of a slide: paths that it can reach, too.

    Attributes
    ----------
    run_dir : str
        Folder of the run.
    image : str
        Path or URL of the slide.
    pixel_size_um : float or None
        Of the slide.
    um_per_px : float or None
        At which it is read; None for its own pixels.
    digest : str
        Fingerprint of the trained method: a worker that finds another one there refuses.
    which : {"best", "last"}
    device : str
    whole : mapping of str to ndarray, optional
        What tiles must know of all of the slide (`SlidePlan.whole`).
    """

    run_dir: str
    image: str
    pixel_size_um: float | None
    um_per_px: float | None
    digest: str
    which: str = "best"
    device: str = "auto"
    whole: Mapping[str, np.ndarray] | None = None


def tile_job(run_dir: Path, plan: SlidePlan, which: str = "best", device: str = "auto") -> TileJob:
    """Describe the prediction of a slide to workers; the plan is one that was `looked_over`."""
    view = plan.view
    return TileJob(
        str(Path(run_dir).resolve()),
        view.url or str(view.path.resolve()),
        plan.identity["pixel size"],
        None if view.scale == (1.0, 1.0) else plan.identity["resolution"],
        plan.identity["run"],
        which,
        device,
        plan.whole,
    )


class DaskTiles:
    """Predict tiles on all workers of a cluster (an `Executor` of `predict_slide`).

    A worker that goes away costs the tiles that it had in hand: Dask gives them to another one. Results are
    the same whoever computes them, as long as all workers have the same kind of processor and threads.

    Parameters
    ----------
    client : distributed.Client
    job : TileJob
    patience : float
        Seconds without any worker after which it gives up.
    batch : int
        Tiles in a task, at most: with one, each is shown as soon as it is done, with more, less is said. A
        task takes a second, so that there are fewer tiles in it where they take long, and the last tasks are
        shorter, so that all workers end together.
    cancelled : callable, optional
        Once it returns True, what is in hand is left, and no more results come.
    work : callable, optional
        Predicts some tiles of a job on a worker; by default what is kept of slides.
    """

    def __init__(
        self,
        client: Client,
        job: TileJob,
        patience: float = PATIENCE,
        *,
        batch: int = BATCH,
        cancelled: Callable[[], bool] | None = None,
        work: Callable[[TileJob, list[tuple[int, Box]]], list[tuple[int, Any]]] | None = None,
    ) -> None:
        self._client, self._job, self._patience = client, job, patience
        self._batch, self._cancelled = batch, cancelled or (lambda: False)
        self._work = work or _predict_tiles
        self._pace: float | None = None  # seconds that a tile takes, once one is done
        self._name = f"tiles-{uuid.uuid4().hex[:8]}"

    def __call__(self, pairs: Iterable[tuple[int, Box]]) -> Iterator[tuple[int, Any]]:
        """Yield results in the order that they come."""
        source = iter(pairs)
        waiting: set[Future] = set()
        done: SimpleQueue[Future] = SimpleQueue()
        results: list[bytes] = []
        workers = _Workers(self._client)
        try:
            while True:
                threads = workers.threads()
                room = AHEAD * max(threads, 1)
                while len(waiting) < room and (batch := self._batch_of(source, threads)):
                    key = f"{self._name}-{batch[0][0]}"
                    task = self._client.submit(_worked, self._work, self._job, batch, key=key, pure=False)
                    task.add_done_callback(done.put)
                    waiting.add(task)
                for result in results:  # kept while the workers have something to do already
                    seconds, found = pickle.loads(result)
                    self._pace = seconds / len(found)
                    yield from found
                results = []
                if not waiting or self._cancelled():
                    return
                if workers.alone > self._patience:
                    raise RunnerError(
                        "No worker is left in the cluster. What is done is kept; start it again."
                    )
                if finished := _ended(done):
                    waiting -= finished
                    results = _taken(self._client, finished)
        finally:
            self._client.cancel(list(waiting))

    def _batch_of(self, source: Iterator[tuple[int, Box]], threads: int) -> list[tuple[int, Box]]:
        """Take the tiles of the next task: fewer near the end, where all would wait for the last one."""
        share = length_hint(source, self._batch * AHEAD * max(threads, 1)) // (AHEAD * max(threads, 1))
        quick = 1 if self._pace is None else int(TASK / self._pace)
        return list(islice(source, max(min(share, quick, self._batch), 1)))


class _Workers:
    """Who is there: asked once in a while, since an answer takes as long as keeping a tile."""

    def __init__(self, client: Client) -> None:
        self.alone = 0.0  # seconds without any worker
        self._client = client
        self._looked = 0.0
        self._seen: deque[int] = deque(maxlen=LOOKS)

    def threads(self) -> int:
        """Threads of all workers, of those too that have just gone.

        A worker that was lost is often started again: work is waiting for it then.
        """
        if (now := time.monotonic()) - self._looked >= LOOK:
            workers = self._client.scheduler_info(n_workers=-1)["workers"]
            self._seen.append(sum(worker["nthreads"] for worker in workers.values()))
            self.alone = 0.0 if workers or not self._looked else self.alone + now - self._looked
            self._looked = now
        return max(self._seen)


def _ended(done: SimpleQueue[Future]) -> set[Future]:
    """Wait a while for tasks that have ended. Dask's own `wait` would ask the client that all share."""
    found: set[Future] = set()
    with suppress(Empty):
        found.add(done.get(timeout=LOOK))
        while True:
            found.add(done.get_nowait())
    return found


def _taken(client: Client, finished: Iterable[Future]) -> list[bytes]:
    """Fetch the results of tasks, in one message; the end of a worker becomes a sentence.

    Dask forgets them at once: what it still holds, it would compute again if that worker were lost.
    """
    from distributed import KilledWorker

    futures = list(finished)
    try:
        results: list[bytes] = client.gather(futures)
    except KilledWorker as error:
        raise RunnerError(
            "The process that worked has ended, perhaps for lack of memory. "
            "What is done is kept; start it again."
        ) from error
    for future in futures:
        future.release()
    return results


def _worked(
    work: Callable[[TileJob, list[tuple[int, Box]]], list[tuple[int, Any]]],
    job: TileJob,
    batch: list[tuple[int, Box]],
) -> bytes:
    """Work on some tiles and say how long that took; runs on a worker.

    All of it is one string of bytes: an array by itself is a part of its own of Dask's messages, which the
    scheduler and this program put together again.
    """
    began = time.perf_counter()
    found = work(job, batch)
    return pickle.dumps((time.perf_counter() - began, found), protocol=pickle.HIGHEST_PROTOCOL)


def _predict_tiles(job: TileJob, batch: list[tuple[int, Box]]) -> list[tuple[int, TileOutput]]:
    """Predict some tiles; runs on a worker."""
    from napari_mtssl.engine.slide_prediction import knowing, predict_tile

    method, view = opened(job)
    slicer = knowing(method.on_slide() or method, job.whole)
    return [(number, predict_tile(slicer, view, box)) for number, box in batch]


def opened(job: TileJob) -> tuple[Method, Image]:
    """Load a method and open a slide, once for each worker."""
    return _method(job.run_dir, job.which, job.device, job.digest), _image(
        job.image, job.pixel_size_um, job.um_per_px
    )


@lru_cache(maxsize=1)
def _method(run_dir: str, which: str, device: str, digest: str) -> Method:
    import torch

    from napari_mtssl.engine.checkpoint import build_method, find, load
    from napari_mtssl.engine.devices import hold_memory, pick_device
    from napari_mtssl.engine.slide_prediction import digest_of

    hold_memory()
    if pick_device(device).type == "cpu":
        torch.set_num_threads(1)  # there is a worker for each core
    method = build_method(load(find(run_dir, which)), pick_device(device))
    if digest_of(method) != digest:
        raise RunnerError(f"The worker finds another run at {run_dir}; let it see the same folder.")
    return method


@lru_cache(maxsize=2)
def _image(path: str, pixel_size_um: float | None, um_per_px: float | None) -> Image:
    from napari_mtssl.images import open_image

    image = open_image(path, pixel_size_um=pixel_size_um)
    return image if um_per_px is None else image.at(um_per_px)
