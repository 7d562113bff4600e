import pytest
import torch

from napari_mtssl.nets import (
    CentroidHead,
    ClassificationHead,
    HydraNet,
    WideResNet,
    for_inference,
    frozen_statistics,
    turned,
)
from napari_mtssl.nets.hydra import joint_logits


@pytest.fixture
def valid():
    torch.manual_seed(0)
    return HydraNet(WideResNet(10, 1, "valid"), classes=4, window=36, squeeze=4, hidden=16).eval()


@pytest.fixture
def padded():
    torch.manual_seed(0)
    return HydraNet(WideResNet(10, 1, "zeros"), classes=4, window=32).eval()


@torch.no_grad()
def test_dense_equals_patch_wise_without_padding(valid):
    # E3 of the design notes: the same numbers from a patch and from the image around it.
    rows, cols = 6, 9
    image = torch.rand(1, 3, 4 * rows + 2 * valid.halo, 4 * cols + 2 * valid.halo)
    logits, centroids = valid(image, dense=True)
    assert logits.shape == (1, 4, rows, cols)
    assert centroids.shape == (1, 2, rows, cols)
    sites = [(i, j) for i in range(rows) for j in range(cols)]
    patches = torch.cat([image[:, :, 4 * i : 4 * i + 36, 4 * j : 4 * j + 36] for i, j in sites])
    patch_logits, patch_centroids = valid(patches)
    assert patch_logits.shape == (rows * cols, 4, 1, 1)
    torch.testing.assert_close(logits[0].flatten(1).T, patch_logits.flatten(1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(centroids[0].flatten(1).T, patch_centroids.flatten(1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("padding", ["valid", "zeros"])
def test_folded_normalisations_change_nothing(padding, typed):
    torch.manual_seed(0)
    network = HydraNet(WideResNet(16, 1, padding), classes=4, window=64, squeeze=4, hidden=16, typed=typed)
    network.trunk(torch.randn(4, 3, 64, 64))  # statistics to fold
    network.eval()
    image = torch.rand(1, 3, 8 + 2 * network.halo, 12 + 2 * network.halo)
    for ours, theirs in zip(for_inference(network, False)(image, True), network(image, True), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert network(image, True)[0].dtype == torch.float32


@torch.no_grad()
@pytest.mark.parametrize("turns", [2, 4])
def test_a_turned_image_gives_turned_predictions(valid, turns):
    image = torch.rand(1, 3, 24 + 2 * valid.halo, 36 + 2 * valid.halo)
    logits, centroids = turned(valid, image, turns, dense=True)
    quarters = 4 // turns
    other, moved = turned(valid, torch.rot90(image, quarters, (2, 3)), turns, dense=True)
    torch.testing.assert_close(other, torch.rot90(logits, quarters, (2, 3)), atol=1e-5, rtol=1e-5)
    row, col = torch.rot90(centroids, quarters, (2, 3)).unbind(1)
    for _ in range(quarters):
        row, col = 1 - col, row
    torch.testing.assert_close(moved, torch.stack([row, col], 1), atol=1e-5, rtol=1e-5)
    patch = image[:, :, 8 : 8 + valid.window, 12 : 12 + valid.window]
    alone, _ = turned(valid, patch, turns)
    torch.testing.assert_close(logits[:, :, 2, 3], alone[:, :, 0, 0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["valid", "padded"])
def test_tiles_fit_together(kind, request):
    # E4: outputs of two tiles with their halo are those of the whole.
    network = request.getfixturevalue(kind)
    halo = network.halo
    image = torch.rand(1, 3, 64 + 2 * halo, 32 + 2 * halo)
    whole, _ = network(image, dense=True)
    top, _ = network(image[:, :, : 32 + 2 * halo], dense=True)
    bottom, _ = network(image[:, :, 32:], dense=True)
    assert whole.shape[2:] == (16, 8)
    torch.testing.assert_close(torch.cat([top, bottom], 2), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_dense_head_on_padded_features_is_the_patch_head():
    # The heads themselves are exact for the published trunk too; only the trunk's padding differs.
    head = ClassificationHead(16, 3, window=8)
    place = CentroidHead(16, window=8)
    features = torch.rand(1, 16, 10, 11)
    dense, centroid = head(features), place(features)
    assert dense.shape == (1, 3, 3, 4)
    part = features[:, :, 2:10, 3:11]
    torch.testing.assert_close(head(part)[0, :, 0, 0], dense[0, :, 2, 3])
    torch.testing.assert_close(place(part)[0, :, 0, 0], centroid[0, :, 2, 3])


def test_one_head_says_whether_and_the_other_which():
    torch.manual_seed(0)
    kind, cell_type = torch.randn(5, 4, 2, 3), torch.randn(5, 3, 2, 3)
    probs = joint_logits(kind, cell_type).exp()
    torch.testing.assert_close(probs.sum(1), torch.ones(5, 2, 3))
    torch.testing.assert_close(probs[:, 0], kind.softmax(1)[:, 0])
    torch.testing.assert_close(probs[:, 1:] / probs[:, 1:].sum(1, keepdim=True), cell_type.softmax(1))
    extreme = joint_logits(torch.tensor([[90.0, 0.0, 0.0]]), torch.tensor([[0.0, 200.0]]))
    assert torch.isfinite(extreme).all()


@torch.no_grad()
def test_a_network_with_types_joins_both_heads():
    torch.manual_seed(0)
    network = HydraNet(WideResNet(10, 1, "valid"), classes=4, window=36, squeeze=4, hidden=16, typed=True)
    patches = torch.rand(3, 3, 36, 36)
    kind, cell_type, centroids = network.eval().outputs(patches)
    logits, places = network(patches)
    assert (kind.shape[1], cell_type.shape[1]) == (4, 3)
    torch.testing.assert_close(logits, joint_logits(kind, cell_type))
    torch.testing.assert_close(places, centroids)


def test_heads_have_the_published_layers():
    kind = ClassificationHead(128, 3, window=8)
    place = CentroidHead(128, window=8)
    assert [tuple(p.shape[:2]) for p in kind.parameters() if p.ndim > 1] == [
        (128, 128),
        (64, 128),
        (32, 64),
        (3, 32),
    ]
    assert [p.numel() for p in place.parameters() if p.ndim > 1] == [8 * 8 * 128 * 128, 128 * 32, 32]


def test_guessing_leaves_running_statistics_alone(padded):
    # H7
    padded.train()
    before = {k: v.clone() for k, v in padded.state_dict().items()}
    with frozen_statistics(padded), torch.no_grad():
        padded(torch.rand(4, 3, 32, 32))
    assert all(torch.equal(v, before[k]) for k, v in padded.state_dict().items())
    with torch.no_grad():
        padded(torch.rand(4, 3, 32, 32))
    assert not torch.equal(padded.trunk.bn.running_mean, before["trunk.bn.running_mean"])


def test_frozen_statistics_are_those_of_the_batch(padded):
    images = torch.rand(4, 3, 32, 32)
    padded.train()
    with torch.no_grad():
        with frozen_statistics(padded):
            frozen, _ = padded(images)
        usual, _ = padded(images)
    torch.testing.assert_close(frozen, usual)


def test_normalisation_comes_from_the_images(padded):
    images = torch.rand(64, 3, 8, 8) * 0.5 + torch.tensor([0.0, 0.2, 0.5]).view(1, 3, 1, 1)
    padded.normalise_with(images)
    normal = (images - padded.mean) / padded.std
    assert normal.mean((0, 2, 3)).abs().max() < 1e-5
    assert (normal.std((0, 2, 3)) - 1).abs().max() < 1e-5
    assert bool(padded.fitted)


@pytest.mark.parametrize("window", [24, 34])
def test_a_window_that_does_not_fit_is_refused(window):
    with pytest.raises(ValueError, match="does not suit"):
        HydraNet(WideResNet(10, 1, "valid", (2, 2, 1)), classes=2, window=window)
