"""A click is on disk when the call returns: whatever happens next."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from napari_mtssl.study import ImageRecord, Study, StudyError, database

from .conftest import everything, many_cells

CLICKER = """
    import sys
    from napari_mtssl.study import Study
    with Study.open(sys.argv[1]) as study:
        while True:
            print(study.add_cell(1, 5, 5, "tumour"), flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is of POSIX")
def test_no_acknowledged_click_is_lost_by_a_kill(study: Study, image: ImageRecord) -> None:
    rng = random.Random(0)
    acknowledged: set[int] = set()
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CLICKER), str(study.path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        acknowledged.add(int(process.stdout.readline()))  # it is clicking
        time.sleep(rng.uniform(0.02, 0.2))
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        # the last line may be cut short
        acknowledged.update(int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n"))
        with Study.open(study.path) as after:
            assert acknowledged <= set(after.cells()["id"])
            assert after.undo() == "Undone: Added a tumour cell to slide1.png"
            assert after.redo() is not None
    assert len(acknowledged) >= 6


def test_create_killed_half_way_leaves_no_half_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(file: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(database, "create", killed)
        with pytest.raises(KeyboardInterrupt):
            Study.create(tmp_path / "s")
    assert list(tmp_path.iterdir()) == []
    Study.create(tmp_path / "s").close()


# -- several connections -----------------------------


def test_a_second_connection_sees_each_change_at_once(study: Study, image: ImageRecord) -> None:
    seen: list[tuple[int, int]] = []
    clicked, looked = threading.Event(), threading.Event()

    def train() -> None:
        with study.reopen() as mine:
            for _ in range(3):
                clicked.wait(10)
                clicked.clear()
                seen.append((mine.change_counter(), len(mine.cells())))
                looked.set()

    thread = threading.Thread(target=train)
    thread.start()
    start = study.change_counter()
    for i in range(3):
        study.add_cell(image.id, i, i, "tumour")
        clicked.set()
        assert looked.wait(10)
        looked.clear()
    thread.join(10)
    assert seen == [(start + 1, 1), (start + 2, 2), (start + 3, 3)]


def test_a_connection_made_here_may_be_used_there(study: Study, image: ImageRecord) -> None:
    second = study.reopen()
    thread = threading.Thread(target=lambda: second.add_cell(image.id, 1, 1, "tumour"))
    thread.start()
    thread.join(10)
    second.close()
    assert len(study.cells()) == 1


def test_many_threads_click_on_one_study(study: Study, image: ImageRecord) -> None:
    def click(own: Study) -> None:
        for _ in range(20):
            own.add_cell(image.id, 1, 1, "tumour")

    second = study.reopen()
    threads = [threading.Thread(target=click, args=(s,)) for s in (study, study, second, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(study.cells()) == 80
    assert sorted(study.cells()["id"]) == list(range(1, 81))
    second.close()


def _click_and_count(path: str, answers) -> None:
    with Study.open(path, annotator="bob") as study:
        before = study.change_counter()
        study.add_cell(1, 2, 2, "tumour")
        answers.put((before, study.change_counter(), len(study.cells())))


def test_another_process_sees_and_is_seen(study: Study, image: ImageRecord) -> None:
    study.add_cell(image.id, 1, 1, "tumour")
    before = study.change_counter()
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_click_and_count, args=(str(study.path), answers))
    process.start()
    assert answers.get(timeout=60) == (before, before + 1, 2)
    process.join(60)
    assert study.change_counter() == before + 1
    assert study.cells()["annotator"].tolist() == ["ada", "bob"]
    study.undo()  # the history is one
    assert study.cells()["annotator"].tolist() == ["ada"]


def test_a_busy_study_says_so(study: Study, image: ImageRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with study.reopen() as second, study.edit("Something long"):
        study.add_cell(image.id, 1, 1, "tumour")
        with pytest.raises(StudyError, match=r"Another program is writing to .*; wait a moment"):
            second.add_cell(image.id, 2, 2, "tumour")
        assert second.cells().empty  # reading never waits
    assert len(study.cells()) == 1


def test_a_closed_study_says_so(study: Study, image: ImageRecord) -> None:
    study.close()
    study.close()
    for act in (study.cells, study.undo, lambda: study.add_cell(image.id, 1, 1, "tumour")):
        with pytest.raises(StudyError, match="has been closed; open it again"):
            act()


# -- the folder goes away -----------------------------


def gone_says_so(study: Study, image: ImageRecord) -> None:
    for act in (
        lambda: study.add_cell(image.id, 2, 2, "tumour"),
        study.undo,
        study.change_counter,
        lambda: study.new_run("hydramix"),
        lambda: study.set_predictions(image.id, "run", study.cells().assign(confidence=1.0)),
    ):
        with pytest.raises(StudyError, match="was deleted, moved or replaced while it was open"):
            act()
    assert len(study.cells()) == 1  # can still be exported


def test_deleted_while_open(study: Study, image: ImageRecord) -> None:
    study.add_cell(image.id, 1, 1, "tumour")
    shutil.rmtree(study.path)
    gone_says_so(study, image)
    assert not study.path.exists()


def test_moved_while_open(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    study.add_cell(image.id, 1, 1, "tumour")
    study.path.rename(tmp_path / "other.mtssl")
    gone_says_so(study, image)
    with Study.open(tmp_path / "other.mtssl") as other:
        assert len(other.cells()) == 1


def test_replaced_while_open(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    study.add_cell(image.id, 1, 1, "tumour")
    study.path.rename(tmp_path / "other.mtssl")
    Study.create(study.path).close()
    gone_says_so(study, image)
    with Study.open(study.path) as new:
        assert new.cells().empty


def test_deleted_in_the_middle_of_an_edit(study: Study, image: ImageRecord) -> None:
    with pytest.raises(StudyError, match="deleted, moved or replaced"), study.edit("Something long"):
        study.add_cell(image.id, 1, 1, "tumour")
        shutil.rmtree(study.path)


# -- the disk is full -----------


def test_a_full_disk_keeps_what_was_there(study: Study, image: ImageRecord) -> None:
    study.add_cells(many_cells(image.id, 50))
    before, counter = everything(study), study.change_counter()
    connection = study._db.connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(
        f"PRAGMA max_page_count = {pages}"
    )  # SQLite's own seam: SQLITE_FULL, as of a full disk
    with pytest.raises(
        StudyError, match=r"The disk of .* is full: this change was not kept. Free some space"
    ):
        study.add_cells(many_cells(image.id, 5000))
    assert everything(study) == before
    assert study.change_counter() == counter
    connection.execute("PRAGMA max_page_count = 1000000")
    study.add_cells(many_cells(image.id, 5000))
    assert len(study.cells()) == 5050


def test_every_error_of_the_database_is_one_sentence(study: Study) -> None:
    for code in (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_TOOBIG,
    ):
        error = sqlite3.OperationalError("reason")
        error.sqlite_errorcode = code
        with pytest.raises(StudyError, match=str(study.path)) as caught, study._db.explained():
            raise error
        assert caught.value.__cause__ is error
        assert "\n" not in str(caught.value)


# -- size -----------------------------


def test_a_hundred_thousand_cells_are_kept(study: Study, image: ImageRecord) -> None:
    study.add_cells(many_cells(image.id, 100_000))
    study.close()
    with Study.open(study.path) as opened:
        assert len(opened.cells()) == 100_000  # how fast: benchmarks/labels.py
