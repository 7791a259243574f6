"""Measures of smoothness in the input against a closed form or an independent computation, within 1 %."""

import itertools
import math

import oracles
import pytest
import torch
from oracles import EPS, D, measured, two_classes
from torch import Tensor, nn
from torch.nn import functional as F


def test_x_grad_norm_l1_of_a_linear_model_is_the_mean_of_sums_of_absolute_values():
    model, weight, bias, x, y, x_adv = two_classes()
    expected = {}
    for variant, images in (("clean", x), ("adversarial", x_adv)):
        probabilities = (images.flatten(1) @ weight.T + bias).softmax(dim=1)
        expected[variant] = float(((probabilities - F.one_hot(y, 2)) @ weight).abs().sum(dim=1).mean())
    assert measured(model, x, y, "x_grad_norm_l1")[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("exponent", [75, 80])
def test_gradients_whose_squares_underflow_keep_their_length(exponent):
    """Logits (0, w.x - exponent) in float32: the gradient at x = 0 is p w with p = exp(-exponent), about 1e-33."""
    w = oracles.draw(D, seed=7)
    weight, bias = torch.stack([0 * w, w]), torch.tensor([0.0, -float(exponent)], dtype=torch.float64)
    model = oracles.linear(weight, bias).float()
    x, y = torch.zeros(1, *oracles.SHAPE), torch.zeros(1, dtype=torch.int64)
    for name, length in (("x_grad_norm", w.norm()), ("x_grad_norm_l1", w.abs().sum())):
        found = measured(model, x, y, name, eps=0)[0]["clean"]
        assert found == pytest.approx(math.exp(-exponent) * float(length), rel=1e-5, abs=0)
    h = 1.5 * math.sqrt(D / 3072)  # and the curvature, where the logit rises by h w.z on the way
    for norm, rise in (("Linf", w.abs().sum() / math.sqrt(D)), ("L2", w.norm())):
        found = measured(model, x, y, "input_curvature", eps=0, norm=norm)[0]["clean"]
        expected = math.exp(-exponent) * math.expm1(h * float(rise)) * float(w.norm()) / h
        assert found == pytest.approx(expected, rel=1e-4, abs=0)


class QuadraticInput(nn.Module):
    """A two-class model whose cross-entropy for label 0 is q(x) = x^T H x / 2 + 0.1."""

    def __init__(self, hessian: Tensor):
        super().__init__()
        self.hessian = hessian
        self.eval()

    def forward(self, x):
        x = x.flatten(1)
        loss = ((x @ self.hessian) * x).sum(dim=1) / 2 + 0.1
        return torch.stack([-loss, torch.log(-torch.expm1(-loss))], dim=1)


def bowl(rank: int = D) -> Tensor:
    """A positive semidefinite matrix of that rank, (16, 16)."""
    factor = oracles.draw(D, rank, seed=4, scale=0.5)
    return factor @ factor.T


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_input_curvature_of_a_quadratic_loss_is_its_hessian_times_the_direction(norm):
    hessian, x, y = bowl(), oracles.images(12), torch.zeros(12, dtype=torch.int64)
    direction = x.flatten(1) @ hessian
    direction = F.normalize(direction.sign() if norm == "Linf" else direction, dim=1)
    expected = (direction @ hessian).norm(dim=1)
    value, se = measured(QuadraticInput(hessian), x, y, "input_curvature", norm=norm)
    assert value["clean"] == pytest.approx(float(expected.mean()), rel=1e-6)
    assert se["clean"] == pytest.approx(float(expected.std()) / math.sqrt(12), rel=1e-6)


def test_input_curvature_of_a_linear_model_is_that_of_the_softmax():
    """The gradient is -sigma(-m) w on one line, so the difference over h is |sigma(-m') - sigma(-m)| ||w||_2 / h, and
    the margin m falls by ||w||_1 for each step of 1 in every pixel; h = 1.5 sqrt(16 / 3072) of L2 length."""
    model, weight, bias, x, y, _ = two_classes()
    w, h = weight[0] - weight[1], 1.5 * math.sqrt(D / 3072)
    m = (1 - 2 * y) * (x.flatten(1) @ w + bias[0] - bias[1])
    rise = torch.sigmoid(h / math.sqrt(D) * w.abs().sum() - m) - torch.sigmoid(-m)
    value, _ = measured(model, x, y, "input_curvature")
    assert value["clean"] == pytest.approx(float(rise.mean() * w.norm() / h), rel=1e-9)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_local_linearity_of_a_quadratic_loss_of_rank_one(norm):
    """The error is (h^T d)^2 / 2, whose maximum over the ball is (eps ||h||_q)^2 / 2 at every image."""
    hessian, x, y = bowl(rank=1), oracles.images(12), torch.zeros(12, dtype=torch.int64)
    h = oracles.draw(D, 1, seed=4, scale=0.5)
    expected = (EPS * float(h.abs().sum() if norm == "Linf" else h.norm())) ** 2 / 2
    value, _ = measured(QuadraticInput(hessian), x, y, "local_linearity", norm=norm)
    assert value["clean"] == pytest.approx(expected, rel=0.01)


def test_local_linearity_of_a_linear_model_is_the_larger_of_two_ends():
    """The loss softplus(-m) of two classes depends on the margin alone, which moves by +- eps ||w||_1: the better side
    must be climbed."""
    model, weight, bias, x, y, _ = two_classes(scale=3.0)
    w = weight[0] - weight[1]
    m = (1 - 2 * y) * (x.flatten(1) @ w + bias[0] - bias[1])
    reach = EPS * w.abs().sum()
    ends = torch.stack([F.softplus(-m - s) - F.softplus(-m) + torch.sigmoid(-m) * s for s in (reach, -reach)])
    value, _ = measured(model, x, y, "local_linearity")
    assert value["clean"] == pytest.approx(float(ends.amax(dim=0).mean()), rel=0.01)
    assert float(ends.amax(dim=0).mean()) > 1.1 * float(ends.mean())


def on_the_boundary(weight, bias, x):
    """The images moved onto the boundary of a two-class linear model, where both classes have probability 1/2."""
    w = weight[0] - weight[1]
    m = x.flatten(1) @ w + bias[0] - bias[1]
    return x - (m[:, None] * w / w.square().sum()).reshape(x.shape)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_local_lip_kl_of_even_odds_in_a_linear_model(norm):
    """KL of (1/2, 1/2) from odds of e^s is log cosh(s / 2); s / eps is ||w||_q at the farthest corner, where the
    quotient is largest as well."""
    model, weight, bias, x, y, _ = two_classes()
    x = on_the_boundary(weight, bias, x)
    s = EPS * float((weight[0] - weight[1]).norm(p=1 if norm == "Linf" else 2))
    value, _ = measured(model, x, y, "local_lip_kl", norm=norm)
    assert value["clean"] == pytest.approx(math.log(math.cosh(s / 2)) / EPS, rel=0.01)


@pytest.mark.parametrize("name", ["local_lip_kl", "local_linearity"])
def test_ascent_in_a_small_net_comes_close_to_the_best_corner_of_the_ball(name):
    """All 2^16 corners of the ball of each 4 x 4 image. Ascent may end in a local maximum, but not far below."""
    layers = nn.Flatten(), nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, 3)
    model = oracles.set_weights(nn.Sequential(*layers).double(), seed=1, scale=3.0)
    x, y = oracles.images(6), oracles.labels(6)
    corners = torch.tensor(list(itertools.product((-EPS, EPS), repeat=D)), dtype=torch.float64).reshape(-1, 1, 4, 4)
    found = []
    for image, label in zip(x, y, strict=True):
        if name == "local_lip_kl":
            with torch.no_grad():
                clean, moved = model(image[None]).log_softmax(dim=1), model(image + corners).log_softmax(dim=1)
            found.append((clean.exp() * (clean - moved)).sum(dim=1) / EPS)
        else:
            point = image[None].clone().requires_grad_(True)
            loss = F.cross_entropy(model(point), label[None])
            gradient = torch.autograd.grad(loss, point)[0]
            with torch.no_grad():
                moved = F.cross_entropy(model(image + corners), label.expand(len(corners)), reduction="none")
                found.append((moved - loss - (corners * gradient).flatten(1).sum(dim=1)).abs())
    errors = torch.stack(found)
    highest = float(errors.amax(dim=1).mean())
    assert 3 * float(errors.mean()) < 0.9 * highest  # so the next line tells ascent from chance and from descent
    assert 0.9 * highest <= measured(model, x, y, name)[0]["clean"] <= 1.01 * highest


class Ripple(nn.Module):
    """Two classes whose margin is a wave of the mean brightness: 2 sin(50 (mean - 1/2))."""

    def forward(self, x):
        mean = x.flatten(1).mean(dim=1, keepdim=True)
        return torch.cat([2 * torch.sin(50 * (mean - 0.5)), 0 * mean], dim=1)


def test_the_best_iterate_counts_not_the_last():
    """Ascent over a wave jumps past the tops; the largest error on the way is kept."""
    x, y = torch.full((1, 1, 4, 4), 0.5, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
    s = torch.linspace(-0.3, 0.3, 60_001, dtype=torch.float64)
    wave = 2 * torch.sin(50 * s)
    error = (F.softplus(-wave) - math.log(2) + 50 * s).abs()  # the loss falls by half of 2 * 50 for each unit
    value, _ = measured(Ripple().eval(), x, y, "local_linearity", eps=0.3)
    assert value["clean"] == pytest.approx(float(error.max()), rel=0.1)
