"""The path norm against explicit matrices and products, and the networks for which it is not defined."""

import itertools
import math

import numpy as np
import oracles
import pytest
import torch
from oracles import EPS, D, measured
from torch import nn

from robustgap.measures import evaluate
from robustgap.measures.path_norm import path_norm
from robustgap.training.networks.architectures.resnet import resnet18


def reason(model):
    """Why the path norm of a model is missing."""
    table = evaluate(model.eval(), oracles.images(2), oracles.labels(2), ["path_norm"], eps=EPS)
    assert table["value"].isna().all()
    return table["reason"][0]


def test_path_norm_of_a_two_layer_net_counts_every_path():
    model = oracles.relu_net()
    first, second = model[1].weight.detach(), model[3].weight.detach()
    paths = itertools.product(range(len(second)), range(len(first)), range(D))
    expected = sum(float(second[k, h] * first[h, i]) ** 2 for k, h, i in paths)
    value, _ = measured(model, oracles.images(2), oracles.labels(2), "path_norm")
    assert value == pytest.approx({"none": expected}, rel=1e-9)


class Standardize(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.3]).double().reshape(1, 1, 1, 1))
        self.register_buffer("std", torch.tensor([0.25]).double().reshape(1, 1, 1, 1))

    def forward(self, x):
        return (x - self.mean) / self.std


def test_path_norm_of_a_network_with_batchnorm_against_its_explicit_matrices():
    """Paths through convolution, BatchNorm scale, pooling and linear layer, as a product of squared matrices."""
    net = oracles.conv_net()
    convolution, batchnorm = net[0], net[1]
    scale = (batchnorm.weight / torch.sqrt(batchnorm.running_var + batchnorm.eps)).detach().repeat_interleave(D)
    first = oracles.explicit_matrix(convolution, oracles.SHAPE)
    pooling = oracles.explicit_matrix(nn.AvgPool2d(2), (3, 4, 4))
    paths = (net[5].weight.detach() ** 2) @ pooling @ (torch.diag(scale) @ first) ** 2
    x, y = oracles.images(2), oracles.labels(2)
    assert measured(net, x, y, "path_norm")[0]["none"] == pytest.approx(float(paths.sum()), rel=1e-9)
    whole = nn.Sequential(Standardize(), net).eval()
    assert measured(whole, x, y, "path_norm")[0]["none"] == pytest.approx(float(paths.sum()) / 0.25**2, rel=1e-9)


def test_path_norm_of_a_deep_network_does_not_overflow_in_float64():
    layers = [nn.Linear(D, D, bias=False) for _ in range(40)]
    for layer in layers:
        nn.init.constant_(layer.weight, 100.0)
    model = nn.Sequential(nn.Flatten(), *layers).float().eval()
    value, _ = measured(model, oracles.images(2).float(), oracles.labels(2), "path_norm")
    assert math.log10(value["none"]) == pytest.approx(40 * math.log10(1e4 * D) + math.log10(D), rel=1e-6)


def test_path_norm_of_a_hundred_layers_against_a_product_that_is_scaled_down_on_the_way():
    layers = [nn.Linear(16, 64), *(nn.Linear(64, 64) for _ in range(98)), nn.Linear(64, 3)]
    total, vector = 0.0, np.ones(16)
    for place, layer in enumerate(layers):
        nn.init.zeros_(layer.bias)
        with torch.no_grad():
            layer.weight.copy_(4 * oracles.draw(*layer.weight.shape, seed=place))
        vector = layer.weight.detach().double().numpy() ** 2 @ vector
        total, vector = total + math.log10(vector.sum()), vector / vector.sum()
    model = nn.Sequential(nn.Flatten(), *(part for layer in layers for part in (layer, nn.ReLU()))).eval()
    assert total > 290  # where float32 has long overflowed
    assert math.log10(path_norm(model, oracles.SHAPE)) == pytest.approx(total, rel=1e-9)


def test_path_norm_of_a_wide_resnet_stays_finite_when_its_batchnorms_amplify_most():
    network = resnet18(10, 3, width=64).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.running_var)  # a scale of eps^-1/2 = 316 in every layer
    with torch.no_grad():
        assert 1e40 < path_norm(network, (3, 32, 32)) < 1e150


BENT = [nn.SiLU, nn.GELU, nn.Hardswish, nn.ReLU6, nn.Sigmoid, nn.Softplus, nn.Tanh, nn.ELU, nn.Mish]


@pytest.mark.parametrize("activation", BENT)
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0, 1000.0])
def test_path_norm_is_missing_where_paths_are_not_defined_however_large_the_weights(activation, scale):
    """Large weights push a smooth activation to where it looks like a ReLU, small ones ReLU6 to where it does."""
    model = oracles.relu_net(scale=scale)
    model[2] = activation()
    assert "not homogeneous" in reason(model)


def test_path_norm_of_a_deep_narrow_network_of_relu6_is_missing():
    """Its paths shrink from layer to layer, so that an image of ones never gets near the bound of the activation."""
    layers = [part for _ in range(20) for part in (nn.Linear(D, D), nn.ReLU6())]
    model = oracles.set_weights(nn.Sequential(nn.Flatten(), *layers, nn.Linear(D, 3)), seed=2, scale=0.2)
    assert "not homogeneous" in reason(model)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.Identity])
def test_path_norm_of_homogeneous_networks_is_there_however_large_the_weights(activation, scale):
    model = oracles.relu_net(scale=scale)
    model[2] = activation().eval()
    paths = (model[3].weight.detach() ** 2 @ model[1].weight.detach() ** 2).sum()
    found = measured(model, oracles.images(2), oracles.labels(2), "path_norm")[0]["none"]
    assert found == pytest.approx(float(paths), rel=1e-9, abs=0)


class Inside(nn.Module):
    """A network that normalises its images itself, by buffers of its own."""

    def __init__(self, net, how, size):
        super().__init__()
        self.net, self.how = net, how
        self.register_buffer("mean", torch.full(size, 0.3, dtype=torch.float64))
        self.register_buffer("std", torch.full(size, 0.25, dtype=torch.float64))
        self.eval()

    def forward(self, x):
        if self.how == "divided":
            return self.net((x - self.mean) / self.std)
        if self.how == "multiplied":
            return self.net((x - self.mean) * self.std)
        return self.net(x) * self.mean / self.std


@pytest.mark.parametrize("size", [(), (1,), (1, 1, 1, 1)])
def test_path_norm_of_a_network_that_normalises_inside(size):
    net = oracles.conv_net()
    x, y = oracles.images(2), oracles.labels(2)
    expected = measured(net, x, y, "path_norm")[0]["none"] / 0.25**2
    for model in (Inside(net, "divided", size), nn.Sequential(nn.Identity(), Inside(net, "divided", size)).eval()):
        assert measured(model, x, y, "path_norm")[0]["none"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("how", ["multiplied", "of the output"])
def test_path_norm_is_missing_where_mean_and_std_are_something_else(how):
    assert (
        reason(Inside(oracles.conv_net(), how, (1,))) == "the model (Inside): how its parameters enter paths is unknown"
    )


def test_path_norm_of_layers_that_share_their_weights():
    model = oracles.set_weights(nn.Sequential(nn.Flatten(), *(nn.Linear(D, D) for _ in range(3))), seed=3)
    model[2].weight = model[1].weight
    model.append(model[1])  # and a layer that is used twice
    once, last = model[1].weight.detach() ** 2, model[3].weight.detach() ** 2
    expected = float((once @ last @ once @ once).sum())
    assert measured(model, oracles.images(2), oracles.labels(2), "path_norm")[0]["none"] == pytest.approx(expected)


class Casts(nn.Module):
    """A network that computes in float32 whatever it is given, or gives its logits as float32."""

    def __init__(self, net, first):
        super().__init__()
        self.net, self.first = net, first

    def forward(self, x):
        return self.net(x.float()) if self.first else self.net(x).float()


@pytest.mark.parametrize("first", [True, False])
def test_path_norm_of_a_network_that_casts_is_missing(first):
    wanted = "the network computes in torch.float32 whatever its input, wanted torch.float64"
    assert reason(Casts(oracles.relu_net().float() if first else oracles.relu_net(), first)) == wanted
