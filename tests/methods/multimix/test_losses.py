import math

import pytest
import torch
from torch.nn import functional as F

from napari_mtssl.methods.multimix import losses


def test_background_has_logit_zero():
    logits = torch.randn(2, 1, 4, 4)
    assert torch.allclose(losses.probabilities(logits)[:, 1:], torch.sigmoid(logits))
    several = losses.probabilities(torch.randn(2, 3, 4, 4))
    assert torch.allclose(several.sum(1), torch.ones(2, 4, 4))


def test_dice_of_perfect_and_of_empty_masks_is_zero():
    """Oracle M6."""
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:5, 3:7] = 1
    assert losses.dice_loss(mask, mask) == 0
    assert losses.dice_loss(torch.zeros_like(mask), torch.zeros_like(mask)) == 0


def test_dice_by_hand():
    truth, found = torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4)
    truth[..., :2], found[..., 1:3] = 1, 1  # two of four pixels in common
    assert losses.dice_loss(found, truth) == pytest.approx(1 - (2 * 2 + 1) / (8 + 1))
    known = torch.ones(1, 1, 2, 4)
    known[..., 2:] = 0
    assert losses.dice_loss(found, truth, known) == pytest.approx(1 - (2 * 2 + 1) / (6 + 1))


def test_unknown_pixels_give_no_gradient():
    logits = torch.randn(1, 1, 4, 4, requires_grad=True)
    target = losses.probabilities(torch.randn(1, 1, 4, 4))
    known = torch.zeros(1, 1, 4, 4)
    known[..., :2] = 1
    total = losses.mask_cross_entropy(logits, target, known) + losses.dice_loss(
        losses.probabilities(logits)[:, 1:], target[:, 1:], known
    )
    total.backward()
    assert (logits.grad[..., 2:] == 0).all() and (logits.grad[..., :2] != 0).all()
    nothing = losses.mask_cross_entropy(logits, target, torch.zeros(1, 1, 4, 4))
    assert nothing == 0


def test_the_released_consistency_is_always_zero_and_ours_is_not():
    """Oracle M1."""
    labelled, unlabelled = torch.randn(3, 1, 8, 8), torch.randn(4, 1, 8, 8)
    released = F.kl_div(
        F.log_softmax(unlabelled[:3], dim=1), F.softmax(labelled, dim=1), reduction="batchmean"
    )
    assert released == 0
    p, q = torch.sigmoid(labelled), torch.sigmoid(unlabelled)
    assert losses.paper_consistency(p, q) > 0.01
    assert losses.paper_consistency(p[:1], p[:1]) == pytest.approx(0, abs=1e-6)
    assert losses.area_consistency(p, p) == pytest.approx(0, abs=1e-6)


def test_paper_consistency_by_hand():
    p, q = torch.full((2, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 0.25)
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert losses.paper_consistency(p, q) == pytest.approx(expected, rel=1e-4)
    p.requires_grad_(True)
    assert not losses.paper_consistency(p, q).requires_grad


def test_area_consistency_sees_the_area_alone():
    left, right = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    left[..., :2], right[..., 2:] = 1, 1
    assert losses.area_consistency(left, right) == pytest.approx(0, abs=1e-6)
    assert losses.area_consistency(left, torch.ones(2, 1, 4, 4)) > 1


def test_teacher_is_heard_where_it_is_sure_and_inside():
    logits = torch.zeros(1, 1, 2, 2, requires_grad=True)
    guess = torch.tensor([[0.01, 0.99], [0.45, 0.99]]).view(1, 1, 2, 2)
    guess = torch.cat([guess, 1 - guess], 1)
    inside = torch.tensor([[1.0, 1.0], [1.0, 0.0]]).view(1, 1, 2, 2)
    losses.teacher_consistency(logits, guess, inside, 0.8).backward()
    moved = logits.grad[0, 0]
    assert moved[0, 0] < 0 < moved[0, 1] and moved[1, 0] == 0 and moved[1, 1] == 0
