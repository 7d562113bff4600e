"""What a run leaves to read: ``events.jsonl`` (everything said) and ``metrics.csv`` (the curves)."""

from __future__ import annotations

import csv
import io
import json
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from napari_mtssl.engine.checkpoint import write_atomically
from napari_mtssl.engine.events import Event, Stepped, Validated, to_json

EVENTS = "events.jsonl"
COLUMNS = ["step", "seconds", "name", "value"]

logger = logging.getLogger(__name__)


class RunLog:
    """Append events to the files of a run, one line each, flushed at once.

    The files are made with the first line, so making a log cannot fail.

    Parameters
    ----------
    run_dir : Path
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._begin = time.monotonic()
        self._events: TextIO | None = None
        self._metrics: TextIO | None = None

    def rewind(self, step: int) -> None:
        """Drop the rows of ``metrics.csv`` after `step`, the checkpoint from which a resumed run repeats.

        Call it before the first `write`.
        """
        path = self._run_dir / "metrics.csv"
        if path.is_file():
            drop_rows_after(path, step)

    def write(self, event: Event) -> None:
        """Append one event; the numbers of steps and validations go to the curves as well.

        Raises
        ------
        OSError
            If the disk is full or the folder is gone.
        """
        seconds = round(time.monotonic() - self._begin, 3)
        if self._events is None:
            path = self._run_dir / EVENTS
            before = path.read_bytes() if path.is_file() else b""
            self._events = path.open("a", encoding="utf-8")
            if before and not before.endswith(b"\n"):
                self._events.write("\n")  # what a kill left half written is a line of its own
        self._events.write(json.dumps({"seconds": seconds, **to_json(event)}) + "\n")
        self._events.flush()
        values: dict[str, float] = {}
        if isinstance(event, Stepped):
            values = {f"loss/{k}": v for k, v in event.losses.items()} | {"loss/total": event.total}
            for what, of_tasks in event.balance.items():
                values |= {f"balance/{what}/{task}": v for task, v in of_tasks.items()}
        elif isinstance(event, Validated):
            values = {f"validation/{k}": v for k, v in event.scores.items()}
        if values:
            self._write_rows([[event.step, seconds, name, value] for name, value in values.items()])

    def _write_rows(self, rows: list[list[object]]) -> None:
        if self._metrics is None:
            path = self._run_dir / "metrics.csv"
            new = not path.is_file()
            self._metrics = path.open("a", encoding="utf-8", newline="")
            rows = [list(COLUMNS), *rows] if new else rows
        csv.writer(self._metrics).writerows(rows)
        self._metrics.flush()

    def write_end(self, event: Event) -> None:
        """Like `write`, but if the log itself is what failed, the event must still reach the user."""
        try:
            self.write(event)
        except OSError as error:
            logger.warning("the end of the run could not be logged: %s", error)

    def close(self) -> None:
        """Close the files."""
        for file in (self._events, self._metrics):
            if file is not None:
                try:
                    file.close()
                except OSError as error:  # unwritten bytes and a full disk
                    logger.warning("the log of the run could not be completed: %s", error)


class NoLog(RunLog):
    """Writes nothing: for processes that train along with another one."""

    def __init__(self) -> None:
        super().__init__(Path())

    def rewind(self, step: int) -> None:
        """Do nothing."""

    def write(self, event: Event) -> None:
        """Do nothing."""


def read_events(run_dir: Path) -> Iterator[dict[str, Any]]:
    """Read what was said of a run, in order; a line that a kill left half written is passed over.

    Nothing of a run whose log is gone: its weights are worth as much.
    """
    path = run_dir / EVENTS
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with suppress(ValueError):
            yield json.loads(line)


def drop_rows_after(path: Path, step: int) -> None:
    """Keep the rows of ``metrics.csv`` up to a step; also removes a line that a kill left half written."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) == len(COLUMNS)]
    kept = [row for row in rows if row[0].isdigit() and int(row[0]) <= step]
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *kept])
    write_atomically(path, text.getvalue().encode())
