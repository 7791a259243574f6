"""SAM and ASAM against quadratics and linear losses, and as a step on the adversarial loss written out by hand."""

import copy

import pytest
import torch
from oracles import QuadraticLoss, conv_net, draw, images, labels
from small_runs import interrupted, same_weights, settings_of, train, without_seconds
from torch import nn

from robustgap.training.attacks import cross_entropy
from robustgap.training.data.batches import TrainingBatch
from robustgap.training.defenses import DEFENSES
from robustgap.training.modes import evaluating
from robustgap.training.sam import highest_nearby, moved
from robustgap.training.step import inner_attack, train_step

HESSIAN = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
WEIGHT = torch.tensor([0.4, -0.5], dtype=torch.float64)
RHO = 0.05


def quadratic():
    return QuadraticLoss(HESSIAN, WEIGHT)


def test_sam_goes_rho_along_the_gradient():
    """q(w) = w'Hw/2 has the gradient Hw; to first order the loss rises by rho ||g||."""
    model, gradient = quadratic(), HESSIAN @ WEIGHT
    ((p, e),) = highest_nearby(model, lambda: model.loss(model.weight), RHO, adaptive=False)
    torch.testing.assert_close(e, RHO * gradient / gradient.norm())
    with moved(model, [(p, e)]):
        rise = (model.loss(model.weight) - model.loss(WEIGHT)).item()
    curvature = float(e @ HESSIAN @ e) / 2
    assert rise == pytest.approx(RHO * float(gradient.norm()) + curvature)


@pytest.mark.parametrize("adaptive", [False, True])
def test_among_all_steps_of_that_size_none_raises_a_linear_loss_more(adaptive):
    """Size: ||e||, or with ASAM ||e / |w|||; against 2,000 others on the ellipse."""
    model, gradient = quadratic(), HESSIAN @ WEIGHT
    scale = WEIGHT.abs() if adaptive else torch.ones(2).double()
    ((_, e),) = highest_nearby(model, lambda: model.loss(model.weight), RHO, adaptive=adaptive)
    assert float((e / scale).norm()) == pytest.approx(RHO)
    angle = torch.linspace(0, 2 * torch.pi, 2000, dtype=torch.float64)
    others = RHO * scale * torch.stack([angle.cos(), angle.sin()], dim=1)
    best = float((others @ gradient).max())
    assert float(e @ gradient) >= best * (1 - 1e-9) and float(e @ gradient) == pytest.approx(best, rel=1e-4)


def two_layers(scale):
    """w2 relu(w1 x) with w1 times `scale` and w2 divided by it: the same function."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False)).double()
    with torch.no_grad():
        model[1].weight.copy_(scale * draw(5, 16, seed=1))
        model[3].weight.copy_(draw(3, 5, seed=2) / scale)
    return model


def highest_loss(scale, adaptive):
    model, x, y = two_layers(scale), images(20), labels(20)
    steps = highest_nearby(model, lambda: cross_entropy(model(x), y).mean(), 0.5, adaptive=adaptive)
    with moved(model, steps), torch.no_grad():
        return float(cross_entropy(model(x), y).mean())


def test_asam_does_not_see_how_weights_are_scaled_and_sam_does():
    assert highest_loss(7.0, adaptive=True) == pytest.approx(highest_loss(1.0, adaptive=True), rel=1e-10)
    assert abs(highest_loss(7.0, adaptive=False) - highest_loss(1.0, adaptive=False)) > 0.1


def test_afterwards_everything_is_where_it_was_even_after_an_error():
    model, x = conv_net().train(), images(8)
    before = copy.deepcopy(model.state_dict())
    steps = [(p, 0.1 * torch.ones_like(p) / 3) for p in model.parameters()]
    with pytest.raises(ZeroDivisionError), moved(model, steps):
        model(x)
        assert not torch.equal(model[0].weight, before["0.weight"])
        raise ZeroDivisionError
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_asam_moves_a_bias_of_zero_as_sam_does():
    """Cross-entropy of one linear layer, two classes, x = 1: g_b = g_w, so e = rho (|w|^2 g, g) / ||(|w| g, g)||."""
    layer = nn.Linear(1, 2).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.3], [-0.2]]))
        layer.bias.zero_()
    x, y = torch.ones(1, 1).double(), torch.tensor([0])
    (_, e_w), (_, e_b) = highest_nearby(layer, lambda: cross_entropy(layer(x), y).mean(), 0.5, adaptive=True)
    size, g = layer.weight.detach()[:, 0].abs(), torch.tensor([-1.0, 1.0]).double()
    length = torch.cat([size * g, g]).norm()
    torch.testing.assert_close(e_w[:, 0], 0.5 * size**2 * g / length)
    torch.testing.assert_close(e_b, 0.5 * g / length)


def test_a_gradient_of_zero_moves_nothing():
    model = QuadraticLoss(HESSIAN, torch.zeros(2).double())
    for adaptive in (False, True):
        ((_, e),) = highest_nearby(model, lambda: model.loss(model.weight), RHO, adaptive=adaptive)
        assert not e.any()


@pytest.mark.parametrize("name, rho", [("SAM", {"sam_rho": 0.1}), ("ASAM", {"asam_rho": 0.4})])
@pytest.mark.parametrize("defense", ["Standard", "AT", "TRADES"])
def test_a_step_takes_the_gradient_at_the_highest_point_and_moves_from_where_it_was(name, rho, defense):
    """x_adv at w; e there; the gradient at w + e; weight decay and momentum at w; BatchNorm from the pass at w."""
    model, x, y, index = conv_net().train(), images(12), labels(12), torch.arange(12)
    settings = settings_of(defense=defense, sam=name, eps="1/5", inner_steps=2, **rho)
    manual, made = copy.deepcopy(model), DEFENSES[defense](settings)
    with evaluating(manual):
        x_adv = made.adversary(manual, x, y, inner_attack(settings, index, 0))
    names, parameters = zip(*manual.named_parameters(), strict=True)
    first = torch.autograd.grad(made.loss(manual, x, x_adv, y).mean(), parameters)
    scale = [
        p.detach().abs() if name == "ASAM" and "weight" in n else 1.0 for n, p in zip(names, parameters, strict=True)
    ]
    norm = sum((s * g).square().sum() for s, g in zip(scale, first, strict=True)).sqrt()
    away = copy.deepcopy(manual)
    with torch.no_grad():
        for p, s, g in zip(away.parameters(), scale, first, strict=True):
            p += next(iter(rho.values())) * s * s * g / norm
    loss = made.loss(away, x, x_adv, y).mean()
    second = torch.autograd.grad(loss, list(away.parameters()))
    found = train_step(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01),
        TrainingBatch(x, y, index),
        settings,
        epoch=0,
    )
    assert found == pytest.approx(loss.item(), rel=1e-10)
    for p, before, g in zip(model.parameters(), parameters, second, strict=True):
        torch.testing.assert_close(p.detach(), (before - 0.1 * (g + 0.01 * before)).detach(), rtol=1e-9, atol=1e-12)
    for mine, theirs in zip(model.buffers(), manual.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("name", ["SAM", "ASAM"])
def test_it_resumes_to_the_same_weights(name, tmp_path, monkeypatch):
    given = {"sam": name, "batch_size": 256}
    unbroken, _ = train(tmp_path / "unbroken", **given)
    interrupted(tmp_path, monkeypatch, 2, **given)
    resumed, _ = train(tmp_path, **given)
    assert same_weights(unbroken, resumed) and without_seconds(unbroken) == without_seconds(resumed)
