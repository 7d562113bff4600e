"""Drive the real window through the stories of the documentation and take their pictures.

Each story opens a sample, labels, trains, waits for predictions and reviews some. Only the image that ships
with scikit-image and made-up ones are shown. Run under Xvfb by ``make screenshots``, or on a desktop.

    python docs/make_screenshots.py [--out docs/images] [--only cells,tissue,lungs,...] [--steps N]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (1400, 860)
WAIT = 1800  # seconds for a training
COLOURS = 256  # of a picture's palette: a third of the bytes
SLIDE = 8_400  # pixels, both ways: more than 67 million, so that it counts as a slide
CLUSTER = (  # as in docs/slides.md
    "scheduler --host 127.0.0.1 --port 8786 --preload napari_mtssl.engine.workers",
    (
        "worker tcp://127.0.0.1:8786 --nworkers 2 --nthreads 1 --memory-limit 0 "
        "--preload-nanny napari_mtssl.engine.workers"
    ),
)


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--only", default=",".join(STORIES), help="stories, with commas between")
    parser.add_argument("--steps", type=int, help="training steps before the review")
    options = parser.parse_args()
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        if shutil.which("xvfb-run") is None:
            sys.exit("There is no display and no Xvfb: install xvfb, or run this on a desktop.")
        os.execvp("xvfb-run", ["xvfb-run", "-a", "-s", "-screen 0 1600x1200x24", sys.executable, *sys.argv])
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
        os.environ["XDG_CONFIG_HOME"] = folder
        os.environ["HOME"] = folder  # the sample's study, and no name of a user's folder in a picture
        for name in options.only.split(","):
            sample, steps, tell = STORIES[name]
            story = Story(options.out, Path(folder), sample, options.steps or steps)
            tell(story)
            story.end()


class Story:
    """A napari window with the dock and a sample, and what every story does with it."""

    def __init__(self, out: Path, home: Path, sample: str | None, steps: int) -> None:
        import napari
        from napari.settings import get_settings

        get_settings().appearance.theme = "dark"
        self.out, self.home, self.steps = out, home, steps
        self.viewer = napari.Viewer(show_welcome_screen=False)
        self.viewer.window.resize(*SIZE)
        if sample is not None:
            self.viewer.open_sample("napari-mtssl", sample)
        _, self.dock = self.viewer.window.add_plugin_dock_widget("napari-mtssl", "Label and train")
        self.wait(600, lambda: self.dock.train_panel.advanced_note.isHidden())
        self.wait(1)

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Run the event loop."""
        from qtpy.QtWidgets import QApplication

        end = time.perf_counter() + seconds
        while time.perf_counter() < end and not until():
            QApplication.processEvents()
            time.sleep(0.01)

    def shot(self, name: str) -> None:
        """Take a picture of the window."""
        self.wait(6)  # notifications have gone
        self.viewer.canvas.overlays["_brush_circle"].visible = False
        save(self.viewer.window.screenshot(canvas_only=False, flash=False), self.out / f"{name}.png")

    def grab(self, widget: Any, name: str) -> None:
        """Take a picture of another window."""
        from qtpy.QtGui import QImage

        picture = widget.window().grab().toImage().convertToFormat(QImage.Format.Format_RGBA8888)
        bits = picture.constBits()
        bits.setsize(picture.sizeInBytes())
        shape = (picture.height(), picture.width(), 4)
        save(np.frombuffer(bits, np.uint8).reshape(shape), self.out / f"{name}.png")

    def tab(self, at: int, scroll: int = 0) -> None:
        """Open a step of the dock."""
        self.dock.tabs.setCurrentIndex(at)
        self.wait(0.5)
        self.dock.tabs.currentWidget().verticalScrollBar().setValue(scroll)

    def train(self, name: str, enough: Callable[[], bool] = lambda: False, **settings: Any) -> None:
        """Press Train; take a picture when more than half is done; wait for the end, or for enough."""
        panel = self.dock.train_panel
        # nobody waits for the first picture here
        self.dock.runner.options = replace(self.dock.runner.options, preview_seconds=20, pseudo_seconds=5)
        self.tab(2)
        if settings:
            panel.advanced.expand(animate=False)
            for field, value in settings.items():
                widget = panel.form.fields[field]
                if hasattr(widget, "setValue"):
                    widget.setValue(value)
                elif hasattr(widget, "findData"):
                    widget.setCurrentIndex(widget.findData(value))
                else:
                    widget.setText(str(value))
            panel.advanced.collapse(animate=False)
        panel.steps.setValue(self.steps)
        panel.start_button.click()
        self.wait(WAIT, lambda: self.over or panel.progress.value() > 0.6 * self.steps)
        self.wait(30, lambda: self.over or "first_prediction_s" in panel.timings)
        self.shot(name)
        if panel.shown.balance.data:  # the weights of the tasks move: they are further down
            self.dock.tabs.currentWidget().ensureWidgetVisible(panel.shown.norms)
            self.shot(name.replace("train", "weights"))
        self.wait(WAIT, lambda: self.over or enough())
        if self.dock.runner.failure is not None:
            sys.exit(f"Training failed: {self.dock.runner.failure.reason}")

    @property
    def over(self) -> bool:
        """Whether the training waits for new labels, or has ended."""
        return self.dock.runner.state.name == "WAITING" or not self.dock.runner.busy

    def look(self, row: float, col: float, zoom: float) -> None:
        """Bring a place to the centre."""
        self.dock.layers.look_at(row, col)
        self.viewer.scene.camera.zoom = zoom

    def show(self, *names: str) -> None:
        """Show these of the layers over the image, and no others."""
        for layer in self.viewer.layers:
            if "mtssl" in layer.metadata:
                layer.visible = layer.name in names

    def end(self) -> None:
        """Close the window."""
        self.dock.runner.stop()
        self.wait(60, lambda: not self.dock.runner.busy)
        self.viewer.close()
        self.wait(1)


def save(picture: np.ndarray, path: Path) -> None:
    """Write a picture with a palette of its own, in which the few pixels of a thin line count, too."""
    from PIL import Image

    whole = Image.fromarray(picture[..., :3])
    common = whole.quantize(COLOURS // 2, Image.Quantize.MEDIANCUT).getpalette()
    rare = whole.quantize(COLOURS // 2, Image.Quantize.MAXCOVERAGE).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette((common + rare)[: 3 * COLOURS])
    whole.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


def cells(story: Story) -> None:
    """Clicks on cells become predictions of all of them."""
    dock, viewer = story.dock, story.viewer
    story.tab(0)
    story.shot("study")
    story.tab(1)
    dock.set_click_mode(True)
    story.look(256, 256, 2.2)
    story.shot("label")
    viewer.reset_view()
    story.train("train")
    story.tab(3)
    for verdict in ("accept", "reject", "accept"):
        dock.review_panel.step(1)
        story.wait(0.3)
        getattr(dock.review_panel, verdict)()
        story.wait(0.3)
    story.look(*dock.review_panel.current(), 2.5)
    story.shot("review")
    viewer.reset_view()
    dock.layers.points["Predictions"].visible = False
    dock.layers.points["Labels"].visible = False
    dock.layers.uncertainty.visible = True
    story.shot("uncertainty")


def tissue(story: Story) -> None:
    """Coarse blocks become outlines."""
    from napari_mtssl.cli.demo.tissue import QUICK

    dock = story.dock
    story.tab(1)
    page = dock.label_panel.blocks
    page.block_tools.buttons["paint"].click()
    story.shot("tissue-label")
    page.region_tools.buttons["add_polygon_lasso"].click()
    around = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    for name, row, col, size in (("95-100", 105, 370, 42), ("0-20", 425, 472, 30)):
        dock.workspace.set_active(name, "block")
        far = size * (1 + 0.15 * np.sin(3 * around))
        shape = np.stack([row + far * np.sin(around), col + far * np.cos(around)], 1)
        dock.regions.layer.add_polygons(shape)
    page.region_tools.buttons["select"].click()
    dock.regions.layer.selected_data = {0}
    story.shot("tissue-regions")
    look(story)
    page.statistics_section.expand(animate=False)
    page.statistics.table.setCurrentCell(6, 2)
    story.tab(1, 400)
    story.shot("tissue-statistics")
    page.statistics_section.collapse(animate=False)
    story.show("Blocks", "Regions", "Predicted mask")
    for layer in (dock.rasters.found["Blocks"], dock.regions.layer):
        layer.opacity = 0.15
    story.train("tissue-train", **QUICK)
    story.tab(3)
    story.show("Predicted mask", "Mask")
    correct(story)
    story.shot("tissue-review")
    story.show("Uncertainty")
    story.shot("tissue-uncertainty")


def look(story: Story) -> None:
    """Say of blocks how much of them is brown, and where bins end; the windows that ask for it."""
    from napari_mtssl.gui.panels.bins import BinsDialog
    from napari_mtssl.gui.panels.looking import LookDialog, some_blocks

    dock = story.dock
    blocks = LookDialog("50-60", "brown", some_blocks(dock.workspace, "50-60"), dock)
    for box, share in zip(blocks.shares, (50, 60, 55, 60, 50), strict=False):
        box.setValue(share)
    bins = BinsDialog("Bins of the probability", ["brown"], (64, 48), 0.5, dock)
    bins.edges.setText("0, 20, 50, 80, 100")
    for window, name in ((blocks, "tissue-look"), (bins, "tissue-bins")):
        window.show()
        story.wait(1)
        story.grab(window, name)
        window.close()


def odd(story: Story) -> None:
    """Five classes on blocks of 20 x 28 um of images with twelve bits of sixteen."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    from superres_odd import unusual

    with unusual(story.home) as study:
        path = study.path
    dock = story.dock
    dock.open_study(path)
    story.wait(3)
    story.tab(1)
    dock.label_panel.blocks.grid.size.unit.setCurrentText("µm")
    dock.label_panel.blocks.block_tools.buttons["paint"].click()
    story.show("Blocks", "Predicted mask")
    story.shot("tissue-odd")


def correct(story: Story) -> None:
    """Paint a little of the exact mask where the network is least sure."""
    dock = story.dock
    place = dock.rasters.doubtful_places().sort_values("uncertainty").iloc[-1]
    dock.deeds.take_tool("mask", "paint", 9)
    layer = dock.rasters.found["Mask"]
    with layer.block_history():
        for shift in range(-12, 13, 3):
            layer.paint((place["row"] + shift / 2, place["col"] + shift), layer.selected_label)


def images(story: Story, name: str, picture: str, **settings: Any) -> None:
    """Masks and classes of some images become those of all."""
    dock = story.dock
    story.tab(1)
    story.wait(8, lambda: len(dock.label_panel.images.thumbnails.pictures) > 6)
    story.shot(f"{name}-label")
    dock.label_panel.images.next_unlabelled()
    story.show("Predicted mask")
    dock.train_panel.mode.setCurrentIndex(1)
    story.train(f"{name}-train", **settings)
    dock.train_panel.predict_all_button.click()
    story.wait(2, lambda: dock.runner.busy)
    story.wait(WAIT, lambda: not dock.runner.busy)
    story.tab(3)
    story.wait(3)
    dock.label_panel.images.next_uncertain()
    story.show("Predicted mask", picture)
    if picture == "Saliency":
        story.wait(2)
        dock.mask_review.seen_class.setCurrentText("pneumonia")
        dock.mask_review.seen_how.setCurrentText("smooth-gradient")
        dock.mask_review.seen_button.click()
        story.wait(60, lambda: not dock.runner.busy)
    story.shot(f"{name}-review")
    story.tab(1)
    dock.label_panel.images.show_sheet()
    sheet = dock.label_panel.images.sheet
    sheet.order.setCurrentText("by doubt")
    story.wait(6)
    story.grab(sheet, f"{name}-sheet")


def lungs(story: Story) -> None:
    """Ten lungs and some diagnoses become all of them, with what led to them."""
    images(story, "lungs", "Saliency", size=64)


def specimens(story: Story) -> None:
    """Mask, pattern and intensity at once, their losses balanced."""
    from napari_mtssl.cli.demo.specimens import SETTINGS

    images(story, "specimens", "Uncertainty", **{**SETTINGS, "balance": "gradnorm", "tta": 4})


def slide(story: Story) -> None:
    """Clicks in some places of a slide; what is in sight is predicted first."""
    from napari_mtssl.evaluation.slide_files import write_slide
    from napari_mtssl.evaluation.slide_generator import RIM, made_slide
    from napari_mtssl.study import Study

    made = made_slide(SLIDE, SLIDE, tissue=0.35)
    path = write_slide(made, story.home / "made-up.svs")
    piece = next(piece for piece in made.pieces if piece.centre[0] < SLIDE / 2)
    rim = piece.outline(RIM)  # where tumour and stroma meet; not where the texture is mirrored
    row, col = rim[np.abs(rim % made.period - made.period / 2).max(1).argmin()]
    near = made.cells((int(row) - 200, int(col) - 300, int(row) + 200, int(col) + 300))
    with Study.create(story.home / "slide.mtssl") as study:
        image = study.add_image(path, height=SLIDE, width=SLIDE, pixel_size_um=made.pixel_size_um)
        for name in near["class"].unique():
            study.add_class(name)
        clicks = near.sample(frac=1, random_state=0).groupby("class").head(25)
        study.add_cells(clicks[["row", "col", "class"]].assign(image_id=image.id))
        places = np.random.default_rng(0).uniform((row - 200, col - 300), (row + 200, col + 300), (600, 2))
        far = [p for p in places if np.hypot(*(near[["row", "col"]].to_numpy() - p).T).min() > 14][:25]
        for place in far:
            study.add_cell(image.id, *place, "background")
    dock = story.dock
    dock.open_study(story.home / "slide.mtssl")
    story.wait(3)
    story.tab(1)
    story.shot("slide-label")
    story.look(row, col, 3.0)
    # a small network: what it finds is good enough to show, and many computers have no graphics card
    settings = {"depth": 10, "widen": 1, "turns": 1, "pool": 1000}
    # all of the slide is predicted then, what is in view first: that takes long, and is not waited for
    story.train("slide-train", lambda: dock.runner.state.name == "PREDICTING", **settings)
    tiles: list[object] = []
    dock.runner.event.connect(tiles.append)
    story.wait(45, lambda: len(tiles) > 150)  # the cluster shall have something to do, too
    story.tab(3)
    story.shot("slide-review")
    story.look(row, col, 3.0)
    on_a_cluster(story)


def on_a_cluster(story: Story) -> None:
    """Two workers go on with the prediction of the slide that was stopped here."""
    dock, panel = story.dock, story.dock.train_panel
    dock.runner.stop()
    story.wait(WAIT, lambda: not dock.runner.busy)
    dask = str(Path(sys.executable).with_name("dask"))
    with ExitStack() as stack:
        for command in CLUSTER:
            started = stack.enter_context(subprocess.Popen([dask, *command.split()]))
            stack.callback(started.terminate)
            story.wait(10)
        came: list[object] = []
        dock.runner.event.connect(came.append)
        panel.where.setEditText("tcp://127.0.0.1:8786")
        panel.predict_button.click()
        story.tab(2)
        story.wait(WAIT, lambda: len(came) >= 8 or not dock.runner.busy)
        if dock.runner.failure is not None:
            sys.exit(f"The cluster failed: {dock.runner.failure.reason}")
        story.shot("slide-cluster")
        dock.runner.stop()
        story.wait(WAIT, lambda: not dock.runner.busy)


STORIES: dict[str, tuple[str | None, int, Callable[[Story], None]]] = {
    "cells": ("ihc", 300, cells),
    "tissue": ("brown", 250, tissue),
    "tissue-odd": (None, 250, odd),
    "lungs": ("lungs", 300, lungs),
    "specimens": ("specimens", 300, specimens),
    "slide": (None, 250, slide),
}

if __name__ == "__main__":
    main()
