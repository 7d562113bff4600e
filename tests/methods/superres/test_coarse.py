import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from glands import SIDE, make_study

from napari_mtssl.images import ImagePool
from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.superres.coarse import (
    _learnt,
    binned_map,
    classify_blocks,
    guess_blocks,
    name_shares,
    painted_shares,
)
from napari_mtssl.methods.superres.statistics import bin_names, measured_statistics
from napari_mtssl.study import Grid, Study


def test_a_probability_map_becomes_blocks():
    values = np.array([[0.05, 0.97], [0.25, np.nan]])
    fine = binned_map(values, (50.0, 50.0), Grid(50, 50), (100, 100))
    assert fine == {(0, 0): "0-20", (0, 1): "95-100", (1, 0): "20-30"}
    finer = binned_map(values, (50.0, 50.0), Grid(25, 25), (100, 100))
    assert len(finer) == 12 and finer[1, 1] == "0-20" and finer[0, 2] == "95-100"
    coarse = binned_map(values, (50.0, 50.0), Grid(100, 100), (100, 100))
    assert coarse == {(0, 0): "40-50"}  # the mean of 5, 97 and 25 %
    own = binned_map(values, (50.0, 50.0), Grid(50, 50), (100, 100), edges=(0.0, 0.5, 1.0))
    assert set(own.values()) == {"0-50", "50-100"}


def test_blocks_mostly_outside_get_no_class():
    found = binned_map(np.full((10, 10), 0.5), (10.0, 10.0), Grid(64, 64), (100, 100))
    assert set(found) == {(0, 0), (0, 1), (1, 0)} or set(found) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert ((1, 1) in found) == (36 * 36 >= 0.5 * 64 * 64)


@pytest.mark.parametrize("bad", [np.full((2, 2), 50.0), np.full((2, 2), -0.1), np.zeros(3)])
def test_what_is_no_probability_is_refused(bad):
    with pytest.raises(MethodError, match="numbers from 0 to 1"):
        binned_map(bad, (1.0, 1.0), Grid(2, 2), (2, 2))
    with pytest.raises(MethodError, match="must rise"):
        binned_map(np.zeros((2, 2)), (1.0, 1.0), Grid(2, 2), (2, 2), edges=(0.0, 0.0, 1.0))


def test_painted_blocks_measure_the_statistics(made, tmp_path):
    path = make_study(tmp_path / "painted.mtssl", made[:1])
    with Study.open(path) as study:
        image = study.images()[0]
        assert painted_shares(study, ("background", "gland")) == {}
        code = study.class_named("gland", "mask").code
        study.paint_mask(image.id, 0, 0, (made[0].mask * code).astype(np.uint16))
        study.set_mask_complete(image.id, True)
        found = painted_shares(study, ("background", "gland"))
    assert sum(len(rows) for rows in found.values()) == made[0].shares(SIDE).size
    names = bin_names()
    for name, rows in found.items():
        low, high = (float(edge) / 100 for edge in name.split("-"))
        assert name in names and ((rows[:, 1] >= low) & (rows[:, 1] <= high)).all()
    table = measured_statistics(found, ("background", "gland"))
    assert set(table["source"]) == {"measured"}


def test_blocks_that_are_painted_in_part_do_not_count(made, tmp_path):
    path = make_study(tmp_path / "part.mtssl", made[:1])
    with Study.open(path) as study:
        image = study.images()[0]
        code = study.class_named("gland", "mask").code
        patch = np.full((SIDE, SIDE + SIDE // 2), code, np.uint16)
        study.paint_mask(image.id, 0, 0, patch)
        found = painted_shares(study, ("background", "gland"))
    assert sum(len(rows) for rows in found.values()) == 1


def test_the_low_resolution_model_of_a_study(study_path):
    with Study.open(study_path) as source:
        names = bin_names()
        first = source.images()[0].id
        said = source.blocks(first)
        source.set_blocks(first, {(0, 0): None, (3, 3): None})
        found = classify_blocks(source, ImagePool(), names, ("background", "gland"), steps=3)
        source.set_blocks(
            first, {(b.i, b.j): b[3] for b in said.itertuples() if (b.i, b.j) in ((0, 0), (3, 3))}
        )
    assert set(found[first]) == {(0, 0), (3, 3)}
    assert all(shares.sum() == pytest.approx(1, abs=1e-5) for shares in found[first].values())


def test_painted_regions_count_and_so_do_blocks_of_an_odd_grid_far_apart(tmp_path):
    iio.imwrite(tmp_path / "wide.png", np.zeros((300, 2600), np.uint8))
    with Study.create(tmp_path / "wide.mtssl") as study:
        image = study.add_image(tmp_path / "wide.png", height=300, width=2600).id
        study.add_class("some", kind="block")
        study.add_class("free", kind="block")
        code = study.add_class("gland", kind="mask").code
        study.set_grid(image, Grid(37.5, 61.25, 3.0, -7.0))
        study.set_blocks(image, {(1, 2): "some", (4, 40): "some", (7, 41): "some", (0, 0): "some"})
        study.add_region(image, np.array([[200.0, 1000], [200, 1060], [260, 1060], [260, 1000]]), "free")
        row0, col0, row1, _ = (round(edge) for edge in study.grid(image).edges(4, 40))
        study.paint_mask(image, row0 - 9, col0 - 9, np.full((row1 - row0 + 18, 39), code, np.uint16))
        assert painted_shares(study, ("background", "gland")) == {}  # half of one block says nothing
        study.paint_mask(image, 190, 990, np.full((90, 90), code, np.uint16))
        found = painted_shares(study, ("background", "gland"))
        assert set(found) == {"free"}
        np.testing.assert_allclose(found["free"], [[0, 1]])
        study.set_mask_complete(image, True)
        found = painted_shares(study, ("background", "gland"))
    assert sorted(np.round(found["some"][:, 1], 2).tolist()) == [0, 0, 0, pytest.approx(30 / 61.25, abs=0.02)]


def test_shares_get_the_bin_they_lie_in_or_the_nearest_class():
    empty = pd.DataFrame(columns=["block_class", "mask_class", "mean", "spread", "source"])
    shares = np.array([[0.81, 0.19], [0.8, 0.2], [0.0, 1.0], [0.5, 0.5]])
    bins = ["0-20", "20-30", "95-100"]
    # the last is in no bin: its share is nearest to 25 %
    assert name_shares(shares, empty, bins, ("no", "yes")) == ["0-20", "20-30", "95-100", "20-30"]
    table = pd.DataFrame(
        [(b, e, m, 0.1, "expert") for b, row in {"poor": (0.1, 0.0), "rich": (0.3, 0.6)}.items()
         for e, m in zip(("gland", "mucus"), row, strict=True)],
        columns=empty.columns,
    )  # fmt: skip
    three = np.array([[0.8, 0.2, 0.0], [0.2, 0.2, 0.6]])
    names = ["nobody knows", "poor", "rich"]
    assert name_shares(three, table, names, ("no", "gland", "mucus")) == ["poor", "rich"]
    with pytest.raises(MethodError, match="Nobody has said"):
        name_shares(three, empty, ["x"], ("no", "gland", "mucus"))


def test_twelve_bits_of_sixteen_keep_their_levels_beside_a_bright_image(tmp_path):
    dark = np.tile(np.arange(4096, dtype=np.uint16).repeat(2)[:: 2 * 16], (64, 1))[:, :256]
    with Study.create(tmp_path / "deep.mtssl") as study:
        for name, pixels in (("dark", dark), ("bright", (dark.astype(int) * 16).astype(np.uint16))):
            tifffile.imwrite(tmp_path / f"{name}.tif", pixels)
            image = study.add_image(tmp_path / f"{name}.tif", height=64, width=256)
            study.set_grid(image.id, Grid(64, 256))
        study.add_class("all", kind="block")
        study.set_blocks(1, {(0, 0): "all"})
        study.set_blocks(2, {(0, 0): "all"})
        patches, kinds, gain = _learnt(study, ImagePool(), ["all"])
    assert gain == 1.0  # the bright one has the whole range
    assert kinds == [0, 0]
    assert patches.dtype == torch.float16
    assert len(torch.unique(patches[0])) >= 60  # of 64 columns; eight bits would leave 16


def test_guessing_can_be_left_in_the_midst(study_path):
    with Study.open(study_path) as source:
        first = source.images()[0].id
        source.set_blocks(first, {(0, 0): None})
        guesses = guess_blocks(
            source, ImagePool(), bin_names(), ("background", "gland"), image_ids=[first], steps=3
        )
        assert [(g.done, g.total, g.image_id) for g in (next(guesses), next(guesses))] == [
            (1, 4, None),
            (2, 4, None),
        ]
        guesses.close()
        with pytest.raises(MethodError, match="no exact class"):
            next(guess_blocks(source, ImagePool(), bin_names(), ("background",), image_ids=[first]))
        source.undo()  # the study is that of other tests, too
