import sys
import types

import pytest
import torch
from safetensors.torch import save_file

from napari_mtssl.nets.joint_unet import JointUNet, light_inside, masked_moments, moments
from napari_mtssl.nets.resnet34 import (
    BLOCKS,
    BasicBlock,
    ResNet34Encoder,
    WeightsError,
    check_weights,
    load_encoder,
)

HEADS = {"pattern": 7, "intensity": 2}


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_sizes_are_the_reports():
    # 19.5 M in the encoder, 31.7 M in all at width 64
    net = JointUNet(HEADS, base=64)
    assert count(net.encoder) == pytest.approx(19.5e6, rel=0.01)
    assert count(net) == pytest.approx(31.7e6, rel=0.01)


def test_resnet34_is_the_true_one():
    encoder = ResNet34Encoder(64)
    # torchvision's resnet34 without fc has 21,284,672
    assert count(encoder) == 21_284_672
    assert [len(getattr(encoder, f"layer{n}")) for n in range(1, 5)] == list(BLOCKS) == [3, 4, 6, 3]
    assert "layer2.0.downsample.1.running_mean" in encoder.state_dict()


@pytest.mark.parametrize("encoder", ["residual", "resnet34", "double"])
def test_shapes_and_gradients(encoder):
    net = JointUNet(HEADS, 3, encoder, base=4)
    images = torch.rand(2, 3, 64, 96)
    mask, classes = net(images)
    assert mask.shape == (2, 3, 64, 96)
    assert {name: tuple(x.shape) for name, x in classes.items()} == {"pattern": (2, 7), "intensity": (2, 2)}
    shared = net.encoder.last
    for loss in (mask.square().mean(), *(x.square().mean() for x in classes.values())):  # G6
        (gradient,) = torch.autograd.grad(loss, shared, retain_graph=True)
        assert gradient.abs().sum() > 0
    with pytest.raises(ValueError, match="multiples"):
        net(torch.rand(1, 3, 40, 64))


def test_heads_without_a_mask_and_a_mask_without_heads():
    mask, classes = JointUNet({"grade": 2}, 0, base=4)(torch.rand(2, 3, 32, 32))
    assert mask is None and classes["grade"].shape == (2, 2)
    mask, classes = JointUNet({}, 1, base=4)(torch.rand(2, 3, 32, 32))
    assert mask.shape == (2, 1, 32, 32) and classes == {}
    with pytest.raises(ValueError, match="a mask or a class"):
        JointUNet({}, 0)


def test_moments_inside_a_mask_are_those_of_its_pixels():
    features = torch.randn(2, 3, 16, 16) * 2 + 1
    inside = torch.zeros(2, 1, 32, 32)
    inside[:, :, 8:24, :20] = 1
    mean, spread = masked_moments(features, inside)
    whole = moments(features)
    torch.testing.assert_close(mean[:, :3], whole[0])
    torch.testing.assert_close(spread[:, :3], whole[1])
    part = moments(features[:, :, 4:12, :10])
    torch.testing.assert_close(mean[:, 3:], part[0], atol=0.01, rtol=0.01)
    torch.testing.assert_close(spread[:, 3:], part[1], atol=0.01, rtol=0.01)
    empty, _ = masked_moments(features, torch.zeros(2, 1, 32, 32))
    torch.testing.assert_close(empty[:, :3], empty[:, 3:])


@pytest.mark.parametrize("white", [False, True])
def test_light_inside_is_that_of_the_strongest_channel(white):
    shown = torch.full((1, 3, 16, 16), 0.1)
    shown[:, 1, :8] = 0.5  # the cells: green
    images = 1 - shown if white else shown
    inside = torch.zeros(1, 1, 16, 16)
    inside[:, :, :8] = 1
    mean = images.mean((2, 3), keepdim=True)
    found = light_inside(images, inside, mean).exp() - 0.01
    torch.testing.assert_close(found[0, :3], torch.tensor([0.5, 0.2, 0.2]), atol=0.01, rtol=0.02)
    more = light_inside(1 - 1.5 * shown if white else 1.5 * shown, inside, mean).exp() - 0.01
    torch.testing.assert_close(more[0, :3], 1.5 * found[0, :3], atol=0.01, rtol=0.02)


def test_a_head_of_brightness_sees_light_and_the_other_classes_alone():
    torch.manual_seed(0)
    net = JointUNet(HEADS, 1, base=4, pooling="light", bright=("intensity",), dropout=0.0)
    assert net.heads["intensity"].in_features == 4 + 7
    net.train()
    net(torch.rand(4, 3, 32, 32))[1]["intensity"].square().mean().backward()
    taught = {name for name, p in net.named_parameters() if p.grad is not None}
    assert taught == {"heads.intensity.weight", "heads.intensity.bias"}  # what it asks is not its to teach
    for alone in (
        JointUNet(HEADS, 0, base=4, pooling="light", bright=("intensity",)),
        JointUNet({"intensity": 2}, 1, base=4, pooling="light", bright=("intensity",)),
    ):
        assert alone.bright == () and alone(torch.rand(2, 3, 32, 32))[1]["intensity"].shape == (2, 2)


@pytest.mark.parametrize("outputs", [0, 1, 3])
def test_classes_look_inside_the_mask_and_do_not_move_it(outputs):
    torch.manual_seed(0)
    net = JointUNet(HEADS, outputs, base=4, pooling="mask").train()
    images = torch.rand(4, 3, 32, 32)
    _, classes = net(images)
    assert classes["pattern"].shape == (4, 7)
    classes["pattern"].square().mean().backward()
    assert net.encoder.last.grad is not None and net.encoder.last.grad.abs().sum() > 0
    if outputs:
        assert all(p.grad is None for p in (*net.mask.parameters(), *net.up.parameters()))
        with torch.no_grad():  # the same network with another mask says something else of the classes
            net.mask.bias.add_(torch.linspace(-3, 3, outputs) if outputs > 1 else 5.0)
            net.mask.weight.mul_(-3)
            assert not torch.allclose(net(images)[1]["pattern"], classes["pattern"])


def test_block_adds_a_1x1_convolution_of_its_input():
    block = BasicBlock(3, 5, project=True).eval()
    with torch.no_grad():
        block.conv2.weight.zero_()
        x = torch.randn(1, 3, 8, 8)
        torch.testing.assert_close(block(x), torch.relu(block.downsample(x)))


def test_the_users_weights_are_taken(tmp_path):
    theirs, mine = ResNet34Encoder(8), ResNet34Encoder(8)
    state = {f"backbone.{k}": v.clone() for k, v in theirs.state_dict().items()}
    save_file(state | {"backbone.fc.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    taken = load_encoder(mine, str(tmp_path / "w.safetensors"))
    assert taken > 150
    assert torch.equal(mine.layer4[2].conv2.weight, theirs.layer4[2].conv2.weight)
    with pytest.raises(WeightsError, match="width they were made for"):
        load_encoder(ResNet34Encoder(16), str(tmp_path / "w.safetensors"))
    save_file({"other": torch.zeros(1)}, tmp_path / "o.safetensors")
    with pytest.raises(WeightsError, match="no weights of this encoder"):
        load_encoder(mine, str(tmp_path / "o.safetensors"))
    with pytest.raises(WeightsError, match="no file"):
        load_encoder(mine, str(tmp_path / "none.safetensors"))
    with pytest.raises(WeightsError, match="no file"):
        check_weights(str(tmp_path / "none.safetensors"))
    check_weights(str(tmp_path / "w.safetensors"))
    check_weights("")


def test_timm_makes_an_encoder_or_says_why_not(monkeypatch, tmp_path):
    """With a stand-in: timm itself is not needed."""
    theirs = ResNet34Encoder(8)

    def create_model(name, pretrained, checkpoint_path):
        if name != "resnet34":
            raise RuntimeError(f"Unknown model ({name})")
        return theirs

    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=create_model))
    mine = ResNet34Encoder(8)
    load_encoder(mine, "timm:resnet34@w.pth")
    assert torch.equal(mine.last, theirs.last)
    with pytest.raises(WeightsError, match=r"timm cannot make 'resnet35' with w\.pth: Unknown model"):
        load_encoder(mine, "timm:resnet35@w.pth")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(WeightsError, match="timm is not installed"):
        check_weights("timm:resnet34")
