"""What is common to all measures: averaging, counting, missing values, and `evaluate` itself."""

import math
from dataclasses import replace

import oracles
import pytest
import torch
from oracles import N
from torch import nn

from robustgap.measures import evaluate
from robustgap.measures._code import names
from robustgap.measures._compute import compute
from robustgap.measures._images import attack, prepare
from robustgap.measures.core import Missing, load, mean, measure, select
from robustgap.training.outcome_attacks import OUTCOME_ATTACKS

EPS = 0.05


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
    with pytest.raises(LookupError, match=r"measure: found 'average_cd', wanted one of .*; did you mean 'average_ce'"):
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
    with pytest.raises(
        LookupError, match=r"found 'margn', wanted one of .*, or of the groups all, .*; did you mean 'margin'"
    ):
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


def test_a_model_in_data_parallel_is_the_model(model, data):
    found, wanted = (evaluate(one, *data, "norm", eps=EPS) for one in (nn.DataParallel(model), model))
    assert found["value"].equals(wanted["value"]) and wanted["value"].notna().any()
