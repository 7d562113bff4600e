import pytest
import torch

from napari_mtssl.nets.multimix import Classifier, MultiMixNet


def test_size_of_the_published_network():
    net = MultiMixNet()
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(1.97e6, rel=0.005)
    assert [block[0].out_channels for block in net.encoder] == [16, 32, 64, 128, 256]


def test_what_the_decoder_is_shown(monkeypatch):
    """Oracle M5: 256 + 128 + 2 channels, at an eighth of the side."""
    net = MultiMixNet()
    shapes = []
    net.decoder[0].register_forward_hook(lambda module, given, result: shapes.append(given[0].shape))
    images = torch.rand(1, 1, 256, 256)
    classes, masks = net(images, torch.rand(1, 1, 256, 256))
    assert shapes == [(1, 256 + 128 + 2, 32, 32)]
    assert masks.shape == (1, 1, 256, 256) and classes[0].shape == (1, 2)


def test_without_parts():
    images = torch.rand(2, 3, 64, 32)
    classes, masks = MultiMixNet(3, (), 4, bridge=False)(images)
    assert classes == [] and masks.shape == (2, 4, 64, 32)
    classes, masks = MultiMixNet(3, (2, 5), 0)(images)
    assert [z.shape for z in classes] == [(2, 2), (2, 5)] and masks is None
    with pytest.raises(ValueError, match="needs bridge"):
        MultiMixNet()(torch.rand(1, 1, 32, 32))


def test_no_image_sees_another():
    net = MultiMixNet().eval()
    images, shown = torch.rand(3, 1, 32, 32), torch.rand(3, 1, 32, 32)
    together, alone = net(images, shown)[1], net(images[1:2], shown[1:2])[1]
    assert torch.allclose(together[1:2], alone, atol=1e-5)
    assert torch.allclose(Classifier(net)(images)[1:2], net.scores(images[1:2])[0], atol=1e-5)
