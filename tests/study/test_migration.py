"""Studies of version 1, as a file of the program of then, read by the program of now."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from napari_mtssl.study import Study, StudyError, database, schema

from .conftest import all_rows

DUMP = Path(__file__).with_name("version1.sql")
FILE = "study.sqlite"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A study of version 1 with edits, one of them undone."""
    folder = tmp_path / "old.mtssl"
    folder.mkdir()
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.executescript(DUMP.read_text())
    return folder


def labels(study: Study) -> tuple:
    columns = ["id", "row", "col", "class"]
    return (
        [(c.name, c.colour, c.key) for c in study.classes()],
        study.cells()[columns].to_numpy().tolist(),
    )


NOW = (
    [("background", "#999999", "9"), ("tumour", "#ff0000", "1"), ("Lymphozyt", "#00ffff", "5")],
    [[1, 9.5, 9.25, "tumour"], [2, 5.0, 6.0, "Lymphozyt"], [3, 7.0, 8.0, "background"]],
)


def test_version_1_is_what_was_released() -> None:
    text = "\n".join(schema.MIGRATIONS[0])
    assert hashlib.blake2b(text.encode(), digest_size=8).hexdigest() == "06b530d97ae23396"


def test_everything_is_there_and_can_be_undone(old: Path) -> None:
    with Study.open(old, annotator="eve") as study:
        assert labels(study) == NOW
        assert study.kinds() == ["cell"]
        assert study.predictions(1)["class"].tolist() == ["tumour"]
        assert study.change_counter() == 11
        assert study.redo() == "Redone: Removed the image slide2.png with 1 cell"
        assert len(study.cells()) == 2
        final = all_rows(study)
        study.undo()
        assert labels(study) == NOW
        assert study.undo() == "Undone: Moved a cell"
        assert study.undo() == "Undone: Removed the class mistake"
        assert [c.name for c in study.classes()][-1] == "mistake"
        assert study.undo() == "Undone: Changed the class lymphocyte"
        assert study.class_named("lymphocyte").colour == "#00ff00"
        while study.undo():
            pass
        assert study.images() == [] and [c.name for c in study.classes()] == ["background"]
        while study.redo():
            pass
        assert all_rows(study) == final


def test_ids_of_removed_classes_are_not_used_again(old: Path) -> None:
    with Study.open(old) as study:
        assert study.add_class("gland", kind="mask").code == 6  # 4 was removed, 5 is the background of masks


def test_the_old_file_is_kept_and_a_second_opening_changes_nothing(old: Path) -> None:
    Study.open(old).close()
    with closing(sqlite3.connect(old / "study.v1.sqlite")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM cells").fetchone() == (3,)
    before = (old / FILE).read_bytes()
    Study.open(old).close()
    assert (old / FILE).read_bytes() == before


def test_fresh_and_migrated_studies_have_the_same_tables(old: Path, tmp_path: Path) -> None:
    Study.create(tmp_path / "new").close()
    Study.open(old).close()
    said = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    found = []
    for folder in (old, tmp_path / "new.mtssl"):
        with closing(sqlite3.connect(folder / FILE)) as connection:
            found.append(connection.execute(said).fetchall())
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert found[0] == found[1]


def test_foreign_keys_are_watched_after_a_migration(old: Path) -> None:
    with Study.open(old) as study:
        assert study._rows("PRAGMA foreign_keys") == [(1,)]


def test_a_read_only_study_of_version_1_is_read(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p.name: p.read_bytes() for p in old.iterdir()}
    monkeypatch.setattr(database, "_connect_writable", lambda file: None)  # as where nothing may be written
    with Study.open(old) as study:
        assert study.read_only
        assert labels(study) == NOW
        assert study.blocks(1).empty
        with study.reopen() as second:
            assert labels(second) == NOW
        with pytest.raises(StudyError, match="can only be read"):
            study.undo()
    assert {p.name: p.read_bytes() for p in old.iterdir()} == before


def test_two_programs_that_open_it_at_once(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second has seen version 1, and waited while the first brought it forward."""
    real = sqlite3.Connection.backup

    with closing(database._connect(old / FILE, "mode=rw")) as slow:

        class Slow:
            def __getattr__(self, name):
                return getattr(slow, name)

            def backup(self, target) -> None:
                real(slow, target)
                Study.open(old).close()

        database._migrate(Slow(), old / FILE)
    with Study.open(old) as study:
        assert labels(study) == NOW


def test_wrong_types_in_version_1_are_damage(old: Path) -> None:
    with closing(sqlite3.connect(old / FILE)) as connection:
        connection.execute("UPDATE cells SET row = 'here' WHERE id = 2")
        connection.commit()
    with pytest.raises(StudyError, match="a value of a wrong type in the table cells"):
        Study.open(old)


def test_wrong_types_in_blobs_are_damage(tmp_path: Path) -> None:
    with Study.create(tmp_path / "s") as study:
        (tmp_path / "a.png").write_bytes(b"a")
        image = study.add_image(tmp_path / "a.png", height=9, width=9)
        code = study.add_class("gland", kind="mask").code
        study.paint_mask(image.id, 0, 0, pd.DataFrame([[code]]).to_numpy())
    with closing(sqlite3.connect(study.path / FILE)) as connection:
        connection.execute("UPDATE mask_tiles SET data = 'text'")
        connection.commit()
    with pytest.raises(StudyError, match="a value of a wrong type in the table mask_tiles"):
        Study.open(study.path)
