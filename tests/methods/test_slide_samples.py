"""Training from slides: places in tissue, read in the background, bounded, and the same again."""

import numpy as np
import pandas as pd
import pytest
import torch

from napari_mtssl.evaluation.slide_files import write_slide
from napari_mtssl.evaluation.slide_generator import made_slide
from napari_mtssl.images import ImagePool, open_image
from napari_mtssl.images.tissue import find_tissue
from napari_mtssl.methods.hydramix import drift
from napari_mtssl.methods.hydramix.places import REGION, sample_places
from napari_mtssl.methods.hydramix.samples import CLAIMED
from napari_mtssl.study import Study
from tests.methods.conftest import CLASSES

SIDE = 2304


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    return [
        write_slide(made_slide(SIDE, SIDE, seed=seed, tissue=0.15, period=128), folder / f"made{seed}.svs")
        for seed in (0, 1)
    ]


@pytest.fixture(autouse=True)
def small_images_are_slides(monkeypatch):
    monkeypatch.setattr("napari_mtssl.images.image.LARGE", 10**6)
    monkeypatch.setattr("napari_mtssl.images.tissue.FIELD", 1000)


@pytest.fixture
def study(slides, tmp_path):
    with Study.create(tmp_path / "slides.mtssl") as made:
        for name in CLASSES[1:]:
            made.add_class(name)
        for path in slides:
            record = made.add_image(path, height=SIDE, width=SIDE)
            places = [(record.id, 300.0 * i, 600.0, name) for i, name in enumerate(CLASSES, 1)]
            made.add_cells(pd.DataFrame(places, columns=["image_id", "row", "col", "class"]))
        yield made


def test_glass_is_not_sampled(slides):
    image = open_image(slides[0])
    places = sample_places(image, 300, 8, 0.5, np.random.default_rng(0))
    tissue = find_tissue(image)
    assert len(places) == 300
    corners = np.unique(places // REGION, axis=0) * REGION
    assert len(corners) <= 8
    assert all(tissue.touches((r, c, r + REGION, c + REGION)) for r, c in corners)
    assert tissue.contains(places).mean() > 0.3 > tissue.share


def bank_at(study, build, step, **settings):
    method = build(pool=320, renew=5, **settings)
    bank = method.samples(study, ImagePool(), "train")
    for one in range(step + 1):
        bank.advance(one)
    return bank


def test_the_pool_is_of_all_slides_and_changes_with_the_steps(study, build):
    first = bank_at(study, build, 0)
    assert first.n_unlabelled == 320
    assert set(first.places["image_id"]) == {record.id for record in study.images()}
    later = bank_at(study, build, 12)
    share = 320 // drift.PARTS
    changed = (first.places != later.places).any(axis=1).to_numpy()
    assert changed[: 2 * share].any() and not changed[2 * share :].any()
    assert later.n_unlabelled == 320


def test_patches_are_those_of_their_places_and_keep_off_clicks(study, build):
    bank = bank_at(study, build, 7)
    images = ImagePool()
    for index in (0, 30, 100, 319):
        record = study.image(int(bank.places["image_id"][index]))
        place = bank.places.loc[[index], ["row", "col"]].to_numpy(float)
        patch = images(record).patches(place, bank.unlabelled.shape[-1])[0]
        assert np.array_equal(bank.unlabelled[index].permute(1, 2, 0).numpy(), patch)
    both = bank.places.merge(
        study.cells()[["image_id", "row", "col"]], on="image_id", suffixes=("", "_click")
    )
    assert np.hypot(both["row"] - both["row_click"], both["col"] - both["col_click"]).min() > CLAIMED


def test_a_resumed_run_finds_the_same_pool(study, build):
    went = bank_at(study, build, 40)
    jumped = build(pool=320, renew=5).samples(study, ImagePool(), "train")
    jumped.advance(40)
    assert torch.equal(went.unlabelled, jumped.unlabelled)
    assert went.places.equals(jumped.places)


def test_new_labels_leave_the_pool_where_it_is(study, build):
    method = build(pool=320, renew=5)
    images = ImagePool()
    bank = method.samples(study, images, "train")
    bank.advance(15)
    study.add_cell(study.images()[0].id, 5.0, 5.0, "round")
    again = method.samples(study, images, "train")
    assert again.n_labelled == bank.n_labelled + 1
    assert torch.equal(again.unlabelled, bank.unlabelled)


def test_what_comes_next_is_read_before_it_is_due_and_no_more(study, build):
    bank = build(pool=320, renew=5).samples(study, ImagePool(), "train")
    rotation = bank.drift.rotation
    assert sorted(rotation._coming) == [drift.PARTS, drift.PARTS + 1]
    for coming in rotation._coming.values():
        coming.result(timeout=30)
    bank.drift._read = None  # nothing is read in the thread that trains
    rotation._reader.shutdown()
    rotation._look_ahead = lambda: None
    bank.advance(5)


def test_an_error_of_the_reader_reaches_the_training(study, build, slides):
    from napari_mtssl.images import ImageError

    def broken(*_):
        raise ImageError("damaged")

    bank = build(pool=320, renew=5).samples(study, ImagePool(), "train")
    bank.drift._read = broken
    with pytest.raises(ImageError, match="damaged"):
        for step in range(0, 30, 5):
            bank.advance(step)


def test_without_renewal_places_are_read_once(study, build):
    bank = build(pool=320, renew=0).samples(study, ImagePool(), "train")
    assert bank.drift is None
    assert bank.n_unlabelled > 300
