"""Attacks of outcomes against optima that can be written down, and against the library itself."""

import pytest
import torch
from linear_attacks import Linear, batch
from oracles import images, linear
from outcome_cases import EPS, SHAPE, Linear64, attacked, bits, centred, lead_and_reach, limit_library
from torch import Tensor, nn

from robustgap.training import attacks
from robustgap.training.data.datasets import load
from robustgap.training.outcome_attacks.deepfool import OVERSHOOT

OPTIMAL = ["pgd50x10", "apgd_ce", "fab_t", "deepfool"]  # on a linear model of two classes


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("attack", OPTIMAL)
def test_a_linear_model_is_wrong_where_its_boundary_is_within_reach(attack: str, norm: str):
    """No image of the ball meets the border of [0, 1], so that the nearest boundary decides."""
    model, x, y = centred(2), images(120, SHAPE).float(), torch.arange(120) % 2
    distance = lead_and_reach(model, x, y, norm).amin(1) / EPS[norm]
    right = bits(model, x, y, torch.arange(120), attack, norm)
    near = (
        0.9 if attack == "square" else 1 / (1 + 2 * OVERSHOOT)
    )  # a random search whose queries end, and the overshoot
    assert right[distance > 1 + 1e-4].all() and not right[distance < near].any()
    assert (distance > 1.1).sum() > 10 and ((distance > 0) & (distance < near)).sum() > 15


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("attack", ["uniform_noise", "gaussian_noise"])
def test_noise_has_the_size_of_the_attack_and_no_direction(attack: str, norm: str):
    x, y, index = batch(300)
    moved = attacked(Linear().eval(), x, y, index, attack=attack, eps=EPS[norm], norm=norm, batch=64)[1] - x
    flat = moved.flatten(1)
    size = (flat.abs().amax(1) if norm == "Linf" else flat.norm(dim=1)) / EPS[norm]
    assert size.max() <= 1 + 1e-12
    if attack == "gaussian_noise":
        torch.testing.assert_close(size, torch.ones_like(size))
    else:
        assert size.min() > 0.3
    cosines = (flat / flat.norm(dim=1, keepdim=True)) @ (Linear().direction / Linear().direction.norm()).flatten()
    assert abs(cosines.mean()) < 4 * cosines.std() / 300**0.5


def test_restarts_find_what_one_start_does_not():
    """Two bumps of the loss: the start decides which is climbed, and one of them is below the boundary."""

    class Bumps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            t = (x.flatten(1)[:, 0] - 0.5) / 0.1  # -1 to 1 in the ball
            wrong = 1.2 * torch.exp(-((t - 0.8) ** 2) / 0.02) + 0.8 * torch.exp(-((t + 0.4) ** 2) / 0.5)
            return torch.stack([torch.ones_like(wrong), wrong], dim=1)

    x, y = torch.full((200, 1, 1, 1), 0.5, dtype=torch.float64), torch.zeros(200, dtype=torch.long)
    options = {"eps": 0.1, "norm": "Linf", "batch": 64}
    once = attacked(Bumps().eval(), x, y, torch.arange(200), attack="pgd10", **options)[0]
    often, ends = attacked(Bumps().eval(), x, y, torch.arange(200), attack="pgd50x10", **options)
    assert once.sum() > 180 and often.sum() < 120
    assert ((ends - x).abs() <= 0.1 + 1e-12).all()
    loss = attacks.cross_entropy(Bumps()(ends), y)
    assert (loss >= attacks.cross_entropy(Bumps()(x), y)).all()


def test_deepfool_goes_to_the_nearest_boundary_and_no_further():
    model, x, index = centred(4, seed=5).double(), images(40, SHAPE), torch.arange(40)
    y = model(x).argmax(1)
    distance = lead_and_reach(model, x, y, "L2")
    moved = attacked(model, x, y, index, attack="deepfool", eps=10.0, norm="L2", batch=9)[1]
    length = (moved - x).flatten(1).norm(dim=1)
    inside = ((moved > 0) & (moved < 1)).flatten(1).all(1)
    assert inside.sum() > 20
    torch.testing.assert_close(length[inside], (1 + OVERSHOOT) * distance.amin(1)[inside])


@pytest.mark.parametrize("norm", EPS)
def test_square_finds_most_of_what_it_could_where_the_gradient_is_smooth(norm: str, monkeypatch):
    """The best perturbation of a model whose gradient is the same on each half of the image is two rectangles."""
    limit_library(monkeypatch, queries=1500)
    halves = torch.ones(1, 8, 8, dtype=torch.float64)
    halves[:, :, 4:] = -1
    model = linear(torch.stack([halves.flatten(), -halves.flatten()])).float()
    x, y = images(60, SHAPE).float(), torch.arange(60) % 2
    distance = lead_and_reach(model, x, y, norm).amin(1) / EPS[norm]
    right = bits(model, x, y, torch.arange(60), "square", norm)
    assert right[distance > 1 + 1e-4].all() and not right[distance < 0.5].any()
    assert (distance > 1.1).sum() > 3 and ((distance > 0) & (distance < 0.5)).sum() > 5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("norm, eps", [("Linf", 0.05), ("L2", 1.0)])
def test_deepfool_hangs_on_no_rounding_where_clipping_keeps_it_at_the_boundary(norm: str, eps: float, dtype):
    """Half of the pixels of a digit are 0. Where a step would take them below, it ends short of the boundary, and so do
    those after it, ever closer."""
    splits = load("digits")
    x, y, index = splits.floats(splits.train.images[:80]).to(dtype), splits.train.labels[:80], torch.arange(80)
    model = Linear64().to(dtype).eval()
    model.forward = lambda x: model.last(torch.tanh(model.first(x.flatten(1))))
    y = torch.where(index % 2 == 0, y, model(x).argmax(1))
    order = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    given = {"attack": "deepfool", "eps": eps, "norm": norm}
    right = attacked(model, x, y, index, **given, batch=250)[0]
    assert right.any() or norm == "L2"
    for rows, size in ((index, 1), (index, 7), (order, 16)):
        assert torch.equal(attacked(model, x[rows], y[rows], index[rows], **given, batch=size)[0], right[rows])
