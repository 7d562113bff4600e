"""Balancing rules: oracles G1 to G6 of GradNorm, and what every rule owes the loop."""

import numpy as np
import pytest
import torch
from torch import nn

from napari_mtssl.learning.balance import (
    FAMO,
    Balancer,
    BalanceSettings,
    Uncertainty,
    make_balancer,
    task_losses,
)
from napari_mtssl.learning.balance_gradients import (
    GradNorm,
    gradnorm_gradient,
    relative_rates,
    through_softmax,
)

RULES = ("equal", "uncertainty", "famo", "gradnorm", "dbmtl")


class Shared(nn.Module):
    """Two heads on one layer; the second task's loss is `scale` times as large."""

    def __init__(self, scale=10.0, seed=0, width=8, tasks=2):
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Linear(4, width)
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(tasks))
        self.scales = [scale**k for k in range(tasks)]

    def losses(self, x, targets):
        features = torch.tanh(self.trunk(x))
        return {
            f"task{k}": (s * (head(features)[:, 0] - targets[k]) ** 2).mean()
            for k, (head, s) in enumerate(zip(self.heads, self.scales, strict=True))
        }


def problem(n=64, tasks=2, seed=1):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=rng)
    return x, [torch.sin(x @ torch.randn(4, generator=rng)) for _ in range(tasks)]


def train(net, balancer, x, targets, steps, rate=1e-2, shared=None):
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    layer = [net.trunk.weight] if shared is None else shared
    for _ in range(steps):
        losses = net.losses(x, targets)
        weights = balancer.weigh(losses, layer)
        optimiser.zero_grad()
        sum(weights[name] * loss for name, loss in losses.items()).backward()
        balancer.learn(layer)
        optimiser.step()
    return {name: float(loss.detach()) for name, loss in net.losses(x, targets).items()}


# -- G1, G4b: the closed form is the derivative ----------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.06, 0.6, 1.5, 6.0])
@pytest.mark.parametrize("form", ["raw", "softmax"])
def test_closed_form_equals_autograd_through_the_gradients(alpha, form):
    net = Shared(tasks=3).double()
    x, targets = problem(tasks=3)
    losses = net.losses(x.double(), [t.double() for t in targets])
    first = torch.tensor([1.3, 7.0, 200.0], dtype=torch.float64)
    layer = net.trunk.weight

    parameter = torch.tensor([0.4, -0.2, 0.1], dtype=torch.float64, requires_grad=True)
    weights = 3 * torch.softmax(parameter, 0) if form == "softmax" else 1 + parameter
    vector = torch.stack(list(losses.values()))
    norms = torch.stack(
        [
            torch.autograd.grad(w * loss, layer, create_graph=True)[0].norm()
            for w, loss in zip(weights, vector, strict=True)
        ]
    )
    rates = relative_rates(vector, first).detach()
    target = (norms.mean() * rates**alpha).detach()
    (expected,) = torch.autograd.grad((norms - target).abs().sum(), parameter)

    plain = torch.stack([torch.autograd.grad(loss, layer, retain_graph=True)[0].norm() for loss in vector])
    weights = weights.detach()
    ours = gradnorm_gradient(weights, plain, rates, alpha)
    if form == "softmax":
        ours = through_softmax(ours, weights)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=0)


def test_gradient_by_subtraction_equals_the_tasks_own():
    x, targets = problem()
    norms = []
    for heavy in (None, "task0", "task1"):
        net = Shared(scale=30.0)
        balancer = GradNorm(net_tasks := ("task0", "task1"), BalanceSettings(heavy=heavy))
        assert balancer.tasks == net_tasks
        train(net, balancer, x, targets, 30)
        norms.append(balancer.norm.clone())
    torch.testing.assert_close(norms[1], norms[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(norms[2], norms[0], rtol=1e-4, atol=0)


# -- G2 --------------------------------------------------------------------------------------------------


def test_softmax_weights_stay_positive_and_sum_to_the_number_of_tasks():
    torch.manual_seed(0)
    balancer = GradNorm(("a", "b", "c"), BalanceSettings(rate=0.025, alpha=6.0))
    everywhere = torch.ones(3, dtype=torch.bool)
    for _ in range(10_000):
        balancer._move(torch.randn(3) * torch.logspace(-3, 6, 3), everywhere)
    assert (balancer.weight > 0).all()
    assert balancer.weight.sum() == pytest.approx(3, rel=1e-5)


@pytest.mark.parametrize("form", ["raw", "clamped"])
def test_papers_weights_sum_to_the_number_of_tasks(form):
    balancer = GradNorm(("a", "b", "c"), BalanceSettings(form=form, rate=0.025))
    everywhere = torch.ones(3, dtype=torch.bool)
    for _ in range(100):
        balancer._move(torch.tensor([1.0, 0.0, -1.0]), everywhere)
    assert balancer.weight.sum() == pytest.approx(3, rel=1e-4)
    assert balancer.weight[0] < balancer.weight[1] < balancer.weight[2]
    assert (balancer.weight > 0).all() == (form == "clamped")


# -- G3: the toy of the paper ----------------------------------------------------------------------------


def toy(name, alpha=0.12, steps=1200, width=64, outputs=5, inputs=20):
    """Two tasks ``sigma tanh((B + e) x)`` with sigma 1 and 100; weights, and losses relative to the first."""
    rng = torch.Generator().manual_seed(0)
    common = torch.randn(inputs, outputs, generator=rng) * (10 / inputs) ** 0.5
    own = [torch.randn(inputs, outputs, generator=rng) * (3.5 / inputs) ** 0.5 for _ in range(2)]
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    heads = nn.ModuleList(nn.Linear(width, outputs) for _ in range(2))
    balancer = make_balancer(name, ("quiet", "loud"), BalanceSettings(alpha=alpha, rate=0.025, start="first"))
    optimiser = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=5e-3)

    def losses(x):
        features = trunk(x)
        return {
            task: ((head(features) - sigma * torch.tanh(x @ (common + e))) ** 2).mean()
            for task, head, sigma, e in zip(balancer.tasks, heads, (1.0, 100.0), own, strict=True)
        }

    held_out = torch.randn(512, inputs, generator=rng)
    with torch.no_grad():
        before = torch.stack(list(losses(held_out).values()))
    for _ in range(steps):
        now = losses(torch.randn(64, inputs, generator=rng))
        weights = balancer.weigh(now, [trunk[2].weight])
        optimiser.zero_grad()
        sum(weights[k] * v for k, v in now.items()).backward()
        balancer.learn([trunk[2].weight])
        optimiser.step()
    with torch.no_grad():
        return balancer.weight, torch.stack(list(losses(held_out).values())) / before


def test_papers_toy_loud_task_is_turned_down_and_the_sum_of_relative_losses_is_lower():
    weight, ours = toy("gradnorm")
    _, equal = toy("equal")
    assert weight[0] > 1.5 > 0.5 > weight[1]
    assert ours.sum() < 0.9 * equal.sum()
    assert ours[0] < equal[0] and equal[1] < ours[1]  # what the quiet task wins, the loud one pays


# -- G4: the collapse ------------------------------------------------------------------------------------


class Linear(nn.Module):
    """Three regressions on one shared linear layer, of different size and difficulty."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Linear(10, 8, bias=False)
        self.heads = nn.Linear(8, 3, bias=False)

    def losses(self, x, targets):
        error = ((self.heads(self.trunk(x)) - targets) ** 2).mean(0)
        return {f"task{k}": error[k] for k in range(3)}


def collapses(form, alpha, seed, steps=700):
    """Whether a task ends worse than a network that always says zero."""
    net = Linear(seed)
    rng = torch.Generator().manual_seed(seed)
    truth = torch.randn(10, 3, generator=rng) * torch.tensor([1.0, 3.0, 10.0])
    settings = BalanceSettings(alpha=alpha, rate=0.025, form=form, start="first")
    balancer = GradNorm(("task0", "task1", "task2"), settings)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(steps):
        x = torch.randn(32, 10, generator=rng)
        losses = net.losses(x, x @ truth)
        weights = balancer.weigh(losses, [net.trunk.weight])
        optimiser.zero_grad()
        sum(weights[n] * loss for n, loss in losses.items()).backward()
        balancer.learn([net.trunk.weight])
        optimiser.step()
    x = torch.randn(500, 10, generator=rng)
    with torch.no_grad():
        final = torch.stack(list(net.losses(x, x @ truth).values()))
    worst = (final / (x @ truth).pow(2).mean(0)).max()
    return not bool(worst < 1.0), balancer


def test_alpha_six_with_raw_weights_collapses_and_with_ours_does_not():
    raw = [collapses("raw", 6.0, seed) for seed in range(4)]
    ours = [collapses("softmax", 6.0, seed) for seed in range(4)]
    assert any(gone for gone, _ in raw)
    assert any((balancer.weight < 0).any() for gone, balancer in raw if gone)
    assert not any(gone for gone, _ in ours)


# -- G5, G6 ----------------------------------------------------------------------------------------------


def test_rates_do_not_depend_on_the_scale_of_a_loss():
    losses, first = torch.tensor([0.5, 2.0, 0.1]), torch.tensor([1.0, 2.0, 0.4])
    scale = torch.tensor([1.0, 100.0, 0.01])
    torch.testing.assert_close(relative_rates(scale * losses, scale * first), relative_rates(losses, first))
    assert relative_rates(losses, first).mean() == pytest.approx(1.0)


def test_a_layer_that_a_task_does_not_use_is_refused():
    net = Shared()
    x, targets = problem()
    balancer = GradNorm(("task0", "task1"))
    with pytest.raises(RuntimeError, match="not have been used"):
        balancer.weigh(net.losses(x, targets), [net.heads[0].weight])
    with pytest.raises(ValueError, match="last layer all tasks share"):
        balancer.weigh(net.losses(x, targets), [])


# -- every rule ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_every_rule_learns_all_tasks_though_one_is_a_hundred_times_as_loud(name):
    net = Shared(scale=100.0, width=32)
    x, targets = problem()
    balancer = make_balancer(name, ("task0", "task1"), BalanceSettings(rate=0.02))
    after = train(net, balancer, x, targets, 400)
    assert all(after[f"task{k}"] < 0.5 * net.scales[k] * float(t.var()) for k, t in enumerate(targets))
    assert torch.isfinite(balancer.weight).all() and (balancer.weight > 0).all()
    assert set(balancer.report()["weight"]) == {"task0", "task1"}
    assert ("norm" in balancer.report()) == balancer.looks_at_gradients


@pytest.mark.parametrize("name", RULES)
def test_state_goes_on_exactly(name):
    x, targets = problem()
    whole, cut = Shared(scale=20.0), Shared(scale=20.0)
    settings = BalanceSettings(rate=0.02, every=3)
    one = make_balancer(name, ("task0", "task1"), settings)
    train(whole, one, x, targets, 25)
    two = make_balancer(name, ("task0", "task1"), settings)
    train(cut, two, x, targets, 25)
    again = make_balancer(name, ("task0", "task1"), settings)
    again.load_state_dict({k: v.clone() for k, v in two.state_dict().items()})
    state = {k: v.clone() for k, v in cut.state_dict().items()}
    fresh = Shared(scale=20.0)
    fresh.load_state_dict(state)
    train(whole, one, x, targets, 10)
    train(fresh, again, x, targets, 10)
    for key, value in one.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=0, atol=0)
        assert torch.isfinite(value.float()).all()


@pytest.mark.parametrize("name", RULES)
def test_a_task_without_labels_in_a_batch_is_left_as_it_was(name):
    net = Shared(tasks=3)
    x, targets = problem(tasks=3)
    balancer = make_balancer(name, ("task0", "task1", "task2"), BalanceSettings(start="first"))
    train(net, balancer, x, targets, 5)
    losses = net.losses(x, targets)
    del losses["task1"]
    weights = balancer.weigh(losses, [net.trunk.weight])
    assert set(weights) == {"task0", "task2"}
    sum(weights[n] * loss for n, loss in losses.items()).backward()
    balancer.learn([net.trunk.weight])
    assert torch.isfinite(balancer.weight).all()
    with pytest.raises(ValueError, match="none of the tasks"):
        balancer.weigh({"other": losses["task0"]}, [net.trunk.weight])


def test_a_loss_that_is_not_a_number_changes_no_weight():
    net = Shared()
    x, targets = problem()
    balancer = GradNorm(("task0", "task1"), BalanceSettings(start="first"))
    train(net, balancer, x, targets, 3)
    before = balancer.weight.clone()
    losses = net.losses(x, targets)
    losses["task1"] = losses["task1"] * torch.nan
    weights = balancer.weigh(losses, [net.trunk.weight])
    sum(weights[n] * loss for n, loss in losses.items()).backward()
    balancer.learn([net.trunk.weight])
    torch.testing.assert_close(balancer.weight, before)


def test_uncertainty_tends_to_one_over_the_loss():
    balancer = Uncertainty(("a", "b"), BalanceSettings(rate=0.05))
    losses = {"a": torch.tensor(0.25), "b": torch.tensor(4.0)}
    for _ in range(1000):
        weights = balancer.weigh(losses)
        balancer.learn()
    assert float(weights["a"]) == pytest.approx(4.0, rel=0.02)
    assert float(weights["b"]) == pytest.approx(0.25, rel=0.02)


def test_famo_favours_the_task_that_falls_behind():
    balancer = FAMO(("quick", "slow"), BalanceSettings(rate=0.02))
    for step in range(300):
        balancer.weigh({"quick": torch.tensor(0.99**step), "slow": torch.tensor(1.0)})
        balancer.learn()
    assert balancer.logit[1] > balancer.logit[0]


@pytest.mark.parametrize("start", ["first", "mean", "theory"])
def test_first_loss_rules(start):
    settings = BalanceSettings(start=start, theory={"a": 0.7, "b": np.log(7)})
    balancer = GradNorm(("a", "b"), settings)
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    for step in range(25):
        losses = {"a": weight[0] * (1.0 + step), "b": weight[1] * 1.5}
        weights = balancer.weigh(losses, [weight])
        moved = not torch.equal(balancer.weight, torch.ones(2))
        assert moved == (step > {"first": 0, "mean": 19, "theory": 0}[start])
        weight.grad = None
        sum(weights[n] * loss for n, loss in losses.items()).backward()
        balancer.learn([weight])
    expected = {"first": [1.0, 3.0], "mean": [10.5, 3.0], "theory": [0.7, np.log(7)]}[start]
    np.testing.assert_allclose(balancer.first, expected, rtol=1e-5)


def test_losses_of_a_task_keep_the_methods_proportions():
    losses = {
        name: torch.tensor(value) for name, value in (("la", 1.0), ("ua", 2.0), ("lb", 3.0), ("x", 9.0))
    }
    weights = {"la": 0.75, "ua": 0.15, "lb": 2.0, "x": 1.0}
    totals, shares = task_losses(losses, weights, {"la": "a", "ua": "a", "lb": "b", "gone": "b"})
    assert shares == pytest.approx({"la": 1.0, "ua": 0.2, "lb": 1.0})
    assert float(totals["a"]) == pytest.approx(1.4) and float(totals["b"]) == 3.0


def test_names_are_checked():
    assert make_balancer("fixed", ("a", "b")) is None
    assert make_balancer("gradnorm", ("a",)) is None
    with pytest.raises(ValueError, match="no balancing 'best'"):
        make_balancer("best", ("a", "b"))
    with pytest.raises(ValueError, match="name of its own"):
        Balancer(("a", "a"))
    with pytest.raises(ValueError, match="form 'odd'"):
        GradNorm(("a", "b"), BalanceSettings(form="odd"))
    with pytest.raises(ValueError, match="knows nothing"):
        GradNorm(("a", "b"), BalanceSettings(start="theory"))
