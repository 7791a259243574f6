"""What every registered measure keeps, whoever wrote it. A new file in measures/ is covered by being there."""

import copy
import math
import re
from functools import cache

import oracles
import pytest
import torch
from measure_rows import ATTACKED, EPS, LOG, check, rows, start
from oracles import N
from torch import nn

from robustgap.measures import evaluate
from robustgap.measures._cards import catalogue_entry
from robustgap.measures._code import names
from robustgap.measures.core import ALWAYS, groups, load

NAMES = names()


@pytest.fixture(scope="module")
def data(model):
    """Images and the classes the model gives most of them, so that margins are mostly positive."""
    x = oracles.images(N, low=0.0, high=1.0)
    with torch.no_grad():
        y = model(x).argmax(dim=1)
    y[:1] = (y[:1] + 1) % oracles.CLASSES
    return x, y


@pytest.fixture(scope="module")
def usual(model, data):
    """Rows of a measure on the model and its images, computed once for all tests."""
    return cache(lambda name: check(rows(model, *data, name)))


def assert_same(found, wanted, tolerance=None):
    for variant in wanted.index:
        rel = tolerance or ATTACKED[variant]
        pair = found.loc[variant], wanted.loc[variant]
        told = [re.sub(r"\d+", "#", row["reason"]) if tolerance else row["reason"] for row in pair]  # counts may differ
        assert told[0] == told[1] or math.isnan(pair[1]["value"])
        assert pair[0]["value"] == pytest.approx(pair[1]["value"], rel=rel, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", NAMES)
def test_value_depends_neither_on_batch_size_nor_on_image_order(name, model, data, usual):
    x, y = data
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    found = check(rows(model, x[order], y[order], name, index=order, batch_size=6))
    assert_same(found, usual(name))
    for variant in found.index:
        se = found.loc[variant, "se"], usual(name).loc[variant, "se"]
        assert se[0] == pytest.approx(se[1], rel=1e-3, abs=1e-12, nan_ok=True)
    assert set(ALWAYS) <= set(load(name).invariances)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_value_and_global_random_state_is_left_alone(name, model, data):
    before = torch.random.get_rng_state()
    wanted = rows(model, *data, name, seed=3)
    torch.rand(5)
    torch.random.set_rng_state(before)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert_same(rows(model, *data, name, seed=3), wanted, tolerance=1e-12)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", NAMES)
def test_what_other_measures_left_in_the_context_changes_nothing(name, together, usual):
    """The whole catalogue at once, each measure after all those before it in the alphabet."""
    found = together[together["measure"] == name].set_index("variant")
    assert_same(found, usual(name), tolerance=1e-9)


@pytest.fixture(scope="module")
def together(model, data):
    return evaluate(model, *data, eps=EPS, initial=start(model), log=LOG)


@pytest.mark.parametrize("name", NAMES)
def test_model_is_left_unchanged(name, data):
    model = oracles.conv_net()
    model[0].weight.requires_grad_(False)
    model[5].weight.grad = torch.full_like(model[5].weight, 0.5)
    before = copy.deepcopy(model.state_dict())
    hooks = [len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules()]
    rows(model, *data, name)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    assert [p.requires_grad for p in model.parameters()] == [False, *[True] * 5]
    assert [p.grad is not None for p in model.parameters()] == [False] * 4 + [True, False]
    assert torch.equal(model[5].weight.grad, torch.full_like(model[5].weight, 0.5))
    assert [len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules()] == hooks


@pytest.mark.parametrize("name", NAMES)
def test_float32_model_and_images_give_nearly_the_float64_value(name, data, usual):
    x, y = data
    assert_same(check(rows(oracles.conv_net().float(), x.float(), y, name)), usual(name), tolerance=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_l2_threat_model(name, model, data):
    check(rows(model, *data, name, norm="L2"))


@pytest.mark.parametrize("name", NAMES)
def test_at_eps_0_the_adversarial_variant_is_the_clean_one(name, model, data):
    table = check(rows(model, *data, name, eps=0))
    if {"clean", "adversarial"} <= set(table.index):
        clean, adversarial = table.loc["clean", "value"], table.loc["adversarial", "value"]
        assert adversarial == pytest.approx(clean, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_returns_nan_gives_missing_values_with_reasons(name, data):
    table = rows(oracles.Faulty("nan"), *data, name)
    check(table)
    assert table.drop("none", errors="ignore")["value"].isna().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_model_with_a_nan_weight_has_no_value_that_depends_on_weights(name, data, usual):
    model = oracles.conv_net()
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = torch.nan
    table = check(rows(model, *data, name, initial=start(oracles.conv_net())))
    for variant in table.index:
        value = table.loc[variant, "value"]
        assert math.isnan(value) or (variant == "none" and value == usual(name).loc[variant, "value"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ["one_class", "constant", "always_wrong", "one_image"])
def test_degenerate_cases_are_finite_or_missing_with_a_reason(name, case, model, data):
    x, y = data
    if case == "one_class":
        y = torch.zeros_like(y)
    elif case == "always_wrong":
        with torch.no_grad():
            y = (model(x).argmax(dim=1) + 1) % oracles.CLASSES
    elif case == "one_image":
        x, y = x[:1], y[:1]
    check(rows(oracles.Faulty("constant") if case == "constant" else model, x, y, name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, x, y: (m, 255 * x, y), r"images: found values from .* wanted all inside \[0, 1\]"),
        (lambda m, x, y: (m, x - 1, y), r"images: found values from .* wanted all inside \[0, 1\]"),
        (lambda m, x, y: (m, x * torch.nan, y), r"images: found values from nan"),
        (lambda m, x, y: (m, x[:0], y[:0]), r"images: found shape \(0, 1, 4, 4\), wanted"),
        (lambda m, x, y: (copy.deepcopy(m).train(), x, y), r"train mode, wanted eval mode: call model.eval\(\) first"),
        (lambda m, x, y: (m, x, y + 3), "labels: found .*, wanted 0 .. 2, the model"),
        (lambda m, x, y: (m, x, y[:-1]), "labels: found .* wanted 20 integers"),
        (lambda m, x, y: (nn.Sequential(m, nn.Flatten(0)).eval(), x, y), "model: found an output of shape"),
    ],
)
def test_input_that_is_not_as_said_is_a_clear_error(name, change, message, model, data):
    with pytest.raises(ValueError, match=message):
        evaluate(*change(model, *data), [name], eps=EPS)


@pytest.mark.parametrize("name", NAMES)
def test_catalogue_entry_is_complete(name):
    card = catalogue_entry(name)
    assert all(card[key] for key in ("family", "needs", "variants", "paper", "formula", "summary", "proof"))
    assert card["expects"].keys() == set(card["variants"])
    assert set(card["variants"]) in ({"none"}, {"clean"}, {"adversarial"}, {"clean", "adversarial"})


def test_no_family_is_the_name_of_a_measure():
    assert not set(groups()) & set(NAMES)
