import pytest
import torch

from napari_mtssl.learning.saliency import evaluating, grad_cam, input_gradient, smooth_grad, to_range
from napari_mtssl.nets.multimix import Classifier, MultiMixNet


@pytest.fixture
def net():
    torch.manual_seed(0)
    return MultiMixNet(masks=0)


def test_gradient_of_a_linear_score_is_its_weights():
    weights = torch.randn(2, 16)
    images = torch.randn(5, 1, 4, 4)
    maps = input_gradient(lambda x: x.flatten(1) @ weights.T, images)
    best = (images.flatten(1) @ weights.T).argmax(1)
    assert torch.allclose(maps.flatten(1), weights[best].abs())
    other = input_gradient(lambda x: x.flatten(1) @ weights.T, images, 1 - best)
    assert torch.allclose(other.flatten(1), weights[1 - best].abs())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(net, context):
    """Oracle M2."""
    images = torch.rand(2, 1, 32, 32)
    with evaluating(net):
        expected = input_gradient(lambda x: net.scores(x)[0], images)
        with context():
            again = input_gradient(lambda x: net.scores(x)[0], images)
    assert torch.equal(expected, again) and expected.max() > 0


def test_leaves_nothing_behind(net):
    """Oracle M3."""
    images = torch.rand(2, 1, 32, 32)
    loss = net.scores(images)[0].square().sum()
    loss.backward()
    before = [p.grad.clone() for p in net.parameters()]
    classes = torch.tensor([0, 1])
    maps = [
        input_gradient(lambda x: net.scores(x)[0], images),
        grad_cam(Classifier(net), "network.encoder.4", images, classes),
        smooth_grad(Classifier(net), images, classes, samples=2),
    ]
    for found in maps:
        assert found.grad_fn is None and not found.requires_grad
        assert found.shape == (2, 1, 32, 32) and bool(torch.isfinite(found).all())
    assert all(torch.equal(a, p.grad) for a, p in zip(before, net.parameters(), strict=True))
    assert net.training and not any(m._forward_hooks or m._backward_hooks for m in net.modules())


def test_evaluation_mode_ends_with_the_context(net):
    net.heads.eval()
    with evaluating(net):
        assert not net.training and not net.encoder[0][6].training
    assert net.training and net.encoder[0][6].training and not net.heads.training


def test_grad_cam_and_smooth_grad_see_the_bright_spot():
    """A score that is the mean of one feature: the map is where that feature is."""

    class Bright(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.features = torch.nn.Conv2d(1, 1, 1, bias=False)
            torch.nn.init.ones_(self.features.weight)

        def forward(self, x):
            mean = self.features(x).square().mean((2, 3))
            return torch.cat([mean, -mean], 1)

    images = torch.zeros(1, 1, 8, 8)
    images[..., 2, 5] = 1
    for maps in (
        grad_cam(Bright(), "features", images, torch.tensor([0])),
        smooth_grad(Bright(), images, torch.tensor([0]), samples=4, noise=0.01),
    ):
        assert int(maps.argmax()) == 2 * 8 + 5


def test_to_range():
    maps = torch.stack([torch.linspace(1e-5, 3e-5, 16).view(1, 4, 4), torch.zeros(1, 4, 4)])
    ranged = to_range(maps)
    assert ranged[0].min() == 0 and ranged[0].max() == pytest.approx(1) and (ranged[1] == 0).all()
