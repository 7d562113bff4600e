"""A network with held statistics is the network itself on what they were taken of."""

import pytest
import torch
from torch.nn import functional as F

from napari_mtssl.learning.saliency import input_gradient
from napari_mtssl.nets.multimix import MultiMixNet
from napari_mtssl.nets.multimix_slide import SlideNet, ranges


@pytest.fixture
def images():
    torch.manual_seed(2)
    coarse = F.interpolate(torch.rand(1, 1, 4, 6), size=(64, 96), mode="bicubic")
    return coarse + 0.2 * torch.rand(1, 1, 64, 96)


def test_statistics_of_an_image_make_the_network_itself(images):
    """Also its gradient, part of which comes through mean and variance of the whole image."""
    torch.manual_seed(0)
    network = MultiMixNet(classes=(3,), masks=1).eval()
    network.corners = False
    saliency = input_gradient(lambda x: network.scores(x)[0][:, 1:2], images)
    _, mask = network(images, saliency)
    slide = SlideNet(network, 64)
    # of 64 x 96 pixels 6 places, of an image that was learnt from 4
    share = slide.places / 6
    slide.take(0)
    features, seen = slide.encode(images, 0, 1)
    slide.decode(features, network.reduce(images, seen * share))
    held = slide.statistics()
    assert len(held) == 18

    other = SlideNet(network, 64)
    other.hold(held)
    features, seen = other.encode(images, 0, 1)
    assert torch.allclose(seen * share, saliency, atol=1e-5 * float(saliency.max()))
    logits = other.decode(features, network.reduce(images, seen * share))
    assert torch.allclose(logits, mask, atol=1e-5)
    for norm in (name for name in held if "encoder" in name):
        held[norm][2:] = 0
    other.hold(held)
    without = other.encode(images, 0, 1)[1] * share
    assert (without - saliency).abs().mean() > 0.1 * saliency.mean()  # it is no small part


def test_weights_are_the_networks_own():
    network = MultiMixNet()
    slide = SlideNet(network, 128)
    assert all(a is b for a, b in zip(slide.parameters(), network.parameters(), strict=True))
    assert network.corners and not slide.network.corners
    assert isinstance(network.encoder[0][1], torch.nn.InstanceNorm2d)


def test_how_far_it_sees():
    assert SlideNet(MultiMixNet(), 128).reach == 224
    assert SlideNet(MultiMixNet(bridge=False), 128).reach == 160
    assert SlideNet(MultiMixNet(classes=(), bridge=False), 128).reach == 128


def test_range_of_fields():
    saliency = torch.zeros(1, 1, 12, 12)
    saliency[0, 0, 2:6, 2:10] = 1.0
    saliency[0, 0, 2, 2] = 5.0
    assert ranges(saliency, 4, 2) == (0.5, pytest.approx((5 + 1 + 0 + 0) / 4))
