"""Norms with BatchNorm folded in: those of the network without it, and no other where the layer before is scaled."""

import copy

import oracles
import pytest
import torch
from measure_rows import rows, start
from torch import nn

from robustgap.measures import evaluate

FOLDED = ["log_prod_of_spec_folded", "param_norm_folded", "dist_spec_init_folded"]


def scaled(model, factor=10.0):
    """The convolution times a factor, and its BatchNorm's statistics with it: the same function."""
    model = copy.deepcopy(model)
    conv, norm = model[0], model[1]
    with torch.no_grad():
        conv.weight.mul_(factor)
        conv.bias.mul_(factor)
        norm.running_mean.mul_(factor)
        norm.running_var.copy_(factor**2 * (norm.running_var + norm.eps) - norm.eps)
    return model


@pytest.mark.parametrize("name", FOLDED)
def test_a_layer_before_batchnorm_may_be_scaled_with_its_statistics(name, data):
    model, x = oracles.conv_net(), data[0]
    other = scaled(model)
    assert torch.allclose(other(x), model(x), atol=1e-10)
    initial = start(model)
    before, after = (rows(net, *data, name, initial=initial)["value"].item() for net in (model, other))
    assert after == pytest.approx(before, rel=1e-9)
    plain = name.removesuffix("_folded")
    unfolded = [rows(net, *data, plain, initial=initial)["value"].item() for net in (model, other)]
    assert abs(unfolded[1] - unfolded[0]) > 0.1 * abs(unfolded[0])


def test_each_is_the_norm_of_the_network_without_batchnorm(data):
    """log_prod_of_spec_folded, param_norm_folded and dist_spec_init_folded by torch's own fusion."""
    fused = {}
    for scale in (1.0, 0.5):
        model = oracles.conv_net()
        if scale != 1:
            model.load_state_dict(start(model), strict=False)
        fused[scale] = nn.Sequential(nn.utils.fuse_conv_bn_eval(model[0], model[1]), *model[2:]).eval()
    names = {"log_prod_of_spec_folded": "log_prod_of_spec", "param_norm_folded": "param_norm"}
    names["dist_spec_init_folded"] = "dist_spec_init"
    model = oracles.conv_net()
    for name, plain in names.items():
        wanted = rows(fused[1.0], *data, plain, initial=fused[0.5].state_dict())["value"].item()
        assert rows(model, *data, name)["value"].item() == pytest.approx(wanted, rel=1e-9)


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
    assert table["reason"].tolist() == [reason] * 3
