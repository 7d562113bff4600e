import pytest
import torch

from napari_mtssl.nets.unet import UNet


@pytest.mark.parametrize(
    ("widths", "stem", "align"), [((4, 8), 1, 2), ((4, 8, 8), 2, 8), ((4, 6, 8, 8, 8), 1, 16)]
)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_one_output_for_each_pixel(widths, stem, align, norm):
    net = UNet(3, widths, stem=stem, norm=norm)
    assert net.align == align and net.reach % align == 0
    assert net(torch.rand(2, 3, 3 * align, 2 * align)).shape == (2, 3, 3 * align, 2 * align)
    with pytest.raises(ValueError, match=f"multiples of {align}"):
        net(torch.rand(1, 3, align, align + 1))


@pytest.mark.parametrize("stem", [1, 2])
def test_nothing_beyond_the_reach_changes_an_output(stem):
    torch.manual_seed(0)
    net = UNet(1, (4, 4, 4), stem=stem).double().eval()
    side = 2 * net.reach + 2 * net.align
    image = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    middle = side // 2
    net(image)[0, 0, middle, middle].backward()
    rows = torch.nonzero(image.grad[0].abs().sum((0, 2))).ravel() - middle
    assert -net.reach <= int(rows.min()) and int(rows.max()) <= net.reach
    assert int(rows.max()) > net.reach // 2  # and the reach is no wild guess


def test_tiles_equal_the_whole():
    torch.manual_seed(0)
    net = UNet(2, (4, 8, 8)).double().eval()
    net.normalise_with(torch.rand(4, 3, 8, 8, dtype=torch.float64))
    image = torch.rand(1, 3, 160, 160, dtype=torch.float64)
    whole = net(image)
    halo, at, side = net.reach, 64, 16
    part = net(image[..., at - halo : at + side + halo, at - halo : at + side + halo])
    inside = part[..., halo : halo + side, halo : halo + side]
    assert torch.allclose(inside, whole[..., at : at + side, at : at + side], atol=1e-10)


def test_learns_an_edge_from_one_image():
    torch.manual_seed(0)
    image = torch.zeros(1, 3, 32, 32)
    image[..., 13:] = 1.0
    net = UNet(1, (8, 8, 8))
    net.normalise_with(image)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(image)[:, 0], image[:, 0])
        loss.backward()
        optimiser.step()
    assert float(loss) < 0.1


def test_grey_images_and_wrong_shapes():
    assert UNet(1, (4, 4), channels=1)(torch.rand(1, 1, 8, 8)).shape == (1, 1, 8, 8)
    with pytest.raises(ValueError, match="two widths"):
        UNet(1, (4,))
