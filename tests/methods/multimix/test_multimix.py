import numpy as np
import pytest
import torch

from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.multimix import FieldBank
from napari_mtssl.methods.multimix.config import PARTS
from napari_mtssl.methods.multimix.samples import shares

from .conftest import discs


def fit(method, bank, steps):
    method.prepare(bank)
    optimiser = method.optimiser()
    for step in range(steps):
        torch.manual_seed(step)
        for group in optimiser.param_groups:
            group["lr"] = method.learning_rate(step / steps)
        out = method.step(bank, step / steps, method.config.batch_size)
        total = sum(out.weights[name] * value for name, value in out.losses.items())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        method.after_step()
    return out


@pytest.mark.parametrize("preset", ["paper", "robust"])
@pytest.mark.parametrize("variant", list(PARTS))
def test_every_row_of_the_paper_is_a_switch(make, bank, preset, variant):
    method = make(preset, variant=variant)
    out = fit(method, bank, 2)
    parts = PARTS[variant]
    assert ("class" in out.losses) == parts.classes
    assert ("mask" in out.losses) == parts.masks
    assert ("class_guess" in out.losses) == parts.guesses
    assert ("mask_guess" in out.losses) == parts.consistency
    assert method.network.bridged == parts.bridge
    assert set(out.weights) == set(out.losses)
    assert all(bool(torch.isfinite(value)) for value in out.losses.values())
    masks, classes = method.predict_fields(bank.images)
    assert (masks is not None) == parts.masks and bool(classes) == parts.classes


def test_weights_are_the_papers(make, bank):
    out = fit(make("paper"), bank, 1)
    assert out.weights == {"class": 1.0, "class_guess": 0.25, "mask": 5.0, "mask_guess": 0.01}
    assert make("paper").config.threshold == 0.7


@pytest.mark.parametrize("consistency", ["none", "paper", "area", "teacher"])
def test_consistency_of_masks_is_a_switch(make, bank, consistency):
    out = fit(make("robust", seg_consistency=consistency), bank, 2)
    assert ("mask_guess" in out.losses) == (consistency != "none")


def test_unsure_guesses_cost_nothing(make, bank):
    """Oracle M4."""
    out = fit(make("paper", threshold=1.0), bank, 1)
    assert out.losses["class_guess"] == 0
    assert fit(make("paper", threshold=0.0), bank, 1).losses["class_guess"] > 0


@pytest.mark.parametrize("bridge", ["saliency", "zeros", "shuffled"])
def test_controls_of_the_bridge(make, bank, bridge):
    method = make(bridge=bridge)
    images = method.normal(bank.pixels(torch.arange(4)))
    shown = method._bridge(method.network, images)
    assert shown.shape == (4, 2, 4, 4)
    assert torch.allclose(shown[:, :1], make()._bridge(method.network, images)[:, :1])
    own = make()._bridge(method.network, images)[:, 1]
    assert bool((shown[:, 1] == 0).all()) == (bridge == "zeros")
    assert torch.equal(shown[:, 1], own) == (bridge == "saliency")


def test_encoder_learns_nothing_through_the_saliency(make, bank):
    """The bridge is a picture: with a constant one instead, gradients of the encoder are the same."""
    method = make(variant="umtl-s", dropout=0.0)
    images = method.normal(bank.pixels(torch.arange(2)))
    bridge = method._bridge(method.network, images)
    assert not bridge.requires_grad
    grads = []
    for shown in (bridge, bridge.clone().detach()):
        method.network.zero_grad()
        method.network.decode(method.network.encode(images), shown).sum().backward()
        grads.append([p.grad.clone() for p in method.network.encoder.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_nothing_is_mirrored_where_left_and_right_differ(make):
    method = make(flips=False, mirror=True, rotation=0, scale=0, stretch=0, shift=0, elastic=0)
    assert not method.mirrors and make(mirror=True).mirrors
    ramp = torch.linspace(0, 1, 32).expand(8, 1, 32, 32)  # brighter to the right
    for way in ("weak", "affine", "strong"):
        torch.manual_seed(0)
        _, grid = method._views.labelled(ramp, way, 0.0)
        assert (grid[:, 16, -4, 0] > grid[:, 16, 3, 0]).all(), way


def test_learns_discs(make):
    images, masks, bright = discs(48)
    classes = np.where(np.arange(48) < 16, bright, -1)
    bank = FieldBank.from_arrays(images, {i: masks[i] for i in range(6)}, {"diagnosis": classes})
    method = make(steps=60, clutter=0.0, opacities=0.0, looks=0.3, batch_size=4, ema=0.9)
    fit(method, bank, 60)
    held, truth, kind = discs(20, seed=9)
    scores = method.evaluate(
        FieldBank.from_arrays(held, dict(enumerate(truth)), {"diagnosis": kind}, class_pool=[])
    )
    assert list(scores) == ["score", "dice", "diagnosis_accuracy"]
    assert scores["dice"] > 0.8 and scores["diagnosis_accuracy"] > 0.9


def test_missing_labels_of_either_kind_are_normal(make):
    images, masks, bright = discs(8)
    only_masks = FieldBank.from_arrays(images, {0: masks[0]}, {"diagnosis": [-1] * 8})
    assert set(fit(make(), only_masks, 1).losses) == {"mask", "pixel", "mask_guess"}
    only_classes = FieldBank.from_arrays(images, {}, {"diagnosis": bright})
    assert set(fit(make(), only_classes, 1).losses) == {"class"}
    nothing = FieldBank.from_arrays(images, {}, {"diagnosis": [-1] * 8})
    with pytest.raises(MethodError, match="no label to learn from"):
        fit(make(), nothing, 1)


def test_several_heads_and_mask_classes(make):
    images, masks, bright = discs(8)
    three = np.concatenate([masks[:, :1], masks[:, 1:] / 2, masks[:, 1:] / 2], 1)
    size = [0, 1, 2, -1, 0, 1, 2, -1]
    bank = FieldBank.from_arrays(
        images, dict(enumerate(three[:4])), {"diagnosis": bright, "grade": size}, mask_classes=3
    )
    method = make(
        vocabulary={
            "mask": ("background", "a", "b"),
            "diagnosis": ("dark", "bright"),
            "grade": ("1", "2", "3"),
            "cell": ("background",),
        }
    )
    fit(method, bank, 2)
    found, classes = method.predict_fields(bank.images)
    assert found.shape == (8, 3, 32, 32) and torch.allclose(found.sum(1), torch.ones(8, 32, 32), atol=1e-5)
    assert {kind: probs.shape[1] for kind, probs in classes.items()} == {"diagnosis": 2, "grade": 3}


def test_a_study_without_classes_to_learn_is_refused(make):
    with pytest.raises(MethodError, match="add a mask class"):
        make(vocabulary={"mask": ("background",), "diagnosis": ("dark",)})


def test_state_round_trip(make, bank):
    method = make()
    fit(method, bank, 2)
    other = make(seed=5)
    other.load_state(method.state())
    for a, b in zip(method.predict_fields(bank.images), other.predict_fields(bank.images), strict=True):
        if isinstance(a, dict):
            a, b = a["diagnosis"], b["diagnosis"]
        assert torch.equal(a, b)


def test_one_seed_gives_one_result(make, bank):
    weights = []
    for _ in range(2):
        method = make()
        fit(method, bank, 3)
        weights.append(torch.cat([p.detach().flatten() for p in method.network.parameters()]))
    assert torch.equal(*weights)


def test_samples_know_what_was_said():
    images, masks, _ = discs(6)
    bank = FieldBank.from_arrays(images, {2: masks[2]}, {"diagnosis": [-1, 0, 1, -1, -1, -1]})
    assert bank.n_labelled == 2 and bank.n_unlabelled == 5
    assert bank.mask_pool.tolist() == [0, 1, 3, 4, 5] and bank.class_pool.tolist() == [0, 3, 4, 5]
    keys = bank.keys()
    assert list(keys) == [1, 2] and keys[1] == (None, 0) and keys[2][1] == 1
    moved = FieldBank.from_arrays(images, {2: masks[3]}, {"diagnosis": [-1, 0, 1, -1, -1, -1]})
    assert moved.keys()[2] != keys[2] and moved.keys()[1] == keys[1]


def test_shares_of_resized_masks():
    codes = np.zeros((64, 64), int)
    codes[:, 33:] = 1
    codes[:16] = -1
    covered, known = shares(codes, [0, 1], 32)
    assert covered[1, 20, 16] == pytest.approx(0.5) and covered[1, 20, 17] == 1 and covered[1, 20, 15] == 0
    assert not known[:8].any() and known[8:].all()
    assert np.allclose(covered.sum(0), 1)


def test_half_precision_learns_the_same(make, bank, monkeypatch):
    # has_bfloat16 says whether it is quick here, not whether it can be computed
    monkeypatch.setattr("napari_mtssl.learning.precision.has_bfloat16", lambda device: True)
    losses = {}
    for precision in ("float32", "auto"):
        out = fit(make(precision=precision), bank, 1)
        assert all(value.dtype == torch.float32 for value in out.losses.values())
        losses[precision] = {name: float(value.detach()) for name, value in out.losses.items()}
    assert losses["auto"] != losses["float32"]
    assert losses["auto"] == pytest.approx(losses["float32"], rel=0.03, abs=1e-3)
