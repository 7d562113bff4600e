from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from napari_mtssl.study import ImageRecord, Study, StudyError, schema

from .conftest import everything, many_cells

FILE = "study.sqlite"


def content(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture
def closed(study: Study, image: ImageRecord) -> Path:
    study.add_cells(many_cells(image.id, 500))
    study.close()
    return study.path


def refused(path: Path, sentence: str) -> None:
    """Opening raises this sentence and leaves every byte of the folder as it was."""
    before = content(path)
    with pytest.raises(StudyError, match=sentence) as caught:
        Study.open(path)
    assert "\n" not in str(caught.value)
    assert content(path) == before


def test_create_and_open(tmp_path: Path) -> None:
    with Study.create(tmp_path / "new" / "breast") as made:
        assert made.path == tmp_path / "new" / "breast.mtssl"
        assert made.name == "breast"
        assert not made.read_only
    for path in (made.path, str(made.path), tmp_path / "new" / "breast", made.path / FILE):
        with Study.open(path) as opened:
            assert opened.path == made.path
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["breast.mtssl"]


def test_closed_studies_are_one_file(closed: Path) -> None:
    assert sorted(content(closed)) == [FILE]


def test_create_never_replaces(closed: Path, tmp_path: Path) -> None:
    before = content(closed)
    with pytest.raises(StudyError, match=r"There is something at .*breast.mtssl already"):
        Study.create(closed)
    with pytest.raises(StudyError, match="There is something at"):
        Study.create(tmp_path / "breast")
    assert content(closed) == before


def test_create_where_that_is_impossible(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="No study can be made at"):
        Study.create(tmp_path / "file" / "s")


def test_no_study(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"There is no study at .*nowhere"):
        Study.open(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", f"is no study: there is no {FILE} in it")


def test_newer_schema(closed: Path) -> None:
    with closing(sqlite3.connect(closed / FILE)) as connection:
        connection.execute("PRAGMA user_version = 99")
    refused(
        closed, r"made by a newer napari-mtssl \(format 99, this one knows 3\); nothing was changed. Update"
    )


def test_older_schema_is_brought_up_and_kept(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Study.open(closed) as study:
        before = everything(study)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE later (id INTEGER)",)))
    with Study.open(closed) as study:
        assert everything(study) == before
        study.undo()
    with closing(sqlite3.connect(closed / FILE)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
        assert connection.execute("SELECT count(*) FROM later").fetchone() == (0,)
    with closing(sqlite3.connect(closed / f"study.v{len(schema.MIGRATIONS) - 1}.sqlite")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS) - 1,)
        assert connection.execute("SELECT count(*) FROM cells").fetchone() == (500,)


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("classes", "name = x'00ff' WHERE id = 2"),
        ("cells", "row = 'here' WHERE id = 77"),
        ("cells", "time = 'yesterday'"),
        ("images", "path = x'00'"),
        ("state", "counter = 'many'"),
        ("edits", "what = x'07'"),
    ],
)
def test_a_value_of_a_wrong_type_is_damage(closed: Path, table: str, change: str) -> None:
    with closing(sqlite3.connect(closed / FILE)) as connection:
        connection.execute(f"UPDATE {table} SET {change}")
        connection.commit()
    refused(closed, f"is damaged .a value of a wrong type in the table {table}.")


def test_a_migration_that_fails_changes_nothing(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ("CREATE TABLE later (id INTEGER)", "CREATE TABLE cells (id INTEGER)")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
        with pytest.raises(StudyError, match="table cells already exists"):
            Study.open(closed)
    with Study.open(closed) as study:
        assert len(study.cells()) == 500


def test_another_database_is_no_study(tmp_path: Path) -> None:
    (tmp_path / "x.mtssl").mkdir()
    with closing(sqlite3.connect(tmp_path / "x.mtssl" / FILE)) as connection:
        connection.execute("CREATE TABLE t (a)")
    refused(tmp_path / "x.mtssl", "is a database, but not of a study; nothing was changed")


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: b"",
        lambda data: data[:100],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-4096],
        lambda data: b"\0" * len(data),
        lambda data: random.Random(0).randbytes(len(data)),
        lambda data: data[:4096] + random.Random(0).randbytes(len(data) - 4096),
        lambda data: data[:20_000] + random.Random(0).randbytes(20_000) + data[40_000:],
        lambda data: data[:8192] + b"\0" * (len(data) - 8192),
    ],
    ids=[
        "empty",
        "100 bytes",
        "half",
        "last page",
        "zeros",
        "noise",
        "noise after page",
        "noise within",
        "hole",
    ],
)
def test_damaged(closed: Path, harm) -> None:
    (closed / FILE).write_bytes(harm((closed / FILE).read_bytes()))
    refused(
        closed, f"file .*{FILE} is damaged .*nothing in it was changed. Restore it from a backup, or rescue"
    )


def test_damaged_with_a_log_beside_it(study: Study, image: ImageRecord, tmp_path: Path) -> None:
    study.add_cells(many_cells(image.id, 500))
    killed = tmp_path / "killed.mtssl"
    killed.mkdir()
    data = (study.path / FILE).read_bytes()
    (killed / FILE).write_bytes(data[:50] + random.Random(0).randbytes(len(data) - 50))
    shutil.copy(study.path / f"{FILE}-wal", killed / f"{FILE}-wal")
    with pytest.raises(StudyError, match=r"nothing (in it )?was changed"):
        Study.open(killed)
    assert (killed / f"{FILE}-wal").read_bytes() == (study.path / f"{FILE}-wal").read_bytes()
    assert (killed / FILE).read_bytes()[:50] == data[:50]


def test_single_wrong_bytes_never_end_in_a_traceback(closed: Path) -> None:
    """A byte anywhere: refused with a sentence, or opened and readable, or refused when it is read."""
    data = (closed / FILE).read_bytes()
    rng = random.Random(1)
    refusals = 0
    for _ in range(120):
        harmed = bytearray(data)
        for _ in range(rng.choice([1, 1, 5])):
            at = rng.choice([rng.randrange(len(data)), rng.randrange(4096)])
            harmed[at] ^= rng.randrange(1, 256)
        for file in content(closed):  # a new file each time, as a copy from elsewhere is
            (closed / file).unlink()
        (closed / FILE).write_bytes(harmed)
        try:
            with Study.open(closed) as study:
                everything(study)
                study.edits()
                study.counts()
                study.undo()
        except StudyError:
            refusals += 1
    assert refusals > 0


# -- read-only -----------------------------


def look(path: Path) -> list[str]:
    """What a study shows to one who may not write, and what it answers to each edit."""
    lines = []
    with Study.open(path, annotator="guest") as study:
        counts = (study.read_only, len(study.cells()), study.change_counter(), len(study.images()))
        lines.append(" ".join(map(str, counts)))
        for act in (
            lambda: study.add_cell(1, 1, 1, "tumour"),
            study.undo,
            study.redo,
            lambda: study.add_class("x"),
            lambda: study.new_run("hydramix"),
            lambda: study.set_predictions(1, "r", study.cells()),
        ):
            with pytest.raises(StudyError) as caught:
                act()
            lines.append(str(caught.value))
        with study.reopen() as second:
            lines.append(f"{second.read_only} {len(second.cells())}")
    return lines


def looked_at_by_another_user(path: Path) -> list[str]:
    """`look` as somebody who may not write there: root, as tests in a container are, may write all."""
    incoming, outgoing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            said = "\n".join(look(path))
        except BaseException as error:  # noqa: BLE001 - told to the parent, whose test then fails
            said = f"{type(error).__name__}: {error}"
        os.write(outgoing, said.encode())
        os._exit(0)
    os.close(outgoing)
    with open(incoming, encoding="utf-8") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said.splitlines()


@pytest.fixture
def shared():
    """A folder that others can see (pytest's own cannot)."""
    with tempfile.TemporaryDirectory(prefix="mtssl-shared-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)


def lock(path: Path) -> None:
    for file in path.rglob("*"):
        file.chmod(0o444 if file.is_file() else 0o555)
    path.chmod(0o555)


needs_users = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs the permissions of POSIX")


def check_read_only(path: Path, n: int, counter: int) -> None:
    said = looked_at_by_another_user(path)
    assert len(said) == 8, said
    first, *refusals, last = said
    assert first == f"True {n} {counter} 1"
    assert len(refusals) == 6
    for line in refusals:
        assert line.startswith("The study '") and "can only be read, so nothing was changed" in line
        assert str(path) in line
    assert last == f"True {n}"


@needs_users
def test_read_only_folder(closed: Path, shared: Path) -> None:
    path = Path(shutil.copytree(closed, shared / "s.mtssl"))
    with Study.open(path) as study:
        counter = study.change_counter()
    before = content(path)
    lock(path)
    check_read_only(path, 500, counter)
    assert content(path) == before


@needs_users
def test_read_only_file_in_a_folder_that_can_be_written(closed: Path, shared: Path) -> None:
    path = Path(shutil.copytree(closed, shared / "s.mtssl"))
    with Study.open(path) as study:
        counter = study.change_counter()
    path.chmod(0o777)
    (path / FILE).chmod(0o444)
    check_read_only(path, 500, counter)


@needs_users
def test_read_only_after_a_kill_shows_the_last_click(study: Study, image: ImageRecord, shared: Path) -> None:
    """The clicks since the last checkpoint are in the write-ahead log alone."""
    study.add_cells(many_cells(image.id, 7))
    counter = study.change_counter()
    path = shared / "s.mtssl"
    path.mkdir()
    for suffix in ("", "-wal"):  # as a kill leaves them, the shared memory gone with a restart
        shutil.copy(study.path / f"{FILE}{suffix}", path / f"{FILE}{suffix}")
    before = content(path)
    lock(path)
    check_read_only(path, 7, counter)
    assert content(path) == before


@needs_users
def test_read_only_while_its_owner_works_on_it(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    with Study.create(shared / "s") as study:
        image = study.add_image(tmp_path / "a.png", height=10, width=10)
        study.add_class("tumour")
        study.add_cell(image.id, 1, 1, "tumour")
        lock(study.path)
        check_read_only(study.path, 1, study.change_counter())
        study.path.chmod(0o755)
        for file in study.path.iterdir():
            file.chmod(0o755)
        study.add_cell(image.id, 2, 2, "tumour")
    with Study.open(study.path) as again:
        assert len(again.cells()) == 2
