import torch

from napari_mtssl.engine.loop import balanced_weights, weighted_sum


def test_class_and_mask_can_be_balanced(make, bank):
    method = make(balance="gradnorm", balance_start="first", balance_rate=0.1)
    method.prepare(bank)
    optimiser = method.optimiser()
    for step in range(3):
        torch.manual_seed(step)
        output = method.step(bank, step / 3, 2)
        assert set(output.tasks) == set(output.losses) and set(output.tasks.values()) == set(method.tasks)
        weights = balanced_weights(method, output)
        optimiser.zero_grad()
        weighted_sum(output.losses, weights).backward()
        method.balancer.learn(method.shared)
        optimiser.step()
        method.after_step()
    assert not torch.equal(method.balancer.weight, torch.ones(2))
    assert (method.balancer.norm > 0).all()
    assert any(name.startswith("balancer.") for name in method.state())


def test_a_single_task_has_no_balancer(make):
    assert make(vocabulary={"diagnosis": ("a", "b")}, balance="equal").balancer is None
