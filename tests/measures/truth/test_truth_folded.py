"""Norms with BatchNorm folded in: those of the network without it, and no other where the layer before is scaled."""

import copy

import oracles
import pytest
import torch
from measure_rows import rows, start
from torch import nn

from robustgap.measures import evaluate
from robustgap.measures._code import names

FOLDED = [name for name in names() if name.endswith("_folded")]
FACTORS = torch.tensor([10.0, 3.0, 0.5, 20.0, 7.0, 2.0], dtype=torch.float64)  # of the channels of a convolution


def scaled(model):
    """The channels of the convolution times FACTORS, and their BatchNorm's statistics with them: the same function."""
    model = copy.deepcopy(model)
    conv, norm = model[0], model[1]
    factor = FACTORS[: len(conv.weight)]
    with torch.no_grad():
        conv.weight.mul_(factor[:, None, None, None])
        conv.bias.mul_(factor)
        norm.running_mean.mul_(factor)
        norm.running_var.copy_(factor**2 * (norm.running_var + norm.eps) - norm.eps)
    return model


def begun(model):
    """The model at the start of its training."""
    model = copy.deepcopy(model)
    model.load_state_dict(start(model), strict=False)
    return model


def fused(model):
    """The model without BatchNorm, by torch's own fusion."""
    return nn.Sequential(nn.utils.fuse_conv_bn_eval(model[0], model[1]), *copy.deepcopy(model[2:])).eval()


@pytest.fixture(scope="module")
def known():
    """A network, images, and labels that it gets right, so that its margins are above 0."""
    model, x = oracles.conv_net(), oracles.images(oracles.N)
    return model, x, model(x).argmax(dim=1)


def value(model, x, y, name, initial):
    return rows(model, x, y, name, initial=initial)["value"].iloc[0]


@pytest.mark.parametrize("name", FOLDED)
def test_a_layer_before_batchnorm_may_be_scaled_with_its_statistics(name, known):
    model, x, y = known
    other, initial = scaled(model), start(model)
    assert torch.allclose(other(x), model(x), atol=1e-10)
    before, after = (value(net, x, y, name, initial) for net in (model, other))
    assert after == pytest.approx(before, rel=1e-9)
    plain = name.removesuffix("_folded")
    unfolded = [value(net, x, y, plain, initial) for net in (model, other)]
    assert abs(unfolded[1] - unfolded[0]) > 0.02 * abs(unfolded[0])


@pytest.mark.parametrize(
    "name",
    [
        "param_norm_folded",
        "fro_over_spec_folded",
        "log_prod_of_spec_folded",
        "log_sum_of_spec_folded",
        "log_prod_of_fro_folded",
        "log_sum_of_fro_folded",
        "log_prod_of_operator_folded",
        "log_sum_of_operator_folded",
        "fro_dist_folded",
        "l2_dist_folded",
        "dist_spec_init_folded",
        "log_prod_of_spec_over_margin_folded",
        "log_sum_of_spec_over_margin_folded",
        "log_prod_of_fro_over_margin_folded",
        "log_sum_of_fro_over_margin_folded",
    ],
)
def test_each_is_the_norm_of_the_network_without_batchnorm(name, known):
    model, x, y = known
    initial = fused(begun(model)).state_dict()
    wanted = value(fused(model), x, y, name.removesuffix("_folded"), initial)
    assert value(model, x, y, name, start(model)) == pytest.approx(wanted, rel=1e-9)


class Branching(nn.Module):
    """The output of a convolution goes past its BatchNorm as well."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(1, 3, 4), nn.BatchNorm2d(3), nn.Linear(3, 3)

    def forward(self, x):
        x = self.conv(x)
        return self.last((x + self.norm(x)).flatten(1))


PREACTIVATION = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 3))


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (PREACTIVATION, "2 (BatchNorm2d) follows no convolution or linear layer of its own: it cannot be folded"),
        (Branching(), "with BatchNorm folded into the layers before it the network is another function"),
    ],
)
def test_where_the_graph_does_not_allow_it_the_reason_is_named(net, reason, data):
    net = oracles.set_weights(net, seed=2)
    table = evaluate(net, *data, FOLDED, eps=0.05, initial=start(net))
    table = table[table["variant"] == "none"]
    assert set(table["reason"]) == {reason}
