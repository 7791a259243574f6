"""Adversarial weight perturbation against a step written out by hand."""

import copy

import pytest
import torch
from torch import nn

from robustgap.training import awp as perturbation
from robustgap.training.attacks import cross_entropy
from robustgap.training.data.batches import TrainingBatch
from robustgap.training.defenses import DEFENSES
from robustgap.training.modes import evaluating
from robustgap.training.settings import complete
from robustgap.training.step import inner_attack, train_step

LR, MOMENTUM, DECAY, GAMMA = 0.1, 0.9, 5e-4, 0.01


def network():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return model.train()


def batches(count):
    generator = torch.Generator().manual_seed(1)
    for number in range(count):
        x = torch.rand(12, 1, 4, 4, generator=generator, dtype=torch.float64)
        yield TrainingBatch(x, torch.randint(3, (12,), generator=generator), torch.arange(12) + 12 * number)


def settings_of(defense, awp=True, gamma=GAMMA):
    given = {"defense": defense, "awp": awp, "awp_gamma": gamma, "eps": "1/10", "inner_steps": 2, "lr": LR}
    return complete(given)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)


def test_v_is_the_gradient_scaled_to_gamma_times_the_norm_of_its_layer():
    model = network()
    (batch,) = batches(1)
    before = copy.deepcopy(model.state_dict())
    pairs = perturbation.worst_direction(model, lambda: cross_entropy(model(batch.x), batch.y).mean(), GAMMA)
    assert [tuple(p.shape) for p, _ in pairs] == [(8, 16), (3, 8)]  # no bias, no BatchNorm
    gradients = torch.autograd.grad(cross_entropy(model(batch.x), batch.y).mean(), [p for p, _ in pairs])
    for (p, v), g in zip(pairs, gradients, strict=True):
        torch.testing.assert_close(v.norm(), GAMMA * p.detach().norm())
        torch.testing.assert_close(v / v.norm(), g / g.norm())
    model.load_state_dict(before)


def test_searching_v_changes_nothing():
    model = network()
    (batch,) = batches(1)
    before = copy.deepcopy(model.state_dict())
    perturbation.worst_direction(model, lambda: cross_entropy(model(batch.x), batch.y).mean(), GAMMA)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())  # BatchNorm's too
    assert all(p.grad is None for p in model.parameters())


def test_a_layer_without_gradient_stays_where_it_is():
    model = network()
    inside = torch.ones(2, 8, dtype=torch.float64)
    pairs = perturbation.worst_direction(model, lambda: model[4](inside).sum() + 0 * model[1].weight.sum(), GAMMA)
    assert torch.equal(pairs[0][1], torch.zeros(8, 16).double())
    assert torch.isfinite(pairs[1][1]).all()


def by_hand(model, momentum, batch, settings):
    """x_adv on w; v on a copy; gradient at w + v; SGD with momentum and decay there; then v is taken off."""
    defense = DEFENSES[settings["defense"]](settings)
    with evaluating(model):
        x_adv = defense.adversary(model, batch.x, batch.y, inner_attack(settings, batch.index, 0))
    proxy = copy.deepcopy(model)
    defense.loss(proxy, batch.x, x_adv, batch.y).mean().backward()
    moved, v = copy.deepcopy(model), {}
    with torch.no_grad():
        for (name, p), q in zip(moved.named_parameters(), proxy.parameters(), strict=True):
            if p.dim() > 1:
                v[name] = GAMMA * p.norm() * q.grad / q.grad.norm()
                p += v[name]
    moved.zero_grad()
    defense.loss(moved, batch.x, x_adv, batch.y).mean().backward()
    with torch.no_grad():
        for name, p in moved.named_parameters():
            gradient = p.grad + DECAY * p
            momentum[name] = gradient if name not in momentum else MOMENTUM * momentum[name] + gradient
            p -= LR * momentum[name]
            if name in v:
                p -= v[name]
    moved.zero_grad()
    return moved  # its BatchNorm statistics moved once, in the pass at w + v


@pytest.mark.parametrize("defense", ["Standard", "AT", "TRADES", "MART"])
def test_two_steps_equal_the_authors_order_written_out(defense):
    settings = settings_of(defense)
    model, manual, momentum = network(), network(), {}
    optimizer = sgd(model)
    for batch in batches(2):
        train_step(model, optimizer, batch, settings, epoch=0)
        manual = by_hand(manual, momentum, batch, settings)
        expected = manual.state_dict()
        for key, value in model.state_dict().items():
            torch.testing.assert_close(value, expected[key], rtol=1e-10, atol=1e-12, msg=key)


@pytest.mark.parametrize("defense", ["Standard", "AT", "TRADES"])
def test_without_budget_it_is_plain_training(defense):
    """gamma = 0, or awp off: the same weights and statistics."""
    models = []
    for settings in (settings_of(defense, gamma=0.0), settings_of(defense, awp=False)):
        model = network()
        optimizer = sgd(model)
        for batch in batches(2):
            train_step(model, optimizer, batch, settings, epoch=0)
        models.append(model.state_dict())
    for key, value in models[0].items():
        torch.testing.assert_close(value, models[1][key], rtol=1e-12, atol=1e-14, msg=key)


@pytest.mark.parametrize("awp", [False, True])
@pytest.mark.parametrize("defense, passes", [("Standard", 1), ("AT", 1), ("TRADES", 2), ("MART", 2)])
def test_batchnorm_statistics_move_once_per_training_pass(defense, passes, awp):
    """Once per step; TRADES and MART pass clean and adversarial images, one after the other. AWP adds none, the
    inner attack adds none."""
    model = network()
    (batch,) = batches(1)
    train_step(model, sgd(model), batch, settings_of(defense, awp=awp), epoch=0)
    assert int(model[2].num_batches_tracked) == passes


def test_the_step_is_taken_at_a_higher_loss():
    """w + v is uphill: the loss that train_step returns is above that of the same weights without AWP."""
    (batch,) = batches(1)
    losses = []
    for awp in (True, False):
        model = network()
        losses.append(train_step(model, sgd(model), batch, settings_of("Standard", awp=awp), epoch=0))
    assert losses[0] > losses[1]
