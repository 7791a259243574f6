"""PAC-Bayes measures: the scale of noise against a normal distribution and an exact search, bounds term by term."""

import math
from statistics import NormalDist

import numpy as np
import oracles
import pytest
import torch
from oracles import EPS, measured, two_classes
from torch import nn

from robustgap.measures import _pacbayes, evaluate
from robustgap.measures._compute import compute, contexts
from robustgap.measures._images import prepare
from robustgap.measures.core import load
from robustgap.training import keyed

Z = NormalDist().inv_cdf(0.9)  # the noise that turns a tenth of the labels


def one_pixel_each(margin, side=20):
    """Image i is 1 in pixel i and 0 elsewhere; label i % 2 wins by `margin`. Noise turns each image by itself."""
    d = side * side
    y = torch.arange(d) % 2
    weight = torch.where(y == torch.arange(2)[:, None], margin / 2, -margin / 2).double()
    return oracles.linear(weight), torch.eye(d, dtype=torch.float64).reshape(d, 1, side, side), y


def test_pacbayes_flat_is_the_noise_that_turns_a_tenth_of_the_labels(monkeypatch):
    """The margin gets noise of variance 2 sigma^2, so a tenth turns at margin / (sqrt(2) sigma) = Z."""
    monkeypatch.setattr(_pacbayes, "DRAWS", 300)
    monkeypatch.setattr(_pacbayes, "STEPS", 14)
    model, x, y = one_pixel_each(0.5)
    table = evaluate(model, x, y, ["pacbayes_flat"], eps=0, adversarial=x, batch_size=400).set_index("variant")
    assert table.loc["clean", "value"] ** -0.5 == pytest.approx(0.5 / (2**0.5 * Z), rel=0.01)


def test_pacbayes_mag_flat_has_noise_in_proportion_to_the_weights_and_a_floor(monkeypatch):
    """Weights are +-m/2, so the variance of a margin is 2 (sigma^2 m^2 / 4 + e^2); a floor of 0.05 is seen."""
    monkeypatch.setattr(_pacbayes, "DRAWS", 300)
    monkeypatch.setattr(_pacbayes, "STEPS", 14)
    monkeypatch.setattr(_pacbayes, "EPSILON", 0.05)
    model, x, y = one_pixel_each(0.5)
    table = evaluate(model, x, y, ["pacbayes_mag_flat"], eps=0, adversarial=x, batch_size=400).set_index("variant")
    expected = math.sqrt((0.5 / Z) ** 2 / 2 - 0.05**2) / 0.25
    assert table.loc["clean", "value"] ** -0.5 == pytest.approx(expected, rel=0.01)


def crossing(weight, bias, images, y):
    """The sigma at which a tenth of the (image, draw) pairs has turned, for the measure's own draws, by sorting.

    The margin of image i at draw j is m_i + sigma u_ij, so it turns at sigma = -m_i / u_ij, one way or the other.
    """
    sign, x = 1 - 2 * y.double(), images.flatten(1)
    margin = sign * (x @ (weight[0] - weight[1]) + bias[0] - bias[1])
    turns = []
    for draw in range(10):  # 5 and their opposites
        noise = (-1) ** draw * keyed.normal(0, _pacbayes.STREAM, torch.tensor([draw // 2]), weight.shape)[0]
        u = sign * (x @ (noise[0] - noise[1]))
        at = -margin / u
        turns += [(float(s), int(k)) for s, k in zip(at, torch.sign(margin), strict=True) if s > 0]
    turned, wanted = 0, 0.1 * 10 * len(y)
    for sigma, change in sorted(turns):
        turned += change
        if turned >= wanted:
            return sigma
    raise AssertionError("never a tenth")


def test_pacbayes_flat_of_a_linear_model_is_where_its_own_draws_turn_a_tenth():
    model, weight, bias, x, y, x_adv = two_classes(scale=3.0)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    value, _ = measured(model, x, y, "pacbayes_flat", adversarial=x_adv, batch_size=10)
    expected = {k: crossing(weight, bias, images, y) ** -2 for k, images in (("clean", x), ("adversarial", x_adv))}
    assert value == pytest.approx(expected, rel=0.01)


NAMES = [
    "pacbayes_flat",
    "pacbayes_orig",
    "pacbayes_init",
    "pacbayes_mag_flat",
    "pacbayes_mag_orig",
    "pacbayes_mag_init",
]


def trained():
    """A small net, images that it classifies right, and an initial state."""
    model, x = oracles.conv_net(scale=4.0), oracles.images(40, low=0.0, high=1.0)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    return model, x, y, oracles.conv_net(seed=7).state_dict()


def test_pacbayes_bounds_term_by_term_for_the_sigma_of_the_search():
    model, x, y, initial = trained()
    table = evaluate(model, x, y, NAMES, eps=EPS, initial=initial).set_index(["measure", "variant"])["value"]
    w = torch.cat([model[0].weight.flatten(), model[5].weight.flatten()]).tolist()
    d = [a - b for a, b in zip(w, [*initial["0.weight"].flatten(), *initial["5.weight"].flatten()], strict=True)]
    d = [float(a) for a in d]
    for variant in ("clean", "adversarial"):
        s, m = (table[name, variant] ** -0.5 for name in ("pacbayes_flat", "pacbayes_mag_flat"))
        for name, reference in (("init", d), ("orig", w)):
            squares = sum(a * a for a in reference)
            plain = squares / (4 * s * s) + math.log(40 / s) + 10
            assert table[f"pacbayes_{name}", variant] == pytest.approx(plain, rel=1e-9)
            above = 1e-6 + (m * m + 1) * squares / len(w)
            terms = [math.log(above / (1e-6 + m * m * a * a)) for a in d]
            magnitude = sum(terms) / 4 + math.log(40 / m) + 10
            assert table[f"pacbayes_mag_{name}", variant] == pytest.approx(magnitude, rel=1e-9)


def test_noise_spares_biases_and_normalisation():
    assert list(_pacbayes.perturbed_weights(oracles.conv_net())) == ["0.weight", "5.weight"]


def test_the_search_is_made_once_for_all_measures_that_share_a_context():
    model, x, y, initial = trained()
    data = prepare(model, x, y, eps=EPS, adversarial=x, initial=initial)
    shared = contexts(model, data)
    rows = {name: compute(load(name), model, data, "clean", shared) for name in NAMES}
    assert {name: row.forwards for name, row in rows.items()} == {
        "pacbayes_flat": 40 * (1 + 12 * 10),
        "pacbayes_orig": 0,
        "pacbayes_init": 0,
        "pacbayes_mag_flat": 40 * 12 * 10,
        "pacbayes_mag_orig": 0,
        "pacbayes_mag_init": 0,
    }
    alone = compute(load("pacbayes_init"), model, data, "clean")
    assert (alone.value, alone.se) == (rows["pacbayes_init"].value, rows["pacbayes_init"].se)


def reasons(model, x, y, **options):
    return set(evaluate(model, x, y, ["pacbayes_flat"], eps=0, adversarial=x, **options)["reason"])


def test_pacbayes_says_why_there_is_no_sigma(monkeypatch):
    model, _, _, x, y, _ = two_classes(scale=3.0)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    assert reasons(model, x, 1 - y) == {"accuracy 0.000 cannot fall by 0.1"}
    steady = oracles.linear(torch.full((2, 16), 1e-9).double(), torch.tensor([1e9, 0.0]).double())
    assert reasons(steady, x, 0 * y) == {"accuracy does not fall by 0.1 for any sigma up to 10"}
    shaky = oracles.linear(1e-9 * torch.eye(2, 16).double())
    assert reasons(shaky, x, (x[:, 0, 0, 0] < x[:, 0, 0, 1]).long()) == {
        "accuracy falls by more than 0.1 even at sigma = 0.0001"
    }
    monkeypatch.setattr(_pacbayes, "DRAWS", 2)  # one draw, or its opposite, turns all of these equal images at once
    (reason,) = reasons(model, x[:1].expand(9, -1, -1, -1), y[:1].expand(9), seed=2)
    assert reason.startswith("the search for sigma did not converge: accuracy falls by 0.000 or 0.500 on either side")
    no_weights = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten()).double().eval()
    assert reasons(no_weights, x, y) == {"the model has no weights besides biases and normalisation"}


def test_standard_error_of_pacbayes_flat_covers_its_spread_over_seeds_and_images():
    model, _, _, _, _, _ = two_classes(scale=3.0)
    values, errors = [], []
    for seed in range(50):
        x = oracles.images(64, seed=seed)
        with torch.no_grad():
            y = model(x).argmax(dim=1)
        table = evaluate(model, x, y, ["pacbayes_flat"], eps=0, adversarial=x, seed=seed).set_index("variant")
        values.append(table.loc["clean", "value"] ** -0.5)
        errors.append(table.loc["clean", "se"] / table.loc["clean", "value"] / 2 * values[-1])
    deviation = np.abs(np.array(values) - np.median(values))
    assert np.mean(deviation <= 1.96 * np.array(errors)) >= 0.9
    assert np.median(errors) < 2 * np.std(values)
