"""The training loop: a generator of events. Pausing, stopping and new labels happen between two steps."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from napari_mtssl.engine.control import Control
from napari_mtssl.engine.events import Event, Failed
from napari_mtssl.engine.failures import USER_ERRORS, explain, is_mendable
from napari_mtssl.engine.loop import Loop
from napari_mtssl.engine.options import TrainOptions
from napari_mtssl.engine.peers import Alone
from napari_mtssl.engine.preview import Previewer
from napari_mtssl.engine.runlog import NoLog, RunLog
from napari_mtssl.engine.source import ClassRenamedError, LabelsMissingError, SampleSource
from napari_mtssl.methods.base import Method

__all__ = ["TrainOptions", "train"]

logger = logging.getLogger(__name__)


def train(
    method: Method,
    source: SampleSource,
    *,
    run_dir: Path,
    control: Control,
    options: TrainOptions | None = None,
    previewer: Previewer | None = None,
    resume: bool = False,
    checkpoint0: Path | None = None,
    notes: Mapping[str, Any] | None = None,
    peers: Alone | None = None,
) -> Generator[Event, None, None]:
    """Train a method and say what happens; the last event is `Finished` or `Failed`; nothing else is raised.

    Stop and pause take effect before the next step. A run that was ended, also by a kill, goes on with
    ``resume=True`` and then equals, on the CPU bit for bit, one that was never interrupted.

    Parameters
    ----------
    method : Method
        Freshly made (also to resume: its weights are read from the run).
    source : SampleSource
        Held-out samples, if it has them, give `Validated` events and choose the ``best`` weights. Without
        them there are no such events and no ``best`` file: the ``last`` weights are the best that is known.
    run_dir : Path
        Existing folder; gets ``config.yaml``, ``metrics.csv``, ``events.jsonl`` and the weights.
    control : Control
    options : TrainOptions, optional
    previewer : Previewer, optional
    resume : bool
        Go on from ``last.safetensors`` of `run_dir`.
    checkpoint0 : Path, optional
        Begin with the weights of another run (but a new optimiser, at step 0).
    notes : mapping, optional
        Provenance for ``config.yaml`` and checkpoints, such as ``pixel_size_um`` (JSON types).
    peers : Alone, optional
        Processes that train together, by default one; the first alone writes.

    Yields
    ------
    Event

    Raises
    ------
    ClassRenamedError
        If a class was renamed; what was learnt is kept.
    """
    loop = Loop(method, source, run_dir, control, options or TrainOptions(), previewer, notes or {}, peers)
    log = RunLog(run_dir) if loop.peers.rank == 0 else NoLog()
    try:
        loop.begin(resume, checkpoint0)
        log.rewind(loop.step)
        with closing(loop.run()) as events:
            for event in events:
                log.write(event)
                yield event
    except (GeneratorExit, ClassRenamedError):
        loop.keep()  # the listener left without Control.stop, or makes the method anew
        raise
    except Exception as error:
        if not isinstance(error, (*USER_ERRORS, OSError)):
            logger.exception("training failed at step %d", loop.step)
        failed = _failed(error, loop)
        if failed.mendable:
            loop.keep()  # to be resumed once the user has done so
        log.write_end(failed)
        yield failed
    finally:
        log.close()


def _failed(error: Exception, loop: Loop) -> Failed:
    """Say why training cannot go on, and what would mend it."""
    reason = explain(error, loop.run_dir, loop.method.device)
    labels = isinstance(error, LabelsMissingError)
    return Failed(loop.step, reason, traceback.format_exc(), is_mendable(error), labels)
