"""Many predicted cells of a slide: a map from afar, the cells themselves from near."""

import numpy as np
import pandas as pd
import pytest

from napari_mtssl.engine.slide_prediction import SlideStore
from napari_mtssl.engine.tile_output import TileOutput, packed
from napari_mtssl.gui.slide_cells import MOST

pytestmark = pytest.mark.gui
CLASSES = ("round", "long")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    identity = {"image": "a.svs", "size": [20_000, 20_000], "pixel size": 0.5}
    store = SlideStore(tmp_path / "a.prediction", identity, CLASSES)
    frame = pd.DataFrame(rng.uniform(0, 20_000, (20_000, 2)), columns=["row", "col"])
    frame["class"] = rng.choice(CLASSES, len(frame))
    cells = packed(frame.assign(confidence=0.5, uncertainty=0.5), CLASSES)
    store.commit(0, TileOutput(cells, None, {}, 0.1))
    store.close()
    return store.folder


def test_a_map_from_afar_and_cells_from_near(make_napari_viewer, qtbot, folder):
    viewer = make_napari_viewer()
    viewer.open(str(folder), plugin="napari-mtssl")
    points = viewer.layers["a cells"]
    qtbot.waitUntil(lambda: "a density" in viewer.layers, timeout=20_000)
    density = viewer.layers["a density"]
    shown = points.metadata["shown"]
    viewer.reset_view()
    shown.look()
    assert density.visible and not points.visible
    viewer.scene.camera.center = (5000.0, 5000.0)  # micrometres
    viewer.scene.camera.zoom = 1.0
    qtbot.waitUntil(lambda: points.visible and len(points.data) > 0, timeout=20_000)
    qtbot.waitUntil(lambda: np.abs(points.data - 10_000).max() < 3000, timeout=20_000)
    assert not density.visible
    assert len(points.data) <= 2 * MOST
    row0, col0, row1, col1 = shown.view()
    assert row0 < 10_000 < row1 and col0 < 10_000 < col1
    high, wide = viewer.canvas.size
    assert (row1 - row0, col1 - col0) == pytest.approx((2 * high, 2 * wide))
    assert list(points.features["class"].cat.categories) == ["round", "long"]
    viewer.layers.remove(density)  # the user closes it: nothing listens any more
    viewer.scene.camera.zoom = 0.5


def test_tissue_is_painted_on_and_kept(tmp_path):
    from napari.components import ViewerModel
    from PIL import Image

    from napari_mtssl.gui.slide_tissue import tissue_layer
    from napari_mtssl.images.tissue import TissueMask

    path = tmp_path / "tissue" / "1.png"
    layer = tissue_layer(ViewerModel(), TissueMask(np.ones((1, 1), bool), 3000, 4000), path, 0.5)
    assert layer.data.shape == (192, 256)
    assert not path.exists()
    layer.paint((50, 60), 0)
    kept = np.asarray(Image.open(path))
    assert kept.shape == (192, 256)
    assert kept[50, 60] == 0 and kept[100, 200] == 255
