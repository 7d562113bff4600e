import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_mtssl.learning.mixup import mix, mix_coefficients


@given(alpha=st.floats(0.05, 4), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_first_image_dominates(alpha, seed):
    # H4
    torch.manual_seed(seed)
    gamma = mix_coefficients(64, alpha)
    assert gamma.shape == (64,)
    assert (gamma >= 0.5).all()
    assert (gamma <= 1.0).all()


def test_gamma_is_the_larger_half_of_one_beta_variate():
    # If it were the maximum of two independent draws, the mean for alpha = 1 would be 0.75 from another law:
    # max(g, 1 - g) of a uniform g is uniform on [0.5, 1].
    torch.manual_seed(0)
    gamma = mix_coefficients(100_000, 1.0)
    quantiles = torch.quantile(gamma, torch.tensor([0.1, 0.5, 0.9]))
    torch.testing.assert_close(quantiles, torch.tensor([0.55, 0.75, 0.95]), atol=0.01, rtol=0)


def test_zero_alpha_mixes_nothing():
    values = torch.rand(5, 3, 4, 4)
    assert torch.equal(mix(values, torch.randperm(5), mix_coefficients(5, 0.0)), values)


def test_mixing_is_linear_for_each_sample():
    values = torch.arange(4.0)[:, None].repeat(1, 2)
    mixed = mix(values, torch.tensor([3, 2, 1, 0]), torch.tensor([1.0, 0.75, 0.5, 0.9]))
    assert mixed[:, 0].tolist() == pytest.approx([0.0, 1.25, 1.5, 2.7])


def test_gamma_follows_the_default_generator():
    torch.manual_seed(3)
    first = mix_coefficients(8, 0.75)
    torch.manual_seed(3)
    assert torch.equal(first, mix_coefficients(8, 0.75))
