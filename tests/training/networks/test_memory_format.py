"""Networks are laid out channels last, except where that corrupts memory."""

import pytest
import torch

from robustgap.training.data.datasets import load
from robustgap.training.networks.architectures import build
from robustgap.training.networks.memory_format import channels_last
from robustgap.training.settings import complete


def network(width: int) -> torch.nn.Module:
    settings = complete({"data": "digits", "architecture": "resnet18", "width": width, "eps": "1/10"})
    return build(settings, load("digits"))


@pytest.mark.parametrize(("width", "moved"), [(4, False), (7, False), (8, True)])
def test_a_residual_network_is_moved_unless_its_shortcuts_are_too_narrow(width: int, moved: bool):
    weights = channels_last(network(width)).state_dict().values()
    deep = [w for w in weights if w.dim() == 4 and min(w.shape[1:]) > 1]
    assert deep and all(w.is_contiguous(memory_format=torch.channels_last) == moved for w in deep)


def test_gradients_of_a_narrow_network_are_those_of_float64():
    torch.manual_seed(0)
    model = network(4).eval()
    x, y = torch.rand(8, 1, 8, 8), torch.arange(8)
    exact = network(4).double().eval()
    exact.load_state_dict(model.state_dict())
    for one, images in ((channels_last(model), x), (exact, x.double())):
        torch.nn.functional.cross_entropy(one(images), y).backward()
    for found, wanted in zip(model.parameters(), exact.parameters(), strict=True):
        assert torch.allclose(found.grad.double(), wanted.grad, rtol=1e-3, atol=1e-6)
