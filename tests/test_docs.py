"""What the documentation shows runs, and what it links to is there."""

from __future__ import annotations

import re
from pathlib import Path

import imageio.v3 as iio
import pytest
from skimage import data
from typer.testing import CliRunner

from napari_mtssl.cli import app
from napari_mtssl.cli.demo.cells import make_study

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md"))]
README = (REPOSITORY / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_links_within_the_repository_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.slow
def test_the_readme_s_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with make_study(tmp_path) as study:
        study.path.rename(tmp_path / "breast.mtssl")
    iio.imwrite("slide3.png", data.immunohistochemistry()[:128, :128])
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert '"steps": 500' in code
    found = {}
    exec(code.replace('"steps": 500', '"steps": 2, "pool": 64'), found)
    assert found["event"].kind == "finished"
    assert isinstance(found["cells"], list)


@pytest.mark.slow
def test_the_python_of_tissue_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    iio.imwrite("slide1.png", data.immunohistochemistry()[:192, :216])
    (code,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "tissue.md").read_text(), re.S)
    few = '"steps": 2, "widths": "4-6", "stem": 1, "crop": 64, "batch_size": 2, "views": 1'
    assert '"steps": 400' in code
    found = {}
    exec(code.replace('"steps": 400', few).replace("steps=400", "steps=2"), found)
    assert found["event"].kind == "finished"
    assert found["found"].mask.shape == (2, 192, 216)
    assert len(found["study"].blocks(1)) == 12


COMMANDS = re.findall(r"^napari-mtssl (\w+) (.*?)(?:\s+#.*)?$", README, re.M)


@pytest.mark.parametrize(("command", "arguments"), COMMANDS, ids=[c for c, _ in COMMANDS])
def test_the_readme_s_commands_have_those_options(command, arguments):
    words = [command, arguments.split()[0]] if command == "reproduce" else [command]
    told = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"})
    assert told.exit_code == 0
    for option in re.findall(r"--[a-z]+", arguments):
        assert option in told.output
