"""How long ``import napari_mtssl`` takes, and opening the dock in a napari window that is open already.

python benchmarks/startup.py --json startup.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TIMES = 5
OPEN = """
import os, sys, tempfile, time
os.environ["NAPARI_CONFIG"] = os.path.join(tempfile.mkdtemp(), "napari.yaml")
import napari
from qtpy.QtWidgets import QApplication
viewer = napari.Viewer()
def settle(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        QApplication.processEvents()
settle(2)
begun = time.perf_counter()
viewer.window.add_plugin_dock_widget("napari-mtssl", "Label and train")
QApplication.processEvents()
seconds = time.perf_counter() - begun
assert not {"torch", "pyqtgraph"} & set(sys.modules)
print("SECONDS", seconds)
viewer.close()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        if shutil.which("xvfb-run") is None:
            sys.exit("There is no display and no Xvfb: install xvfb, or run this on a desktop.")
        os.execvp("xvfb-run", ["xvfb-run", "-a", "-s", "-screen 0 1600x1200x24", sys.executable, *sys.argv])
    figures = {
        "import_s": statistics.median(_process("import napari_mtssl") for _ in range(TIMES))
        - statistics.median(_process("pass") for _ in range(TIMES)),
        "dock_s": statistics.median(_dock() for _ in range(TIMES)),
    }
    text = json.dumps({name: round(max(value, 0.0), 4) for name, value in figures.items()}, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


def _process(code: str) -> float:
    """Seconds of a fresh interpreter."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tempfile.gettempdir())
    return time.perf_counter() - begun


def _dock() -> float:
    """Seconds to open the dock, in a fresh napari."""
    run = [sys.executable, "-W", "ignore", "-c", OPEN]
    done = subprocess.run(run, capture_output=True, text=True, cwd=tempfile.gettempdir(), check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith("SECONDS")]
    if not found:
        sys.exit(f"The dock did not open:\n{done.stdout}\n{done.stderr}")
    return float(found[0].split()[1])


if __name__ == "__main__":
    main()
