import numpy as np
import pytest
from scipy.spatial import cKDTree

from napari_mtssl.evaluation import protocol
from napari_mtssl.evaluation.readers import DataError, read_crchistophenotypes
from napari_mtssl.images import open_image


@pytest.fixture(scope="module")
def fields(crc):
    return read_crchistophenotypes(crc / "train")


@pytest.fixture(scope="module")
def places(fields):
    return protocol.all_places(fields, seed=0)


def test_every_scored_nucleus_once_and_background_to_match(fields, places):
    counts = np.bincount(places.classes)
    for kind, name in enumerate(protocol.CLASSES[1:], start=1):
        assert counts[kind] == sum(len(field.centroids[name]) for field in fields)
    assert counts[0] == counts[1:].max()


def test_jitter_is_bounded_and_used(places):
    cells = places.classes > 0
    offset = (places.centres - np.rint(places.centroids))[cells]
    assert np.abs(offset).max() == protocol.JITTER
    assert abs(offset.mean()) < 1
    local = places.in_patch(protocol.PATCH)[cells]
    assert (np.abs(local - 20) <= protocol.JITTER + 0.5).all()


def test_background_is_far_from_every_nucleus(fields, places):
    for index, field in enumerate(fields):
        mine = (places.image == index) & (places.classes == 0)
        distance = cKDTree(field.nuclei).query(places.centres[mine])[0]
        assert distance.min() >= protocol.CLEAR
        assert (places.centres[mine] >= 0).all() and (places.centres[mine] < 240).all()


def test_same_seed_same_places(fields, places):
    again, other = protocol.all_places(fields, seed=0), protocol.all_places(fields, seed=1)
    assert np.array_equal(places.centres, again.centres)
    assert not np.array_equal(places.centres, other.centres)


@pytest.mark.parametrize("count", [1, 30, 50])
def test_labels_are_balanced_distinct_and_nested(places, count):
    chosen = protocol.draw_labelled(places, count, seed=3)
    assert len(np.unique(chosen)) == count
    per_class = np.bincount(places.classes[chosen], minlength=3)
    assert per_class.max() - per_class.min() <= 1
    assert np.array_equal(protocol.draw_labelled(places, count + 20, seed=3)[:count], chosen)


def test_a_third_of_background(places):
    chosen = protocol.draw_labelled(places, 40, seed=3, background_every=3)
    assert len(np.unique(chosen)) == 40
    assert np.bincount(places.classes[chosen], minlength=3).tolist() == [14, 13, 13]
    assert np.array_equal(protocol.draw_labelled(places, 60, seed=3, background_every=3)[:40], chosen)


def test_too_many_labels(places):
    with pytest.raises(DataError, match="ask for fewer"):
        protocol.draw_labelled(places, 100_000, seed=0)


def test_a_class_that_is_missing(fields):
    class Empty:
        centroids = {"epithelial": np.empty((0, 2)), "inflammatory": np.ones((1, 2))}

    with pytest.raises(DataError, match="no epithelial nucleus"):
        protocol.all_places([Empty()], seed=0)


def test_patches_show_what_places_say(fields, places):
    some = places[np.arange(0, len(places), 17)]
    patches = protocol.cut(fields, some.image, some.centres, 41)
    for patch, image, (row, col) in zip(patches, some.image, some.centres, strict=True):
        expected = open_image(fields[image].path).read(row - 20, col - 20, 41, 41)
        assert np.array_equal(patch, expected)
