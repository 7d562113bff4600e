"""Trials of a cross-validation side by side on a Dask cluster, with progress and an end when asked for."""

from __future__ import annotations

import pickle
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from napari_mtssl.evaluation.readers import DataError
from napari_mtssl.evaluation.series import Tell, Trial
from napari_mtssl.evaluation.specimens_plan import Plan

TICK = 0.2  # seconds between two looks at what the workers say
# A worker may have several threads, but torch has one generator of random numbers: one trial at a time.
_ALONE = threading.Lock()


class Stopped(Exception):
    """The user asked for the end."""


@contextmanager
def on_cluster(
    plan: Plan, trials: Sequence[Trial], address: str, stopped: Callable[[], bool]
) -> Iterator[Callable[[Trial, Tell], Any]]:
    """Hand all trials to a cluster; a trial's scores are waited for when they are asked for.

    Parameters
    ----------
    plan : Plan
        Its folder is where the workers write, so they must see it under the same path.
    trials : sequence of Trial
    address : str
        ``tcp://HOST:PORT``, or ``process`` for a process of this computer.
    stopped : callable
        Whether the user asked for the end.

    Raises
    ------
    DataError
        If Dask is missing.
    RunnerError
        If nothing answers at the address, or no worker is there.
    """
    try:
        from distributed import Event, KilledWorker, Queue
    except ImportError as error:
        raise DataError(
            "A cluster needs Dask's 'distributed'; install it, or leave --cluster out."
        ) from error
    from napari_mtssl.engine.runners import RunnerError, connected

    with ExitStack() as stack:
        client = stack.enter_context(connected(address, stopped))
        token = f"folds-{uuid.uuid4().hex[:8]}"
        said, end = Queue(f"{token}-said", client=client), Event(f"{token}-end", client=client)
        data = client.scatter(plan, broadcast=True)
        waiting = {
            trial: client.submit(_run, data, trial, token, key=f"{token}-{trial.name}") for trial in trials
        }

        def ended() -> None:
            end.set()  # what is at work stops at its next report
            client.cancel(list(waiting.values()))

        stack.callback(ended)

        def wait_for(trial: Trial, tell: Tell) -> Any:
            while not waiting[trial].done():
                if stopped():
                    raise Stopped
                for item in said.get(batch=True):
                    name, step, steps = pickle.loads(item)
                    if name == trial.name:
                        tell(step, steps)
                time.sleep(TICK)
            try:
                return waiting[trial].result()
            except KilledWorker as error:
                raise RunnerError(
                    "A process that trained has ended, perhaps for lack of memory. What is done is kept; "
                    "start it again."
                ) from error

        yield wait_for


def _run(plan: Plan, trial: Trial, token: str) -> dict[str, float]:
    """Run one trial; on a worker."""
    from distributed import Event, Queue, get_client

    from napari_mtssl.evaluation.specimens_trial import run_trial

    client = get_client()
    said, end = Queue(f"{token}-said", client=client), Event(f"{token}-end", client=client)

    def tell(step: int, steps: int) -> None:
        if end.is_set():
            raise Stopped
        said.put(pickle.dumps((trial.name, step, steps)))

    while not _ALONE.acquire(timeout=TICK):
        if end.is_set():
            raise Stopped
    try:
        return run_trial(plan, trial, tell)
    finally:
        _ALONE.release()
