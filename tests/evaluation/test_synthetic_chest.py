import numpy as np

from napari_mtssl.evaluation.multimix_data import read_classes, read_masks
from napari_mtssl.evaluation.synthetic_chest import CLASSES, make_chest, write_chests


def test_one_seed_is_one_patient_and_the_finding_is_all_that_differs():
    well, sick = make_chest(3, False, size=128), make_chest(3, True, size=128)
    assert np.array_equal(well.pixels, make_chest(3, False, size=128).pixels)
    assert np.array_equal(well.lungs, sick.lungs) and 0.15 < well.lungs.mean() < 0.45
    gap = sick.pixels.astype(int) - well.pixels
    brighter = gap > 25
    assert brighter.sum() > 40 and brighter[well.lungs].sum() > 0.95 * brighter.sum()
    assert well.pixels[well.lungs].mean() < well.pixels[:, 40:90][~well.lungs[:, 40:90]].mean() - 40


def test_the_other_source_looks_different_with_the_same_lungs_to_find():
    clinic = [make_chest(seed, False, size=64) for seed in range(12)]
    bedside = [make_chest(seed, False, "portable", size=64) for seed in range(12)]
    brightness = [np.array([c.pixels[c.lungs].mean() for c in chests]) for chests in (clinic, bedside)]
    assert brightness[1].std() > 5 * brightness[0].std()
    assert brightness[1].mean() > brightness[0].mean() + 5
    assert all(0.12 < c.lungs.mean() < 0.5 for c in bedside)


def test_written_as_public_sets_are(tmp_path):
    masks, classes = write_chests(tmp_path, masks=4, classes=6, size=64)
    painted, named = read_masks(masks), read_classes(classes)
    assert len(painted) == 4 and len(named) == 6
    assert {item.kind for item in named} == set(CLASSES)
    assert not {item.group for item in painted} & {item.group for item in named}
