"""Oracles L1 to L8: statistics matching against integrals, draws and values worked out by hand."""

import math

import numpy as np
import pytest
import torch

from napari_mtssl.methods.superres.counts import Counts, MemoryBank, count, moments
from napari_mtssl.methods.superres.groups import GroupSampler
from napari_mtssl.methods.superres.losses import FLOOR, Matching, divergence, group_loss, intra_loss


def probabilities(n, classes, side, seed=0, sharp=2.0):
    torch.manual_seed(seed)
    return (torch.randn(n, classes, side, side, dtype=torch.float64) * sharp).softmax(1)


def whole_blocks(n, side):
    """One block for each image."""
    return torch.arange(1, n + 1)[:, None, None].expand(n, side, side)


def test_l1_overlap_is_the_integral_of_the_product():
    c = np.linspace(-5, 6, 400_001)
    for m, v, eta, rho in ((0.3, 0.02, 0.5, 0.1), (0.5, 1e-4, 0.5, 0.03), (0.9, 0.2, 0.1, 0.3)):
        one = np.exp(-((c - m) ** 2) / 2 / v) / math.sqrt(2 * math.pi * v)
        two = np.exp(-((c - eta) ** 2) / 2 / rho**2) / math.sqrt(2 * math.pi) / rho
        found = divergence(torch.tensor((m - eta) ** 2), torch.tensor(v), torch.tensor(rho**2), "overlap")
        assert float(found) == pytest.approx(-math.log(np.trapezoid(one * two, c)), abs=1e-5)


@pytest.mark.parametrize("sharp", [0.5, 3.0])
def test_l2_closed_variance_equals_a_hundred_thousand_draws(sharp):
    n, side, draws = 6, 5, 100_000
    probs = probabilities(n, 2, side, sharp=sharp)
    counts = count(probs, whole_blocks(n, side), n)
    found = moments(counts, torch.zeros(n, dtype=torch.long), 1, unbiased=False)
    generator = torch.Generator().manual_seed(1)
    block = torch.randint(0, n, (draws,), generator=generator)
    share = probs[:, 1].reshape(n, -1)[block]
    drawn = torch.bernoulli(share, generator=generator).mean(1)
    assert float(drawn.mean()) == pytest.approx(float(found.mean[0, 1]), abs=0.002)
    assert float(drawn.var()) == pytest.approx(float(found.variance[0, 1]), rel=0.02)


@pytest.mark.parametrize(("kind", "best"), [("kl", 0.04), ("w2", 0.04), ("overlap", 0.0)])
def test_l3_best_predicted_variance(kind, best):
    v = torch.linspace(0, 0.2, 20_001, dtype=torch.float64)
    zero = torch.zeros((), dtype=torch.float64)
    found = divergence(zero, v, torch.tensor(0.04, dtype=torch.float64), kind)
    assert float(v[found.argmin()]) == pytest.approx(best, abs=2e-5)
    if best:
        assert float(found.min()) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("kind", ["overlap", "kl", "w2"])
def test_l4_two_classes_say_the_same_as_one(kind):
    probs = probabilities(6, 2, 4)
    counts = count(probs, whole_blocks(6, 4), 6)
    coarse = torch.zeros(6, dtype=torch.long)
    eta, rho = torch.tensor([[0.3, 0.7]]), torch.tensor([[0.1, 0.1]])
    one = Counts(counts.mean[:, :1], counts.variance[:, :1], counts.pixel_variance[:, :1], counts.pixels)
    for loss in (intra_loss, group_loss):
        both = loss(counts, coarse, eta, rho, Matching(kind, "pixel"))
        first = loss(one, coarse, eta[:, :1], rho[:, :1], Matching(kind, "pixel"))
        assert float(both) == pytest.approx(float(first), rel=1e-9)


def test_l5_scatter_equals_a_loop_over_blocks():
    probs = probabilities(2, 3, 12)
    ids = torch.randint(0, 6, (2, 12, 12), generator=torch.Generator().manual_seed(2))
    counts = count(probs, ids, 7)
    for block in range(1, 8):
        inside = (ids == block)[:, None].expand_as(probs)
        pixels = int((ids == block).sum())
        assert int(counts.pixels[block - 1]) == pixels
        for kind in range(3):
            p = probs[:, kind][inside[:, kind]]
            mean = float(p.mean()) if pixels else 0.0
            variance = float((p * (1 - p)).sum()) / max(pixels, 1) ** 2
            assert float(counts.mean[block - 1, kind]) == pytest.approx(mean, abs=1e-12)
            assert float(counts.variance[block - 1, kind]) == pytest.approx(variance, abs=1e-12)


def test_l6_the_truth_costs_next_to_nothing():
    generator = torch.Generator().manual_seed(0)
    share = torch.tensor([0.1, 0.5, 0.9]).repeat_interleave(40)
    coarse = torch.arange(3).repeat_interleave(40)
    truth = (torch.rand(120, 16, 16, generator=generator) < share[:, None, None]).double()
    probs = torch.stack([1 - truth, truth], 1)
    counts = count(probs, whole_blocks(120, 16), 120)
    eta = torch.stack([counts.mean[coarse == z].mean(0) for z in range(3)])
    rho = torch.stack([counts.mean[coarse == z].std(0) for z in range(3)])
    assert float(group_loss(counts, coarse, eta, rho, Matching("kl"))) == pytest.approx(0.0, abs=1e-9)
    wrong = count(probs.flip(1), whole_blocks(120, 16), 120)
    matching = Matching("w2")
    right = float(intra_loss(counts, coarse, eta, rho, matching))
    assert right < 0.005
    assert float(intra_loss(wrong, coarse, eta, rho, matching)) > 20 * right


@pytest.mark.parametrize("kind", ["overlap", "kl", "w2"])
@pytest.mark.parametrize("log_term", ["none", "pixel", "paper"])
@pytest.mark.parametrize("deadzone", [False, True])
def test_l8_gradients(kind, log_term, deadzone):
    torch.manual_seed(3)
    logits = torch.randn(6, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    coarse = torch.tensor([0, 0, 0, 1, 1, 1])
    eta = torch.tensor([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]], dtype=torch.float64)
    rho = torch.full_like(eta, 0.05)
    matching = Matching(kind, log_term, deadzone)

    def losses(z):
        counts = count(z.softmax(1), whole_blocks(6, 4), 6)
        grouped = [group_loss(counts, coarse, eta, rho, matching, within=w, least=2) for w in (True, False)]
        return torch.stack([intra_loss(counts, coarse, eta, rho, matching), *grouped])

    assert torch.autograd.gradcheck(losses, (logits,))


def test_by_hand():
    square, v, rho2 = torch.tensor(0.04), torch.tensor(0.01), torch.tensor(0.04)
    assert float(divergence(square, v, rho2, "overlap")) == pytest.approx(0.4 + 0.5 * math.log(0.1 * math.pi))
    assert float(divergence(square, v, rho2, "overlap", log=False)) == pytest.approx(0.4)
    ratio = (0.01 + FLOOR) / (0.04 + FLOOR)
    kl = 0.5 * (ratio - 1 - math.log(ratio) + 0.04 / (0.04 + FLOOR))
    assert float(divergence(square, v, rho2, "kl")) == pytest.approx(kl, rel=1e-5)
    assert float(divergence(square, v, rho2, "w2")) == pytest.approx(0.04 + 0.01, abs=2e-4)


def test_dead_zone_forgives_one_spread():
    eta, rho = torch.tensor([0.5]), torch.tensor([0.1])
    for mean, square in ((0.55, 0.0), (0.6, 0.0), (0.8, 0.04)):
        found = Matching("w2", deadzone=True)(torch.tensor([mean]), rho**2, eta, rho)
        assert float(found) == pytest.approx(square, abs=1e-6)


def test_pixel_term_makes_pixels_decide():
    """Its gradient is the only one that does not vanish with the block's size."""
    logits = torch.full((1, 2, 32, 32), 0.0)
    logits[:, 1] = -0.8
    slope = {}
    for log_term in ("paper", "pixel"):
        z = logits.clone().requires_grad_()
        probs = z.softmax(1)
        counts = count(probs, torch.ones(1, 32, 32), 1)
        eta = counts.mean.detach()  # the mean is right: only the log term pulls
        intra_loss(
            counts, torch.tensor([0]), eta, torch.full((1, 2), 0.1), Matching("overlap", log_term)
        ).backward()
        slope[log_term] = float(z.grad[0, 1].sum())
    assert slope["pixel"] > 50 * abs(slope["paper"]) and slope["pixel"] > 0.1


def test_half_precision_does_not_swallow_the_variance():
    probs = torch.full((1, 2, 64, 64), 0.5, dtype=torch.bfloat16)
    counts = count(probs, torch.ones(1, 64, 64), 1)
    assert counts.variance.dtype == torch.float32
    assert float(counts.variance[0, 0]) == pytest.approx(0.25 / 64**2, rel=1e-4)


def test_alike_blocks_have_no_negative_variance():
    mean = torch.full((15, 2), 0.7) + torch.randn(15, 2) * 1e-5
    counts = Counts(mean, torch.zeros(15, 2), torch.zeros(15, 2), torch.ones(15))
    found = moments(counts, torch.zeros(15, dtype=torch.long), 1)
    expected = mean.double().var(0)
    assert torch.allclose(found.variance[0].double(), expected, rtol=0.02)


def test_rare_classes_are_matched_one_by_one():
    counts = count(probabilities(8, 2, 4), whole_blocks(8, 4), 8)
    coarse = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    eta, rho = torch.tensor([[0.3, 0.7], [0.6, 0.4]]), torch.full((2, 2), 0.1)
    found = group_loss(counts, coarse, eta, rho, Matching("kl"), least=5)
    common, rare = coarse == 0, coarse == 1
    parts = [
        group_loss(counts[common], coarse[common], eta, rho, Matching("kl")) * 6,
        intra_loss(counts[rare], coarse[rare], eta, rho, Matching("kl")) * 2,
    ]
    assert float(found) == pytest.approx(float(sum(parts)) / 8)


def test_bank_makes_small_groups_large_without_gradient():
    bank = MemoryBank(coarse=2, classes=2, size=4)
    first = torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    bank.add(first, torch.tensor([1, 1, 1]))
    bank.add(first + 0.4, torch.tensor([1, 1, 0]))
    means, group = bank.remembered(torch.tensor([0, 1]))
    assert group.tolist() == [0, 1, 1, 1, 1]
    assert sorted(means[1:, 0].tolist()) == pytest.approx([0.2, 0.3, 0.5, 0.6])  # the oldest is forgotten
    mean = torch.tensor([[0.4, 0.6]], requires_grad=True)
    nothing = torch.zeros(1, 2)
    found = moments(
        Counts(mean, nothing, nothing, torch.ones(1)),
        torch.tensor([0]),
        1,
        remembered=(means[1:], group[1:] * 0),
        unbiased=False,
    )
    assert float(found.mean[0, 0].detach()) == pytest.approx(0.4) and int(found.size[0]) == 5
    assert found.mean.grad_fn is not None
    restored = MemoryBank(2, 2, 4)
    restored.load_state_dict(bank.state_dict())
    assert torch.equal(restored.remembered(torch.tensor([1]))[0], means[1:])


def test_sampler_draws_whole_groups_of_one_class():
    coarse = torch.tensor([0] * 40 + [1] * 20 + [2] * 3)
    torch.manual_seed(0)
    sampler, seen = GroupSampler(coarse, size=15, groups=2), torch.zeros(63)
    for _ in range(300):
        chosen = sampler()
        kinds, sizes = coarse[chosen].unique(return_counts=True)
        assert len(kinds) == 2 and len(chosen.unique()) == len(chosen)
        assert all(int(s) == (3 if int(k) == 2 else 15) for k, s in zip(kinds, sizes, strict=True))
        seen[chosen] += 1
    assert (seen > 0).all()
    assert len(GroupSampler(coarse[:40], groups=2)()) == 15  # only one class there is


def test_no_blocks_cost_nothing():
    probs = probabilities(1, 2, 4).requires_grad_()
    counts = count(probs, torch.zeros(1, 4, 4), 0)
    none, table = torch.zeros(0, dtype=torch.long), torch.ones(1, 2)
    loss = intra_loss(counts, none, table, table, Matching()) + group_loss(
        counts, none, table, table, Matching()
    )
    loss.backward()
    assert float(loss.detach()) == 0.0 and not probs.grad.any()
