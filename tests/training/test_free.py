"""Free adversarial training: what is carried, how often each batch comes, and how epochs are counted."""

import pytest
import torch
from oracles import draw, linear
from small_runs import CPU, interrupted, same_weights, settings_of, train, without_seconds

from robustgap.training import loop
from robustgap.training.carried_state import begin
from robustgap.training.data.batches import TrainingBatch, batches
from robustgap.training.data.datasets import load
from robustgap.training.data.splits import Split
from robustgap.training.step import train_step

EPS = 0.1


def free(**given):
    return settings_of(**{"defense": "FreeAT", "free_replays": 4, "lr": 0.02, **given})


def step_on(model, x, y, perturbation, lr=0.0, **given):
    """One training step; the perturbations are left in `perturbation`."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    train_step(model, optimizer, TrainingBatch(x, y, torch.arange(len(y))), free(**given), 0, perturbation)


def two_batches(n=6):
    """Images away from the border of the box, and labels that differ from one batch to the next in half the places."""
    x = 0.5 + 0.05 * draw(2, n, 1, 4, 4, seed=3).clamp(-1, 1)
    return x, torch.tensor([[0] * n, [0, 1] * (n // 2)])


def test_the_perturbation_goes_on_from_batch_to_batch_by_place():
    """Two linear classes: the gradient's sign is s for label 0 and -s for label 1, so delta is known at each step."""
    weight, (x, y) = draw(2, 16, seed=0), two_batches()
    sign, perturbation = torch.sign(weight[1] - weight[0]).reshape(1, 4, 4), torch.zeros(8, 1, 4, 4).double()
    model = linear(weight).train()
    for number, multiples in enumerate([[1, 1], [1, 1], [1, 0], [1, -1], [1, -1]]):  # of eps s, at places 0 and 1
        batch = 0 if number < 2 else 1
        step_on(model, x[batch], y[batch], perturbation)
        expected = EPS * torch.tensor(multiples * 3).double().reshape(-1, 1, 1, 1) * sign
        torch.testing.assert_close(perturbation[:6], expected, rtol=0, atol=1e-12)
    assert not perturbation[6:].any()  # the batch was shorter


def test_in_l2_it_stays_in_the_ball():
    weight, (x, y) = draw(2, 16, seed=0), two_batches()
    across, perturbation = (weight[1] - weight[0]).reshape(1, 4, 4), torch.zeros(6, 1, 4, 4).double()
    for _ in range(2):  # eps, then 2 eps projected
        step_on(linear(weight).train(), x[0], y[0], perturbation, norm="L2")
        expected = (EPS * across / across.norm()).expand(6, -1, -1, -1)
        torch.testing.assert_close(perturbation, expected, rtol=1e-6, atol=0)


def test_one_gradient_serves_weights_and_perturbation():
    """The weights move by the gradient at the carried perturbation, from before the step."""
    weight, (x, y) = draw(2, 16, seed=0), two_batches()
    model, perturbation = linear(weight).train(), EPS * draw(6, 1, 4, 4, seed=9).clamp(-1, 1)
    loss = torch.nn.functional.cross_entropy(model(x[1] + perturbation), y[1])
    (gradient,) = torch.autograd.grad(loss, [model[1].weight])
    step_on(model, x[1], y[1], perturbation, lr=0.3)
    torch.testing.assert_close(model[1].weight.detach(), weight - 0.3 * gradient)


@pytest.mark.parametrize("replays", [1, 3, 8])
@pytest.mark.parametrize("pool", [False, True])
def test_each_batch_comes_so_many_times_in_a_row_and_replays_count_as_epochs(replays, pool):
    """m epochs are one pass in which each image comes m times; an epoch has the steps of any other defense."""
    splits, plain, settings = load("digits"), settings_of(), free(free_replays=replays)
    extra = Split(splits.extra.images, torch.zeros(300, dtype=torch.int64), splits.extra.index) if pool else None
    epochs = [list(batches(settings, splits, extra, epoch, CPU)) for epoch in range(2 * replays)]
    once = list(batches(plain, splits, extra, 0, CPU))
    assert {len(epoch) for epoch in epochs} == {len(once)}
    shown = [batch for epoch in epochs[:replays] for batch in epoch]
    for step, batch in enumerate(shown):
        assert torch.equal(batch.index, once[step // replays].index)
        assert torch.equal(batch.x, once[step // replays].x)
    assert not torch.equal(epochs[replays][0].index, shown[0].index)  # the next pass has another order


def test_gradient_steps_are_counted_as_of_any_other_defense(tmp_path, monkeypatch):
    """500 images, batches of 64, 3 epochs: 24 steps with 2 replays, with 8, and with AT."""
    counts, step = [], loop.train_step
    monkeypatch.setattr(loop, "train_step", lambda *given: (counts.append(len(given[2].y)), step(*given))[1])
    for given in ({"defense": "AT"}, {"defense": "FreeAT", "free_replays": 2}, {"defense": "FreeAT"}):
        counts.clear()
        _, record = train(tmp_path, batch_size=64, **given)
        assert len(counts) == 24 and record["epochs"] == 3


def test_only_a_defense_that_carries_has_something_to_carry():
    splits, model = load("digits"), torch.nn.Linear(2, 2)
    assert begin(settings_of(), model, splits).tensors() == {}
    (carried,) = begin(free(batch_size=32), model, splits).tensors().values()
    assert carried.shape == (32, 1, 8, 8) and not carried.any()


def test_it_resumes_within_a_replay_to_the_same_weights(tmp_path, monkeypatch):
    """4 steps an epoch and 3 replays: the epochs end inside the replays of a batch."""
    given = {"defense": "FreeAT", "free_replays": 3, "augmentation": "crop"}
    unbroken, _ = train(tmp_path / "unbroken", **given)
    for _ in range(2):
        interrupted(tmp_path, monkeypatch, 1, **given)
    resumed, _ = train(tmp_path, **given)
    assert same_weights(unbroken, resumed) and without_seconds(unbroken) == without_seconds(resumed)
