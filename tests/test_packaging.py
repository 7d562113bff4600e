"""The package as a user gets it: what is in the wheel, what napari finds, and what an import costs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from importlib.metadata import distribution, entry_points
from importlib.resources import files

import pytest
from npe2 import PluginManifest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import napari_mtssl

MANIFEST = files("napari_mtssl") / "napari.yaml"


@pytest.fixture(scope="module")
def project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def manifest():
    return PluginManifest.from_file(str(MANIFEST))


def test_the_version_is_the_package_s():
    assert distribution("napari-mtssl").version == napari_mtssl.__version__


def test_the_manifest_at_the_top_level_is_the_package_s(repository):
    assert (repository / "napari.yaml").read_bytes() == MANIFEST.read_bytes()


def test_napari_finds_the_manifest_of_the_installed_package():
    found = PluginManifest.from_distribution("napari-mtssl")
    assert found.name == "napari-mtssl"
    assert found.contributions.widgets


def test_every_python_name_of_the_manifest_is_there(manifest):
    names = [command.python_name for command in manifest.contributions.commands]
    assert names
    for name in names:
        module, _, attribute = name.partition(":")
        assert callable(getattr(import_module(module), attribute)), name


def test_the_registered_method_is_found_by_its_name():
    (point,) = entry_points(group="napari_mtssl.methods", name="hydramix")
    assert point.load().name == "hydramix"


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("torch", "qtpy", "PyQt5", "PyQt6", "napari", "kornia", "pandas", "numpy")
    code = f"import sys, napari_mtssl, napari_mtssl.cli; print([m for m in {heavy!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_no_qt_binding_is_forced_on_the_user(project):
    names = {canonicalize_name(Requirement(line).name) for line in project["project"]["dependencies"]}
    assert names.isdisjoint({"pyqt5", "pyqt6", "pyside2", "pyside6"})
    assert not any(
        Requirement(line).extras & {"all", "pyqt5", "pyqt6"} for line in project["project"]["dependencies"]
    )
    assert {"pyqt5", "pyqt6", "all", "dev"} <= set(project["project"]["optional-dependencies"])


def test_the_pinned_set_lies_within_the_ranges_and_is_complete(project, repository):
    pinned = {}
    for line in (repository / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            pinned[canonicalize_name(requirement.name)] = next(iter(requirement.specifier)).version
    wanted = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["dev"]]
    for line in wanted:
        requirement = Requirement(line)
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not pinned"
        assert requirement.specifier.contains(version), f"{line} excludes the tested {version}"


@pytest.mark.slow
def test_the_wheel_holds_the_manifest_and_the_sample_data(repository, tmp_path):
    pytest.importorskip("hatchling", reason="building a wheel needs hatchling: install the dev extra")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(repository),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entries,) = [name for name in names if name.endswith("entry_points.txt")]
        points = archive.read(entries).decode()
    wanted = {"napari.yaml", "cli/__init__.py", "sample_data/ihc_clicks.csv", "sample_data/ihc_heldout.csv"}
    assert {f"napari_mtssl/{name}" for name in wanted} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "benchmarks/"))]
    assert re.search(r"napari-mtssl = napari_mtssl\.cli:main", points)
    assert re.search(r"\[napari\.manifest\]\nnapari-mtssl = napari_mtssl:napari\.yaml", points)
