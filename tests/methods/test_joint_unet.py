import numpy as np
import pytest
import torch

from napari_mtssl.engine.loop import balanced_weights, weighted_sum
from napari_mtssl.evaluation.hep2 import synthetic
from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.joint_unet import ImageSet, JointUNetMethod
from napari_mtssl.methods.joint_unet.samples import UNKNOWN, draw_labelled, nearest
from napari_mtssl.methods.joint_unet.scores import Outcome, auroc, scores
from napari_mtssl.methods.joint_unet.views import Views, cut_and_paste, dihedral, mask_loss

TINY = {"precision": "float32", "encoder": "residual", "size": 64, "base": 4, "batch_size": 4, "tta": 1}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data():
    return synthetic(8, 2, size=64, seed=3)


def image_set(data, labelled=None):
    masks, labels = data.masks.copy(), {k: v.copy() for k, v in data.labels.items()}
    if labelled is not None:
        masks[labelled:] = UNKNOWN
        for values in labels.values():
            values[labelled:] = -1
    return ImageSet.from_arrays(data.images, masks, labels)


def build(data, **settings):
    return JointUNetMethod(JointUNetMethod.configure(**TINY | settings), data.vocabulary, CPU)


def run(method, samples, steps, start=0):
    method.prepare(samples)
    optimiser = method.optimiser()
    output = None
    for step in range(start, start + steps):
        torch.manual_seed(1000 + step)
        output = method.step(samples, step / method.config.steps, method.config.batch_size)
        weights = balanced_weights(method, output)
        optimiser.zero_grad()
        weighted_sum(output.losses, weights).backward()
        if method.balancer is not None:
            method.balancer.learn(method.shared)
        for group in optimiser.param_groups:
            group["lr"] = method.learning_rate(step / method.config.steps)
        optimiser.step()
        method.after_step()
    return output


def test_steps_learn_all_tasks_and_guess_for_the_unlabelled(data):
    method = build(data, class_consistency=1.0)
    assert method.tasks == ("mask", "pattern")  # the intensity has no features of its own to balance
    output = run(method, image_set(data, 6), 2)
    names = {"mask", "pattern", "intensity"}
    assert set(output.losses) == names | {f"{name}_guess" for name in names}
    assert output.tasks["pattern_guess"] == "pattern"
    assert all(torch.isfinite(loss) and loss.ndim == 0 for loss in output.losses.values())
    assert set(run(method, image_set(data), 1).losses) == names  # nothing left to guess
    assert set(run(build(data), image_set(data, 6), 1).losses) == names | {"mask_guess"}
    half = build(data, class_consistency=0.5, consistency=0.5, ramp=0.0)
    weights = run(half, image_set(data, 6), 1).weights
    assert weights["mask_guess"] == 0.5 and weights["pattern_guess"] == 0.25


def test_labels_that_are_missing_teach_nothing(data):
    samples = image_set(data)
    samples.labels["pattern"][:] = -1
    samples.masks[:] = UNKNOWN
    only = ImageSet(samples.images, samples.masks, samples.labels, samples.ids)
    method = build(data, unlabelled_ratio=0.0)
    output = run(method, only, 1)
    assert set(output.losses) == {"intensity"}
    head = method.network.heads["pattern"].weight
    assert head.grad is None or head.grad.abs().sum() == 0


def test_rare_masks_are_in_every_batch(data):
    samples = image_set(data)
    samples.masks[2:] = UNKNOWN
    samples = ImageSet(samples.images, samples.masks, samples.labels, samples.ids)
    method = build(data)
    for updates in range(6):
        method._updates = updates
        assert (method._draw(samples, 4) < 2).sum() >= 2


def test_every_labelled_image_is_drawn_once_a_round(data):
    method, samples = build(data), image_set(data)
    drawn = []
    for updates in range(4):
        method._updates = updates
        drawn += method._draw(samples, 4).tolist()
    assert sorted(drawn) == list(range(16))


def test_a_run_that_was_cut_goes_on_as_if_it_was_not(data):
    samples = image_set(data, 6)
    one = build(data, balance="gradnorm", balance_start="theory", steps=6)
    run(one, samples, 4)
    state = {k: v.clone() for k, v in one.state().items()}
    two = build(data, balance="gradnorm", balance_start="theory", steps=6)
    two.load_state(state)
    a = run(one, samples, 1, start=4)
    b = run(two, samples, 1, start=4)
    for name, loss in a.losses.items():
        assert torch.equal(loss, b.losses[name])
    assert torch.equal(one.balancer.weight, two.balancer.weight)


def test_gradients_on_the_shared_layer_by_subtraction_equal_the_masks_own(data):
    samples = image_set(data)
    norms = []
    for heavy in ("mask", None):
        method = build(data, balance="gradnorm", balance_start="theory")
        object.__setattr__(method.balancer.settings, "heavy", heavy)
        run(method, samples, 1)
        norms.append(method.balancer.norm)
    torch.testing.assert_close(norms[0], norms[1], rtol=1e-3, atol=0)


def test_single_tasks(data):
    assert build(data, only="mask").tasks == ("mask",)
    pattern = build(data, only="pattern", class_consistency=1.0)
    assert pattern.balancer is None and pattern.network.mask is None
    assert set(run(pattern, image_set(data, 6), 1).losses) == {"pattern", "pattern_guess"}
    assert set(run(build(data, only="pattern"), image_set(data, 6), 1).losses) == {"pattern"}
    with pytest.raises(MethodError, match="no 'grade'"):
        build(data, only="grade")
    with pytest.raises(MethodError, match="nothing to learn"):
        JointUNetMethod(JointUNetMethod.configure(**TINY), {"pattern": ("a",)}, CPU)


def test_intensity_survives_normalisation_and_views(data):
    """A dark image stays darker than a bright one, whatever else is in its batch."""
    method, samples = build(data), image_set(data)
    method.prepare(samples)
    mean = method.network.mean.clone()
    dim = samples.images[:1].float() / 255 * 0.5
    views = Views(method.config)
    torch.manual_seed(0)
    ratio = [float(views.strong(dim, False).mean() / views.strong(2 * dim, False).mean()) for _ in range(5)]
    assert max(ratio) < 0.75
    method.prepare(image_set(data, 6))
    assert torch.equal(method.network.mean, mean)


def test_image_and_mask_are_warped_alike():
    config = JointUNetMethod.configure(size=64)
    torch.manual_seed(0)
    image = torch.zeros(6, 3, 64, 64)
    image[:, :, 20:44, 14:50] = 1.0
    masks = (image[:, 0] > 0).to(torch.uint8)
    masks[:, :5] = UNKNOWN
    moved, theirs = Views(config).warped(image, masks)
    known = theirs != UNKNOWN
    assert set(theirs.unique().tolist()) == {0, 1, UNKNOWN}
    agree = ((moved[:, 0] > 0.5) == (theirs == 1))[known].float().mean()
    assert agree > 0.98


def test_turned_views_come_back():
    x = torch.randn(2, 3, 8, 8)
    for number in range(8):
        assert torch.equal(dihedral(dihedral(x, number), number, back=True), x)
    assert len({tuple(dihedral(x, n).flatten().tolist()) for n in range(8)}) == 8


def test_mask_losses_by_hand():
    logits = torch.full((1, 1, 2, 2), 20.0)
    right, wrong = torch.ones(1, 2, 2, dtype=torch.uint8), torch.zeros(1, 2, 2, dtype=torch.uint8)
    assert mask_loss(logits, right, "both") == pytest.approx(0, abs=1e-6)
    assert mask_loss(-logits, wrong, "dice") == pytest.approx(0, abs=1e-6)  # empty and empty
    assert mask_loss(logits, wrong, "dice") == pytest.approx(1 - 1 / 5)
    assert mask_loss(logits, wrong, "bce") == pytest.approx(20.0)
    half = torch.tensor([[[1, UNKNOWN], [UNKNOWN, UNKNOWN]]], dtype=torch.uint8)
    assert mask_loss(logits, half, "both") == pytest.approx(0, abs=1e-6)
    three = torch.stack([torch.zeros(2, 2), torch.full((2, 2), 30.0), torch.zeros(2, 2)])[None]
    assert mask_loss(three, right, "bce") == pytest.approx(0, abs=1e-6)
    assert mask_loss(three, right, "dice") == pytest.approx(0.0, abs=1e-5)


def test_scores_by_hand():
    truth = np.array([[[1, 1], [0, UNKNOWN]], [[0, 0], [0, 0]]])
    mine = np.array([[[1, 0], [0, 1]], [[0, 0], [0, 0]]])
    outcome = Outcome(
        mine, truth, {"grade": np.array([[0.9, 0.1], [0.2, 0.8]])}, {"grade": np.array([0, -1])}
    )
    found = scores(outcome, {"mask": ("background", "gland"), "grade": ("benign", "malignant")})
    assert found["mask_dice"] == pytest.approx(2 / 3) and found["mask_iou"] == pytest.approx(0.5)
    assert found["mask_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["grade_accuracy"] == 1.0 and np.isnan(found["grade_auroc"])
    assert found["score"] == pytest.approx((2 / 3 + 1) / 2)
    assert auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])) == 0.75


def test_labels_are_drawn_of_every_class_in_turn():
    known = {"pattern": np.array([0, 0, 0, 0, 1, 1, 2, -1])}
    keep = draw_labelled(known, np.array([True] * 7 + [False]), 3, seed=0)
    assert sorted(known["pattern"][keep]) == [0, 1, 2]
    assert len(draw_labelled(known, np.zeros(8, bool), 50, 0)) == 7


def test_nearest_keeps_codes():
    codes = np.zeros((60, 90), np.uint16)
    codes[:30] = 7
    small = nearest(codes, 32)
    assert small.shape == (32, 32) and set(np.unique(small)) == {0, 7} and (small[:16] == 7).all()


@pytest.mark.slow
def test_it_learns_mask_and_intensity_of_made_up_specimens():
    data = synthetic(24, 2, size=64, seed=0)
    method = build(data, base=8, steps=90, batch_size=8, unlabelled_ratio=0.5, ema=0.9, learning_rate=4e-3)
    run(method, image_set(data, 32), 90)
    other = synthetic(10, 2, size=64, seed=7)
    found = method.evaluate(image_set(other))
    assert found["mask_dice"] > 0.75
    assert found["intensity_accuracy"] > 0.75


def test_a_view_of_another_brightness_does_not_teach_the_intensity(data):
    method = build(data, gain=0.8)
    samples = image_set(data)
    method.prepare(samples)
    views = Views(method.config)
    torch.manual_seed(0)
    images = samples.images.float() / 255
    moved, dimmed = views.regained(images, bright=False)
    assert 0 < int(dimmed.sum()) < len(images)
    assert torch.equal(moved[~dimmed], images[~dimmed])
    assert not torch.equal(moved[dimmed], images[dimmed])
    same, none = views.regained(images, bright=True)
    assert torch.equal(same, images) and not none.any()
    # without one image of its own brightness there is nothing to learn of the intensity
    method._views.regained = lambda images, bright: (images, torch.ones(len(images), dtype=torch.bool))
    torch.manual_seed(0)
    assert set(method.step(samples, 0.5, 4).losses) == {"mask", "pattern"}


def test_a_tint_keeps_the_brightness():
    config = JointUNetMethod.configure(size=64, tint=1.0, blur=0.0, noise=0.0, brightness=0.0)
    images = torch.rand(4, 3, 32, 32) * 0.3
    torch.manual_seed(0)
    tinted = Views(config).coloured(images, bright=False)
    light = images.mean((2, 3)).amax(1)  # of the brightest channel
    torch.testing.assert_close(tinted.mean((2, 3)).amax(1), light, rtol=0.02, atol=0)
    assert (tinted.mean((2, 3)) - images.mean((2, 3))).abs().max() > 0.02


def test_a_dark_channel_is_not_blown_up(data):
    method = build(data)
    method.prepare(image_set(data))
    spread = method.network.std.flatten()
    assert torch.all(spread == spread[0]) and spread[0] > 0.05  # green's, though red and blue have little


@pytest.mark.parametrize("pooling", ["levels", "mask", "light"])
def test_classifiers_may_see_every_resolution_and_the_bottleneck_still_has_all_gradients(data, pooling):
    method = build(data, pooling=pooling, balance="gradnorm")
    output = run(method, image_set(data), 1)
    widths = method.network.encoder.widths
    inside = 4 * (3 + sum(widths))
    seen = {"levels": 2 * sum(widths), "mask": inside, "light": inside}
    assert method.network.heads["pattern"].in_features == seen[pooling]
    output = method.step(image_set(data), 0.0, 4)
    # with 'light' the intensity asks nothing of what the others share, so that there is nothing to balance
    assert set(output.tasks) == {"mask", "pattern"} | ({"intensity"} if pooling != "light" else set())
    assert method.tasks == tuple(output.tasks)
    for name in output.tasks:
        loss = output.losses[name]
        (gradient,) = torch.autograd.grad(loss, method.shared, retain_graph=True)
        assert gradient.abs().sum() > 0, name
    assert output is not None and (method.balancer.norm > 0).all()


def test_a_share_of_views_stays_sharp():
    images = torch.rand(16, 3, 64, 64)
    settings = {"size": 64, "rotation": 30.0, "scale": 0.2, "turns": False}
    kept = Views(JointUNetMethod.configure(**settings, warped=0.0)).warped(images)[0]
    assert torch.equal(kept, images)
    some = Views(JointUNetMethod.configure(**settings, warped=0.5)).warped(images)[0]
    sharp = (some - images).abs().amax((1, 2, 3)) < 1e-4
    assert 0 < int(sharp.sum()) < 16


def test_an_encoder_of_ones_own_is_needed_to_begin_only(data, tmp_path):
    from safetensors.torch import save_file

    theirs = build(data, seed=5, ema=0.9)
    state = {name: value.contiguous() for name, value in theirs.network.encoder.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    settings = {"weights": str(tmp_path / "w.safetensors"), "ema": 0.9, "steps": 100}
    mine = build(data, **settings)
    mine.prepare(image_set(data))
    for network in (mine.network, mine.teacher):
        assert torch.equal(network.encoder.last, theirs.network.encoder.last)
    with torch.no_grad():
        mine.network.encoder.last.add_(1)
    mine.prepare(image_set(data))  # labels came in: what was learnt stays
    assert not torch.equal(mine.network.encoder.last, theirs.network.encoder.last)
    (tmp_path / "w.safetensors").unlink()
    again = build(data, **settings)
    again.load_state(mine.state())
    again.prepare(image_set(data))
    assert torch.equal(again.network.encoder.last, mine.network.encoder.last)
    with pytest.raises(MethodError, match="no file"):
        build(data, **settings).prepare(image_set(data))


def test_a_pasted_box_brings_its_own_guess_and_no_class():
    torch.manual_seed(0)
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 32, 40)
    guess = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, 32, 40) * 10
    pasted, told, mixed = cut_and_paste(images, guess, 0.5)
    assert int(mixed.sum()) == 3
    torch.testing.assert_close(told[:, 0], pasted[:, 0] * 10)  # what is seen is what is told, pixel by pixel
    for n in range(6):
        shown = torch.unique(pasted[n]).tolist()
        assert shown == (sorted([n, (n - 1) % 6]) if mixed[n] else [n])
    assert not cut_and_paste(images, guess, 0.0)[2].any()


def test_images_that_show_two_teach_the_mask_alone(data):
    images = image_set(data, 6)
    names = ("mask_guess", "pattern_guess")
    for pasted, teaches in ((1.0, False), (0.0, True)):
        method = build(data, pasted=pasted, threshold=0.5, class_consistency=1.0)
        with torch.no_grad():  # a teacher that is sure of everything
            for part in (*method.teacher.heads.values(), method.teacher.mask):
                part.bias.copy_(torch.linspace(9, -9, len(part.bias)))
        losses = run(method, images, 1).losses
        assert [bool(losses[name] > 0) for name in names] == [True, teaches]
