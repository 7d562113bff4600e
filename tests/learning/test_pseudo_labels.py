import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_mtssl.learning.pseudo_labels import (
    DistributionAlignment,
    MeanTeacher,
    SoftThreshold,
    average,
    hard_threshold,
    sharpen,
)

probabilities = st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda p: sum(p) > 0.1)


def test_sharpening_by_one_half():
    # H1
    sharp = sharpen(torch.tensor([[0.5, 0.3, 0.2]]), 0.5)
    torch.testing.assert_close(sharp, torch.tensor([[0.6579, 0.2368, 0.1053]]), atol=1e-4, rtol=0)


@given(raw=probabilities, temperature=st.floats(0.05, 1))
@settings(max_examples=50, deadline=None)
def test_sharpening_keeps_a_distribution_and_its_order(raw, temperature):
    probs = torch.tensor([raw])
    probs = probs / probs.sum()
    sharp = sharpen(probs, temperature)
    assert sharp.sum().item() == pytest.approx(1, abs=1e-5)
    assert sharp.max().item() >= probs.max().item() - 1e-5
    assert sharp[0, probs.argmax()].item() == pytest.approx(sharp.max().item())


@given(raw=probabilities)
@settings(max_examples=30, deadline=None)
def test_temperature_one_is_the_identity(raw):
    # H1
    probs = torch.tensor([raw])
    probs = probs / probs.sum()
    torch.testing.assert_close(sharpen(probs, 1.0), probs, atol=1e-6, rtol=1e-4)


def test_views_are_averaged_as_probabilities():
    logits = torch.tensor([[[0.9, 0.1]], [[0.1, 0.9]]]).log()
    torch.testing.assert_close(average(logits), torch.tensor([[0.5, 0.5]]))


def test_hard_threshold_keeps_the_confident():
    probs = torch.tensor([[0.96, 0.04], [0.95, 0.05], [0.5, 0.5]])
    assert hard_threshold(probs, 0.95).tolist() == [1.0, 1.0, 0.0]


def test_soft_threshold_is_a_truncated_gaussian():
    trust = SoftThreshold(2, momentum=1.0)
    probs = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.7, 0.3]])
    weights = trust(probs)
    confidence = probs.amax(1)
    var = confidence.var(unbiased=False)
    expected = torch.exp(-((0.7 - 0.5) ** 2) / (2 * var / 4))
    assert weights[0].item() == 1
    assert weights[2].item() == pytest.approx(1, abs=1e-5)
    assert weights[1].item() == pytest.approx(expected.item(), rel=1e-4)


def test_soft_threshold_starts_lenient_and_rises():
    trust = SoftThreshold(3)
    sure = torch.tensor([[0.98, 0.01, 0.01]] * 8)
    unsure = torch.tensor([[0.4, 0.3, 0.3]] * 8)
    early = trust(unsure).mean().item()
    for _ in range(200):
        trust(torch.cat([sure, unsure]))
    assert early > 0.9
    assert trust(unsure).mean().item() < early / 2


def test_alignment_moves_guesses_to_what_is_rare():
    align = DistributionAlignment(2, strength=1.0, momentum=1.0)
    guesses = torch.tensor([[0.9, 0.1], [0.7, 0.3]])
    aligned = align(guesses, torch.tensor([0.5, 0.5]))
    assert (aligned[:, 1] > guesses[:, 1]).all()
    assert aligned[:, 1].mean().item() == pytest.approx(0.5, abs=0.06)
    torch.testing.assert_close(aligned.sum(1), torch.ones(2))


def test_no_alignment_is_the_identity():
    align = DistributionAlignment(3, strength=0.0)
    guesses = torch.tensor([[0.8, 0.1, 0.1]])
    torch.testing.assert_close(align(guesses, torch.tensor([0.1, 0.1, 0.8])), guesses)


def test_the_teacher_is_first_the_plain_mean_and_then_forgets():
    student, teacher = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
    follow = MeanTeacher(teacher, student, decay=0.75)
    with torch.no_grad():
        teacher.weight.fill_(1.0)
        student.weight.fill_(2.0)
        follow.update(1)
        assert teacher.weight.item() == pytest.approx(1.5)
        student.weight.fill_(3.0)
        follow.update(2)
        assert teacher.weight.item() == pytest.approx(2.0)
        student.weight.fill_(6.0)
        follow.update(100)
        assert teacher.weight.item() == pytest.approx(3.0)
    student(torch.rand(2, 1, 3, 3))
    follow.update(101)
    assert teacher.num_batches_tracked == student.num_batches_tracked
    assert teacher.running_mean.item() != 0
