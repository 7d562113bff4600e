import numpy as np
import pandas as pd
import pytest
import torch

from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.superres.guesses import fitted_probs
from napari_mtssl.methods.superres.patches import PatchClassifier, as_patches
from napari_mtssl.methods.superres.statistics import (
    as_arrays,
    bin_names,
    bin_of,
    bin_statistics,
    default_statistics,
    measured_statistics,
    to_bins,
)

MASK = ("background", "tumour")


def test_bins():
    names = bin_names()
    assert names[0] == "0-20" and names[-1] == "95-100" and len(names) == 10
    assert to_bins(np.array([0.0, 0.19, 0.2, 0.949, 0.95, 1.0])).tolist() == [0, 0, 1, 8, 9, 9]
    assert bin_of("20-30") == (0.2, 0.3) and bin_of("95 – 100 %") == (0.95, 1.0)
    assert bin_of("tumour") is None and bin_of("30-20") is None and bin_of("50-120") is None


def test_defaults_are_the_middle_and_the_spread_of_a_bin():
    table = default_statistics(["0-20", "95-100", "other"], MASK).set_index(["block_class", "mask_class"])
    assert table.loc[("0-20", "tumour"), "mean"] == pytest.approx(0.1)
    assert table.loc[("0-20", "background"), "mean"] == pytest.approx(0.9)
    assert table.loc[("0-20", "tumour"), "spread"] == pytest.approx(0.2 / 12**0.5)
    assert table.loc[("95-100", "tumour"), "spread"] == 0.03  # the floor
    assert len(table) == 4
    assert default_statistics(["0-20"], (*MASK, "mucus")).empty


def test_few_blocks_say_little():
    prior = default_statistics(["0-20"], MASK)
    few = measured_statistics({"0-20": np.array([[0.5, 0.5]])}, MASK, prior)
    many = measured_statistics({"0-20": np.tile([[0.6, 0.4], [0.4, 0.6]], (50, 1))}, MASK, prior)
    few, many = (frame.set_index("mask_class").loc["tumour"] for frame in (few, many))
    assert few["mean"] == pytest.approx((0.5 + 2 * 0.1) / 3)
    assert many["mean"] == pytest.approx(0.5, abs=0.01) and many["spread"] == pytest.approx(0.1, abs=0.01)
    assert few["high"] - few["low"] > 5 * (many["high"] - many["low"])
    assert many["low"] < 0.5 < many["high"] and many["blocks"] == 100
    assert (measured_statistics({"a": np.ones((9, 2)) / 2}, MASK)["spread"] >= 0.03).all()


def test_a_class_that_is_rare_everywhere_stays_rare():
    """Towards equal shares, three blocks without mucus would say that 13 % of such blocks are mucus."""
    shares = {"half": np.tile([[0.5, 0.5, 0.0]], (3, 1)), "much": np.tile([[0.2, 0.8, 0.0]], (3, 1))}
    table = measured_statistics(shares, (*MASK, "mucus")).set_index(["block_class", "mask_class"])
    assert table.loc[("half", "mucus"), "mean"] == pytest.approx(2 / 5 * (1 / 3) / 7)
    assert table.loc[("half", "mucus"), "spread"] < 0.08
    assert table.loc[("half", "tumour"), "mean"] < 0.6 < table.loc[("much", "tumour"), "mean"]
    assert table.groupby("block_class")["mean"].sum().tolist() == pytest.approx([1, 1])


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        shares = rng.normal(0.45, 0.1, 12)
        row = measured_statistics({"a": np.stack([1 - shares, shares], 1)}, MASK).iloc[1]
        hits += row["low"] <= 0.45 <= row["high"]
    assert hits / 400 > 0.93


def test_what_an_expert_says_replaces_the_defaults():
    said = pd.DataFrame(
        [("0-20", "tumour", 0.3, 0.0, "expert")],
        columns=["block_class", "mask_class", "mean", "spread", "source"],
    )
    eta, rho = as_arrays(said, ["0-20", "20-30"], MASK, ["0-20"])
    assert eta[0].tolist() == pytest.approx([0.7, 0.3])  # one share says the other
    assert eta[1].tolist() == pytest.approx([0.75, 0.25])
    assert rho[0].tolist() == pytest.approx([0.03, 0.03])  # nobody is that sure


@pytest.mark.parametrize(("mucus", "wrong"), [(0.02, False), (0.1, True)])
def test_what_is_left_is_nothing_where_shares_are_a_little_too_much(mucus, wrong):
    """98.5 % and 2 % add up to 100 % for whoever says so; 98.5 % and 10 % do not."""
    rows = [("97-100", "tumour", 0.985, 0.03, "default"), ("97-100", "mucus", mucus, 0.02, "expert")]
    said = pd.DataFrame(rows, columns=["block_class", "mask_class", "mean", "spread", "source"])
    if wrong:
        with pytest.raises(MethodError, match="add up to 108 %"):
            as_arrays(said, ["97-100"], (*MASK, "mucus"), ["97-100"])
        return
    eta, _ = as_arrays(said, ["97-100"], (*MASK, "mucus"), ["97-100"])
    assert eta[0].sum() == pytest.approx(1)
    assert eta[0, 0] == 0
    assert eta[0, 1] == pytest.approx(0.985 / 1.005)


def test_means_must_add_up():
    said = pd.DataFrame(
        [("a", "background", 0.3, 0.1, "expert"), ("a", "tumour", 0.3, 0.1, "expert")],
        columns=["block_class", "mask_class", "mean", "spread", "source"],
    )
    with pytest.raises(MethodError, match="add up to 60 %"):
        as_arrays(said, ["a"], MASK, ["a"])
    with pytest.raises(MethodError, match="Nobody has said"):
        as_arrays(said.iloc[:0], ["a"], MASK, ["a"])


@pytest.mark.parametrize("classes", [2, 3])
def test_guesses_fit_their_blocks_and_keep_their_order(classes):
    torch.manual_seed(0)
    logits = torch.randn(1, classes, 16, 16) * 3
    ids = torch.zeros(1, 16, 16, dtype=torch.long)
    ids[0, :8, :8], ids[0, 8:, 8:] = 1, 2
    wanted = torch.full((2, classes), 0.2 / (classes - 1))
    wanted[:, 0] = 0.8
    fitted = fitted_probs(logits, ids, wanted - 0.01, wanted + 0.01)
    for block in (1, 2):
        share = fitted.movedim(1, -1)[ids == block].mean(0)
        assert torch.allclose(share, wanted[block - 1], atol=0.02)
    free = fitted.movedim(1, -1)[ids == 0]
    assert torch.allclose(free, logits.softmax(1).movedim(1, -1)[ids == 0], atol=1e-6)
    odds = (logits[:, 1] - logits[:, 0])[ids == 1]
    after = (fitted[:, 1] / fitted[:, 0]).log()[ids == 1]
    assert torch.allclose(after - odds, (after - odds)[:1].expand_as(odds), atol=1e-3)


def test_guesses_that_fit_already_are_left_alone():
    logits = torch.zeros(1, 2, 4, 4)
    ids = torch.ones(1, 4, 4, dtype=torch.long)
    fitted = fitted_probs(logits, ids, torch.tensor([[0.3, 0.3]]), torch.tensor([[0.7, 0.7]]))
    assert torch.allclose(fitted, torch.full_like(fitted, 0.5), atol=1e-3)


def test_the_low_resolution_model_learns_shares():
    rng = np.random.default_rng(0)
    shares = rng.random(60)
    pieces = []
    for share in shares:
        piece = np.full((40, 50, 3), 220, np.uint8)
        piece[:, : round(share * 50)] = (120, 40, 140)
        pieces.append(piece)
    blocks = as_patches(pieces)
    assert blocks.shape == (60, 3, 64, 64) and blocks.dtype == torch.uint8
    target = torch.tensor(np.stack([1 - shares, shares], 1), dtype=torch.float32)
    model = PatchClassifier(2, steps=40, batch_size=16, learning_rate=1e-2).fit(blocks[:40], target[:40])
    found = model.predict(blocks[40:])[:, 1]
    assert np.corrcoef(found, shares[40:])[0, 1] > 0.8
    assert model.predict(blocks[:0]).shape == (0, 2)


def test_that_a_class_added_later_never_occurs_is_not_taken_for_said():
    said = bin_statistics(["0-20", "80-100"], MASK, MASK[1])  # of two classes: all the rest is background
    with pytest.raises(MethodError, match="give its mean and spread for mucus in the statistics"):
        as_arrays(said, ["0-20", "80-100"], (*MASK, "mucus"), ["0-20"])
    half = said.assign(mean=said["mean"] / 2)  # who leaves something says that it is there
    eta, _ = as_arrays(half, ["0-20", "80-100"], (*MASK, "mucus"), ["0-20"])
    assert eta[0] == pytest.approx([0.45, 0.05, 0.5])
