"""Norms of weights, distances from the start and norms over margins against closed forms."""

import copy
import math

import numpy as np
import oracles
import pytest
import torch
from oracles import EPS, measured
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from robustgap.measures import evaluate
from robustgap.measures._norms import log_sum

LOGS = ["log_prod_of_spec", "log_sum_of_spec", "log_prod_of_fro", "log_sum_of_fro"]
OVER_MARGIN = [f"{name}_over_margin" for name in [*LOGS, "path_norm"]]


def matrix(rows, columns, values, seed):
    """A matrix with these singular values."""
    u = torch.linalg.qr(oracles.draw(rows, rows, seed=seed))[0][:, : len(values)]
    v = torch.linalg.qr(oracles.draw(columns, columns, seed=seed + 1))[0][:, : len(values)]
    return u @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ v.T


def set_spectra(model, first, last):
    """Give the convolution and the linear layer of oracles.conv_net these singular values."""
    with torch.no_grad():
        model[0].weight.copy_(matrix(3, 9, first, 1).reshape(3, 1, 3, 3))
        model[5].weight.copy_(matrix(3, 12, last, 3))
    return model


def value(model, name, **options):
    return measured(model, oracles.images(4), oracles.labels(4), name, **options)[0]["none"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("param_norm", 9 + 4 + 1 + 25 + 16 + 0.25),
        ("log_sum_of_spec", math.log(2 * math.sqrt(9 * 25))),
        ("log_sum_of_fro", math.log(2 * math.sqrt(14 * 41.25))),
        ("fro_over_spec", 14 / 9 + 41.25 / 25),
    ],
)
def test_norms_of_known_singular_values(name, expected):
    model = set_spectra(oracles.conv_net(), [3.0, 2.0, 1.0], [5.0, 4.0, 0.5])
    assert value(model, name) == pytest.approx(expected, rel=1e-9)
    with torch.no_grad():  # neither biases nor BatchNorm enter
        for tensor in (model[0].bias, model[1].weight, model[1].bias, model[1].running_var, model[5].bias):
            tensor.mul_(7)
    assert value(model, name) == pytest.approx(expected, rel=1e-9)


def test_a_weight_that_two_layers_share_counts_in_each_of_them_and_once_as_parameters():
    layers = [nn.Linear(4, 4, bias=False, dtype=torch.float64) for _ in range(3)]
    for layer in layers:
        nn.init.eye_(layer.weight)
    layers[2].weight = layers[1].weight
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4, bias=False, dtype=torch.float64), *layers).eval()
    nn.init.zeros_(model[1].weight)
    assert value(model, "param_norm") == 3 * 4
    assert value(model, "num_params") == 64 + 2 * 16


def test_log_sum_is_the_smallest_sum_of_squared_norms_that_rescaling_reaches():
    squares = np.array([2.0, 30.0, 0.5])
    a, b = np.meshgrid(np.exp(np.linspace(-3, 3, 601)), np.exp(np.linspace(-3, 3, 601)))
    reached = squares[0] * a + squares[1] * b + squares[2] / (a * b)
    assert math.log(reached.min()) == pytest.approx(log_sum(np.log(squares)), abs=1e-4)


def test_rescaled_layers_change_sums_and_keep_products():
    """First layer times 3, last by 3: ||W_1||_F^2 = 14 and ||W_2||_F^2 = 41.25 trade a factor 9."""
    model = set_spectra(oracles.conv_net(), [3.0, 2.0, 1.0], [5.0, 4.0, 0.5])
    before = {name: value(model, name) for name in [*LOGS, "log_prod_of_operator", "log_sum_of_operator"]}
    with torch.no_grad():
        model[0].weight.mul_(3)
        model[5].weight.div_(3)
    assert value(model, "param_norm") == pytest.approx(9 * 14 + 41.25 / 9, rel=1e-9)
    assert {name: value(model, name) for name in before} == pytest.approx(before, rel=1e-9)


def stepped():
    """A network, and the initial state from which its two layers and everything else went known ways."""
    model = oracles.conv_net()
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    initial["0.weight"] -= matrix(3, 9, [3.0, 2.0, 1.0], 1).reshape(3, 1, 3, 3)
    initial["5.weight"] -= matrix(3, 12, [5.0, 4.0, 0.5], 3)
    initial["0.bias"] += 1.0  # three biases
    initial["1.weight"] += 2.0  # three scales of BatchNorm
    initial["1.running_var"] += 100.0  # no parameter
    return model, initial


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fro_dist", 14 + 41.25),
        ("dist_spec_init", 9.0 + 25.0),
        ("l2_dist", math.sqrt(14 + 41.25 + 3 * 1.0 + 3 * 4.0)),
    ],
)
def test_distances_from_known_initial_weights(name, expected):
    model, initial = stepped()
    assert value(model, name, initial=initial) == pytest.approx(expected, rel=1e-9)
    assert value(model, name, initial=model.state_dict()) == 0.0
    table = evaluate(model, oracles.images(2), oracles.labels(2), [name], eps=EPS)
    assert table["value"].isna().all()
    assert table["reason"][0] == "no initial weights: the model was not trained here"


@pytest.mark.parametrize("name", ["fro_dist", "dist_spec_init"])
@pytest.mark.parametrize("case", ["parametrized", "pruned", "nan", "inf"])
def test_distances_from_initial_weights_that_cannot_be_compared_are_missing(name, case):
    model = oracles.conv_net()
    if case == "parametrized":
        nn.utils.parametrizations.weight_norm(model[5])
    elif case == "pruned":
        prune.identity(model[5], "weight")
    model.eval()
    initial = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    reason = "parametrized layers: 5.weight is computed from other weights (weight_norm, pruning ...)"
    if case in ("nan", "inf"):
        initial["0.weight"][0, 0, 0, 0] = float(case)
        reason = "1 of 2 layers have initial weights that are not finite"
    table = evaluate(model, oracles.images(2), oracles.labels(2), [name], eps=EPS, initial=initial)
    assert table["value"].isna().all()
    assert table["reason"].tolist() == [reason]


def test_distance_after_one_step_of_gradient_descent_is_that_step():
    model = oracles.relu_net()
    initial = copy.deepcopy(model.state_dict())
    x, y = oracles.images(8), oracles.labels(8)
    gradients = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter -= 0.1 * gradient
    squares = [float((0.1 * gradient).square().sum()) for gradient in gradients]
    assert value(model, "l2_dist", initial=initial) == pytest.approx(math.sqrt(sum(squares)), rel=1e-9)
    assert value(model, "fro_dist", initial=initial) == pytest.approx(squares[0] + squares[2], rel=1e-9)


def by_hand():
    """Two ReLU layers, f(x) = (20 x_1, 6 x_2), on 11 images whose margins are 1, 2 ... 11.

    Their 10th percentile is the second, gamma = 2; the attack takes EPS (20 + 6) from each. Paths: 4^2 5^2 + 2^2 3^2.
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2), nn.ReLU(), nn.Linear(2, 2)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[1].weight[:, :2] = torch.diag(torch.tensor([5.0, 3.0]))
        model[3].weight[:] = torch.diag(torch.tensor([4.0, 2.0]))
    x = torch.zeros(11, *oracles.SHAPE, dtype=torch.float64)
    x[:, 0, 0, 0] = (torch.arange(1, 12) + 0.6) / 20
    x[:, 0, 0, 1] = 0.1
    return model, x, torch.zeros(11, dtype=torch.int64)


@pytest.mark.parametrize(
    ("name", "over"),
    [
        ("log_prod_of_spec_over_margin", lambda square: math.log(25 * 16 / square)),
        ("log_sum_of_spec_over_margin", lambda square: math.log(2 * math.sqrt(25 * 16 / square))),
        ("log_prod_of_fro_over_margin", lambda square: math.log(34 * 20 / square)),
        ("log_sum_of_fro_over_margin", lambda square: math.log(2 * math.sqrt(34 * 20 / square))),
        ("path_norm_over_margin", lambda square: 436 / square),
    ],
)
def test_norms_over_margins_by_hand(name, over):
    gammas = {"clean": 2.0, "adversarial": 2.0 - EPS * 26}
    found, errors = measured(*by_hand(), name)
    assert found == pytest.approx({variant: over(gamma**2) for variant, gamma in gammas.items()}, rel=1e-6)
    # the quantiles of 1 ... 11 are 1 + 10 q; the lower end of the interval of q = 0.1, the farther, is cut off at 0
    changes = {variant: over((gamma - 1) ** 2) - over(gamma**2) for variant, gamma in gammas.items()}
    assert errors == pytest.approx({variant: change / 1.96 for variant, change in changes.items()}, rel=1e-6)


@pytest.mark.parametrize("batch_size", [11, 4])
def test_norms_over_a_negative_margin_are_missing(batch_size):
    model, x, y = by_hand()
    y[:3] = 1
    table = evaluate(model, x, y, OVER_MARGIN, eps=EPS, batch_size=batch_size)
    assert table["value"].isna().all() and len(table) == 10
    assert table["reason"].str.startswith("the 10th percentile of the margin (margin_p10) is not above 0").all()


def test_norms_of_a_zero_layer_are_missing():
    model = oracles.conv_net()
    nn.init.zeros_(model[5].weight)
    names = [*LOGS, "fro_over_spec", "log_prod_of_operator", "log_sum_of_operator"]
    table = evaluate(model, oracles.images(2), oracles.labels(2), names, eps=EPS)
    assert table["value"].isna().all()
    assert table["reason"].str.startswith("1 of 2 layers are zero").all()
