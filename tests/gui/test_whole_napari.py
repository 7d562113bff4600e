"""The plugin as napari itself finds it: menus' commands, samples, a study dropped onto the window."""

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.gui, pytest.mark.slow]

BEGIN = """
import sys, time, napari
from pathlib import Path
from qtpy.QtWidgets import QApplication
def settle(seconds=3.0, until=lambda: False):
    end = time.time() + seconds
    while time.time() < end and not until():
        QApplication.processEvents()
        time.sleep(0.01)
def dock_of(viewer):
    return viewer.window.add_plugin_dock_widget("napari-mtssl", "Label and train")[1]
"""


def run(code, folder):
    """Run napari in a process of its own, with its own home."""
    env = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    command = [sys.executable, "-W", "ignore", "-c", BEGIN + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def test_a_sample_opens_the_dock_with_a_ready_study(tmp_path):
    out = run(
        """
viewer = napari.Viewer(show=False)
viewer.open_sample("napari-mtssl", "field", size=128)
dock = dock_of(viewer)
settle(10, lambda: dock.workspace.study is not None)
print("STUDY", dock.workspace.study.name, [layer.name for layer in viewer.layers])
viewer.close()
""",
        tmp_path,
    )
    assert "STUDY field ['field.png', 'Uncertainty', 'Pseudo-labels', 'Predictions', 'Labels']" in out


def test_a_study_dropped_onto_napari_opens_in_the_dock(tmp_path, study_path):
    out = run(
        f"""
viewer = napari.Viewer(show=False)
viewer.open({str(study_path)!r}, plugin="napari-mtssl")
dock = dock_of(viewer)
print("STUDY", dock.workspace.study.name, dock.workspace.image.path.name)
viewer.close()
""",
        tmp_path,
    )
    assert "STUDY small first.png" in out


def test_the_command_opens_a_window_with_a_study(tmp_path, study_path):
    out = run(
        f"""
from napari_mtssl.gui.launch import open_window
def look():
    viewer = napari.current_viewer()
    print("STUDY", dock_of(viewer).workspace.study.name)
    viewer.close()
napari.run = look
open_window(Path({str(study_path)!r}))
""",
        tmp_path,
    )
    assert "STUDY small" in out
