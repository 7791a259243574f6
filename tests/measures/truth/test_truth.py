"""Measures of outputs, margins and smoothness against a closed form or an independent computation, within 1 %."""

import itertools
import math

import numpy as np
import oracles
import pytest
import torch
from oracles import EPS, D, measured, two_classes
from torch import nn
from torch.nn import functional as F

from robustgap.measures import _margin, evaluate


def test_average_ce_of_a_linear_model_clean_and_at_the_exact_worst_case():
    model, weight, bias, x, y, _ = two_classes()
    logits = x.flatten(1) @ weight.T + bias
    clean = (torch.logsumexp(logits, 1) - logits[torch.arange(64), y]).mean()
    robust = oracles.robust_loss_linear(weight, bias, x, y, EPS)
    value, se = measured(model, x, y, "average_ce")
    assert value == pytest.approx({"clean": float(clean), "adversarial": float(robust.mean())}, rel=1e-6)
    assert se["adversarial"] == pytest.approx(float(robust.std()) / 8, rel=1e-6)


def test_prob_margin_of_a_linear_model():
    model, weight, bias, x, y, x_adv = two_classes()
    difference = weight[0] - weight[1]

    def expected(images):
        m = (1 - 2 * y) * (images.flatten(1) @ difference + bias[0] - bias[1])
        return float(torch.tanh(m / 2).mean())  # p - (1 - p) = tanh(m / 2)

    value, _ = measured(model, x, y, "prob_margin")
    assert value == pytest.approx({"clean": expected(x), "adversarial": expected(x_adv)}, rel=1e-6)


def ladder():
    """Logit margins 4 s for images of constant brightness s = 0.30, 0.31 ... 0.70, labels 0."""
    weight = torch.stack([torch.full((D,), 2 / D), torch.full((D,), -2 / D)]).double()
    x = torch.linspace(0.3, 0.7, 41, dtype=torch.float64)[:, None, None, None].expand(41, 1, 4, 4)
    return oracles.linear(weight), x, torch.zeros(41, dtype=torch.int64)


def test_margin_p10_of_evenly_spaced_margins():
    value, _ = measured(*ladder(), "margin_p10")
    assert value == pytest.approx({"clean": 4 * 0.34, "adversarial": 4 * (0.34 - EPS)}, rel=1e-6)


def test_inverse_margin_of_evenly_spaced_margins():
    value, se = measured(*ladder(), "inverse_margin")
    assert value == pytest.approx({"clean": (4 * 0.34) ** -2, "adversarial": (4 * (0.34 - EPS)) ** -2}, rel=1e-6)
    low = 4 * (0.3 + 0.4 * (0.1 - 1.96 * math.sqrt(0.09 / 41)))  # end of gamma's interval, where 1/gamma^2 is steeper
    assert se["clean"] == pytest.approx((low**-2 - (4 * 0.34) ** -2) / 1.96, rel=1e-6)


@pytest.mark.parametrize("name", ["inverse_margin", "path_norm_over_margin", "log_prod_of_spec_over_margin"])
def test_no_error_where_a_sample_does_not_tell_the_margin_from_0(name):
    """Margins 4 (s - 0.32): of 41 images 2 are below 0, so gamma = 0.08, but the lower end of its interval is not."""
    model, x, y = ladder()
    with torch.no_grad():
        model[1].bias = nn.Parameter(torch.tensor([-0.64, 0.64], dtype=torch.float64))
    value, se = measured(model, x, y, name, eps=0.0)
    assert math.isfinite(value["clean"]) and math.isnan(se["clean"])


def test_inverse_margin_is_missing_where_the_percentile_is_negative_and_margin_p10_is_not():
    model, x, y = ladder()
    table = evaluate(model, x, 1 - y, ["inverse_margin", "margin_p10"], eps=EPS).set_index(["measure", "variant"])
    assert table.loc["inverse_margin", "value"].isna().all()
    assert "margin_p10) is not above 0" in table.loc[("inverse_margin", "clean"), "reason"]
    assert table.loc[("margin_p10", "clean"), "value"] == pytest.approx(-4 * 0.66, rel=1e-6)


@pytest.mark.parametrize("q", [0.1, 0.5])
def test_standard_error_of_a_percentile_is_its_spread_over_samples(q):
    sample = oracles.draw(1000, 400, seed=2)
    found = np.array([_margin.quantile(row, q) for row in sample])
    assert np.mean(found[:, 1]) == pytest.approx(np.std(found[:, 0]), rel=0.1)


def segment_through_the_boundary(weight, bias, x):
    """Closed form of the length of the undecided part of each segment, for two classes.

    Along the unit vector between the classes the margin m falls linearly, by L ||w_0 - w_1|| over the 20 steps of
    length L/20 = budget/25, and p_a - p_b = tanh(m / 2) is inside (0, 0.75) for m in (0, 2 artanh 0.75).
    """
    slope = float((weight[0] - weight[1]).norm())
    length = 20 / 25 * 5 * math.sqrt(D / 3072)
    start = (x.flatten(1) @ (weight[0] - weight[1]) + bias[0] - bias[1]).abs()
    top = start.clamp(max=2 * math.atanh(0.75))
    bottom = (start - slope * length).clamp(min=0.0)
    return (top - bottom).clamp(min=0.0) / slope, start > slope * length


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_boundary_thickness_of_a_linear_model_and_the_count_of_segments_that_do_not_cross(shift):
    x, y = oracles.images(400), oracles.labels(400, 2)
    weight = oracles.draw(2, D, seed=5, scale=2.0)
    middle = float((x.flatten(1) @ (weight[0] - weight[1])).mean())
    bias = torch.tensor([shift - middle / 2, middle / 2 - shift], dtype=torch.float64)
    length, short = segment_through_the_boundary(weight, bias, x)
    table = evaluate(oracles.linear(weight, bias), x, y, ["boundary_thickness"], eps=EPS).set_index("variant")
    assert table.loc["clean", "value"] == pytest.approx(float(length.mean()), rel=0.01)
    assert 0 < int(short.sum()) < 400
    assert table.loc["clean", "reason"] == f"note: {int(short.sum())} of 400 segments do not reach the other class"


def test_boundary_thickness_goes_from_the_predicted_class_to_every_other_one():
    """Three classes whose logits differ by direction only: the random target must not be the predicted class."""
    weight = 8 * torch.eye(3, D, dtype=torch.float64)
    x, y = oracles.images(60, low=0.45, high=0.55), oracles.labels(60)
    table = evaluate(oracles.linear(weight), x, y, ["boundary_thickness"], eps=EPS).set_index("variant")
    assert table.loc["clean", "reason"] == ""  # every segment reaches a class that is not its own
    assert table.loc["clean", "value"] > 0


def test_local_lip_of_a_linear_model_is_its_operator_norm():
    first = oracles.draw(D, seed=7)
    model = oracles.linear(torch.stack([first, -0.5 * first]))
    x, y = oracles.images(8), oracles.labels(8, 2)
    value, _ = measured(model, x, y, "local_lip")
    assert value["clean"] == pytest.approx(1.5 * float(first.abs().sum()), rel=1e-6)
    assert value["adversarial"] == pytest.approx(1.5 * float(first.abs().sum()), rel=1e-6)
    value, _ = measured(model, x, y, "local_lip", norm="L2")
    assert value["clean"] == pytest.approx(1.5 * float(first.norm()), rel=0.01)


def test_local_lip_of_a_relu_net_comes_close_to_the_best_corner_of_the_ball():
    """All 2^16 corners of the ball of each 4 x 4 image. Ascent may end in a local maximum, but not far below."""
    model, x, y = oracles.relu_net(), oracles.images(6), oracles.labels(6)
    corners = torch.tensor(list(itertools.product((-EPS, EPS), repeat=D)), dtype=torch.float64).reshape(-1, 1, 4, 4)
    with torch.no_grad():
        quotients = torch.stack([(model(image + corners) - model(image[None])).abs().sum(dim=1) / EPS for image in x])
    value, _ = measured(model, x, y, "local_lip")
    highest = float(quotients.amax(dim=1).mean())
    assert 3 * float(quotients.mean()) < 0.9 * highest  # so the next line tells ascent from chance and from descent
    assert 0.9 * highest <= value["clean"] <= 1.01 * highest


def test_local_lip_keeps_the_best_iterate_and_never_falls_below_its_start():
    """Ascent: on a model where the quotient is largest close to the image, the last iterate is worse than the best."""

    class Saturating(nn.Module):
        def forward(self, x):
            total = x.flatten(1).sum(dim=1, keepdim=True)
            return torch.cat([torch.tanh(2 * (total - 8)), 0 * total], dim=1)

    x = torch.full((1, 1, 4, 4), 0.5, dtype=torch.float64)
    value, _ = measured(Saturating().eval(), x, torch.zeros(1, dtype=torch.int64), "local_lip", eps=0.3)
    last = math.tanh(2 * 16 * 0.3) / 0.3  # at the corner of the ball, where sign ascent would end
    assert value["clean"] > 1.5 * last


def test_x_grad_norm_of_a_linear_model_is_the_mean_of_norms():
    weight, x, y = oracles.draw(3, D, seed=9), oracles.images(30), oracles.labels(30)
    probabilities = (x.flatten(1) @ weight.T).softmax(dim=1)
    gradient = (probabilities - F.one_hot(y, 3)) @ weight
    value, _ = measured(oracles.linear(weight), x, y, "x_grad_norm")
    assert value["clean"] == pytest.approx(float(gradient.norm(dim=1).mean()), rel=1e-9)
    assert value["clean"] > 1.1 * float(gradient.mean(dim=0).norm())  # the norm of the mean gradient is another number
    model, weight, bias, x, y, x_adv = two_classes()
    probabilities = (x_adv.flatten(1) @ weight.T + bias).softmax(dim=1)
    gradient = (probabilities - F.one_hot(y, 2)) @ weight
    assert measured(model, x, y, "x_grad_norm")[0]["adversarial"] == pytest.approx(
        float(gradient.norm(dim=1).mean()), rel=1e-6
    )
