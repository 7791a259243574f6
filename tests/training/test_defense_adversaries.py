"""Each adversary's start, mode and direction, where the best perturbation is known."""

from dataclasses import replace

import pytest
import torch
from linear_attacks import Linear, batch, inner
from scipy import stats
from torch import nn

from robustgap.training.attacks import start
from robustgap.training.data.batches import TrainingBatch
from robustgap.training.defenses import DEFENSES
from robustgap.training.settings import NA, complete
from robustgap.training.step import train_step


def test_the_attack_knows_nothing_of_label_smoothing():
    model, (x, y, index) = Linear(), batch()
    found = [
        DEFENSES["AT"](complete({"label_smoothing": s})).adversary(model, x, y, inner(index, 3)) for s in (0.0, 0.9)
    ]
    assert torch.equal(*found)


def adversary(name, model, steps, norm="Linf"):
    x, y, index = batch()
    defense = DEFENSES[name](complete({"defense": name}))
    return defense.adversary(model, x, y, inner(index, steps, norm)) - x


def test_standard_trains_on_the_images_themselves():
    assert not adversary("Standard", Linear(), 10).any()


def test_at_starts_uniformly_in_the_ball():
    delta = adversary("AT", Linear(), 0)
    assert stats.kstest(delta.flatten().numpy() / 0.1, stats.uniform(-1, 2).cdf).pvalue > 0.01
    radius = adversary("AT", Linear(), 0, norm="L2").flatten(1).norm(dim=1) / 0.1
    assert stats.kstest((radius**16).numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize("name", ["TRADES", "MART"])
def test_trades_and_mart_start_at_a_small_gaussian(name):
    delta = adversary(name, Linear(), 0)
    assert stats.kstest(delta.flatten().numpy() / 0.001, "norm").pvalue > 0.01


def test_starts_change_with_the_stream_and_are_keyed_by_image():
    x, y, index = batch()
    attack = inner(index, 0)
    first = attack(Linear(), x, y)
    assert torch.equal(attack(Linear(), x, y), first)
    assert not torch.equal(replace(attack, stream=1077)(Linear(), x, y), first)
    half = replace(attack, index=index[200:])(Linear(), x[200:], y[200:])
    assert torch.equal(half, first[200:])


@pytest.mark.parametrize("name", ["AT", "MART", "ALP"])
def test_at_mart_and_alp_maximise_cross_entropy(name):
    """On two linear classes the optimum is eps sign(w_other - w_y), whatever the start."""
    model, (_, y, _) = Linear(), batch()
    towards = (1.0 - 2.0 * y.double()).reshape(-1, 1, 1, 1)
    expected = 0.1 * towards * model.direction.sign()
    torch.testing.assert_close(adversary(name, model, 10), expected, rtol=0, atol=1e-12)


def test_trades_maximises_the_kl_divergence():
    """KL(f(x) || f(x')) grows on both sides of x: the side of the start decides, and the label does not."""
    model = Linear()
    begin = adversary("TRADES", model, 0)
    side = (begin * model.direction).sum((1, 2, 3), keepdim=True).sign()
    expected = 0.1 * side * model.direction.sign()
    torch.testing.assert_close(adversary("TRADES", model, 10), expected, rtol=0, atol=1e-12)
    _, y, _ = batch()
    assert all(((side.flatten() > 0) & (y == k)).sum() > 50 for k in (0, 1))  # both sides, both labels


@pytest.mark.parametrize("name", ["AT", "TRADES", "MART"])
def test_one_step_is_of_size_eps_from_the_start_and_projected(name):
    model, (x, y, index) = Linear(), batch()
    begin = adversary(name, model, 0)
    if name == "AT":
        assert torch.equal(begin + x, x + start(x, index, seed=0, eps=0.1, norm="Linf", stream=78))
    towards = (1.0 - 2.0 * y.double()).reshape(-1, 1, 1, 1)
    if name == "TRADES":
        towards = (begin * model.direction).sum((1, 2, 3), keepdim=True).sign()
    expected = (begin + 0.1 * towards * model.direction.sign()).clamp(-0.1, 0.1)
    torch.testing.assert_close(adversary(name, model, 1), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("alpha", [1.25, 0.5])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_fgsm_rs_is_one_step_of_alpha_eps_from_the_uniform_start_of_at(alpha, norm):
    """The gradient of two linear classes has one direction everywhere, so the step is known."""
    model, (x, y, index) = Linear(), batch()
    defense = DEFENSES["FGSM-RS"](complete({"defense": "FGSM-RS", "fgsm_alpha": alpha}))
    found = defense.adversary(model, x, y, inner(index, 0, norm)) - x
    begin = adversary("AT", model, 0, norm)
    towards = (1.0 - 2.0 * y.double()).reshape(-1, 1, 1, 1)
    if norm == "Linf":
        expected = (begin + alpha * 0.1 * towards * model.direction.sign()).clamp(-0.1, 0.1)
    else:
        there = begin + alpha * 0.1 * towards * model.direction / model.direction.norm()
        expected = there * (0.1 / there.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)).clamp(max=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_fgsm_rs_with_two_eps_is_exact_on_a_linear_model():
    """From any start a step of 2 eps reaches the corner that is optimal there."""
    model, (x, y, index) = Linear(), batch()
    defense = DEFENSES["FGSM-RS"](complete({"defense": "FGSM-RS", "fgsm_alpha": 2.0}))
    found = defense.adversary(model, x, y, inner(index, 0)) - x
    towards = (1.0 - 2.0 * y.double()).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(found, 0.1 * towards * model.direction.sign(), rtol=0, atol=1e-12)


class Spy(nn.Module):
    """A network with BatchNorm and dropout that notes its mode at every forward."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2)).double()
        self.calls = []

    def forward(self, x):
        self.calls.append("train" if self.net[2].training else "eval")
        return self.net(x)


@pytest.mark.parametrize(
    "name, steps, awp, expected",
    [
        ("Standard", NA, False, ["train"]),
        ("Standard", NA, True, ["train"] * 2),
        ("AT", 3, False, ["eval"] * 3 + ["train"]),
        ("AT", 3, True, ["eval"] * 3 + ["train"] * 2),
        ("TRADES", 3, False, ["eval"] * 4 + ["train"] * 2),  # f(x) once for the KL; then f(x) and f(x_adv)
        ("TRADES", 3, True, ["eval"] * 4 + ["train"] * 4),
        ("MART", 3, False, ["eval"] * 3 + ["train"] * 2),
        ("MART", 1, True, ["eval"] + ["train"] * 4),
        ("FGSM-RS", NA, False, ["eval", "train"]),
        ("ALP", 2, True, ["eval"] * 2 + ["train"] * 4),
    ],
)
def test_inner_attacks_run_in_eval_mode_and_leave_the_model_as_it_was(name, steps, awp, expected):
    """Also counted: x_adv is made once, with AWP too."""
    model = Spy().train()
    model.net[3].eval()  # a part that somebody froze keeps its mode
    x, y, index = batch(20)
    settings = complete({"defense": name, "inner_steps": steps, "awp": awp, "eps": "1/10", "lr": 0.01})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    train_step(model, optimizer, TrainingBatch(x, y, index), settings, epoch=0)
    assert model.calls == expected
    assert model.training and model.net[2].training and not model.net[3].training
    assert all(p.requires_grad for p in model.parameters())
