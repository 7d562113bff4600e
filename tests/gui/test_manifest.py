"""What napari is told about the plugin is true."""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from npe2 import PluginManifest

import napari_mtssl

PACKAGE = Path(napari_mtssl.__file__).parent
MANIFEST = PluginManifest.from_file(PACKAGE / "napari.yaml")
COMMANDS = {command.id: command.python_name for command in MANIFEST.contributions.commands}


@pytest.mark.gui
@pytest.mark.parametrize("python_name", COMMANDS.values(), ids=COMMANDS)
def test_every_command_can_be_imported(python_name):
    module, _, name = str(python_name).partition(":")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.gui
def test_npe2_finds_nothing_wrong():
    validate = [sys.executable, "-m", "npe2", "validate", str(PACKAGE / "napari.yaml"), "--imports"]
    done = subprocess.run(validate, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_manifest_is_found_by_the_installed_package():
    found = PluginManifest.from_distribution("napari-mtssl")
    assert found.name == "napari-mtssl"
    assert found.contributions.widgets[0].display_name == "Label and train"


def test_menus_call_the_plugin_by_the_name_that_opens_its_dock():
    """Docks opened from a menu are kept by the display name: another would put a second one beside it."""
    assert MANIFEST.display_name == MANIFEST.name


def test_the_manifest_at_the_top_is_the_packages_own(repository):
    top = repository / "napari.yaml"
    assert top.is_symlink()
    assert top.resolve() == (PACKAGE / "napari.yaml").resolve()


def test_contributions_use_only_commands_that_exist():
    used = {item.command for item in MANIFEST.contributions.widgets}
    used |= {item.command for item in MANIFEST.contributions.sample_data}
    used |= {item.command for item in MANIFEST.contributions.readers}
    used |= {item.command for menu in MANIFEST.contributions.menus.values() for item in menu}
    assert used == set(COMMANDS)


def test_the_dock_is_in_the_layers_menus():
    assert {"napari/layers/annotate", "napari/layers/classify"} <= set(MANIFEST.contributions.menus)


@pytest.mark.parametrize("path", sorted((PACKAGE / "gui").rglob("*.py")), ids=lambda p: p.name)
def test_only_public_names_of_napari_are_used(path):
    """No private module, no private attribute of anything but self, and no way round to the Qt viewer."""
    tree = ast.parse(path.read_text())
    wrong = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("napari", "superqt", "npe2")):
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            wrong += [name for name in names if name.startswith("_")]
        elif isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if (
                node.attr.startswith("_") and not node.attr.startswith("__") and not own
            ) or node.attr == "qt_viewer":
                wrong.append(f"{node.attr} (line {node.lineno})")
    assert not wrong


@pytest.mark.gui
def test_opening_the_dock_loads_neither_torch_nor_pyqtgraph():
    code = (
        "import napari, sys\n"
        "from napari_mtssl.gui.dock import Dock\n"
        "viewer = napari.Viewer(show=False)\n"
        "viewer.window.add_dock_widget(Dock(viewer))\n"
        "loaded = {'torch', 'kornia', 'pyqtgraph', 'sklearn'} & set(sys.modules)\n"
        "viewer.close()\n"
        "print('LOADED', sorted(loaded))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ,
    )
    assert "LOADED []" in done.stdout, done.stdout + done.stderr


def test_importing_the_package_loads_almost_nothing():
    code = "import sys, napari_mtssl; print('LOADED', {'torch', 'napari', 'qtpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "LOADED set()" in done.stdout, done.stdout + done.stderr


def test_what_can_be_labelled_has_one_name_everywhere(repository):
    from napari_mtssl.cli.demo import Subject
    from napari_mtssl.gui.tasks import TASKS
    from napari_mtssl.methods import get_method
    from napari_mtssl.study.templates import TEMPLATES

    names = [task.title for task in TASKS]
    assert names == ["Cells", "Tissue", "Lungs", "Specimens"]
    assert [template.title for template in TEMPLATES.values()] == names
    assert [name.lower() for name in names] == list(TEMPLATES) == [subject.value for subject in Subject]
    for task in TASKS:
        assert get_method(task.method).title.startswith(f"{task.title} (")
    for sample in MANIFEST.contributions.sample_data:
        assert sample.display_name.split(" - ")[0] in names
    readme = (repository / "README.md").read_text()
    assert all(f"**{name}**" in readme or f"**[{name}](docs/" in readme for name in names)
