"""Gradient alignment against models whose input gradients are known, and inside a training step."""

import copy

import pytest
import torch
from oracles import SHAPE, conv_net, draw, images, labels, linear, relu_net
from small_runs import interrupted, same_weights, settings_of, train, without_seconds
from torch import nn

from robustgap.training.alignment import misalignment
from robustgap.training.attacks import cross_entropy, input_gradient
from robustgap.training.data.batches import TrainingBatch
from robustgap.training.defenses import DEFENSES
from robustgap.training.modes import evaluating
from robustgap.training.step import ALIGN, inner_attack, train_step


def test_two_linear_classes_are_aligned():
    """The gradient is (sigmoid(-m)) (w_other - w_y): one direction everywhere, so the penalty is 0."""
    x, y, noise = images(40), labels(40, 2), 0.2 * draw(40, *SHAPE, seed=4)
    torch.testing.assert_close(
        misalignment(linear(draw(2, 16, seed=0)), x, y, noise), torch.zeros(40).double(), rtol=0, atol=1e-12
    )


def test_without_noise_every_model_is_aligned():
    x, y = images(20), labels(20)
    found = misalignment(relu_net(), x, y, torch.zeros_like(x))
    torch.testing.assert_close(found, torch.zeros(20).double(), rtol=0, atol=1e-12)


def test_it_is_one_minus_the_cosine_of_the_two_input_gradients():
    model, x, y, noise = relu_net(), images(30), labels(30), 0.5 * draw(30, *SHAPE, seed=4)
    first, second = (input_gradient(model, point, y).flatten(1) for point in (x, (x + noise).clamp(0, 1)))
    expected = 1 - torch.nn.functional.cosine_similarity(first, second)
    assert expected.max() > 0.1
    torch.testing.assert_close(misalignment(model, x, y, noise).detach(), expected)


def test_where_a_gradient_vanishes_the_penalty_does():
    model, x = linear(torch.zeros(2, 16).double()), images(3)
    found = misalignment(model, x, labels(3, 2), 0.1 * x)
    assert torch.equal(found, torch.zeros(3).double())
    gradient = torch.autograd.grad(found.sum() + 0 * model[1].weight.sum(), [model[1].weight])[0]
    assert not gradient.any()  # and not NaN


class Bent(nn.Module):
    """Logits (0, a.x + w (b.x)^2 / 2): the input gradient is along a + w (b.x) b, so the cosine has a closed form."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def forward(self, x):
        a, b = x.flatten(1)[:, 0], x.flatten(1)[:, 1]
        return torch.stack([0 * a, a + self.w * b**2 / 2], dim=1)


def test_its_gradient_in_the_weights_goes_through_both_input_gradients():
    """At b = s and t the directions are (1, w s), (1, w t): 1 - (1 + w^2 s t) / sqrt((1 + w^2 s^2)(1 + w^2 t^2))."""
    w, s, t = 0.5, 0.3, 0.8
    x, noise = torch.tensor([0.5, s]).double().reshape(1, 1, 1, 2), torch.tensor([0.1, t - s]).double()
    model, v = Bent(w), torch.tensor(w, dtype=torch.float64, requires_grad=True)
    found = misalignment(model, x, torch.tensor([0]), noise.reshape(1, 1, 1, 2)).sum()
    expected = 1 - (1 + v**2 * s * t) / torch.sqrt((1 + v**2 * s**2) * (1 + v**2 * t**2))
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(loss, [p])[0] for loss, p in ((found, model.w), (expected, v))]
    torch.testing.assert_close(*slopes)
    assert slopes[0].abs() > 0.01


@pytest.mark.parametrize("awp", [False, True])
def test_a_step_minimises_loss_and_penalty_together(awp):
    """The step with BatchNorm, by hand: statistics move in the loss's pass, and the penalty sees them moved."""
    model, x, y, index = conv_net().train(), images(12), labels(12), torch.arange(12)
    given = {"eps": "1/5", "inner_steps": 2, "grad_align": 0.7, "momentum": 0.0, "weight_decay": 0.0}
    settings, manual = settings_of(**given), copy.deepcopy(model)
    with evaluating(manual):
        attack = inner_attack(settings, index, 0)
        x_adv = DEFENSES["AT"](settings).adversary(manual, x, y, attack)
    loss = cross_entropy(manual(x_adv), y).mean()
    loss = loss + 0.7 * misalignment(manual, x, y, attack.uniform(x, ALIGN)).mean()
    gradients = torch.autograd.grad(loss, list(manual.parameters()))
    found = train_step(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        TrainingBatch(x, y, index),
        settings_of(**given, awp=awp, **({"awp_gamma": 0.0} if awp else {})),
        epoch=0,
    )
    assert found == pytest.approx(loss.item(), rel=1e-12)
    for p, before, gradient in zip(model.parameters(), manual.parameters(), gradients, strict=True):
        torch.testing.assert_close(p.detach(), (before - 0.1 * gradient).detach(), rtol=1e-10, atol=1e-12)
    assert int(model[1].num_batches_tracked) == 1 and model[1].training


def test_it_resumes_to_the_same_weights(tmp_path, monkeypatch):
    given = {"defense": "FGSM-RS", "grad_align": 0.2, "batch_size": 256}
    unbroken, _ = train(tmp_path / "unbroken", **given)
    interrupted(tmp_path, monkeypatch, 2, **given)
    resumed, _ = train(tmp_path, **given)
    assert same_weights(unbroken, resumed) and without_seconds(unbroken) == without_seconds(resumed)
