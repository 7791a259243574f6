"""Learning rates at chosen moments, what a training is given of them, and weight decay."""

import math

import pytest
import torch
from small_runs import interrupted, read_log, same_weights, settings_of, train

from robustgap.training import loop
from robustgap.training.data.batches import batches, steps_per_epoch
from robustgap.training.data.datasets import load
from robustgap.training.data.splits import Split
from robustgap.training.jobs.run import make_optimizer
from robustgap.training.schedules import SCHEDULES, first_drop, learning_rate


@pytest.mark.parametrize(
    "name, at",
    [
        ("piecewise", {0: 1, 99.9: 1, 100: 0.1, 149.9: 0.1, 150: 0.01, 199.9: 0.01}),
        ("cosine", {0: 1, 50: 0.5 + math.sqrt(0.125), 100: 0.5, 200 / 3: 0.75, 200: 0}),
        ("onecycle", {0: 0, 40: 0.5, 80: 1, 110: 0.75, 140: 0.5, 200: 0}),
    ],
)
def test_factors_at_chosen_epochs(name, at):
    assert [SCHEDULES[name](t, 200) for t in at] == pytest.approx(list(at.values()), abs=1e-12)
    settings = settings_of(schedule=name, epochs=200, lr=0.3)
    given = [learning_rate(settings, math.floor(t), t % 1) for t in at]
    assert given == pytest.approx([0.3 * factor for factor in at.values()], abs=1e-12)


def test_every_schedule_keeps_its_best_in_the_second_half():
    assert {first_drop(settings_of(schedule=name, epochs=7)) for name in SCHEDULES} == {4}


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_each_step_has_the_rate_of_its_middle(name, monkeypatch, tmp_path):
    """500 images in batches of 128: 4 steps an epoch, with middles at 1/8, 3/8, 5/8, 7/8; the log has the last."""
    rates, step = [], loop.train_step
    monkeypatch.setattr(
        loop, "train_step", lambda *given: (rates.append(given[1].param_groups[0]["lr"]), step(*given))[1]
    )
    folder, _ = train(tmp_path, schedule=name, lr=0.02)
    middles = [(2 * number + 1) / 8 for number in range(12)]
    assert rates == pytest.approx([0.02 * SCHEDULES[name](t, 3) for t in middles])
    assert min(rates) > 0
    assert [float(row["lr"]) for row in read_log(folder)] == rates[3::4]


def test_steps_of_an_epoch_are_counted_as_they_come():
    splits = load("digits")
    extra = Split(splits.extra.images, torch.zeros(300, dtype=torch.int64), splits.extra.index)
    for size, pool in ((32, None), (33, extra), (128, extra), (500, None)):
        settings = settings_of(batch_size=size)
        there = len(list(batches(settings, splits, pool, 0, torch.device("cpu"))))
        assert steps_per_epoch(settings, splits, pool) == there


@pytest.mark.parametrize("name", ["cosine", "onecycle"])
def test_a_schedule_goes_on_where_it_was(name, tmp_path, monkeypatch):
    unbroken, _ = train(tmp_path / "unbroken", schedule=name)
    interrupted(tmp_path, monkeypatch, 2, schedule=name)
    resumed, _ = train(tmp_path, schedule=name)
    assert same_weights(unbroken, resumed)
    other, _ = train(tmp_path)
    assert not same_weights(other, resumed)


def test_weight_decay_shrinks_every_parameter():
    """With loss 0 and no momentum a step is w <- (1 - lr decay) w, for biases and BatchNorm as for weights."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(2.0)
    optimizer = make_optimizer(model, settings_of(lr=0.5, momentum=0.0, weight_decay=0.1))
    (0 * sum(p.sum() for p in model.parameters())).backward()
    optimizer.step()
    for p in model.parameters():
        torch.testing.assert_close(p.detach(), torch.full_like(p, 2 * (1 - 0.5 * 0.1)))
