"""Parts that foreign networks have: scalar parameters, activations with a backward pass of their own."""

import copy

import oracles
import pytest
import torch
from measure_rows import start
from torch import nn

from robustgap.measures import evaluate
from robustgap.measures._code import names
from robustgap.measures.core import load


class OwnSiLU(torch.autograd.Function):
    """x sigmoid(x) with its derivative written down, as DeepMind's networks have it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x.sigmoid() * (1 + x * (1 - x.sigmoid()))


class Smooth(nn.Module):
    """SiLU, by its own function or torch's, with a scalar slope as in PSSiLU, or a slope of one entry."""

    def __init__(self, own, shape):
        super().__init__()
        self.own, self.slope = own, nn.Parameter(torch.full(shape, 1.2, dtype=torch.float64))

    def forward(self, x):
        x = self.slope * x
        return OwnSiLU.apply(x) if self.own else nn.functional.silu(x)


@pytest.mark.parametrize(("own", "shape"), [(True, (1,)), (False, ()), (True, ())])
def test_gradient_noise_is_that_of_the_same_function_in_common_parts(own, shape, data):
    def network(own, shape):
        model = oracles.relu_net()
        model[2] = Smooth(own, shape)
        return model.eval()

    both = network(own, shape), network(False, (1,))
    found, wanted = (evaluate(net, *data, "gradient_noise", eps=0.05)["value"].tolist() for net in both)
    assert found == pytest.approx(wanted, rel=1e-6)


NORMS = [name for name in names() if load(name).family == "norm" and "batches" not in load(name).needs]
PARTS = nn.utils.parametrizations


@pytest.mark.parametrize("kind", [PARTS.spectral_norm, PARTS.weight_norm])
def test_norms_of_parametrized_layers_are_those_of_the_weights_they_compute(kind, data):
    """Distances from the start are missing: a state dictionary does not hold these weights."""
    model, plain = oracles.conv_net(), oracles.conv_net()
    with torch.no_grad():
        for place in (0, -1):
            plain[place].weight.copy_(kind(model[place]).eval().weight)
    asked = [name for name in NORMS if "initial" not in load(name).needs and name not in ("path_norm", "num_params")]
    found, wanted = (evaluate(net, *data, asked, eps=0.05) for net in (model, plain))
    assert wanted["value"].notna().all()
    assert found["value"].tolist() == pytest.approx(wanted["value"].tolist(), rel=1e-6)
    (row,) = evaluate(model, *data, "path_norm", eps=0.05).to_dict("records")
    assert row["reason"] == "0 (ParametrizedConv2d): how its parameters enter paths is unknown"


class Patches(nn.Module):
    """A vision transformer of one layer, with positions as a parameter."""

    def __init__(self):
        super().__init__()
        self.patch, self.position = nn.Conv2d(1, 8, 2, 2), nn.Parameter(torch.randn(1, 4, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layer(self.patch(x).flatten(2).transpose(1, 2) + self.position).mean(dim=1))


class Recurrent(nn.Module):
    """An LSTM over the rows of the images."""

    def __init__(self):
        super().__init__()
        self.rows, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.rows(x[:, 0])[0][:, -1])


@pytest.mark.parametrize(
    ("make", "norm", "path"),
    [
        (Patches, "the model (Patches) is no linear layer or convolution: no matrix for its parameter position", ""),
        (Recurrent, "rows (LSTM) is no linear layer or convolution: no matrix for its parameter weight_ih_l0", "rows "),
    ],
)
def test_reasons_name_the_module(make, norm, path, data):
    model = oracles.set_weights(make(), seed=1)
    asked = [name for name in NORMS if name not in ("l2_dist", "num_params")]
    table = evaluate(model, *data, asked, eps=0.05, initial=start(model)).set_index("measure")["reason"]
    kind = f"{path}(LSTM)" if path else "the model (Patches)"
    assert table.pop("path_norm") == f"{kind}: how its parameters enter paths is unknown"
    assert set(table) == {norm}


def test_weights_of_a_recurrent_network_are_perturbed_and_left(data):
    model = oracles.set_weights(Recurrent(), seed=1)
    state = copy.deepcopy(model.state_dict())
    asked = ["average_flat", "worst_flat", "adaptive_sharpness_average", "estimate_sharpness", "fisher_rao"]
    table = evaluate(model, *data, asked, eps=0.05)
    assert table["value"].notna().all()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
