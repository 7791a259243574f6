"""The caller's model is left exactly as it was, whatever it shares, hooks or parametrizes, and whatever raises."""

import oracles
import pytest
import torch
from measure_rows import ATTACKED, rows
from torch import nn
from torch.nn.utils import parametrizations

from robustgap.measures._code import names

NAMES = names()


def remember(layer, inputs, output):
    """A hook that keeps the last output in its module, as feature extractors do."""
    layer.seen = output


class Shared(nn.Module):
    """A PReLU and a BatchNorm used twice, tied weights, parametrized layers, a hook, and a layer without gradient.

    twice: the modules that are used again are registered again, under names of their own.
    """

    def __init__(self, twice: bool = True, stop: bool = False):
        super().__init__()
        self.first = parametrizations.weight_norm(nn.Linear(oracles.D, 6))
        self.act, self.norm = nn.PReLU(), nn.BatchNorm1d(6)
        self.second = parametrizations.spectral_norm(nn.Linear(6, 6))
        self.third, self.tied = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
        self.tied.weight = self.third.weight
        self.last = nn.Linear(6, oracles.CLASSES)
        if twice:
            self.act_again, self.norm_again, self.third_again = self.act, self.norm, self.third
        self.twice, self.stop = twice, stop
        self.third.register_forward_hook(remember)
        oracles.set_weights(self, seed=4)
        self.third.seen = None
        self.first.bias.requires_grad_(False)
        self.last.weight.grad = torch.ones_like(self.last.weight)

    def forward(self, x):
        act = self.act_again if self.twice else self.act
        norm = self.norm_again if self.twice else self.norm
        x = self.norm(self.act(self.first(x.flatten(1))))
        x = self.third(norm(act(self.second(x))))
        if self.stop and torch.is_grad_enabled():
            raise RuntimeError("no gradient beyond here")
        third = self.third_again if self.twice else self.third
        return self.last(self.tied(act(third(x))))


def state(model):
    """Every object that a module holds under every name, and of tensors place, version, value, flag and gradient."""
    found = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        for key, value in vars(module).items():
            inside = list(value.items()) if isinstance(value, dict) else []
            found[prefix, key] = id(value), [(name, id(part)) for name, part in inside]
            for name, tensor in inside:
                if isinstance(tensor, torch.Tensor):
                    facts = tensor.data_ptr(), tensor._version, tensor.requires_grad, id(tensor.grad)
                    found[prefix, key, name] = (*facts, tensor.detach().tolist())
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stop", [False, True], ids=["", "stops"])
def test_the_model_is_left_exactly_as_it_was(name, stop, data):
    model = Shared(stop=stop)
    with torch.no_grad():
        wanted = model(data[0])
    before = state(model)
    rows(model, *data, name)
    assert state(model) == before
    with torch.no_grad():  # classes, too, are what they were
        assert torch.equal(model(data[0]), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_the_value_does_not_depend_on_the_names_under_which_a_module_is_used_again(name, data):
    once, twice = rows(Shared(twice=False), *data, name), rows(Shared(), *data, name)
    assert twice["reason"].tolist() == once["reason"].tolist()
    for variant in once.index:
        wanted = pytest.approx(once.loc[variant, "value"], rel=ATTACKED[variant], nan_ok=True)
        assert twice.loc[variant, "value"] == wanted


def test_what_a_model_writes_into_its_buffers_is_undone(data):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return x.flatten(1)[:, : oracles.CLASSES]

    model = Counting().eval()
    assert rows(model, *data, "average_ce")["value"].notna().all()
    assert model.calls == 0
