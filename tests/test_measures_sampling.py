"""Standard errors: value +- 1.96 of them covers the value on all images in at least 90 % of 50 random samples."""

from dataclasses import replace

import oracles
import pytest
import torch

from measures._code import names
from measures._compute import compute, contexts
from measures._data import attack, prepare
from measures.core import load
from training import keyed

IMAGES, SAMPLE = 3000, 300
SEEDS = 50  # samples a measure of the whole set is computed on; ten times as many where that costs nothing
STREAM = 2
SAMPLED = [name for name in names() if load(name).variants != ["none"]]


def right():
    """A small network and images it is right about, with a margin well above 0, for what divides by the margin has no
    normal distribution otherwise."""
    model, x = oracles.conv_net(), oracles.images(IMAGES * 5 // 4, low=0.0, high=1.0)
    with torch.no_grad():
        top = model(x).topk(2, dim=1)
    kept = (top.values[:, 0] - top.values[:, 1]).argsort(descending=True)[:IMAGES]
    return model, x[kept], top.indices[kept, 0]


def fitted():
    """A small network and images whose labels are drawn from its own predictions: its expected gradient is 0, as after
    training, and the gradients of single images outweigh their mean."""
    model, x = oracles.conv_net(), oracles.images(IMAGES, low=0.0, high=1.0)
    with torch.no_grad():
        chances = model(x).softmax(dim=1).cumsum(dim=1)
    drawn = keyed.uniform(0, STREAM + 1, torch.arange(IMAGES), (1,), 0.0, 1.0)
    return model, x, (drawn > chances).sum(dim=1).clamp(max=chances.shape[1] - 1)


@pytest.fixture(scope="module", params=[right, fitted], ids=["right", "fitted"])
def population(request):
    """A small network, its images, and samples of them."""
    model, x, y = request.param()
    data = attack(model, prepare(model, x, y, eps=0.02, batch_size=500))
    data = replace(data, initial={key: tensor / 2 for key, tensor in model.state_dict().items()})
    samples = [data.rows(keyed.permutation(seed, STREAM, IMAGES)[:SAMPLE]) for seed in range(SEEDS)]
    return model, data, contexts(model, data), [(sample, contexts(model, sample)) for sample in samples]


def on_samples(measured, variant, population):
    """The row on all images, and (value, standard error) on each sample."""
    model, data, shared, samples = population
    rows = [compute(measured, model, sample, variant, context) for sample, context in samples]
    return compute(measured, model, data, variant, shared), [(row.value, row.se) for row in rows]


def of_numbers(measured, variant, population):
    """The same for a measure that gives each image a number, which does not depend on the others (see the contract):
    it is computed once."""
    model, data, shared, _ = population
    numbers = []
    keeping = replace(measured, reduction=lambda values: numbers.append(values) or measured.reduction(values))
    row = compute(keeping, model, data, variant, shared)
    chosen = [keyed.permutation(seed, STREAM, IMAGES)[:SAMPLE] for seed in range(10 * SEEDS)]
    return row, [measured.reduction(numbers[0][rows]) for rows in chosen]


@pytest.mark.parametrize("name", SAMPLED)
def test_the_interval_of_a_sample_covers_the_value_on_all_images(name, population, request):
    """Measures of the whole set in their first variant alone: the other differs in the images it is given. A mean of
    numbers of single images does not care what the labels are; margins and PAC-Bayes need a network that is right."""
    measured = load(name)
    single = "batch" in measured.needs
    elsewhere = single or name.startswith("pacbayes") or name.endswith("_over_margin")
    if elsewhere and request.node.callspec.params["population"] is fitted:
        pytest.skip("looked at where the network is right")
    for variant in measured.variants if single else measured.variants[:1]:
        row, found = (of_numbers if single else on_samples)(measured, variant, population)
        assert row.value is not None, row.reason
        if row.se is None:
            pytest.skip("one number of all images, without a standard error")
        assert sum(abs(value - row.value) <= 1.96 * se for value, se in found) >= 0.9 * len(found)
