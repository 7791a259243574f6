"""Parts that foreign networks have: scalar parameters, activations with a backward pass of their own."""

import oracles
import pytest
import torch
from torch import nn

from robustgap.measures import evaluate


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
