"""Places to learn from on a slide lie in its tissue, and only what is looked at is read."""

import numpy as np

from napari_mtssl.evaluation.slide_files import write_slide
from napari_mtssl.evaluation.slide_generator import made_slide
from napari_mtssl.images import open_image
from napari_mtssl.images.tissue import find_tissue
from napari_mtssl.methods.hydramix.samples import REGION, sample_places


def test_glass_is_not_sampled(tmp_path):
    image = open_image(write_slide(made_slide(6000, 4800, tissue=0.1, period=128), tmp_path / "made.svs"))
    places = sample_places(image, 300, 8, 0.5, np.random.default_rng(0))
    tissue = find_tissue(image)
    assert len(places) == 300
    corners = np.unique(places // REGION, axis=0) * REGION
    assert len(corners) <= 8
    assert all(tissue.touches((r, c, r + REGION, c + REGION)) for r, c in corners)
    assert tissue.contains(places).mean() > 0.3 > tissue.share
