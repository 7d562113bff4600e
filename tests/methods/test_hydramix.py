import dataclasses

import numpy as np
import pytest
import torch

from napari_mtssl.methods.base import MethodError
from napari_mtssl.methods.hydramix import HydraMix
from napari_mtssl.methods.hydramix.views import ClassDraw
from tests.methods.conftest import CLASSES


def run(method, bank, steps, start=0):
    """The engine's loop in small: seed, schedule, update, teacher."""
    optimiser = method.optimiser()
    method.prepare(bank)
    output = None
    for step in range(start, start + steps):
        progress = step / method.config.steps
        for group in optimiser.param_groups:
            group["lr"] = method.learning_rate(progress)
        torch.manual_seed(1000 + step)
        output = method.step(bank, progress, method.config.batch_size)
        total = sum(output.weights[name] * loss for name, loss in output.losses.items())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        method.after_step()
    return output


@pytest.mark.parametrize("preset", ["paper", "robust"])
@pytest.mark.parametrize("variant", ["hydramix", "no-sce", "cnn"])
def test_every_variant_steps(bank, build, preset, variant):
    method = build(preset, variant=variant)
    output = run(method, bank, 2)
    names = {"labelled_class", "labelled_centroid"}
    if variant != "cnn":
        names |= {"unlabelled_class", "unlabelled_centroid"}
        assert output.pseudo["probs"].shape[1] == len(CLASSES)
        torch.testing.assert_close(output.pseudo["probs"].sum(1), torch.ones(len(output.pseudo["index"])))
        assert not output.pseudo["probs"].requires_grad
    else:
        assert output.pseudo == {}
        assert method.teacher is method.network
    assert set(output.losses) == set(output.weights) == names
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in output.losses.values())


def test_the_same_seed_gives_the_same_weights(bank, build):
    # E2
    one, two = build(), build()
    run(one, bank, 3)
    run(two, bank, 3)
    for name, value in one.state().items():
        assert torch.equal(value, two.state()[name]), name


def test_another_seed_starts_elsewhere(build):
    one, two = build(seed=0), build(seed=1)
    assert not torch.equal(one.network.trunk.stem.weight, two.network.trunk.stem.weight)


def test_state_holds_all_that_steps_remember(bank, build):
    method = build(alignment=0.5)
    run(method, bank, 3)
    state = {name: value.clone() for name, value in method.state().items()}
    again = build(alignment=0.5)
    again.load_state(state)
    for name, value in again.state().items():
        assert torch.equal(value, state[name]), name
    # The teacher goes on from step 4, not from step 1 where it would forget everything.
    for one in (method, again):
        one.after_step()
    for name, value in again.state().items():
        assert torch.equal(value, method.state()[name]), name


@pytest.mark.parametrize("preset", ["paper", "robust"])
def test_guesses_leave_running_statistics_alone(bank, build, preset):
    # H7, for a network that teaches itself and for one with a teacher
    method = build(preset)
    method.prepare(bank)
    method.network.train()
    before = {k: v.clone() for k, v in method.network.state_dict().items()}
    method._guess(bank, ClassDraw(bank, len(CLASSES), True), 4)
    assert all(torch.equal(v, before[k]) for k, v in method.network.state_dict().items())


def test_normalisation_is_set_once(bank, build):
    method = build()
    method.prepare(bank)
    mean = method.network.mean.clone()
    assert torch.equal(mean, method.teacher.mean)
    assert not torch.equal(mean, torch.full_like(mean, 0.5))
    bank.unlabelled = bank.unlabelled // 2
    method.prepare(bank)
    assert torch.equal(method.network.mean, mean)


def test_twelve_bits_in_files_of_sixteen_are_learnt_as_eight(bank, build):
    def of(factor):
        patches, unlabelled = (p / p.max() * factor for p in (bank.patches.float(), bank.unlabelled.float()))
        return dataclasses.replace(bank, patches=patches, unlabelled=unlabelled)

    exact = {"precision": "float32"}
    bright, dark = build("robust", **exact), build("robust", **exact)
    one, two = run(bright, of(1.0), 3), run(dark, of(1 / 16), 3)
    for name, loss in one.losses.items():
        assert two.losses[name].item() == pytest.approx(loss.item(), rel=0.02), name
    resumed = build("robust", **exact)
    resumed.load_state(dark.state())
    resumed.prepare(of(1 / 16))
    assert resumed._views.gain == dark._views.gain > 10
    older = {name: value for name, value in dark.state().items() if name != "memory.gain"}
    resumed.load_state(older)  # of a run from before there was one


def test_a_batch_of_background_has_no_centroid_loss(bank, build):
    # H6 through the whole step; without unlabelled places nothing else has a centroid
    bank.classes[:] = 0
    bank.unlabelled = bank.unlabelled[:0]
    output = run(build(), bank, 1)
    assert output.losses["labelled_centroid"].item() == 0


def test_pseudo_centroids_go_through_their_own_affine(bank, build):
    # A1: whatever the view, what the teacher says there is pulled back to the same place of the source.
    method = build()
    source = bank.unlabelled[:4].float() / 255
    views = method._views.weak(source) + method._views.weak(source)
    truth = torch.tensor([[20.0, 22.0], [24.0, 24.0], [26.5, 23.0], [22.0, 27.0]])
    for _, matrix in views:
        inside, _ = method._views._to_window(truth, matrix)
        back = method._views.to_source(inside, matrix)
        torch.testing.assert_close(back, truth, atol=1e-3, rtol=0)
    assert not torch.allclose(views[0][1], views[1][1])


def test_mixing_keeps_the_first_centroid_and_trusts_it_less(bank, build):
    # H4
    method = build(variant="hydramix")
    torch.manual_seed(0)
    targets = method._views.labelled(bank, torch.arange(12), len(CLASSES))
    mixed = targets.mixed(0.75, trust_centroids=False)
    assert torch.equal(mixed.centroids, targets.centroids)
    assert (mixed.cell <= targets.cell).all()
    assert (mixed.cell[targets.cell == 0] == 0).all()
    assert (mixed.probs.argmax(1) == targets.probs.argmax(1)).all()
    torch.testing.assert_close(mixed.probs.sum(1), torch.ones(12))


def test_balanced_draws_are_balanced(bank, build):
    torch.manual_seed(0)
    draw = ClassDraw(bank, len(CLASSES), balanced=True)
    counts = torch.bincount(bank.classes[torch.cat([draw(10) for _ in range(60)])], minlength=3)
    assert (counts - 200).abs().max() < 15
    torch.testing.assert_close(draw.distribution, torch.full((3,), 1 / 3))
    drawn = torch.cat([draw(10) for _ in range(60)])
    assert set(drawn.tolist()) == set(range(bank.n_labelled))


def test_background_keeps_its_third_among_many_classes(bank):
    torch.manual_seed(0)
    bank.classes[::4] = 4
    draw = ClassDraw(bank, 6, balanced=True)  # class 3 and 5 do not occur
    expected = torch.tensor([1 / 3, 2 / 9, 2 / 9, 0, 2 / 9, 0])
    torch.testing.assert_close(draw.distribution, expected)
    counts = torch.bincount(bank.classes[torch.cat([draw(48) for _ in range(50)])], minlength=6)
    torch.testing.assert_close(counts / counts.sum(), expected, atol=0.01, rtol=0)


def test_plain_draws_follow_the_labels(bank):
    draw = ClassDraw(bank, len(CLASSES), balanced=False)
    counts = torch.bincount(bank.classes, minlength=3)
    torch.testing.assert_close(draw.distribution, counts / counts.sum())


def test_cells_are_drawn_without_background(bank):
    torch.manual_seed(0)
    draw = ClassDraw(bank, len(CLASSES), balanced=True)
    drawn = torch.cat([draw.cells(48) for _ in range(50)])
    counts = torch.bincount(bank.classes[drawn], minlength=3)
    assert counts.tolist() == pytest.approx([0, 800, 800], abs=30)  # 32 a batch, as many as without choosing
    assert set(drawn.tolist()) == set(torch.where(bank.classes > 0)[0].tolist())
    bank.classes[:] = 0
    assert len(ClassDraw(bank, len(CLASSES), balanced=True).cells(48)) == 0


@pytest.fixture
def typed(bank, build):
    """A method for three classes of cells, which has a head for them, and labels of each."""
    bank.classes[::4] = 3
    return HydraMix(
        build("robust", type_colour=0.0, precision="float32").config,
        {"cell": (*CLASSES, "square")},
        torch.device("cpu"),
    )


def test_cell_types_are_learnt_from_clicked_cells_in_mild_colours(bank, typed, monkeypatch):
    typed.prepare(bank)
    seen = {}
    view = typed._views._view

    def watch(source, shift, limits, colour=None, about=None):
        seen.setdefault(colour, 0)
        seen[colour] += len(source)
        return view(source, shift, limits, colour, about)

    monkeypatch.setattr(typed._views, "_view", watch)
    output = typed.step(bank, 0.5, 12)
    assert seen[typed._views._typing] == 8  # two thirds of a balanced batch
    assert typed._views._typing.stain == typed._views._typing.contrast == 0.0
    assert output.tasks["labelled_type"] == "class"
    gradients = torch.autograd.grad(
        output.losses["labelled_type"], list(typed.network.parameters()), allow_unused=True
    )
    reached = {
        name.split(".")[0]
        for (name, _), gradient in zip(typed.network.named_parameters(), gradients, strict=True)
        if gradient is not None
    }
    assert reached == {"trunk", "cell_type"}


def test_types_need_three_classes_of_cells(bank, build, typed):
    assert typed.network.cell_type is not None
    for variant in ("no-sce", "cnn"):
        other = HydraMix(build("robust", variant=variant).config, typed.vocabulary, torch.device("cpu"))
        assert (other.network.cell_type is None) == (variant == "cnn")
    assert build("robust").network.cell_type is None  # two classes
    assert build("paper").network.cell_type is None


def test_the_learning_rate_warms_up_and_falls(build):
    method = build(steps=100, warmup=10, learning_rate=1e-3, final_rate=0.01)
    rates = [method.learning_rate(step / 100) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4, rel=0.01)
    assert max(rates) == pytest.approx(rates[10], rel=0.1)
    assert rates[-1] < 2e-5
    assert method.learning_rate(1.0) == pytest.approx(1e-5)


@pytest.mark.slow
def test_it_learns_what_cells_are_and_where(bank, build):
    method = build(
        steps=120, batch_size=16, unlabelled_ratio=1.0, mixup=0.0, ema=0.9, bn_momentum=0.1, strides="2-2-1"
    )
    before = method.evaluate(bank)
    run(method, bank, 120)
    after = method.evaluate(bank)
    assert next(iter(after)) == "accuracy"
    assert after["accuracy"] > max(0.85, before["accuracy"] + 0.2)
    assert after["centroid_px"] < before["centroid_px"]


def test_guesses_are_described_in_level_0_pixels(bank, build):
    method = build()
    bank.places["image_id"] = 7
    bank.places["row"] = np.arange(len(bank.places)) * 10.0
    bank.places["col"] = 5.0
    pseudo = {
        "index": torch.tensor([2, 0]),
        "probs": torch.tensor([[0.1, 0.8, 0.1], [0.6, 0.2, 0.2]]),
        "centroid": torch.tensor([[25.0, 20.0], [1.0, 1.0]]),
    }
    frame = method.describe(bank, pseudo)
    assert list(frame.columns) == ["image_id", "row", "col", "class", "confidence"]
    assert frame["class"].tolist() == ["round", "background"]
    assert frame[["row", "col"]].to_numpy().tolist() == [[21.0, 1.0], [0.0, 5.0]]
    assert frame["confidence"].tolist() == pytest.approx([0.8, 0.6])
    assert method.describe(bank, {}).empty


@pytest.mark.parametrize("preset", ["paper", "robust"])
def test_maps_lie_where_the_geometry_says(build, preset):
    method = build(preset, precision="float32")
    halo, window = method.geometry.halo, method.geometry.window
    tile = torch.rand(1, 3, 40 + 2 * halo, 24 + 2 * halo)
    maps = method.predict(tile)
    assert maps["logits"].shape == (1, 3, 10, 6)
    assert maps["centroid"].shape == (1, 2, 10, 6)
    if preset == "robust":
        start = halo - (window - 4) // 2
        patch = tile[:, :, start + 16 : start + 16 + window, start + 8 : start + 8 + window]
        torch.testing.assert_close(
            method.classify(patch)[0], maps["logits"][0, :, 4, 2], atol=1e-5, rtol=1e-4
        )


def test_whole_images_are_predicted_by_the_newest_weights(build, bank):
    method = build("robust")
    run(method, bank, 1)
    tile = torch.rand(1, 3, 40 + 2 * method.geometry.halo, 40 + 2 * method.geometry.halo)
    before = method.predict(tile)["logits"]
    assert torch.equal(method.predict(tile)["logits"], before)
    run(method, bank, 2)
    assert not torch.equal(method.predict(tile)["logits"], before)


def test_half_precision_says_nearly_the_same(build, bank):
    exact, half = build("robust", precision="float32"), build("robust")
    half._half = True
    run(exact, bank, 2)
    half.load_state(exact.state())
    tile = torch.rand(1, 3, 40 + 2 * exact.geometry.halo, 40 + 2 * exact.geometry.halo)
    one, two = exact.predict(tile), half.predict(tile)
    torch.testing.assert_close(two["logits"].softmax(1), one["logits"].softmax(1), atol=0.02, rtol=0)
    torch.testing.assert_close(two["centroid"], one["centroid"], atol=0.01, rtol=0)


def test_methods_without_cell_classes_or_with_a_wrong_window_are_refused(bank):
    with pytest.raises(MethodError, match="only the background"):
        HydraMix(HydraMix.configure("robust"), {"cell": ["background"]}, torch.device("cpu"))
    method = HydraMix(
        HydraMix.configure("robust", patch=64, window=52), {"cell": CLASSES}, torch.device("cpu")
    )
    with pytest.raises(MethodError, match="smaller than the window of 52"):
        method.prepare(bank)


@pytest.mark.parametrize("balance", ["equal", "gradnorm", "famo"])
def test_class_and_centroid_can_be_balanced(bank, build, balance):
    from napari_mtssl.engine.loop import balanced_weights, weighted_sum

    method = build("robust", balance=balance, balance_start="theory", balance_rate=0.1)
    method.prepare(bank)
    optimiser = method.optimiser()
    for step in range(3):
        output = method.step(bank, step / 3, 8)
        assert set(output.tasks.values()) == set(method.tasks)
        weights = balanced_weights(method, output)
        optimiser.zero_grad()
        weighted_sum(output.losses, weights).backward()
        method.balancer.learn(method.shared)
        optimiser.step()
        method.after_step()
    moved = not torch.equal(method.balancer.weight, torch.ones(2))
    assert moved == (balance != "equal")
    again = build("robust", balance=balance)
    again.load_state(method.state())
    assert torch.equal(again.balancer.weight, method.balancer.weight)


def test_labels_are_learnt_from_milder_colours_than_guesses(bank, build):
    kept = {"scale": 0.0, "stretch": 0.0, "jitter": 0.0, "background_jitter": 0.0}
    chosen = torch.where(bank.classes == 0)[0].repeat(4)  # cells are moved to where they were clicked
    source = bank.patches[chosen].float() / 255
    probs = torch.eye(len(CLASSES))[bank.classes[chosen]]

    def change(share, guessed=False):
        """How far the mean colour is moved; turns alone bring other corners into view."""
        views = build("robust", **kept, labelled_colour=share)._views
        torch.manual_seed(0)
        if guessed:
            of = views.unlabelled(source, [], probs, probs, bank.centroids[chosen], torch.ones(len(source)))
        else:
            of = views.labelled(bank, chosen, len(CLASSES))
        return float((of.images.mean((2, 3)) - views.crop(source).mean((2, 3))).abs().mean())

    assert change(0.0) < change(0.33) < change(1.0) / 1.5
    assert change(0.33, guessed=True) == pytest.approx(change(1.0), rel=0.5)
