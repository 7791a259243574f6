"""Boundary thickness on segments that cross: closed forms of linear models."""

import math

import oracles
import pytest
import torch
from oracles import EPS, D, measured

from robustgap.measures import evaluate

REACH = 20 / 25 * 5 * math.sqrt(D / 3072)  # of the first budget; images stay inside the box up to 4 times as far


def two_classes(spread):
    """Two classes whose margin is slope * distance, with distances over REACH spread evenly over (0, spread)."""
    n = 40
    direction = torch.ones(D, dtype=torch.float64) / math.sqrt(D)
    x = torch.full((n, 1, 4, 4), 0.5, dtype=torch.float64) + oracles.draw(n, 1, 4, 4, seed=1, scale=1e-3)
    distance = REACH * spread * (torch.arange(n) + 0.5).double() / n
    x += ((distance - x.flatten(1) @ direction + 2.0)[:, None] * direction).reshape(x.shape)
    return direction, x.clamp(0, 1), distance


@pytest.mark.parametrize("slope", [2.0, 6.0, 40.0])
@pytest.mark.parametrize("spread", [0.9, 3.9])
def test_of_a_linear_model_it_is_the_way_from_the_boundary_to_certainty(slope, spread):
    """p_a - p_b = tanh(m / 2) at margin m = slope * distance: below 0.75 for a length of 2 artanh(0.75) / slope, or the
    whole way to the image where that is shorter, whatever the budget was."""
    direction, x, distance = two_classes(spread)
    half = slope / 2 * direction
    model = oracles.linear(torch.stack([half, -half]), torch.tensor([-slope, slope], dtype=torch.float64))
    assert torch.allclose((model(x) @ torch.tensor([1.0, -1.0]).double()) / slope, distance)
    lengths = distance.clamp(max=2 * math.atanh(0.75) / slope)
    value, se = measured(model, x, oracles.labels(len(x), 2), "boundary_thickness_crossing")
    step = 2 * REACH * spread / 127  # of the points on the longest segment
    assert value["clean"] == pytest.approx(float(lengths.mean()), abs=step)
    assert se["clean"] == pytest.approx(float(lengths.std()) / math.sqrt(len(x)), abs=step / 6)
    both = evaluate(model, x, oracles.labels(len(x), 2), ["boundary_thickness", "boundary_unreached"], eps=EPS)
    unreached = both[(both["measure"] == "boundary_unreached") & (both["variant"] == "clean")]["value"].item()
    assert unreached == pytest.approx(float((distance > REACH).double().mean()), abs=1 / 40 + 1e-9)
    if spread < 1:  # all cross at the first budget: the published form
        assert both[both["measure"] == "boundary_thickness"]["value"].tolist()[0] == pytest.approx(value["clean"])


def test_images_that_no_budget_moves_are_left_out_and_counted():
    """Of three classes one has a logit of -1000: who is sent there never arrives."""
    name = "boundary_thickness_crossing"
    x = oracles.images(60, low=0.45, high=0.55)
    weight = 8 * torch.eye(3, D, dtype=torch.float64)
    closed = oracles.linear(weight, torch.tensor([0.0, 0.0, -1000.0], dtype=torch.float64))
    found = evaluate(closed, x, oracles.labels(60), [name, "boundary_unreached"], eps=EPS).set_index(
        ["measure", "variant"]
    )
    lost = round(60 * found.loc[("boundary_unreached", "clean"), "value"])
    assert 0 < lost < 60
    row = found.loc[(name, "clean")]
    assert row["reason"] == f"note: {lost} of 60 segments reach the other class with no budget: left out"
    never = oracles.linear(0 * weight, torch.tensor([0.0, -1000.0, -1000.0], dtype=torch.float64))
    told = evaluate(never, x, oracles.labels(60), name, eps=EPS)["reason"]
    assert (told == "none of 60 segments reaches the other class, with 16 times the budget").all()
