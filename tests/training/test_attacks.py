"""Attacks against the exact optimum on a linear model, the geometry of the projection, and the contract of noise."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from robustgap.training import attacks
from robustgap.training.attacks import ATTACKS, check_range, fgsm, flat_norm, input_gradient, pgd, project, start
from robustgap.training.facts import NORMS

SHAPE = (1, 4, 4)
EPS = {"Linf": 0.1, "L2": 0.5}


class Linear(nn.Module):
    """logits = W x + b in float64. With two classes every loss of the margin is monotone in (w_1 - w_0) x."""

    def __init__(self, classes: int = 2, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.linear = nn.Linear(16, classes).double()
        with torch.no_grad():
            for p in self.linear.parameters():
                p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))

    def forward(self, x):
        return self.linear(x.flatten(1))

    def ascent(self, y):
        """The direction in x along which the cross-entropy of two classes grows: w_other - w_y, (n, 1, 4, 4)."""
        w = self.linear.weight.detach()
        return (w[1 - y] - w[y]).reshape(-1, *SHAPE)


def images(n=40, low=0.0, high=1.0, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = low + (high - low) * torch.rand(n, *SHAPE, generator=generator, dtype=torch.float64)
    return x, torch.randint(2, (n,), generator=generator)


def optimum(model, x, y, norm, eps, sign=1.0):
    """argmax (sign=1) or argmin (-1) of the loss over the ball: in the box too for Linf, where it is separable."""
    w = sign * model.ascent(y)
    if norm == "Linf":
        return (x + eps * w.sign()).clamp(0, 1)
    return x + eps * w / flat_norm(w)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("norm, low, high", [("Linf", 0.2, 0.8), ("Linf", 0.0, 1.0), ("L2", 0.5, 0.5)])
@pytest.mark.parametrize("attack", [pgd, fgsm])
def test_exact_optimum_of_a_linear_model(attack, norm, low, high, targeted):
    """In the interior of the box for both norms; for Linf also where the box cuts the ball."""
    model = Linear()
    x, y = images(low=low, high=high)
    best = optimum(model, x, y, norm, EPS[norm], sign=-1.0 if targeted else 1.0)
    found = attack(model, x, y, eps=EPS[norm], noise=None, norm=norm, targeted=targeted)
    torch.testing.assert_close(found, best, rtol=0, atol=1e-12)


def test_targeted_means_towards_the_label():
    model = Linear()
    x, y = images()
    before = attacks.cross_entropy(model(x), y)
    assert (attacks.cross_entropy(model(pgd(model, x, y, eps=0.1, noise=None)), y) > before).all()
    assert (attacks.cross_entropy(model(pgd(model, x, y, eps=0.1, noise=None, targeted=True)), y) < before).all()


def test_linf_optimum_is_reached_from_any_start():
    """10 steps of eps/4 cross the ball (2.5 eps), so the start is forgotten."""
    model = Linear()
    x, y = images()
    noise = start(x, torch.arange(len(x)), seed=0, eps=0.1, norm="Linf")
    found = pgd(model, x, y, eps=0.1, noise=noise)
    torch.testing.assert_close(found, optimum(model, x, y, "Linf", 0.1), rtol=0, atol=1e-12)


def test_l2_optimum_is_approached_from_a_random_start():
    model = Linear()
    x, y = images(low=0.5, high=0.5)
    noise = start(x, torch.arange(len(x)), seed=0, eps=0.5, norm="L2")
    found = pgd(model, x, y, eps=0.5, noise=noise, norm="L2", steps=100)
    torch.testing.assert_close(found, optimum(model, x, y, "L2", 0.5), rtol=0, atol=1e-6)


def test_any_loss_can_be_attacked():
    """-logit_y of a 5-class linear model: its gradient is -w_y everywhere."""
    model = Linear(classes=5)
    x, y = images(low=0.3, high=0.7)
    found = pgd(model, x, y, eps=0.1, noise=None, loss=lambda logits, y: -logits.gather(1, y[:, None])[:, 0])
    w = model.linear.weight.detach()[y].reshape(x.shape)
    torch.testing.assert_close(found, x - 0.1 * w.sign(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("steps, length", [(1, 1.0), (2, 0.5), (3, 0.75)])
def test_step_is_a_quarter_of_eps_and_eps_for_a_single_step(norm, steps, length):
    model = Linear()
    x, y = images(low=0.5, high=0.5)
    found = pgd(model, x, y, eps=EPS[norm], noise=None, norm=norm, steps=steps)
    best = optimum(model, x, y, norm, length * EPS[norm])
    torch.testing.assert_close(found, best, rtol=0, atol=1e-12)


def test_fgsm_from_a_start_is_projected():
    """The one-step variants take a step of size eps from the start, which can leave the ball, and are projected."""
    model = Linear()
    x, y = images(low=0.5, high=0.5)
    noise = start(x, torch.arange(len(x)), seed=0, eps=0.1, norm="Linf")
    expected = (noise + 0.1 * model.ascent(y).sign()).clamp(-0.1, 0.1)
    found = fgsm(model, x, y, eps=0.1, noise=noise)
    torch.testing.assert_close(found - x, expected, rtol=0, atol=1e-12)
    assert (expected.abs() < 0.0999).any()


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_eps_zero_is_exactly_clean(name):
    x, y = images()
    noise = start(x, torch.arange(len(x)), seed=0, eps=0.0, norm="Linf")
    for given_noise in (None, noise, torch.ones_like(x)):
        assert torch.equal(ATTACKS[name](Linear(), x, y, eps=0, noise=given_noise), x)


@pytest.mark.parametrize("name", sorted(ATTACKS))
@pytest.mark.parametrize("bad", [-1e-3, 1.001, 255.0, float("nan")])
def test_images_outside_the_unit_box_are_refused(name, bad):
    x, y = images(4)
    x[2, 0, 1, 1] = bad
    with pytest.raises(ValueError, match=r"images: found values from .* wanted all inside \[0, 1\]"):
        ATTACKS[name](Linear(), x, y, eps=0.1, noise=None)


def test_range_check_accepts_the_closed_box():
    check_range(torch.tensor([0.0, 1.0]))


def test_unknown_names():
    with pytest.raises(LookupError, match="attack 'pgdd' is unknown; did you mean 'pgd'"):
        ATTACKS["pgdd"]
    x, y = images(2)
    with pytest.raises(ValueError, match="norm: found 'L1', wanted one of Linf, L2"):
        pgd(Linear(), x, y, eps=0.1, noise=None, norm="L1")


@pytest.mark.parametrize("norm", NORMS)
def test_batch_size_and_order_do_not_matter(norm):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4)).double()
    generator = torch.Generator().manual_seed(3)
    for p in model.parameters():
        nn.init.normal_(p, generator=generator)
    x, y = images(30)
    index = torch.arange(100, 130)

    def run(rows):
        noise = start(x[rows], index[rows], seed=0, eps=EPS[norm], norm=norm)
        return pgd(model, x[rows], y[rows], eps=EPS[norm], noise=noise, norm=norm)

    whole = run(torch.arange(30))
    order = torch.randperm(30, generator=generator)
    torch.testing.assert_close(run(order), whole[order], rtol=1e-6, atol=1e-12)
    for size in (1, 7):
        parts = torch.cat([run(rows) for rows in torch.arange(30).split(size)])
        torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-12)


def test_model_is_left_alone():
    model = Linear()
    x, y = images()
    kept = x.clone()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    pgd(model, x, y, eps=0.1, noise=None)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(x, kept) and not x.requires_grad and model.training


def test_input_gradient_is_each_examples_own():
    """Of a two-class linear model: p_other (w_other - w_y); also inside no_grad."""
    model = Linear()
    x, y = images()
    with torch.no_grad():
        gradient = input_gradient(model, x, y)
        other = model(x).softmax(1).gather(1, 1 - y[:, None])
    torch.testing.assert_close(gradient, other.reshape(-1, 1, 1, 1) * model.ascent(y))


@pytest.mark.parametrize("scale", [20.0, 60.0])
def test_float32_sees_the_gradient_of_a_confident_model(scale):
    """A margin of 20 to 60: in float32 the probability of the label rounds to 1."""
    x = torch.tensor([[[[1.0, 0.0]]]])
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = scale * torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    found = input_gradient(nn.Sequential(nn.Flatten(), layer), x, torch.tensor([0]))
    steep = scale * math.exp(-scale)
    assert found.flatten().tolist() == pytest.approx([-steep, steep], rel=1e-4)


def test_vanishing_gradient_leaves_the_start():
    model = Linear()
    nn.init.zeros_(model.linear.weight)
    x, y = images()
    for norm in NORMS:
        assert torch.equal(pgd(model, x, y, eps=0.1, noise=None, norm=norm), x)


points = st.lists(st.floats(0, 1), min_size=6, max_size=6)
anywhere = st.lists(st.floats(-3, 3), min_size=6, max_size=6)


@settings(derandomize=True, deadline=None)
@given(points, anywhere, st.floats(1e-3, 2), st.sampled_from(NORMS), points)
def test_projection(x, z, eps, norm, inside):
    x, z, inside = (torch.tensor(v, dtype=torch.float64).reshape(1, 1, 2, 3) for v in (x, z, inside))
    p = project(x, z, eps, norm)
    order = torch.inf if norm == "Linf" else 2
    assert float((p - x).flatten().norm(order)) <= eps * (1 + 1e-9)
    assert float(p.min()) >= 0 and float(p.max()) <= 1
    torch.testing.assert_close(project(x, p, eps, norm), p, rtol=0, atol=1e-12)  # idempotent
    feasible = project(x, inside, eps, norm)
    torch.testing.assert_close(project(x, feasible, eps, norm), feasible, rtol=0, atol=1e-12)  # feasible points stay
    if norm == "Linf":  # the nearest feasible point: <z - p, q - p> <= 0 for every feasible q
        assert float(((z - p) * (feasible - p)).sum()) <= 1e-9


@pytest.mark.parametrize("norm", NORMS)
def test_start_is_uniform_in_the_ball(norm):
    """Linf: each coordinate U(-eps, eps). L2: (r / eps)^d is U(0, 1) and directions are even."""
    x = torch.zeros(4_000, 1, 2, 2, dtype=torch.float64)
    delta = start(x, torch.arange(len(x)), seed=5, eps=0.3, norm=norm).flatten(1)
    if norm == "Linf":
        assert stats.kstest(delta.flatten().numpy() / 0.3, stats.uniform(-1, 2).cdf).pvalue > 0.01
    else:
        radius = delta.norm(dim=1)
        assert stats.kstest(((radius / 0.3) ** 4).numpy(), "uniform").pvalue > 0.01
        # one coordinate of a uniform direction in 4 dimensions: (u + 1) / 2 ~ Beta(3/2, 3/2)
        unit = delta[:, 0] / radius
        assert stats.kstest(((unit + 1) / 2).numpy(), stats.beta(1.5, 1.5).cdf).pvalue > 0.01


def test_start_is_keyed_by_image_and_stream():
    x = torch.zeros(6, 1, 2, 2)
    index = torch.tensor([9, 4, 7, 1, 0, 3])
    whole = start(x, index, seed=0, eps=0.1, norm="L2")
    order = torch.tensor([5, 0, 2])
    assert torch.equal(start(x[order], index[order], seed=0, eps=0.1, norm="L2"), whole[order])
    assert whole.dtype == x.dtype
    other = start(x, index, seed=0, eps=0.1, norm="L2", stream=attacks.EVALUATION_START)
    assert not torch.isclose(other, whole).any()
