import os
from pathlib import Path

import numpy as np
import pytest

from napari_mtssl.evaluation import baselines, metrics, protocol
from napari_mtssl.evaluation.readers import read_crchistophenotypes
from napari_mtssl.images import open_image


@pytest.fixture(scope="module")
def sets(crc):
    out = []
    for name in ("train", "test"):
        fields = read_crchistophenotypes(crc / name)
        places = protocol.all_places(fields, seed=0)
        patches = protocol.cut(fields, places.image, places.centres, protocol.PATCH)
        out.append((fields, places, patches, baselines.patch_features(patches)))
    return out


def test_features_are_finite_and_do_not_depend_on_the_batch(sets):
    _, _, patches, features = sets[0]
    assert features.shape == (len(patches), 88)
    assert np.isfinite(features).all()
    assert np.allclose(baselines.patch_features(patches[5:6])[0], features[5], rtol=1e-4, atol=1e-5)
    assert baselines.patch_features(patches[:0]).shape == (0, 88)


def test_features_hardly_change_when_a_patch_is_turned(sets):
    patches, features = sets[0][2][:20], sets[0][3]
    turned = baselines.patch_features(np.rot90(patches, axes=(1, 2)))
    assert np.allclose(turned, features[:20], rtol=1e-3, atol=1e-3)


def test_features_of_plain_colour():
    plain = np.full((1, 41, 41, 3), [255, 128, 0], np.uint8)
    features = baselines.patch_features(plain)[0]
    assert features[:3] == pytest.approx([1, 128 / 255, 0], abs=1e-4)  # means of RGB
    assert features[9:18] == pytest.approx(0, abs=5e-3)  # deviations
    assert features[54:72] == pytest.approx(0, abs=1e-3)  # edges and blobs


def test_forest_learns_and_repeats_itself(sets):
    (_, train, _, x), (_, test, _, y) = sets
    forest = baselines.RandomForest(3, seed=1).fit(x, train.classes)
    probabilities = forest.predict(y)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert (probabilities.argmax(axis=1) == test.classes).mean() > 0.7
    again = baselines.RandomForest(3, seed=1).fit(x, train.classes).predict(y)
    assert np.array_equal(probabilities, again)


def test_a_class_without_labels_is_never_predicted(sets):
    _, train, _, x = sets[0]
    known = train.classes != 1
    probabilities = baselines.RandomForest(3).fit(x[known], train.classes[known]).predict(x[:9])
    assert (probabilities[:, 1] == 0).all()
    assert baselines.RandomForest(3).fit(x, train.classes).predict(x[:0]).shape == (0, 3)


def test_detection_in_a_whole_image(sets):
    (_, train, _, x), (fields, *_) = sets
    forest = baselines.RandomForest(3).fit(x, train.classes)
    cells = baselines.detect_cells(open_image(fields[0].path), forest, list(protocol.CLASSES))
    assert list(cells) == ["row", "col", "class", "confidence"]
    counts = metrics.count_detections(fields[0].truth(), cells, protocol.CLASSES[1:])
    assert counts.scores()["detection_f1"] > 0.6


@pytest.mark.data
@pytest.mark.slow
def test_forest_is_as_good_as_the_reference_on_real_images():
    """Plain scikit-learn gave 0.829 with 300 labels here; a weaker forest would be a false victory."""
    root = Path(os.environ.get("MTSSL_DATA", "../shared/data")) / "crchistophenotypes"
    if not root.is_dir():
        pytest.skip(f"{root} is missing; it comes from Warwick's CRCHistoPhenotypes. Set MTSSL_DATA.")
    train, test = (read_crchistophenotypes(root / name) for name in ("train", "validation"))
    held = protocol.all_places(test, seed=0)
    y = baselines.patch_features(protocol.cut(test, held.image, held.centres, protocol.PATCH))
    scores = []
    for seed in range(3):
        places = protocol.all_places(train, seed)
        some = places[protocol.draw_labelled(places, 300, seed)]
        x = baselines.patch_features(protocol.cut(train, some.image, some.centres, protocol.PATCH))
        said = baselines.RandomForest(3, seed).fit(x, some.classes).predict(y).argmax(axis=1)
        scores.append((said == held.classes).mean())
    # One of the draws is a bad one for forests (0.711): 0.711, 0.834, 0.824.
    assert 0.80 < np.median(scores) < 0.87
