"""AutoAttack against the library's own evaluation, its components, and itself after it was killed."""

import importlib
import itertools

import pytest
import torch
from oracles import images
from outcome_cases import EPS, SHAPE, attacked, bits, centred, lead_and_reach, limit_library, parts
from torch import Tensor, nn

from robustgap.training.networks.in_parts import InParts
from robustgap.training.outcome_attacks import OUTCOME_ATTACKS
from robustgap.training.outcome_attacks.autoattack import STANDARD, signs


@pytest.fixture
def short(monkeypatch):
    limit_library(monkeypatch, queries=30, steps=5)


def own(model: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float, batch: int, classes: int) -> Tensor:
    """What the library's own evaluation gives. With fewer than ten classes its number of targets is too large."""
    library = importlib.import_module("pyautoattack").AutoAttack(model, eps=eps, norm=norm, seed=0, version="standard")
    library.verbose = False
    library.apgd_targeted.n_target_classes = library.fab.n_target_classes = min(9, classes - 1)
    return library.run_standard_evaluation(x, y, batch_size=batch)[0]


def case(classes: int = 5, n: int = 16) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    model, x = centred(classes, seed=3), images(n, SHAPE).float()
    return model, x, model(x).argmax(1), torch.arange(n)


@pytest.mark.parametrize("norm", EPS)
def test_the_standard_attack_is_its_components_in_turn_and_never_weaker_than_any(norm: str, monkeypatch):
    limit_library(monkeypatch, queries=500)
    model, x, y, index = case(n=40)
    found = parts(model, x, y, index, attack="autoattack", eps=EPS[norm], norm=norm, batch=128)
    assert list(found) == ["apgd_ce", "apgd_t", "fab_t", ""]
    worst = found[""][0]
    assert 0 < worst.sum() < 40
    for name in STANDARD:
        alone = bits(model, x, y, index, name, norm)
        assert not (worst & ~alone).any(), name
        assert name != "apgd_ce" or torch.equal(alone, found["apgd_ce"][0])
    cumulative = [right for right, _ in found.values()]
    assert all(not (after & ~before).any() for before, after in itertools.pairwise(cumulative))
    distance = lead_and_reach(model, x, y, norm).amin(1) / EPS[norm]
    assert worst[distance > 1 + 1e-3].all() and not worst[distance < 1 - 1e-3].any()


@pytest.mark.parametrize("classes", [5, 12])
def test_autoattack_is_the_librarys_own_result(classes: int):
    model, x = centred(classes), images(16, SHAPE).float()
    y, index, state = model(x).argmax(1), torch.arange(16), torch.random.get_rng_state()
    found = attacked(model, x, y, index, attack="autoattack", eps=0.03, norm="Linf", batch=7)[1]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(found, own(model, x, y, "Linf", 0.03, 250, classes))


@pytest.mark.parametrize("norm", EPS)
def test_in_several_batches_too_whose_size_is_part_of_the_draw(norm: str, short):
    model, x, y, index = case(n=30)
    y[::7] = (y[::7] + 1) % 5  # some are wrong from the start
    found = {}
    for size in ("4", "250"):
        *_, last = OUTCOME_ATTACKS["autoattack"](model, x, y, index, EPS[norm], norm, batch=size)
        assert torch.equal(last.x_adv, own(model, x, y, norm, EPS[norm], int(size), 5))
        found[size] = last.x_adv
    assert not torch.equal(found["4"], found["250"])


class Killed(Exception):
    pass


def killing(monkeypatch, attack: str, call: int) -> list[int]:
    """The library is killed within a call, counted from 0, of a component; the list gets an entry for every call."""
    kinds = {
        "apgd_ce": "APGDAttack",
        "apgd_t": "APGDAttack_targeted",
        "fab_t": "FABAttack_PT",
        "square": "SquareAttack",
    }
    kind, calls = getattr(importlib.import_module("pyautoattack.autoattack"), kinds[attack]), []
    perturb = kind.perturb

    def dies(self, x, y):
        calls.append(len(x))
        if len(calls) == call + 1:
            raise Killed
        return perturb(self, x, y)

    monkeypatch.setattr(kind, "perturb", dies)
    return calls


@pytest.mark.parametrize("component, call", [("apgd_ce", 1), ("apgd_t", 0), ("fab_t", 1), ("square", 1)])
def test_a_killed_evaluation_resumes_where_it_was_with_the_same_result(component, call, short, tmp_path, monkeypatch):
    model, x, y, index = case(n=30)
    given = (model, x, y, index, 0.012, "Linf")
    through = list(OUTCOME_ATTACKS["autoattack"](*given, batch="7"))
    seconds = {}
    with pytest.raises(Killed), monkeypatch.context() as patch:
        killing(patch, component, call)
        for part in OUTCOME_ATTACKS["autoattack"](*given, batch="7", state=tmp_path):
            seconds[part.value] = part.seconds
    before = list(STANDARD)[: list(STANDARD).index(component)]
    assert list(seconds) == before
    with monkeypatch.context() as patch:
        calls = {name: killing(patch, name, -1) for name in (*before, component)}
        resumed = list(OUTCOME_ATTACKS["autoattack"](*given, batch="7", state=tmp_path))
    for one, other in zip(through, resumed, strict=True):
        assert one.value == other.value and torch.equal(one.x_adv, other.x_adv)
    assert not any(calls[name] for name in before)
    batches = [file for file in tmp_path.iterdir() if file.name.startswith(f"{component}-")]
    assert len(calls[component]) == len(batches) - call > 0
    assert {part.value: part.seconds for part in resumed if part.value in seconds} == seconds


def test_state_of_another_model_or_a_damaged_file_is_not_used(short, tmp_path):
    model, x, y, index = case()
    for changed in (False, True):
        if changed:
            model[1].weight.data.neg_()
            y = model(x).argmax(1)
        expected = OUTCOME_ATTACKS["apgd_ce"](model, x, y, index, 0.02, "Linf")
        assert torch.equal(OUTCOME_ATTACKS["apgd_ce"](model, x, y, index, 0.02, "Linf", state=tmp_path), expected)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-8])
    assert torch.equal(OUTCOME_ATTACKS["apgd_ce"](model, x, y, index, 0.02, "Linf", state=tmp_path), expected)
    expected = OUTCOME_ATTACKS["apgd_ce"](model, x, y, index, 0.03, "Linf")
    assert torch.equal(OUTCOME_ATTACKS["apgd_ce"](model, x, y, index, 0.03, "Linf", state=tmp_path), expected)


def test_targeted_apgd_wants_four_classes():
    x, y = images(4, SHAPE).float(), torch.arange(4) % 3
    for attack in ("apgd_t", "autoattack"):
        with pytest.raises(ValueError, match="AutoAttack: found 3 classes, wanted at least 4"):
            bits(centred(3), x, y, torch.arange(4), attack, "Linf")


class Hidden(nn.Module):
    def __init__(self, network: nn.Module, hidden):
        super().__init__()
        self.network, self.hidden = network, hidden

    def forward(self, x: Tensor) -> Tensor:
        return self.hidden(self.network, x)


def optimized(network: nn.Module, x: Tensor) -> Tensor:
    with torch.enable_grad():
        moved = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(network(moved).sum(), moved)
    return network(x - 1e-3 * gradient)


HIDDEN = {
    "randomized defense": lambda net, x: net(x + 0.1 * torch.rand_like(x)),
    "output is a probability distribution": lambda net, x: net(x).softmax(dim=1),
    "dynamic defense": optimized,
    "16 points with zero gradient": lambda net, x: net((8 * x).round() / 8),
    "16 points with zero": lambda net, x: net(x.detach()),
}


@pytest.mark.parametrize("told", HIDDEN)
def test_signs_are_the_warnings_of_the_librarys_checks(told: str):
    model, x, y, index = case()
    state = torch.random.get_rng_state()
    assert told in signs(Hidden(model, HIDDEN[told]).eval(), x, y, index, 0.02, "Linf")
    assert signs(model, x, y, index, 0.02, "Linf") == "" and not x.requires_grad  # nor what was seen before it
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_network_in_parts_is_the_network_and_never_sees_more():
    seen = []
    network = centred(5).double()
    network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    x = images(20, SHAPE).requires_grad_()
    logits = InParts(network, 6)(x)
    (gradient,) = torch.autograd.grad(logits.square().sum(), x)
    assert set(seen) == {6, 2} and len(seen) == 2 * 4
    with torch.no_grad():
        assert torch.equal(InParts(network, 6)(x), logits)
    torch.testing.assert_close(network(x), logits)
    torch.testing.assert_close(torch.autograd.grad(network(x).square().sum(), x)[0], gradient)
