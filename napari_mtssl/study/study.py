"""The study: a folder ``NAME.mtssl`` with what people said of which images, and the runs that learnt it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Self

import pandas as pd

from napari_mtssl.study import database
from napari_mtssl.study.files import umask, written_whole
from napari_mtssl.study.predictions import PredictionTable
from napari_mtssl.study.records import Run, StudyError

SUFFIX = ".mtssl"
_RUN_FILE = "run.json"


class Study(PredictionTable):
    """An open study. Make one with `create` or `open`.

    Everything is on disk when a call returns: there is no save. One object may be used from any thread; a
    thread that should not wait for others uses `reopen`. Several programs may have the same study open.

    Examples
    --------
    >>> study = Study.create("breast.mtssl")
    >>> image = study.add_image("slide1.png", height=512, width=512)
    >>> study.add_class("tumour")
    >>> study.add_cell(image.id, 10.0, 20.0, "tumour")
    >>> study.undo()
    'Undone: Added a tumour cell to slide1.png'
    """

    @classmethod
    def create(cls, path: Path | str, *, annotator: str | None = None) -> Self:
        """Make a new study and open it.

        Parameters
        ----------
        path : path
            The folder to make; ``.mtssl`` is added to the name if it is missing.
        annotator : str, optional
            Who is at work; by default the name the user logged in with.

        Raises
        ------
        StudyError
            If there is something at `path` already, or the place cannot be written.
        """
        path = Path(path).expanduser().absolute()
        if path.suffix != SUFFIX:
            path = path.with_name(path.name + SUFFIX)
        if os.path.lexists(path):
            raise StudyError(f"There is something at {path} already: open it, or choose another name.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Made aside and renamed: a program killed meanwhile leaves no half study under this name.
            aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        except OSError as error:
            raise StudyError(f"No study can be made at {path}: {error.strerror}.") from error
        try:
            aside.chmod(0o777 & ~umask())
            database.create(aside / database.FILE)
            (aside / "runs").mkdir()
            aside.rename(path)
        except OSError as error:
            raise StudyError(f"No study can be made at {path}: {error.strerror}.") from error
        except sqlite3.Error as error:
            raise database.explain(error, path / database.FILE) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return cls(path, annotator=annotator)

    @classmethod
    def open(cls, path: Path | str, *, annotator: str | None = None) -> Self:
        """Open a study; one that may not be written opens with `read_only` set.

        Raises
        ------
        StudyError
            If there is no study at `path`, it is damaged, or a newer program made it. It is left as it is.
        """
        path = Path(path).expanduser().absolute()
        if path.name == database.FILE:
            path = path.parent
        if not os.path.exists(path) and os.path.exists(path.with_name(path.name + SUFFIX)):
            path = path.with_name(path.name + SUFFIX)
        if not os.path.exists(path):
            raise StudyError(f"There is no study at {path}.")
        if not os.path.isfile(path / database.FILE):
            raise StudyError(f"{path} is no study: there is no {database.FILE} in it.")
        try:
            return cls(path, annotator=annotator)
        except OSError as error:
            raise StudyError(f"The study {path} cannot be read: {error.strerror}.") from error

    # -- runs ----------------------------------------------------------------------------------------------

    def new_run(self, method: str, name: str | None = None) -> Run:
        """Make the folder of a new training run.

        Parameters
        ----------
        method : str
        name : str, optional
            By default the method with the next free number, as ``hydramix-0001``.

        Raises
        ------
        StudyError
            If the name is taken or not fit for a folder, or the study cannot be written.
        """
        self._db.check_present()
        self._db.check_writable()
        runs = self.path / "runs"
        taken = {folder.name for folder in runs.iterdir()} if runs.exists() else set()
        if name is None:
            name = next(n for n in (f"{method}-{i:04d}" for i in range(1, 10**6)) if n not in taken)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise StudyError(f"'{name}' cannot name a run: use letters, digits, '-', '_' and '.'.")
        try:
            (runs / name).mkdir(parents=True)
        except FileExistsError as error:
            raise StudyError(
                f"There is a run '{name}' already: resume it, or choose another name."
            ) from error
        except OSError as error:
            raise StudyError(f"The run '{name}' cannot be made in {runs}: {error.strerror}.") from error
        try:
            with written_whole(runs / name / _RUN_FILE) as stream:
                json.dump({"method": method, "created": time.time()}, stream)
        except StudyError:
            (runs / name).rmdir()
            raise
        return self.run(name)

    def runs(self) -> list[Run]:
        """List the runs, the oldest first."""
        found = [self.run(file.parent.name) for file in (self.path / "runs").glob(f"*/{_RUN_FILE}")]
        return sorted(found, key=lambda run: (run.created, run.name))

    def run(self, name: str) -> Run:
        """One run.

        Raises
        ------
        StudyError
            If there is none of this name.
        """
        folder = self.path / "runs" / name
        try:
            said = json.loads((folder / _RUN_FILE).read_text(encoding="utf-8"))
            return Run(name, said["method"], folder, pd.Timestamp(float(said["created"]), unit="s", tz="UTC"))
        except OSError as error:
            known = ", ".join(sorted(f.parent.name for f in (self.path / "runs").glob(f"*/{_RUN_FILE}")))
            raise StudyError(
                f"The study '{self.name}' has no run '{name}'; it has: {known or 'none'}."
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise StudyError(
                f"{folder / _RUN_FILE} is damaged; delete the folder {folder} or restore it."
            ) from error
