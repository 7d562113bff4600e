import pytest
import torch

from napari_mtssl.engine.meter import LossMeter, SpeedMeter, all_finite


def test_losses_are_averaged_over_the_steps_that_had_them():
    meter = LossMeter()
    one, two, four = (torch.tensor(x, requires_grad=True) for x in (1.0, 2.0, 4.0))
    meter.add({"a": one, "b": two}, {"a": 1.0, "b": 1.0}, one + two)
    meter.add({"a": two, "b": four}, {"a": 1.0, "b": 1.0}, two + four)
    meter.add({"a": four}, {"a": 1.0}, four)
    assert meter.read() == pytest.approx({"a": 7 / 3, "b": 3.0, "total": 13 / 3})
    assert meter.read() == {}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_loss_among_many_is_noticed(bad):
    meter = LossMeter()
    for value in (1.0, bad, 1.0, -bad, 2.0):
        loss = torch.tensor(value)
        meter.add({"a": loss, "b": torch.tensor(1.0)}, {}, torch.tensor(0.0))
    means = meter.read()
    assert not all_finite(means) and means["b"] == 1.0


def test_speed_is_smoothed_and_pauses_do_not_count():
    now = [0.0]
    speed = SpeedMeter(lambda: now[0])
    assert speed.read(100) == (0.0, 0.0)
    for _ in range(4):
        speed.step()
        now[0] += 0.5
    assert speed.read(100) == pytest.approx((2.0, 50.0))
    now[0] += 1000.0
    speed.restart()
    speed.step()
    now[0] += 1.0
    per_step = 0.8 * 0.5 + 0.2 * 1.0
    assert speed.read(10) == pytest.approx((1 / per_step, 10 * per_step))
