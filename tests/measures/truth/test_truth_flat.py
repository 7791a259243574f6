"""Worst-case and adaptive flatness against an exact or an independent maximisation, within 1 %."""

import itertools
import math

import numpy as np
import oracles
import pytest
import torch
from oracles import EPS, measured, two_classes
from scipy.optimize import brentq
from torch import nn
from torch.nn import functional as F

from robustgap.measures import _adaptive, adaptive_sharpness_average, evaluate, worst_flat
from robustgap.training import keyed

NOTHING = torch.zeros(4, dtype=torch.int64)


def quadratic(seed=11, d=12):
    root = oracles.draw(d, d, seed=seed, scale=0.3)
    return root @ root.T, oracles.draw(d, seed=seed + 1, scale=0.5)


def largest_in_ball(hessian, weight, radius):
    """max q(w + v) - q(w) over ||v||_2 <= r, exactly: (mu I - H) v = g with mu above all eigenvalues, ||v|| = r."""
    gradient = hessian @ weight
    values, vectors = torch.linalg.eigh(hessian)
    parts = vectors.T @ gradient

    def excess(mu):
        return float((parts / (mu - values)).norm()) - radius

    top = float(values[-1])
    mu = brentq(excess, top + 1e-9, top + 10 * float(gradient.norm()) / radius)
    v = vectors @ (parts / (mu - values))
    return float(gradient @ v + v @ hessian @ v / 2)


@pytest.mark.parametrize("xi", [0.003, 0.5])
def test_worst_flat_of_a_quadratic_loss_is_the_maximum_in_the_ball(xi, monkeypatch):
    monkeypatch.setattr(worst_flat, "XI", xi)
    hessian, weight = quadratic()
    expected = largest_in_ball(hessian, weight, xi * float(weight.norm()))
    value, _ = measured(oracles.QuadraticLoss(hessian, weight), oracles.images(4), NOTHING, "worst_flat")
    assert value == pytest.approx({"clean": expected, "adversarial": expected}, rel=0.01)


def climb(loss, tensors, xi):
    """Largest loss(*tensors + v) with each v in its relative ball: long gradient ascent, then shorter and shorter."""
    moves = [torch.zeros_like(tensor) for tensor in tensors]
    for step in range(500):
        moved = [(tensor + v).requires_grad_(True) for tensor, v in zip(tensors, moves, strict=True)]
        gradients = torch.autograd.grad(loss(*moved), moved)
        for place, (tensor, gradient) in enumerate(zip(tensors, gradients, strict=True)):
            radius = xi * tensor.norm()
            v = moves[place] + radius / (1 + step / 10) * gradient / gradient.norm()
            moves[place] = v * min(1.0, float(radius / v.norm()))
    return float(loss(*[tensor + v for tensor, v in zip(tensors, moves, strict=True)]))


@pytest.mark.parametrize("xi", [0.003, 0.3])
def test_worst_flat_of_a_linear_model_is_the_joint_maximum_over_weights_and_images(xi, monkeypatch):
    """The maximum over images is known for any weights, so only the one over weights is left."""
    monkeypatch.setattr(worst_flat, "XI", xi)
    model, weight, bias, x, y, _ = two_classes()
    expected = {}
    for variant, eps in (("clean", 0.0), ("adversarial", EPS)):
        loss = lambda w, b, eps=eps: oracles.robust_loss_linear(w, b, x, y, eps).mean()  # noqa: E731
        expected[variant] = climb(loss, [weight, bias], xi) - float(loss(weight, bias))
    value, _ = measured(model, x, y, "worst_flat", batch_size=20)
    assert value == pytest.approx(expected, rel=0.01)
    assert abs(expected["adversarial"] - expected["clean"]) > 0.01 * expected["clean"]  # or one would pass for both


def test_worst_flat_spares_normalisation_and_needs_weights_that_can_move():
    """A layer of zeros cannot move, nor can BatchNorm: what remains is the input attack, which changes nothing here."""
    layers = nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 3, bias=False)
    model = oracles.set_weights(nn.Sequential(*layers).double(), seed=2)
    nn.init.zeros_(model[2].weight)
    assert measured(model, oracles.images(8), oracles.labels(8), "worst_flat")[0] == {"clean": 0.0, "adversarial": 0.0}
    table = evaluate(model[:2].eval(), oracles.images(8), oracles.labels(8), ["worst_flat"], eps=EPS)
    assert set(table["reason"]) == {"the model has no weights to move"}


def test_estimate_inv_sharpness_of_a_quadratic_loss():
    """With e = rho T^2 g / ||T g||: L(w + e) - L(w) = rho ||T g|| + e^T H e / 2."""
    hessian, weight = quadratic()
    g, scale = hessian @ weight, weight.abs()
    e = 0.5 * scale**2 * g / (scale * g).norm()
    expected = 0.5 * float((scale * g).norm()) + float(e @ hessian @ e) / 2
    value, _ = measured(oracles.QuadraticLoss(hessian, weight), oracles.images(4), NOTHING, "estimate_inv_sharpness")
    assert value == pytest.approx({"clean": expected, "adversarial": expected}, rel=1e-9)


def test_estimate_inv_sharpness_of_a_linear_model_on_fixed_adversarial_images():
    model, weight, bias, x, y, x_adv = two_classes()

    def expected(images):
        flat, target = torch.cat([images.flatten(1), torch.ones(64, 1)], dim=1), F.one_hot(y, 2)
        w = torch.cat([weight, bias[:, None]], dim=1)
        loss = lambda w: -(F.log_softmax(flat @ w.T, dim=1) * target).sum(dim=1).mean()  # noqa: E731
        g = ((flat @ w.T).softmax(dim=1) - target).T @ flat / 64
        return float(loss(w + 0.5 * w**2 * g / (w * g).norm()) - loss(w))

    value, _ = measured(model, x, y, "estimate_inv_sharpness", batch_size=10)
    assert value == pytest.approx({"clean": expected(x), "adversarial": expected(x_adv)}, rel=1e-6)


def corners(count):
    return torch.tensor(list(itertools.product((-1.0, 1.0), repeat=count)), dtype=torch.float64)


@pytest.mark.parametrize("rho", [0.002, 0.3])
def test_adaptive_sharpness_of_a_quadratic_loss_is_at_the_best_corner_of_the_box(rho, monkeypatch):
    """A convex function is largest at a corner: all 2^12 of them."""
    monkeypatch.setattr(_adaptive, "RHO", rho)
    hessian, weight = quadratic()
    moved = weight * (1 + rho * corners(12))
    expected = float((moved @ hessian * moved).sum(dim=1).max() - weight @ hessian @ weight) / 2
    value, _ = measured(oracles.QuadraticLoss(hessian, weight), oracles.images(4), NOTHING, "adaptive_sharpness")
    assert value == pytest.approx({"clean": expected, "adversarial": expected}, rel=0.01)


def normalised(logits):
    centred = logits - logits.mean(dim=-1, keepdim=True)
    return centred / centred.square().sum(dim=-1, keepdim=True).sqrt()


@pytest.mark.parametrize(
    ("name", "outputs", "rho"),
    [
        ("adaptive_sharpness", lambda logits: logits, 0.002),
        ("adaptive_sharpness", lambda logits: logits, 0.2),
        ("adaptive_sharpness_logit_normalised", normalised, 0.002),
    ],
)
def test_adaptive_sharpness_of_a_small_linear_model_against_all_corners(name, outputs, rho, monkeypatch):
    """Three classes, 2 x 2 images, 12 + 3 weights: 2^15 corners. In the small box any loss is nearly linear."""
    monkeypatch.setattr(_adaptive, "RHO", rho)
    weight, bias = oracles.draw(3, 4, seed=5, scale=2.0), oracles.draw(3, seed=6)
    x, y = oracles.images(12, (1, 2, 2)), oracles.labels(12)
    model, signs = oracles.linear(weight, bias), corners(15)

    def losses(images, w, b):
        logits = outputs(torch.einsum("ckp,np->cnk", w, images.flatten(1)) + b[:, None])
        return -logits.log_softmax(dim=2)[:, torch.arange(12), y].mean(dim=1)

    w, b = weight * (1 + rho * signs[:, :12].reshape(-1, 3, 4)), bias * (1 + rho * signs[:, 12:])
    x_adv = x + 0.5 * EPS * torch.sign(oracles.draw(*x.shape, seed=8))
    value, _ = measured(model, x, y, name, adversarial=x_adv, batch_size=5)
    expected = {
        variant: float(losses(images, w, b).max() - losses(images, weight[None], bias[None])[0])
        for variant, images in (("clean", x), ("adversarial", x_adv))
    }
    assert value == pytest.approx(expected, rel=0.01)


def test_adaptive_sharpness_average_of_a_linear_model_at_its_five_pairs_of_noisy_weights():
    model, weight, bias, x, y, x_adv = two_classes()
    rises = {"clean": [], "adversarial": []}
    stream = adaptive_sharpness_average.STREAM
    for draw, sign in itertools.product(range(5), (0.1, -0.1)):
        noisy = [
            tensor * (1 + sign * keyed.normal(0, stream + p, torch.tensor([draw]), tensor.shape)[0])
            for p, tensor in enumerate((weight, bias))
        ]
        for variant, images in (("clean", x), ("adversarial", x_adv)):
            loss = lambda w, b, i=images: F.cross_entropy(i.flatten(1) @ w.T + b, y, reduction="none")  # noqa: E731
            rises[variant].append(loss(*noisy) - loss(weight, bias))
    value, se = measured(model, x, y, "adaptive_sharpness_average")
    assert value == pytest.approx({k: float(torch.stack(v).mean()) for k, v in rises.items()}, rel=1e-6)
    by_image, by_draw = torch.stack(rises["clean"]).mean(dim=0), torch.stack(rises["clean"]).mean(dim=1)
    by_pair = by_draw.reshape(5, 2).mean(dim=1)
    assert se["clean"] == pytest.approx(math.hypot(by_image.std() / 8, by_pair.std() / 5**0.5), rel=1e-6)


def test_adaptive_sharpness_average_of_a_quadratic_loss_over_seeds():
    """E rise = rho^2 / 2 sum_i H_ii w_i^2; the mean of 60 seeds is within their standard error of it. Opposite draws
    cancel the slope, so the spread is that of the quadratic form alone: 2 ||rho^2 / 2 D H D||_F^2 / 5, D = diag w."""
    hessian, weight = quadratic()
    expected = 0.1**2 / 2 * float((torch.diag(hessian) * weight**2).sum())
    model, x = oracles.QuadraticLoss(hessian, weight), oracles.images(1)
    found = [measured(model, x, NOTHING[:1], "adaptive_sharpness_average", seed=s)[0]["clean"] for s in range(60)]
    assert np.mean(found) == pytest.approx(expected, abs=2.5 * np.std(found) / 60**0.5)
    form = 0.1**2 / 2 * weight[:, None] * hessian * weight
    assert np.std(found) == pytest.approx(float((2 / 5 * form.square().sum()).sqrt()), rel=0.3)
