"""`target_se`: a random sample of the images, until the standard error is small enough."""

import math
from itertools import pairwise

import oracles
import pytest
import torch
from oracles import N
from torch import nn

from robustgap.measures import evaluate
from robustgap.measures._images import ORDER_STREAM
from robustgap.training import keyed

EPS = 0.05


def test_target_se_takes_a_random_sample_until_the_error_is_small_enough(model):
    """Images: the first ones in an order drawn by identity. Numbers: those of the sample alone."""
    x, y = oracles.images(500, low=0.0, high=1.0), oracles.labels(500)
    whole = evaluate(model, x, y, "average_ce", eps=EPS, batch_size=500)
    target = 1.3 * whole["se"].max()
    found = evaluate(model, x, y, ["average_ce", "margin_p10"], eps=EPS, target_se=target).set_index(
        ["measure", "variant"]
    )
    assert found.loc["margin_p10", "n"].tolist() == [500, 500]  # no mean
    for variant in ("clean", "adversarial"):
        row = found.loc[("average_ce", variant)]
        assert row["se"] <= target and row["n"] in (320, 384, 448)
        assert row["reason"] == f"note: stopped after {row['n']} of 500 images, standard error at most {target:g}"
    order = keyed.bits(0, ORDER_STREAM, torch.arange(500), 1)[:, 0].argsort()
    n = int(found.loc[("average_ce", "clean"), "n"])
    with torch.no_grad():
        losses = torch.nn.functional.cross_entropy(model(x[order[:n]]), y[order[:n]], reduction="none")
    assert (losses.mean(), losses.std() / n**0.5) == pytest.approx(
        found.loc[("average_ce", "clean"), ["value", "se"]].tolist(), rel=1e-12
    )
    small = [losses[:look].std() / look**0.5 <= target for look in range(256, n + 1, 64)]
    assert small[-2:] == [True, True] and not any(one and two for one, two in pairwise(small[:-1]))
    again = evaluate(model, x.flip(0), y.flip(0), "average_ce", eps=EPS, target_se=target, batch_size=7,
                     index=torch.arange(500).flip(0))  # fmt: skip
    assert again["value"].tolist() == pytest.approx(found.loc["average_ce", "value"].tolist(), rel=1e-6)
    assert again["n"].tolist() == found.loc["average_ce", "n"].tolist()


def test_a_target_out_of_reach_takes_all_images(model, data):
    table = evaluate(model, *data, "average_ce", eps=EPS, target_se=1e-9)
    assert table["n"].tolist() == [N, N]
    assert table["reason"].tolist() == ["", ""]


class Rare(nn.Module):
    """Two classes; the loss of class 0 is nearly 0, but log 2 for a bright first pixel."""

    def forward(self, x):
        lead = 20.0 * (x.flatten(1)[:, :1] < 0.9)
        return torch.cat([lead, 0 * lead], dim=1)


def test_equal_numbers_are_no_reason_to_stop():
    """So far all images may be alike by chance: here the 3 of 500 that are not come last."""
    x, y = oracles.images(500, low=0.0, high=0.8), torch.zeros(500, dtype=torch.int64)
    last = keyed.bits(0, ORDER_STREAM, torch.arange(500), 1)[:, 0].argsort()[-3:]
    x[last, 0, 0, 0] = 1.0
    row = evaluate(Rare().eval(), x, y, "average_ce", eps=0, target_se=0.01).iloc[0]
    assert row["n"] == 500 and row["value"] == pytest.approx(3 * math.log(2) / 500, rel=1e-6)
