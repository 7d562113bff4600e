import torch

from napari_mtssl.engine.snapshot import Snapshot, tensors_finite


def test_a_snapshot_is_a_copy_and_can_be_used_twice(tiny):
    method, samples = tiny.make_method(), tiny.make_samples()
    method.prepare(samples)
    optimiser = method.optimiser()

    def step():
        torch.manual_seed(1)
        output = method.step(samples, 0.0, 8)
        optimiser.zero_grad()
        output.losses["labels"].backward()
        optimiser.step()
        return method.net[0].weight.detach().clone()

    step()
    snapshot = Snapshot.take(1, method, optimiser)
    first = step()
    step()
    for _ in range(2):
        snapshot.restore(method, optimiser)
        assert torch.equal(step(), first)


def test_a_snapshot_of_bad_weights_is_none(tiny):
    method = tiny.make_method()
    method.prepare(tiny.make_samples())
    assert Snapshot.take(0, method, method.optimiser()) is not None
    method.net[0].weight.data[0, 0, 0, 0] = float("nan")
    assert Snapshot.take(0, method, method.optimiser()) is None


def test_large_weights_are_finite():
    assert tensors_finite([torch.full((1000,), 3e38), torch.tensor(5)])
    assert not tensors_finite([torch.ones(3), torch.tensor([1.0, float("inf"), -float("inf")])])
    assert tensors_finite([])
