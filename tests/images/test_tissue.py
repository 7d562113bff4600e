"""Tissue is found, glass is not, and what has no glass is tissue everywhere."""

import numpy as np
import pytest
from PIL import Image as Pillow

from napari_mtssl.evaluation.slide_files import write_slide
from napari_mtssl.evaluation.slide_generator import made_slide
from napari_mtssl.evaluation.synthetic import cell_field
from napari_mtssl.images import ImageError, open_image
from napari_mtssl.images.tissue import TissueMask, find_tissue, otsu, tissue_file, write_tissue


def test_tissue_of_a_made_slide(tmp_path):
    slide = made_slide(5000, 4200, tissue=0.3, period=128)
    found = find_tissue(open_image(write_slide(slide, tmp_path / "made.svs")))
    truth = slide.region(0, 0, 313, 263, level=4) > 0
    assert found.mask.shape == (313, 263)
    assert found.mask[truth].mean() > 0.999  # nothing is lost
    assert found.share < truth.mean() * 1.3  # a rim of 30 um on pieces of about 1 mm
    assert found.contains(slide.cells()[["row", "col"]].to_numpy()).all()
    assert not found.contains(np.array([[10.0, 10.0], [2500.0, 2100.0]])).any()
    assert not found.touches((0, 0, 200, 200))
    assert found.touches((1000, 800, 1500, 1300))


def test_an_empty_slide_has_no_tissue(tmp_path):
    slide = made_slide(4200, 4000, tissue=0, period=128)
    assert find_tissue(open_image(write_slide(slide, tmp_path / "glass.tif"))).share == 0


@pytest.mark.parametrize("stain", ["he", "ihc"])
def test_a_field_of_tissue_is_tissue(tmp_path, stain):
    Pillow.fromarray(np.tile(cell_field(500, 500, stain=stain, seed=1).image, (9, 2, 1))).save(
        tmp_path / "field.png"
    )
    assert find_tissue(open_image(tmp_path / "field.png")).share > 0.98


def test_dark_and_grey_images_are_tissue_everywhere(tmp_path):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 255, (4100, 300)).astype(np.uint8)
    Pillow.fromarray(grey).save(tmp_path / "grey.png")
    assert find_tissue(open_image(tmp_path / "grey.png")).share == 1
    dark = np.zeros((4100, 300, 3), np.uint8)
    dark[100:200, 100:200, 1] = 200
    Pillow.fromarray(dark).save(tmp_path / "dark.png")
    assert find_tissue(open_image(tmp_path / "dark.png")).share == 1


def test_dust_is_no_tissue(tmp_path):
    pixels = np.full((5000, 3000, 3), 243, np.uint8)
    pixels[1500:1560, 100:160] = (90, 90, 90)
    pixels[500:1200, 500:1200] = (200, 120, 170)
    Pillow.fromarray(pixels).save(tmp_path / "dust.png")
    found = find_tissue(open_image(tmp_path / "dust.png", pixel_size_um=0.5))
    assert found.touches((600, 600, 700, 700))
    assert not found.touches((1450, 0, 1650, 300))


def test_otsu_parts_two_groups():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.1, 0.02, 5000), rng.normal(0.6, 0.05, 500)])
    assert 0.16 < otsu(values) < 0.45


def test_a_corrected_mask_does_as_well():
    mask = np.zeros((10, 20), bool)
    mask[3, 7] = True
    tissue = TissueMask(mask, 1000, 2000)
    assert tissue.touches((350, 750, 351, 751))
    assert not tissue.touches((0, 0, 300, 2000))
    assert tissue.contains(np.array([[399.0, 799.0], [400.0, 799.0]])).tolist() == [True, False]


def test_a_corrected_mask_is_taken_instead(tmp_path):
    slide = made_slide(1500, 1300, period=128)
    image = open_image(write_slide(slide, tmp_path / "made.svs"))
    image.tissue_file = tissue_file(tmp_path / "s.mtssl", 3)
    found = find_tissue(image)  # nobody has corrected anything yet
    mask = np.zeros((15, 13), bool)
    mask[:5] = True
    write_tissue(TissueMask(mask, 1500, 1300), image.tissue_file)
    assert find_tissue(image).mask.tolist() == mask.tolist() != found.mask.tolist()
    assert find_tissue(image).touches((499, 0, 501, 10)) and not find_tissue(image).touches((500, 0, 600, 10))
    image.tissue_file.write_text("no picture")
    with pytest.raises(ImageError, match="cannot be read"):
        find_tissue(image)
