"""Balancers in the loop: weights are learnt, reported, kept in checkpoints, and a resumed run is the same."""

import pytest
import torch
from tiny_method import CLASSES, Tiny

from napari_mtssl.engine import checkpoint as ckpt
from napari_mtssl.engine.events import Finished, Stepped
from napari_mtssl.methods.base import MethodError


class TwoTasks(Tiny):
    tasks = ("labels", "agreement")
    shared = property(lambda self: [self.net[3].weight])

    def step(self, samples, progress, batch_size):
        output = super().step(samples, progress, batch_size)
        output.weights["agreement"] = 1.0
        output.tasks = {name: name for name in output.losses}
        return output


def method(balance, steps=40, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = TwoTasks.configure(balance=balance, steps=steps, **settings)
        return TwoTasks(config, {"cell": CLASSES}, torch.device("cpu"))


@pytest.mark.parametrize("balance", ["gradnorm", "uncertainty", "famo", "dbmtl"])
def test_a_resumed_run_equals_an_uninterrupted_one(make_run, balance):
    whole = make_run(method=method(balance, balance_rate=0.05))
    events = list(whole.events)
    assert isinstance(events[-1], Finished)
    steps = [event for event in events if isinstance(event, Stepped)]
    weights = [event.balance["weight"]["agreement"] for event in steps]
    assert len({round(w, 4) for w in weights}) > 3  # they move
    assert steps[-1].weights["agreement"] > 0
    assert ("norm" in steps[-1].balance) == (balance in ("gradnorm", "dbmtl"))

    cut = make_run(method=method(balance, balance_rate=0.05))
    for event in cut.events:
        if isinstance(event, Stepped) and event.step == 26:
            cut.control.stop()
    again = make_run(method=method(balance, balance_rate=0.05), run_dir=cut.dir, resume=True)
    assert list(again.events)[-1].step == 40
    one, two = (ckpt.load(run.dir / "last.safetensors").state for run in (whole, cut))
    assert any(name.startswith("balancer.") for name in one)
    for name, value in one.items():
        assert torch.equal(two[name], value), name
    rows = (whole.dir / "metrics.csv").read_text()
    assert "balance/weight/agreement" in rows


def test_fixed_weights_are_the_methods_own(make_run):
    run = make_run(method=method("fixed", steps=3))
    last = [event for event in run.events if isinstance(event, Stepped)][-1]
    assert last.balance == {} and last.weights == {"labels": 1.0, "agreement": 1.0}


def test_a_rule_that_does_not_exist_is_refused():
    with pytest.raises(MethodError, match="balance"):
        Tiny.configure(balance="best")
