"""Measures of outputs and margins against a closed form or an independent computation, within 1 %."""

import math
from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch
from oracles import EPS, D, measured, two_classes
from scipy import stats
from torch import nn

from robustgap.measures import evaluate
from robustgap.measures._compute import contexts
from robustgap.measures._images import prepare
from robustgap.measures.calibration_error import excess, expected_calibration_error


class Logits(nn.Module):
    """Logits written by hand: image i, of brightness i / 100, gets row i of the table, whatever the attack does."""

    def __init__(self, table):
        super().__init__()
        self.table = torch.as_tensor(table, dtype=torch.float64)
        self.eval()

    def forward(self, x):
        row = (x.flatten(1).mean(dim=1) * 100).round().long().clamp(0, len(self.table) - 1)
        return self.table[row] + 0 * x.flatten(1).sum(dim=1, keepdim=True)


def numbered(n):
    """Images 0 .. n-1 of the hand-made model; an attack with eps = 0.004 cannot move one to the next."""
    return (torch.arange(n, dtype=torch.float64) / 100).reshape(n, 1, 1, 1).expand(n, 1, 4, 4)


def by_hand(table, y, name):
    table = torch.as_tensor(table, dtype=torch.float64)
    return measured(Logits(table), numbered(len(table)), torch.tensor(y), name, eps=0.004)


def margins(weight, bias, x, y):
    """f_y - f_other of a two-class linear model."""
    return (1 - 2 * y) * (x.flatten(1) @ (weight[0] - weight[1]) + bias[0] - bias[1])


def test_logit_margin_of_a_linear_model_falls_by_the_dual_norm_under_attack():
    model, weight, bias, x, y, _ = two_classes()
    m = float(margins(weight, bias, x, y).mean())
    value, _ = measured(model, x, y, "logit_margin")
    fall = EPS * float((weight[0] - weight[1]).abs().sum())
    assert value == pytest.approx({"clean": m, "adversarial": m - fall}, rel=1e-6)


def test_kl_divergence_of_bernoulli_predictions_before_and_after_the_exact_attack():
    model, weight, bias, x, y, x_adv = two_classes()
    p, q = (margins(weight, bias, images, y).sigmoid() for images in (x, x_adv))
    expected = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    value, se = measured(model, x, y, "kl_divergence")
    assert value == pytest.approx({"adversarial": float(expected.mean())}, rel=1e-6)
    assert se["adversarial"] == pytest.approx(float(expected.std()) / 8, rel=1e-6)
    backwards = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
    assert abs(float(backwards.mean()) / value["adversarial"] - 1) > 0.01  # so the line above tells the direction


@pytest.mark.parametrize("target_se", [None, 1e-9])
def test_kl_divergence_adds_no_pass_where_the_clean_logits_are_at_hand(target_se):
    x, y = oracles.images(40), oracles.labels(40)
    names, options = ["average_ce", "kl_divergence"], {"eps": EPS, "batch_size": 16, "target_se": target_se}
    table = evaluate(oracles.relu_net(), x, y, names, **options).set_index(["measure", "variant"])
    assert table["forwards"].tolist() == [40, 40, 0]
    alone = evaluate(oracles.relu_net(), x, y, "kl_divergence", **options).iloc[0]
    assert alone["forwards"] == 80 and alone["value"] == table.loc[("kl_divergence", "adversarial"), "value"]


def test_kl_divergence_takes_the_clean_images_of_a_batch_that_is_not_the_contexts_own():
    model, x, y = oracles.relu_net(), oracles.images(6), oracles.labels(6)
    context = contexts(model, prepare(model, x, y, eps=EPS, adversarial=x + EPS / 2))["adversarial"]
    part = replace(context.batches[0], images=x[:3], clean=x[3:], labels=y[:3])
    assert torch.equal(context.clean_logits(part), model(x[3:]))
    assert torch.equal(context.clean_logits(context.batches[0]), model(x))


def test_target_se_stops_kl_divergence():
    model, x, y = oracles.relu_net(), oracles.images(600), oracles.labels(600)
    row = evaluate(model, x, y, "kl_divergence", eps=EPS, adversarial=x + EPS / 2, target_se=1.0).iloc[0]
    assert row["n"] == 320 and row["reason"] == "note: stopped after 320 of 600 images, standard error at most 1"


def test_output_entropy_by_hand():
    table = [[0, 0, 0, 0], [math.log(3), 0, -1000, -1000], [700, 0, 0, 0]]
    entropies = [math.log(4), math.log(4) - 0.75 * math.log(3), 0.0]
    value, _ = by_hand(table, [0, 0, 0], "output_entropy")
    assert value["clean"] == value["adversarial"] == pytest.approx(sum(entropies) / 3, rel=1e-9)


def test_adversarial_certainty_by_hand_and_of_a_linear_model():
    value, _ = by_hand([[1, 2, 3, 6], [5, 5, 5, 5]], [0, 0], "adversarial_certainty")
    assert value["clean"] == value["adversarial"] == pytest.approx((14 / 4 + 0) / 2, rel=1e-9)  # mean 3: 4 + 1 + 0 + 9
    model, weight, bias, x, y, x_adv = two_classes()
    value, _ = measured(model, x, y, "adversarial_certainty")
    expected = {name: float((margins(weight, bias, at, y) / 2).square().mean()) for name, at in (
        ("clean", x), ("adversarial", x_adv),
    )}  # fmt: skip
    assert value == pytest.approx(expected, rel=1e-6)  # of two logits the variance is the square of half the margin


def test_brier_score_by_hand():
    scores = [2 * 0.25**2, 2 * 0.75**2, 0.0, 2.0]  # p = 3/4 right, p = 3/4 wrong, certain and right, certain and wrong
    table = [[math.log(3), 0], [math.log(3), 0], [700, 0], [700, 0]]
    value, se = by_hand(table, [0, 1, 0, 1], "brier_score")
    assert value["clean"] == value["adversarial"] == pytest.approx(np.mean(scores), rel=1e-9)
    assert se["clean"] == pytest.approx(np.std(scores, ddof=1) / 2, rel=1e-9)


def test_calibration_error_by_hand():
    """Confidences 0.75 (4 images, half right), 0.9 (2 images, all right) and 0.65 (1 image, wrong)."""
    odds = [3.0] * 4 + [9.0] * 2 + [0.65 / 0.35]
    table = [[math.log(odd), 0] for odd in odds]
    value, _ = by_hand(table, [0, 0, 1, 1, 0, 0, 1], "calibration_error")
    expected = (4 * abs(0.5 - 0.75) + 2 * abs(1 - 0.9) + 1 * abs(0 - 0.65)) / 7
    assert value["clean"] == value["adversarial"] == pytest.approx(expected, rel=1e-9)


def test_calibration_error_bins_are_open_below_and_closed_above():
    pairs = torch.tensor([[1 / 3, 1], [1 / 3 + 1e-9, 0], [1.0, 1], [1e-12, 0]], dtype=torch.float64)
    # 1/3 = 5/15 closes the fifth bin, so the two neighbours do not cancel
    assert expected_calibration_error(pairs)[0] == pytest.approx((2 / 3 + 1 / 3) / 4, abs=1e-9)


def test_standard_error_of_the_calibration_error_is_its_spread_over_samples():
    """Confidence uniform in [0.5, 1], and everything right a tenth more rarely than it says."""
    generator = torch.Generator().manual_seed(3)
    confidence = 0.5 + 0.5 * torch.rand(400, 2000, generator=generator, dtype=torch.float64)
    correct = (torch.rand(400, 2000, generator=generator, dtype=torch.float64) < confidence - 0.1).double()
    found = np.array([expected_calibration_error(pairs) for pairs in torch.stack([confidence, correct], dim=2)])
    assert np.mean(found[:, 0]) == pytest.approx(0.1, rel=0.02)
    assert np.mean(found[:, 1]) == pytest.approx(np.std(found[:, 0]), rel=0.1)


def test_excess_of_a_bin_is_that_of_the_folded_normal_distribution():
    gap, error = torch.tensor([[0.5, 0.2, 0.2, 0.0], [0.3, 0.3, 0.0, 0.0]], dtype=torch.float64)
    expected = [stats.foldnorm.mean(0.4 / 0.3, scale=0.3) - 0.4, 0.3 * math.sqrt(2 / math.pi), 0.0, 0.0]
    assert excess(gap, error).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_error_of_the_calibration_error_holds_the_excess_of_nearly_calibrated_bins():
    """A bin of 4 images with a gap of 0.25, less than its error, so that its true gap counts as 0; a bin of one image,
    whose spread is that of its confidence; and one without error, for its confidence is 1."""
    pairs = torch.tensor([[0.75, 1], [0.75, 1], [0.75, 0], [0.75, 0], [0.5, 1], [1 + 1e-15, 1]], dtype=torch.float64)
    value, se = expected_calibration_error(pairs)
    z = np.array([-0.25, -0.25, 0.75, 0.75, 0.5, 0.0])
    bias = (4 * math.sqrt(2 / math.pi * (1 / 3) / 4) + 1 * math.sqrt(2 / math.pi) * 0.5) / 6
    assert value == pytest.approx(z.mean(), rel=1e-9)
    assert se == pytest.approx(math.hypot(z.std(ddof=1) / math.sqrt(6), bias), rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_boundary_unreached_of_a_linear_model(shift):
    """Of two classes, the segment falls short where the margin exceeds what 20 steps of budget/25 can take from it."""
    x, y = oracles.images(400), oracles.labels(400, 2)
    weight = oracles.draw(2, D, seed=5, scale=2.0)
    middle = float((x.flatten(1) @ (weight[0] - weight[1])).mean())
    bias = torch.tensor([shift - middle / 2, middle / 2 - shift], dtype=torch.float64)
    reach = 20 / 25 * 5 * math.sqrt(D / 3072) * (weight[0] - weight[1]).norm()
    short = (margins(weight, bias, x, torch.zeros(400)).abs() > reach).double()
    model = oracles.linear(weight, bias)
    value, se = measured(model, x, y, "boundary_unreached")
    assert 0 < float(short.mean()) < 1
    assert value["clean"] == pytest.approx(float(short.mean()), rel=1e-9)
    assert se["clean"] == pytest.approx(float(short.std()) / 20, rel=1e-9)
    alone = evaluate(model, x, y, ["boundary_thickness"], eps=EPS)["value"].tolist()
    both = evaluate(model, x, y, ["boundary_unreached", "boundary_thickness"], eps=EPS)["value"].tolist()
    assert both[2:] == alone  # computed once for both


@pytest.mark.parametrize("own", range(4))
def test_the_other_class_of_a_segment_is_each_of_the_rest_equally_often_and_never_the_own(own):
    """Four classes that all segments reach but one of logit -100: the share of images whose target it is. Over the
    three classes in its place the shares add up to 1, because every image has one target, and not its own class."""
    n, x = 600, oracles.images(600, low=0.45, high=0.55)
    x[:, 0, own // 4, own % 4] = 0.6  # so that this class is predicted
    shares = []
    for closed in (k for k in range(4) if k != own):
        bias = torch.zeros(4, dtype=torch.float64)
        bias[closed] = -100.0
        model = oracles.linear(8 * torch.eye(4, D, dtype=torch.float64), bias)
        assert (model(x).argmax(dim=1) == own).all()
        shares.append(measured(model, x, oracles.labels(n), "boundary_unreached")[0]["clean"])
    assert sum(shares) == pytest.approx(1.0, rel=1e-9)
    assert shares == pytest.approx(3 * [1 / 3], abs=4 * math.sqrt(2 / 9 / n))
