import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_mtssl.learning.losses import (
    centroid_loss,
    cross_entropy,
    reverse_cross_entropy,
    symmetric_cross_entropy,
)


def test_symmetric_cross_entropy_on_a_hard_label():
    # H2: p_y = 0.7 gives 0.3567 and 9.2103 * 0.3 = 2.7631
    logits = torch.tensor([[0.7, 0.2, 0.1]]).log()
    label = torch.tensor([[1.0, 0.0, 0.0]])
    assert cross_entropy(logits, label).item() == pytest.approx(0.3567, abs=1e-4)
    assert reverse_cross_entropy(logits, label).item() == pytest.approx(2.7631, abs=1e-4)
    assert symmetric_cross_entropy(logits, label, 2.0, 0.5).item() == pytest.approx(
        2 * 0.3567 + 0.5 * 2.7631, abs=1e-3
    )


def test_reverse_cross_entropy_is_bounded_and_so_is_its_gradient():
    # H3: a one-hot prediction, a target with zeros
    logits = torch.tensor([[200.0, 0.0, -200.0], [-300.0, 300.0, 0.0]], requires_grad=True)
    target = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    loss = reverse_cross_entropy(logits, target)
    assert loss.tolist() == pytest.approx([-math.log(1e-4)] * 2, rel=1e-4)
    loss.sum().backward()
    assert torch.isfinite(logits.grad).all()


@given(
    st.lists(st.floats(-30, 30), min_size=3, max_size=3), st.lists(st.floats(0.01, 1), min_size=3, max_size=3)
)
@settings(max_examples=40, deadline=None)
def test_cross_entropy_is_least_at_the_target(raw, target):
    q = torch.tensor([target])
    q = q / q.sum()
    least = cross_entropy(q.log(), q)
    assert cross_entropy(torch.tensor([raw]), q).item() >= least.item() - 1e-4


def test_background_alone_costs_nothing():
    # H6: zero, no NaN, even if the meaningless targets are not numbers
    predicted = torch.rand(4, 2, requires_grad=True)
    target = torch.full((4, 2), float("nan"))
    loss = centroid_loss(predicted, target, torch.zeros(4))
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(predicted.grad, torch.zeros(4, 2))


@pytest.mark.parametrize("product", [False, True])
def test_the_classifier_gets_no_gradient_from_centroids(product):
    # H6: d R / d class logits = 0
    logits = torch.randn(5, 3, requires_grad=True)
    predicted = torch.rand(5, 2, requires_grad=True)
    foreground = 1 - logits.softmax(1)[:, 0]
    loss = centroid_loss(predicted, torch.rand(5, 2), foreground, foreground if product else None)
    (gradient,) = torch.autograd.grad(loss, logits, allow_unused=True)
    assert gradient is None


def test_centroid_loss_is_the_weighted_mean_over_cells():
    predicted = torch.tensor([[0.5, 0.5], [0.2, 0.2], [0.9, 0.9]])
    target = torch.tensor([[0.5, 0.6], [0.4, 0.2], [0.0, 0.0]])
    loss = centroid_loss(predicted, target, torch.tensor([1.0, 1.0, 0.0]))
    assert loss.item() == pytest.approx((0.01 + 0.04) / 2, rel=1e-5)


def test_the_literal_product_draws_predictions_down():
    target = torch.full((2, 2), 0.5)
    half = torch.full((2,), 0.5)
    assert centroid_loss(target, target, torch.ones(2), half).item() == pytest.approx(2 * 0.25**2)
    assert centroid_loss(2 * target, target, torch.ones(2), half).item() == pytest.approx(0.0)


def test_huber_is_linear_beyond_its_scale():
    predicted = torch.tensor([[0.5, 0.5]])
    target = torch.tensor([[0.9, 0.5]])
    loss = centroid_loss(predicted, target, torch.ones(1), huber=0.1)
    assert loss.item() == pytest.approx(0.4 - 0.05, rel=1e-4)
