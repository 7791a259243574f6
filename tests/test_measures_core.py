"""What is common to all measures: averaging, counting, missing values, and `evaluate` itself."""

import math
from dataclasses import replace
from itertools import pairwise

import oracles
import pytest
import torch
from torch import nn

from measures import _context, evaluate
from measures._code import names
from measures._compute import compute, contexts
from measures._data import ORDER_STREAM, attack, prepare
from measures.core import Missing, load, mean, measure, select
from training import keyed
from training.outcomes import OUTCOME_ATTACKS

EPS = 0.05
N = 20


@pytest.fixture(scope="module")
def model():
    return oracles.conv_net()


@pytest.fixture(scope="module")
def data():
    return oracles.images(N, low=0.0, high=1.0), oracles.labels(N)


def test_a_measure_that_fails_is_recorded_and_does_not_lose_the_others(data):
    table = evaluate(oracles.Faulty("no_gradient"), *data, ["x_grad_norm", "average_ce", "num_params"], eps=EPS)
    table = table.set_index(["measure", "variant"])
    assert table.loc[("x_grad_norm", "clean"), "reason"] == "RuntimeError: this model has no gradient"
    assert "no adversarial images" in table.loc[("average_ce", "adversarial"), "reason"]
    assert table.loc[("average_ce", "clean"), "value"] > 0
    assert table.loc[("num_params", "none"), "value"] == 3 * 17


def test_forwards_are_counted_per_image_with_a_backward_pass_as_two(model, data):
    prepared = prepare(model, *data, eps=EPS, batch_size=8)
    assert compute(load("average_ce"), model, prepared, "clean").forwards == N
    assert compute(load("x_grad_norm"), model, prepared, "clean").forwards == 3 * N
    points = 126  # of 128: the ends are known
    assert compute(load("boundary_thickness"), model, prepared, "clean").forwards == N * (1 + 20 * 3 + 1 + points)
    assert compute(load("num_params"), model, prepared, "none").forwards == 0


def test_evaluate_takes_names_a_fraction_for_eps_and_given_adversarial_images(model, data):
    x, y = data
    table = evaluate(model, x, y, ["average_ce"], eps="3/60", adversarial=x)
    assert table.columns.tolist() == ["measure", "variant", "value", "se", "n", "seconds", "forwards", "reason"]
    assert table["value"][0] == table["value"][1]
    assert table["n"].tolist() == [N, N]
    with pytest.raises(LookupError, match="measure 'average_cd' is unknown; did you mean 'average_ce'"):
        evaluate(model, x, y, ["average_cd"])
    with pytest.raises(ValueError, match="norm: found 'L7', wanted one of Linf, L2"):
        evaluate(model, x, y, ["average_ce"], norm="L7")


def test_adversarial_images_are_those_of_the_outcomes_stage(model, data):
    x, y = data
    index = torch.arange(100, 100 + N)
    found = attack(model, prepare(model, x, y, eps=EPS, index=index, batch_size=6)).adversarial
    wanted = OUTCOME_ATTACKS["pgd10"](model, x, y, index, EPS, "Linf")
    assert torch.allclose(found, wanted, atol=1e-12)
    assert float((found - x).abs().amax()) <= EPS + 1e-12


def test_mean_and_its_standard_errors():
    values = oracles.draw(500, seed=1)
    assert mean(values) == pytest.approx((float(values.mean()), float(values.std()) / 500**0.5))
    images, draws = oracles.draw(400, 1, seed=2), oracles.draw(1, 10, seed=3, scale=0.5)
    value, se = mean(images + draws)  # effects of images and of draws that add up
    assert value == pytest.approx(float(images.mean() + draws.mean()))
    assert se == pytest.approx(math.hypot(float(images.std()) / 20, float(draws.std()) / 10**0.5))


def test_the_decorator_refuses_words_it_does_not_know():
    said = {"family": "x", "paper": "x", "formula": "x"}
    with pytest.raises(
        ValueError, match="needs: found 'image', wanted one of weights, shape, batch, batches, initial, log, context"
    ):
        measure(needs=("image",), expects={"none": None}, **said)
    with pytest.raises(ValueError, match="expects: found 'none', wanted one of clean, adversarial"):
        measure(needs=("batch",), expects={"none": None}, **said)
    with pytest.raises(ValueError, match="expects: found 2, wanted one of 1, -1, None"):
        measure(needs=("batch",), expects={"clean": 2}, **said)


def test_missing_is_a_reason_not_a_failure(model, data):
    def refuses(model):
        raise Missing("because")

    measured, prepared = replace(load("num_params"), function=refuses), prepare(model, *data, eps=EPS)
    row = compute(measured, model, prepared, "none")
    assert (row.value, row.reason, row.failed) == (None, "because", False)


def test_names_may_be_families_or_all_each_measure_once(model, data):
    table = evaluate(model, *data, ["margin_p10", "capacity", "margin"], eps=EPS)
    found = table["measure"].drop_duplicates().tolist()
    assert found[:2] == ["margin_p10", "num_params"]
    assert sorted(found[2:]) == sorted(
        name for name in names() if load(name).family == "margin" and name != "margin_p10"
    )
    assert [one.name for one in select(["all"])] == names()
    with pytest.raises(LookupError, match=r"'margn' is unknown; did you mean 'margin'.*groups: all, "):
        evaluate(model, *data, "margn", eps=EPS)
    with pytest.raises(ValueError, match="measures: found none, wanted names, families or all"):
        evaluate(model, *data, [], eps=EPS)


def test_a_bar_is_drawn_on_a_terminal_only(model, data, capsys):
    evaluate(model, *data, "average_ce", eps=EPS)
    assert capsys.readouterr() == ("", "")


def test_a_device_moves_a_copy_of_the_model(data):
    model = oracles.conv_net()
    there = evaluate(model, *data, "average_ce", eps=EPS, device="cpu")["value"].tolist()
    assert there == evaluate(model, *data, "average_ce", eps=EPS)["value"].tolist()
    with pytest.raises((RuntimeError, NotImplementedError)):  # the device without memory: nothing can be computed
        evaluate(model, *data, "average_ce", eps=EPS, device="meta")
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())


def wants(*needs):
    """A measure that gives the number of things it was given."""
    return replace(load("num_params"), needs=("weights", *needs), function=lambda model, **given: float(len(given)))


def test_initial_weights_and_log_are_given_or_missing_with_the_reason(model, data):
    both = {"initial": model.state_dict(), "log": [{"epoch": 1, "train_loss": 0.5}]}
    for needs in (("initial",), ("log",), ("initial", "log")):
        row = compute(wants(*needs), model, prepare(model, *data, eps=EPS, **both), "none")
        assert (row.value, row.reason) == (len(needs), "")
    bare = prepare(model, *data, eps=EPS)
    reasons = [compute(wants(word), model, bare, "none").reason for word in ("initial", "log")]
    assert reasons == [f"no {what}: the model was not trained here" for what in ("initial weights", "training log")]
    given = prepare(model, *data, eps=EPS, **both).initial
    assert all(tensor.dtype == torch.float64 for tensor in given.values())
    assert given.keys() == {key for key in model.state_dict() if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": {"0.weight": torch.zeros(3, 1, 3, 3)}}, r"initial: found nothing for 0.bias, wanted shape \(3,\)"),
        ({"initial": {"0.weight": torch.zeros(3)}}, r"initial: found shape \(3,\) for 0.weight, wanted"),
        ({"adversarial": torch.zeros(3, 1, 4, 4)}, r"adversarial: found shape \(3, 1, 4, 4\), wanted \(20, 1, 4, 4\)"),
        ({"target_se": 0.0}, "target_se: found 0.0, wanted a number > 0"),
        ({"batch_size": 0}, "batch_size: found 0, wanted a whole number > 0"),
        ({"batch_size": 2.5}, "batch_size: found 2.5, wanted a whole number > 0"),
        ({"log": [{"epoch": 1}]}, "log, line 1: found epoch, wanted train_loss as well"),
        ({"device": "abacus"}, "device: found 'abacus', which is not to be had here: "),
        ({"target_se": math.nan}, "target_se: found nan, wanted a number > 0"),
    ],
)
def test_options_that_do_not_fit_are_clear_errors(model, data, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, *data, "num_params", eps=EPS, **options)


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


class Dropping(nn.Module):
    """Dropout that does not know about eval mode."""

    def forward(self, x):
        return torch.nn.functional.dropout(x.flatten(1)[:, :3] + 1, 0.5)


class Centred(nn.Module):
    """Logits that are centred over the batch, as BatchNorm without running statistics does."""

    def forward(self, x):
        return x.flatten(1)[:, :3] - x.flatten(1)[:, :3].mean(dim=0) + 1


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (Dropping(), "model: found an output that changes from call to call, wanted a function of the image"),
        (Centred(), "model: found an output that depends on the other images, wanted a function of the image"),
        (oracles.conv_net().to(torch.bfloat16), "model: found torch.bfloat16, wanted torch.float32 or torch.float64"),
    ],
)
def test_models_that_no_measure_is_about_are_clear_errors(found, message, data):
    for seed in range(20):
        torch.manual_seed(seed)
        with pytest.raises(ValueError, match=message):
            evaluate(found.eval(), *data, "average_ce", eps=EPS)


def test_a_model_in_data_parallel_is_the_model(model, data):
    found, wanted = (evaluate(one, *data, "norm", eps=EPS) for one in (nn.DataParallel(model), model))
    assert found["value"].equals(wanted["value"]) and wanted["value"].notna().any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: 255 * x, "adversarial: found values from .* wanted"),
        (lambda x: (x + 2 * EPS).clamp(0, 1), r"adversarial: found an image 0\.1 from its clean one \(Linf\), wanted"),
        (lambda x: x[:, :, :2], r"adversarial: found shape \(20, 1, 2, 4\), wanted"),
    ],
)
def test_adversarial_images_outside_the_threat_model_are_clear_errors(model, data, change, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, *data, "average_ce", eps=EPS, adversarial=change(data[0]))


class Torn(nn.Module):
    """Its gradient cannot be taken."""

    def forward(self, x):
        if x.requires_grad:
            raise RuntimeError("no such kernel")
        return x.flatten(1)[:, :3]


def test_why_an_attack_failed_is_the_reason_for_what_is_missing(data):
    row = evaluate(Torn().eval(), *data, "average_ce", eps=EPS).set_index("variant").loc["adversarial"]
    assert row["reason"] == "no adversarial images: RuntimeError: no such kernel"


class Greedy(nn.Module):
    """Finds no memory for more than 8 images."""

    def forward(self, x):
        if len(x) > 8:
            raise torch.OutOfMemoryError("no memory for these images")
        return x.flatten(1)[:, :3]


def test_no_memory_is_an_error_and_not_a_missing_value(data):
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(Greedy().eval(), *data, "average_ce", eps=EPS, batch_size=20)
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(Greedy().eval(), *data, "average_ce", eps=EPS, batch_size=20, adversarial=data[0])
    assert evaluate(Greedy().eval(), *data, "average_ce", eps=EPS, batch_size=8)["value"].notna().all()


def test_what_measures_share_is_computed_once_and_within_the_budget(model, data, monkeypatch):
    x, y = data
    asked = ["average_ce", "prob_margin", "x_grad_norm", "w_grad_norm", "estimate_sharpness"]
    shared = evaluate(model, x, y, asked, eps=EPS, batch_size=6)
    counts = shared.set_index(["measure", "variant"])["forwards"]
    assert counts.xs("clean", level="variant").to_dict() == {
        "average_ce": N, "prob_margin": 0, "x_grad_norm": 3 * N, "w_grad_norm": 3 * N, "estimate_sharpness": N,
    }  # fmt: skip
    alone = [evaluate(model, x, y, name, eps=EPS, batch_size=6) for name in asked]
    assert shared["value"].tolist() == [value for table in alone for value in table["value"]]
    monkeypatch.setattr(_context, "BUDGET", 6 * x[0].nbytes)  # the input gradients of one batch
    poor = evaluate(model, x, y, asked, eps=EPS, batch_size=6)
    assert poor["value"].tolist() == shared["value"].tolist()
    assert poor["forwards"].sum() > shared["forwards"].sum()


def test_a_context_keeps_within_its_budget_and_only_what_is_its_own(model, data, monkeypatch):
    monkeypatch.setattr(_context, "BUDGET", 1000)
    context = contexts(model, prepare(model, *data, eps=EPS, batch_size=6))["clean"]
    made = []

    def ask(batch, size):
        return context.of_batch("name", batch, lambda: made.append(size) or torch.zeros(size, dtype=torch.uint8))

    first, second = context.batches[:2]
    for _ in range(2):
        ask(first, 600)
        ask(second, 600)
        ask(replace(first, images=first.images.clone()), 1)
    assert made == [600, 600, 1, 600, 1]  # the first kept; the second does not fit; other images are not its own
    ask(replace(first, notes={}), 5)
    assert made[-1] != 5  # the same images and labels in another Batch


def test_a_shared_quantity_that_is_missing_is_missing_for_all(model, data):
    context, calls = contexts(model, prepare(model, *data, eps=EPS))["clean"], []

    def refuse():
        calls.append(1)
        raise Missing("because")

    for _ in range(2):
        with pytest.raises(Missing, match="because"):
            context.once("key", refuse)
    assert calls == [1]
