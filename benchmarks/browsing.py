"""How soon the next of 500 large images is on screen, and how much memory the window takes meanwhile.

Makes grey images of 2048 x 2048 (a few files, linked under many names), opens them as a study with a mask and
a diagnosis, and goes through them with the key for the next image; some masks are painted. A switch counts
until the canvas is painted.

    python benchmarks/browsing.py --json browsing.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

IMAGES, SIDE, FILES, SWITCHES = 500, 2048, 8, 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--images", type=int, default=IMAGES)
    options = parser.parse_args()
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        if shutil.which("xvfb-run") is None:
            sys.exit("There is no display and no Xvfb: install xvfb, or run this on a desktop.")
        os.execvp("xvfb-run", ["xvfb-run", "-a", "-s", "-screen 0 1600x1200x24", sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.images)
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


def make_study(folder: Path, count: int) -> Path:
    """Write the images and register them; every tenth has a painted square."""
    import imageio.v3
    import numpy as np

    from napari_mtssl.study import Study

    rng = np.random.default_rng(0)
    grid = np.indices((SIDE, SIDE)) / SIDE
    files = []
    for n in range(FILES):
        smooth = 90 + 80 * np.sin(5 * grid[0] + n) * np.cos(4 * grid[1])
        pixels = (smooth + rng.normal(0, 6, (SIDE, SIDE))).clip(0, 255).astype(np.uint8)
        files.append(folder / f"file{n}.png")
        imageio.v3.imwrite(files[-1], pixels)
    with Study.create(folder / "chests.mtssl") as study:
        lung = study.add_class("lung", kind="mask")
        for name in ("normal", "pneumonia"):
            study.add_class(name, kind="diagnosis")
        for n in range(count):
            path = folder / f"chest{n:03d}.png"
            os.link(files[n % FILES], path)
            image = study.add_image(path, height=SIDE, width=SIDE)
            if n % 10 == 1:
                study.paint_mask(image.id, 400, 400, np.full((900, 900), lung.code, np.uint16))
        return study.path


def measure(folder: Path, count: int) -> dict[str, float]:
    os.environ["NAPARI_CONFIG"] = str(folder / "napari.yaml")
    os.environ["HOME"] = os.environ["XDG_CONFIG_HOME"] = str(folder)
    import napari
    import numpy as np
    from qtpy.QtWidgets import QApplication

    from napari_mtssl.gui.dock import Dock

    path = make_study(folder, count)
    viewer = napari.Viewer(show_welcome_screen=False)
    dock = Dock(viewer)
    viewer.window.add_dock_widget(dock, name="Images")
    begun = time.perf_counter()
    dock.open_study(path)
    settle(lambda: False, 0.05)
    open_s = time.perf_counter() - begun
    settle(lambda: dock.train_panel.advanced_note.isHidden(), 120)  # the network library is loaded
    settle(lambda: False, 5)
    before = rss_mb()
    took = []
    for _ in range(SWITCHES):
        begun = time.perf_counter()
        dock.label_panel.step_image(1)
        QApplication.processEvents()
        viewer.screenshot(canvas_only=True, flash=False)  # painted when this returns
        took.append(time.perf_counter() - begun)
        settle(lambda: False, 0.3)
    figures = {
        "next_image_s": float(np.median(took)),
        "next_image_p95_s": float(np.percentile(took, 95)),
        "next_image_max_s": float(max(took)),
        "open_s": open_s,
        "images": count,
        "side": SIDE,
        "rss_mb_before": before,
        "rss_mb": rss_mb(),
        "rss_mb_most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "thumbnails": len(dock.label_panel.images.thumbnails.pictures),
        "load": os.getloadavg()[0],
    }
    viewer.close()
    return {name: round(value, 3) for name, value in figures.items()}


def rss_mb() -> float:
    """Memory in use, libraries included (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def settle(condition, seconds: float) -> None:
    """Run the event loop until something is true, or the time is over."""
    from qtpy.QtWidgets import QApplication

    end = time.perf_counter() + seconds
    while time.perf_counter() < end and not condition():
        QApplication.processEvents()
        time.sleep(0.005)


if __name__ == "__main__":
    main()
