"""Measures of distance in the input against a closed form or an independent computation, within 1 %."""

import numpy as np
import oracles
import pytest
import torch
from oracles import EPS, D, measured, two_classes
from scipy.stats import weibull_max
from torch import nn
from torch.nn import functional as F

from robustgap.measures import evaluate
from robustgap.measures._reverse_weibull import endpoint


def margins(weight, bias, x, y):
    """f_y - f_other of a two-class linear model."""
    return (1 - 2 * y) * (x.flatten(1) @ (weight[0] - weight[1]) + bias[0] - bias[1])


def unequal(classes, seed=5):
    """A linear model whose classes differ in scale, 40 images with the labels it gives them but for every fifth, and
    the exact distances from the boundary in both norms: min_k (f_y - f_k) / ||w_y - w_k||_q, 0 where misclassified.
    The nearest class is not the second logit for at least 5 images."""
    weight, bias = oracles.draw(classes, D, seed=seed), oracles.draw(classes, seed=seed + 1, scale=0.1)
    weight *= 3.0 * torch.logspace(-0.5, 0.5, classes, dtype=torch.float64)[:, None]
    x = oracles.images(40, low=0.4, high=0.6)
    bias = bias - (x.flatten(1) @ weight.T).mean(dim=0)  # every class is somewhere the largest
    logits = x.flatten(1) @ weight.T + bias
    y = logits.argmax(dim=1)
    y[::5] = (y[::5] + 1) % classes
    lead = logits.gather(1, y[:, None]) - logits
    lead[torch.arange(40), y] = torch.inf
    slopes = {norm: (weight[y][:, None] - weight).norm(p=q, dim=2) for norm, q in (("Linf", 1), ("L2", 2))}
    away = {norm: lead / slope.clamp_min(1e-9) for norm, slope in slopes.items()}
    exact = {norm: distance.amin(dim=1).clamp_min(0.0) for norm, distance in away.items()}
    assert (exact["Linf"] == 0).sum() == 8
    for distance in away.values():
        assert ((distance.argmin(dim=1) != lead.argmin(dim=1)) & (distance.amin(dim=1) > 0)).sum() >= 5
    return oracles.linear(weight, bias), x, y, exact


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize(
    ("name", "tolerance"), [("linear_distance", 1e-9), ("minimum_distance", 0.01), ("clever", 1e-9)]
)
def test_distances_of_a_linear_model_are_the_exact_ones(name, norm, tolerance):
    model, x, y, exact = unequal(3 if name == "minimum_distance" else 10)  # FAB looks at 3 other classes
    table = evaluate(model, x, y, [name], eps=EPS, norm=norm).set_index("variant")
    assert table.loc["clean", "value"] == pytest.approx(float(exact[norm].mean()), rel=tolerance)
    assert table.loc["clean", "se"] == pytest.approx(float(exact[norm].std()) / len(x) ** 0.5, rel=tolerance)


@pytest.mark.parametrize("name", ["linear_distance", "clever"])
def test_of_twelve_classes_the_nearest_of_the_nine_others_of_largest_logit_counts(name):
    """f_k = s_k (x_k - 0.5) - 0.1 k at x = 0.5: class k is 0.1 k behind and 0.1 k / s_k away. The ninth is steep, hence
    0.009 away; the tenth and eleventh, steeper still and 0.001 away, are not looked at."""
    steep = torch.tensor([0.0] + 8 * [1.0] + [100.0, 1000.0, 1100.0], dtype=torch.float64)
    model = oracles.linear(F.pad(torch.diag(steep), (0, D - 12)), -0.5 * steep - 0.1 * torch.arange(12).double())
    x, y = torch.full((2, 1, 4, 4), 0.5, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    assert measured(model, x, y, name, eps=0.0001)[0]["clean"] == pytest.approx(0.9 / 100, rel=1e-9)


@pytest.mark.parametrize("name", ["linear_distance", "clever"])
def test_a_steep_class_far_behind_is_nearer_than_a_flat_one_close_behind(name):
    """f = (0, x_0 - 1.5, 100 x_1 - 51.5) at x = 0.5: class 1 is 1 behind and 1 away, class 2 is 1.5 behind and 0.015
    away."""
    weight = torch.zeros(3, D, dtype=torch.float64)
    weight[1, 0], weight[2, 1] = 1.0, 100.0
    model = oracles.linear(weight, torch.tensor([0.0, -1.5, -51.5], dtype=torch.float64))
    x, y = torch.full((2, 1, 4, 4), 0.5, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    assert measured(model, x, y, name, eps=0.004)[0]["clean"] == pytest.approx(0.015, rel=1e-9)


def test_what_an_attack_has_left_of_the_distance():
    """Under an Linf attack the distance of a two-class linear model falls by eps, down to 0."""
    model, weight, bias, x, y, x_adv = two_classes()
    left = margins(weight, bias, x_adv, y).clamp_min(0) / (weight[0] - weight[1]).abs().sum()
    assert 0 < float((left > 0).double().mean()) < 1
    for name, tolerance in (("linear_distance", 1e-6), ("clever", 1e-6), ("minimum_distance", 0.01)):
        assert measured(model, x, y, name)[0]["adversarial"] == pytest.approx(float(left.mean()), rel=tolerance)


def test_minimum_distance_keeps_to_the_box():
    """Linf, two classes, linear: the margin falls by sum_j |w_j| min(eps, room_j), where room_j is what the box leaves
    pixel j in the direction of the attack. The smallest eps that takes all of it, by bisection."""
    weight, bias = oracles.draw(2, D, seed=5), torch.tensor([3.0, 0.0], dtype=torch.float64)
    x, y = oracles.images(40, low=0.0, high=0.3), torch.zeros(40, dtype=torch.int64)
    w = weight[0] - weight[1]
    room = torch.where(w < 0, 1 - x.flatten(1), x.flatten(1))
    low, high = torch.zeros(40, dtype=torch.float64), torch.ones(40, dtype=torch.float64)
    for _ in range(40):
        middle = (low + high) / 2
        safe = margins(weight, bias, x, y) > (w.abs() * torch.minimum(middle[:, None], room)).sum(dim=1)
        low, high = torch.where(safe, middle, low), torch.where(safe, high, middle)
    model = oracles.linear(weight, bias)
    value = measured(model, x, y, "minimum_distance")[0]["clean"]
    assert value == pytest.approx(float(high.mean()), rel=0.01)
    assert value > 1.03 * measured(model, x, y, "linear_distance")[0]["clean"]  # which does not see the box


def test_minimum_distance_of_a_relu_net_on_two_pixels_is_that_of_a_fine_grid():
    model = oracles.set_weights(
        nn.Sequential(nn.Flatten(), nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 3)).double(), seed=3, scale=3.0
    )
    axis = torch.linspace(0, 1, 1201, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    x = torch.rand(24, 1, 1, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        classes, y = model(grid).argmax(dim=1), model(x).argmax(dim=1)
    assert len(classes.unique()) == 3
    for norm, p in (("Linf", torch.inf), ("L2", 2)):
        away = ((grid[classes != label] - image.flatten()) for image, label in zip(x, y, strict=True))
        lengths = [difference.norm(p=p, dim=1).min() for difference in away]
        value = measured(model, x, y, "minimum_distance", norm=norm)[0]["clean"]
        assert value == pytest.approx(float(torch.stack(lengths).mean()), rel=0.01)


def test_images_whose_class_cannot_be_changed_are_left_out_and_counted():
    """f_0 - f_1 = 10 x_0 - 2, with a boundary at x_0 = 0.2; then 10 x_0 + 2, with none in the box."""
    weight = torch.zeros(2, D, dtype=torch.float64)
    weight[0, 0] = 10.0
    x = torch.full((4, 1, 4, 4), 0.5, dtype=torch.float64)
    x[:2, 0, 0, 0], x[2:, 0, 0, 0] = 0.3, 0.1
    reachable = oracles.linear(weight, torch.tensor([0.0, 2.0], dtype=torch.float64))
    y = torch.tensor([0, 0, 1, 0])  # 0.1 from the boundary at 0.2; the last one is on the wrong side of it
    row = evaluate(reachable, x, y, ["minimum_distance"], eps=0).set_index("variant").loc["clean"]
    assert (row["value"], row["reason"]) == (pytest.approx(0.3 / 4, rel=0.01), "")
    never = oracles.linear(weight, torch.tensor([2.0, 0.0], dtype=torch.float64))
    row = evaluate(never, x, y, ["minimum_distance"], eps=0).set_index("variant").loc["clean"]
    assert row["reason"] == "the attack changed the class of no correctly classified image"


class OneOfTwo(nn.Module):
    """Class 0 where pixel 0 is below 0.5; where pixel 1 is above 0.5, always class 0, whatever pixel 0 is."""

    def forward(self, x):
        first, second = x.flatten(1)[:, 0], x.flatten(1)[:, 1]
        score = torch.where(second > 0.5, 1.0 + 0 * first, 0.5 - first)
        return torch.stack([score, 0 * first], dim=1)


def test_the_rest_of_the_mean_where_the_attack_fails_on_some_images():
    x = torch.tensor([[0.2, 0.1], [0.3, 0.1], [0.2, 0.9]], dtype=torch.float64).reshape(3, 1, 1, 2)
    y = torch.zeros(3, dtype=torch.int64)
    row = evaluate(OneOfTwo().eval(), x, y, ["minimum_distance"], eps=0).set_index("variant").loc["clean"]
    assert row["value"] == pytest.approx((0.3 + 0.2) / 2, rel=0.01)
    told = "note: 1 of 3 could not be moved to another class and are left out"
    assert row["reason"] == f"{told}; gradient masking: the input gradient of 33% of images is 0"


@pytest.mark.parametrize(("shape", "size"), [(3.0, 64), (2.0, 200), (8.0, 64)])
def test_weibull_endpoints_are_those_of_scipy(shape, size):
    samples = weibull_max.rvs(shape, loc=5, scale=1, size=(4, size), random_state=1)
    found, there = endpoint(torch.tensor(samples))
    for sample, value in zip(samples, found.tolist(), strict=True):
        loc = weibull_max.fit(sample, shape, loc=sample.max() + 0.1, scale=1)[1]
        assert value - sample.max() == pytest.approx(loc - sample.max(), rel=0.03)
        assert value == pytest.approx(loc, rel=0.005)
    assert there.all()


def test_a_sample_without_an_endpoint_gives_its_maximum():
    """Numbers that agree, numbers whose right tail grows longer, as no law with an endpoint has it, and numbers that
    crowd at their maximum, where the likelihood is largest for an endpoint at the maximum itself."""
    tail = torch.linspace(0, 4, 16).exp()
    samples = torch.stack([torch.full((16,), 2.0), tail, -tail]).double()
    found, there = endpoint(samples)
    assert found.tolist() == samples.amax(dim=1).tolist()
    assert not there.any()


class Bowl(nn.Module):
    """f_0 - f_1 = 2 - x_0^2 - x_1^2 in the first two pixels: the L1 norm of its slope is 2 (x_0 + x_1)."""

    def forward(self, x):
        square = x.flatten(1)[:, :2].square().sum(dim=1)
        return torch.stack([2 - square, 0 * square], dim=1)


def test_clever_finds_the_largest_slope_in_the_ball_without_looking_at_its_border():
    """The largest slope is that of a corner, of which the steepest of 64 points falls short by 6 %."""
    x = oracles.images(64, low=0.3, high=0.6)
    pixels = x.flatten(1)[:, :2]
    exact = (2 - pixels.square().sum(dim=1)) / (2 * (pixels + 0.25).sum(dim=1))
    table = evaluate(Bowl().eval(), x, torch.zeros(64, dtype=torch.int64), ["clever"], eps=0.25).set_index("variant")
    assert table.loc["clean", "value"] == pytest.approx(float(exact.mean()), rel=0.01)
    assert np.isfinite(table.loc["clean", "se"])


def test_clever_says_how_many_images_have_no_endpoint():
    model, weight, bias, x, y, _ = two_classes()
    right = int((margins(weight, bias, x, y) > 0).sum())
    reason = evaluate(model, x, y, ["clever"], eps=EPS)["reason"][0]
    assert reason == f"note: {right} of 64 have no Weibull endpoint: their largest gradient is taken"
