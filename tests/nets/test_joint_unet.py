import pytest
import torch
from safetensors.torch import save_file

from napari_mtssl.nets.joint_unet import JointUNet
from napari_mtssl.nets.resnet34 import BLOCKS, BasicBlock, ResNet34Encoder, WeightsError, load_encoder

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
