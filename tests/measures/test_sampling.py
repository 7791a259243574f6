"""Standard errors: value +- 1.96 of them covers the value on all images in at least 90 % of 50 random samples."""

import math
from contextlib import suppress
from dataclasses import replace

import oracles
import pytest
import torch
from torch import nn

from robustgap.measures._code import names
from robustgap.measures._compute import compute, contexts
from robustgap.measures._images import attack, prepare
from robustgap.measures.core import Missing, load
from robustgap.training import keyed

IMAGES, SAMPLE = 3000, 300
SEEDS = 50  # samples a measure of the whole set is computed on; ten times as many where that costs nothing
STREAM = 2


def right():
    """A small network and images it is right about, with a margin well above 0, for what divides by the margin has no
    normal distribution otherwise."""
    model, x = oracles.conv_net(), oracles.images(IMAGES * 5 // 4, low=0.0, high=1.0)
    with torch.no_grad():
        top = model(x).topk(2, dim=1)
    kept = (top.values[:, 0] - top.values[:, 1]).argsort(descending=True)[:IMAGES]
    return model, x[kept], top.indices[kept, 0]


def fitted(model=None):
    """A small network and images whose labels are drawn from its own predictions: its expected gradient is 0, as after
    training, and the gradients of single images outweigh their mean."""
    model, x = model or oracles.conv_net(), oracles.images(IMAGES, low=0.0, high=1.0)
    with torch.no_grad():
        chances = model(x).softmax(dim=1).cumsum(dim=1)
    drawn = keyed.uniform(0, STREAM + 1, torch.arange(IMAGES), (1,), 0.0, 1.0)
    return model, x, (drawn > chances).sum(dim=1).clamp(max=chances.shape[1] - 1)


def sure():
    """The same with ten classes and logits so large that 5 % of the labels are not the likeliest class, as in a model
    that was trained well: calibrated, the 10th percentile of the margin just above 0, losses skewed."""
    model = oracles.set_weights(nn.Sequential(*oracles.conv_net()[:-1], nn.Linear(12, 10)), seed=1, scale=2.0)
    with torch.no_grad():
        model[-1].weight.mul_(80)
        model[-1].bias.mul_(80)
    return fitted(model)


def populations(name):
    """Where a measure is looked at. Labels matter to numbers of single images too: how skewed they are, and how near to
    0 margins and calibration errors come. PAC-Bayes and norms over margins need a network that is right."""
    if "batch" in load(name).needs:
        return right, sure
    return (right,) if name.startswith("pacbayes") or "_over_margin" in name else (right, fitted)


SAMPLED = [name for name in names() if load(name).variants != ["none"]]
PAIRS = [pytest.param(name, make, id=f"{name}-{make.__name__}") for name in SAMPLED for make in populations(name)]


@pytest.fixture(scope="module")
def population(request):
    """A small network, its images, and samples of them."""
    model, x, y = request.param()
    data = attack(model, prepare(model, x, y, eps=0.02, batch_size=500))
    data = replace(data, initial={key: tensor / 2 for key, tensor in model.state_dict().items()})
    samples = [data.select(keyed.permutation(seed, STREAM, IMAGES)[:SAMPLE]) for seed in range(SEEDS)]
    return model, data, contexts(model, data), [(sample, contexts(model, sample)) for sample in samples]


def on_samples(measured, variant, population):
    """The row on all images, and (value, standard error) on each sample."""
    model, data, shared, samples = population
    rows = [compute(measured, model, sample, variant, context) for sample, context in samples]
    return compute(measured, model, data, variant, shared), [(row.value, row.se) for row in rows]


def of_numbers(measured, variant, population):
    """The same for a measure that gives each image a number, which does not depend on the others (see the contract):
    it is computed once. Without the samples where it is missing."""
    model, data, shared, _ = population
    numbers = []
    keeping = replace(measured, reduction=lambda values: numbers.append(values) or measured.reduction(values))
    row = compute(keeping, model, data, variant, shared)
    found = []
    for seed in range(10 * SEEDS):
        with suppress(Missing):
            found.append(measured.reduction(numbers[0][keyed.permutation(seed, STREAM, IMAGES)[:SAMPLE]]))
    return row, found


@pytest.mark.parametrize(("name", "population"), PAIRS, indirect=["population"])
def test_the_interval_of_a_sample_covers_the_value_on_all_images(name, population):
    """Measures of the whole set in their first variant alone: the other differs in the images it is given."""
    measured = load(name)
    single = "batch" in measured.needs
    for variant in measured.variants if single else measured.variants[:1]:
        row, found = (of_numbers if single else on_samples)(measured, variant, population)
        if row.value is None and name == "inverse_margin" and variant == "adversarial":
            continue  # where an attack makes a tenth of the images wrong
        assert row.value is not None, row.reason
        if row.se is None:
            pytest.skip("one number of all images, without a standard error")
        given = [(value, se) for value, se in found if math.isfinite(se)]
        assert len(given) >= 0.8 * len(found)  # inverse_margin has no error where a sample does not tell gamma from 0
        assert sum(abs(value - row.value) <= 1.96 * se for value, se in given) >= 0.9 * len(given)
