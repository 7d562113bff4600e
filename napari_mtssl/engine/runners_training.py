"""Training in another process or on a cluster: the same events, the same control, the window stays here.

The worker opens the study itself, so that it must see the study's folder and the images under the same paths;
labels that are added here meanwhile reach it through the study. A worker that goes away is told with
`WorkerLost`; where Dask has another one, training resumes there from the last checkpoint.
"""

from __future__ import annotations

import logging
import pickle
import threading
import time
import uuid
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_mtssl.engine.control import Control
from napari_mtssl.engine.events import Event, Failed, Finished, WorkerLost
from napari_mtssl.engine.runners import PATIENCE, THREAD, TICK, RunnerError, check_runner, connected
from napari_mtssl.engine.session import TrainingSession

if TYPE_CHECKING:
    from distributed import Client, Future, Queue

SAVE_EVERY = 50  # steps at most that the loss of a worker costs
LEAVE = 30.0  # seconds that a worker has to write its weights after the listener has left

logger = logging.getLogger(__name__)


class RunnerSession(TrainingSession):
    """A `TrainingSession` that trains where a runner says.

    Parameters
    ----------
    runner : str
        ``thread`` (as `TrainingSession`), ``process``, or the address of a Dask cluster.
    *arguments, **settings
        As for `TrainingSession`.

    Raises
    ------
    RunnerError
        If there is no such runner.
    """

    def __init__(self, runner: str, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.runner = check_runner(runner)
        self._step = 0

    def events(self) -> Generator[Event, None, None]:
        """Train; the last event is `Finished` or `Failed`, nothing is raised for what goes wrong there.

        Yields
        ------
        Event
        """
        if self.runner == THREAD:
            yield from super().events()
            return
        try:
            with connected(self.runner, lambda: self.control.stopped) as client:
                yield from self._follow(client)
        except RunnerError as error:
            yield Failed(self._step, str(error), "", mendable=True)

    def _follow(self, client: Client) -> Generator[Event, None, None]:
        """Start the worker's part and pass on what it says, and to it what the user wants."""
        from distributed import Queue

        token = f"training-{uuid.uuid4().hex[:8]}"
        said, asked = Queue(f"{token}-said", client=client), Queue(f"{token}-asked", client=client)
        job = {
            "study_path": str(self.study_path.resolve()),
            "method": self.method_name,
            "preset": self.preset,
            "device": self.device,
            "overrides": self.overrides,
            "run_name": self.run_name,
            "resume": self.resume,
            "checkpoint0": None if self.checkpoint0 is None else str(self.checkpoint0.resolve()),
            "options": replace(self.options, checkpoint_every=min(self.options.checkpoint_every, SAVE_EVERY)),
        }
        warm = _warmed(client, self.method_name)
        future = client.submit(_train, pickle.dumps(job), token, key=token)
        sent: tuple[bool, bool, Any, Any] = (False, False, None, None)
        last_worker = time.monotonic()
        try:
            while True:
                warm = [one for one in warm if not one.done()]  # held until done, or Dask would forget them
                items = _heard(said)
                control = self.control
                wanted = (control.paused, control.stopped, control.viewport, control.sight)
                if wanted != sent or any(isinstance(item, WorkerLost) for item in items):
                    asked.put(pickle.dumps(wanted))  # also to a new worker, which has not heard it
                    sent = wanted
                if not items:
                    last_worker = self._check(client, future, last_worker)
                    time.sleep(TICK)
                for item in items:
                    if isinstance(item, Path):
                        self._run_dir = item
                        continue
                    self._step = item.step
                    yield item
                    if isinstance(item, (Finished, Failed)):
                        return
        except GeneratorExit:
            self._leave(asked, future)
            raise

    def _check(self, client: Client, future: Future, last_worker: float) -> float:
        """Notice that the worker has failed or that nobody is left to work."""
        from distributed import KilledWorker

        if future.status in ("error", "cancelled", "lost"):
            error = future.exception(timeout=5) if future.status == "error" else None
            if error is None or isinstance(error, KilledWorker):
                raise RunnerError(
                    f"The process that trained has ended at step {self._step}, perhaps for lack of memory; "
                    "resume the run to go on from its last checkpoint."
                )
            raise RunnerError(f"Training could not be run there: {error}") from error
        if client.scheduler_info(n_workers=-1)["workers"]:
            return time.monotonic()
        if time.monotonic() - last_worker > PATIENCE:
            raise RunnerError(
                f"No worker is left in the cluster; training stopped at step {self._step}. "
                "Resume the run to go on from its last checkpoint."
            )
        return last_worker

    def _leave(self, asked: Queue, future: Future) -> None:
        """Have the worker stop and keep its weights, as closing the generator does here."""
        with suppress(Exception):
            asked.put(pickle.dumps((False, True, None, None)))
            future.exception(timeout=LEAVE)


def _warmed(client: Client, method: str) -> list[Future]:
    """Have all workers load the libraries, so that one that takes over does it at once."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    token = uuid.uuid4().hex[:8]
    if len(workers) == 1:
        return []
    return [client.submit(_load, method, key=f"load-{token}-{at}", workers=[at]) for at in workers]


def _load(method: str) -> None:
    """Load what training needs; runs on a worker."""
    import napari_mtssl.engine.preview
    import napari_mtssl.engine.train
    import napari_mtssl.study  # noqa: F401
    from napari_mtssl.methods import get_method

    get_method(method)


def _heard(queue: Queue) -> list[Any]:
    """Take all that was said; nothing is waited for, since the scheduler logs every wait in vain."""
    return [pickle.loads(item) for item in queue.get(batch=True)]


def _train(job: bytes, token: str) -> None:
    """Train and say what happens; runs on a worker, and again on another one if the first is lost."""
    from distributed import Queue, get_client

    from napari_mtssl.engine.devices import hold_memory

    hold_memory()
    client = get_client()
    said, asked = Queue(f"{token}-said", client=client), Queue(f"{token}-asked", client=client)
    begun = Queue(f"{token}-run", client=client)
    settings = pickle.loads(job)
    runs = _heard(begun)
    if runs:
        run = str(runs[-1])
        begun.put(pickle.dumps(run))  # for the next worker, if this one is lost too
        said.put(pickle.dumps(_lost(settings["study_path"], run)))
        if (Path(settings["study_path"]) / "runs" / run / "last.safetensors").exists():
            settings |= {"resume": run, "run_name": None, "checkpoint0": None}
        else:
            settings["run_name"] = None
    session = TrainingSession(**settings, control=Control())
    over = threading.Event()
    listener = threading.Thread(target=_listen, args=(asked, session.control, over), daemon=True)
    listener.start()
    known = False
    try:
        for event in session.events():
            if session.run_dir is not None and not known:
                begun.put(pickle.dumps(session.run_dir.name))
                said.put(pickle.dumps(session.run_dir))
                known = True
            said.put(pickle.dumps(event))
    finally:
        over.set()


def _lost(study_path: str, run: str) -> WorkerLost:
    """Say that a worker was lost, and from which step another one goes on."""
    from napari_mtssl.engine.checkpoint import find, load
    from napari_mtssl.methods.base import MethodError

    try:
        step = load(find(Path(study_path) / "runs" / run, "last")).step
    except MethodError:
        step = 0
    return WorkerLost(step, f"The worker was lost; another one goes on with {run} from step {step}.")


def _listen(asked: Queue, control: Control, over: threading.Event) -> None:
    """Do what the user asks for until training is over."""
    while not over.is_set():
        try:
            wishes = _heard(asked)
        except Exception:
            if not over.is_set():
                logger.exception("control of a remote training was lost")
            return
        if not wishes:
            over.wait(TICK)
            continue
        paused, stopped, control.viewport, control.sight = wishes[-1]
        if stopped:
            control.stop()
        if paused != control.paused:
            (control.pause if paused else control.resume)()
