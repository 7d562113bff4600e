import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_mtssl.nets import WideResNet


def test_the_published_trunk_has_its_size():
    # H8 of the design notes: 1.463 M weights in convolutions, 8x8x128 from a 32x32 patch, 28 convolutions.
    trunk = WideResNet(28, 2)
    convolutions = [m for m in trunk.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 28
    assert round(sum(c.weight.numel() for c in convolutions) / 1e6, 3) == 1.463
    assert trunk.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 128, 8, 8)
    assert trunk.stride == 4
    assert trunk.receptive_field == 109


@pytest.mark.parametrize("strides", [(1, 2, 2), (2, 1, 2), (2, 2, 1)])
def test_a_valid_trunk_sees_the_same_in_a_patch_and_in_an_image(strides):
    torch.manual_seed(0)
    trunk = WideResNet(10, 1, "valid", strides).eval()
    image = torch.rand(1, 3, 72, 80)
    whole = trunk(image)
    size = trunk.receptive_field
    for row, col in [(0, 0), (3, 5), (whole.shape[2] - 1, whole.shape[3] - 1)]:
        patch = image[:, :, 4 * row : 4 * row + size, 4 * col : 4 * col + size]
        torch.testing.assert_close(trunk(patch)[0, :, 0, 0], whole[0, :, row, col], atol=1e-5, rtol=1e-5)


@given(
    size=st.integers(40, 64),
    depth=st.sampled_from([10, 16]),
    padding=st.sampled_from(["zeros", "valid"]),
    strides=st.sampled_from([(1, 2, 2), (2, 2, 1), (1, 1, 2)]),
)
@settings(max_examples=15, deadline=None)
def test_the_output_is_as_large_as_said(size, depth, padding, strides):
    trunk = WideResNet(depth, 1, padding, strides).eval()
    expected = trunk.output_size(size)
    if expected > 0:
        assert trunk(torch.rand(1, 3, size, size)).shape[2:] == (expected, expected)


def test_the_receptive_field_is_exact():
    trunk = WideResNet(10, 1, "valid", (2, 2, 1)).eval()
    image = torch.rand(1, 3, trunk.receptive_field, trunk.receptive_field, requires_grad=True)
    trunk(image).sum().backward()
    seen = image.grad[0].abs().sum(0) > 0
    assert seen[0].any()
    assert seen[-1].any()


def test_cropped_shortcuts_have_the_gradient_of_slices():
    trunk = WideResNet(10, 1, "valid", (2, 2, 1)).double().eval()
    image = torch.rand(1, 3, 40, 40, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: trunk(x)[:, :2], image, fast_mode=True)


def test_an_impossible_depth_is_refused():
    with pytest.raises(ValueError, match="6 n \\+ 4"):
        WideResNet(12)
