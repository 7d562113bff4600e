import numpy as np
import pytest
import torch

from napari_mtssl.images import ImagePool
from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.hydramix import PatchBank
from napari_mtssl.methods.hydramix.samples import CLAIMED

pool = ImagePool()


def distance(places, clicks):
    both = places.merge(clicks, on="image_id", suffixes=("", "_click"))
    return np.hypot(both["row"] - both["row_click"], both["col"] - both["col_click"])


def test_labelled_patches_are_centred_on_their_cells(make_study, build):
    study = make_study()
    bank = build(padding="zeros", window=32).samples(study, pool, "train")
    cells = study.cells()
    assert bank.n_labelled == len(cells)
    assert bank.patches.dtype == torch.uint8
    assert bank.patches.shape[1:] == (3, 48, 48)
    row, col = (bank.cells[name].to_numpy() for name in ("row", "col"))
    image = pool(study.images()[0])
    whole = image.read(0, 0, 128, 128)
    first = int(np.flatnonzero((bank.cells["image_id"] == study.images()[0].id) & (row > 30) & (col > 30))[0])
    inner = bank.patches[first, :, 20:29, 20:29].permute(1, 2, 0).numpy()
    r, c = round(row[first]), round(col[first])
    np.testing.assert_array_equal(inner, whole[r - 4 : r + 5, c - 4 : c + 5])
    # pixel 24 of the patch is the rounded place; the centroid keeps the rest
    np.testing.assert_allclose(bank.centroids[:, 0].numpy(), row - np.rint(row) + 24, atol=1e-5)
    np.testing.assert_allclose(bank.centroids[:, 1].numpy(), col - np.rint(col) + 24, atol=1e-5)


def test_unlabelled_places_lie_in_training_images_off_the_clicks(make_study, build):
    study = make_study(images=2)
    study.set_split(study.images()[1].id, "test")
    bank = build().samples(study, pool, "train")
    assert bank.n_unlabelled > 1000
    assert set(bank.places["image_id"]) == {study.images()[0].id}
    clicks = study.cells(study.images()[0].id)[["image_id", "row", "col"]]
    assert distance(bank.places, clicks).min() > CLAIMED
    assert bank.places[["row", "col"]].to_numpy().min() >= 0
    assert bank.places[["row", "col"]].to_numpy().max() <= 127


def test_a_share_of_unlabelled_places_is_nuclear(make_study, build):
    study = make_study(images=1, labelled=False)
    record = study.images()[0]
    study.add_cell(record.id, 6, 6, "background")
    study.add_cell(record.id, 120, 120, "round")
    truth = study.cells(record.id).iloc[:0]
    from tests.methods.conftest import paint

    cells = paint(0)[1].assign(image_id=record.id)
    share = {}
    for wanted in (0.0, 0.9):
        bank = build(nuclear_share=wanted, pool=40).samples(study, pool, "train")
        both = bank.places.reset_index().merge(cells, on="image_id", suffixes=("", "_cell"))
        near = np.hypot(both["row"] - both["row_cell"], both["col"] - both["col_cell"])
        share[wanted] = (near.groupby(both["index"]).min() < 5).mean()
    assert truth.empty
    assert share[0.9] > share[0.0] + 0.1


def test_the_same_study_gives_the_same_samples_and_new_clicks_keep_the_pool(make_study, build):
    study = make_study(images=1)
    one, two = build(), build()
    first, second = one.samples(study, pool, "train"), two.samples(study, pool, "train")
    assert torch.equal(first.unlabelled, second.unlabelled)
    study.add_cell(study.images()[0].id, 64.0, 6.0, "background")
    third = one.samples(study, pool, "train")
    assert third.n_labelled == first.n_labelled + 1
    before = set(map(tuple, first.places[["row", "col"]].to_numpy()))
    after = set(map(tuple, third.places[["row", "col"]].to_numpy()))
    assert after < before


def test_keys_tell_added_changed_and_removed_cells(make_study, build):
    study = make_study(images=1)
    method = build()
    before = method.samples(study, pool, "train").keys()
    ids = study.cells()["id"].tolist()
    kind = study.cells()["class"].iloc[0]
    study.set_class([ids[0]], "long" if kind == "round" else "round")
    study.delete_cells([ids[1]])
    added = study.add_cell(study.images()[0].id, 50.0, 50.0, "round")
    after = method.samples(study, pool, "train").keys()
    assert set(after) - set(before) == {added}
    assert set(before) - set(after) == {ids[1]}
    assert [i for i in before if i in after and before[i] != after[i]] == [ids[0]]


def test_background_far_from_clicks_only_if_allowed(make_study, build):
    study = make_study(images=1, background=2)
    without = build().samples(study, pool, "train")
    allowed = build(background_from_far=True, far=13.0).samples(study, pool, "train")
    extra = allowed.cells[allowed.cells["cell_id"] < 0]
    assert (without.cells["cell_id"] >= 0).all()
    assert len(extra) > 5
    clicks = study.cells()[["image_id", "row", "col"]]
    assert distance(extra, clicks).min() > 13.0
    assert (allowed.classes[-len(extra) :] == 0).all()
    assert allowed.keys() == without.keys()


def test_validation_has_no_unlabelled_places(make_study, build):
    study = make_study(split="validation")
    bank = build().samples(study, pool, "validation")
    assert bank.n_labelled == len(study.cells())
    assert bank.n_unlabelled == 0


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda s: [s.set_split(i.id, "test") for i in s.images()], "no image for training"),
        (lambda s: s.delete_cells(s.cells()["id"].tolist()), "Nothing is labelled"),
        (lambda s: s.set_class(s.cells()["id"].tolist(), "background"), "Only 'background' is labelled"),
        (
            lambda s: s.delete_cells(s.cells().query("`class` == 'background'")["id"].tolist()),
            "No place is labelled 'background'",
        ),
    ],
)
def test_labels_that_do_not_allow_training_are_named(make_study, build, prepare, words):
    study = make_study()
    prepare(study)
    with pytest.raises(MethodError, match=words):
        build().samples(study, pool, "train")


def test_labels_of_a_class_that_the_network_does_not_know_are_left_out(make_study, build):
    study = make_study()
    before = build().samples(study, pool, "train").keys()
    study.add_class("odd")
    study.add_cell(study.images()[0].id, 60, 60, "odd")
    assert build().samples(study, pool, "train").keys() == before


def test_sixteen_bit_patches_become_floats():
    patches = np.full((2, 48, 48, 3), 65535, np.uint16)
    bank = PatchBank.from_arrays(patches, np.array([0, 1]), np.zeros((2, 2)))
    assert bank.patches.dtype == torch.float32
    assert bank.patches.max() == 1


def test_arrays_of_different_length_are_refused():
    with pytest.raises(MethodError, match="equally many"):
        PatchBank.from_arrays(np.zeros((2, 48, 48, 3), np.uint8), np.zeros(3), np.zeros((2, 2)))
