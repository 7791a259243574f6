"""Measures of curvature in the weights against Hessians and gradients written out, within 1 %."""

import math

import oracles
import pytest
import torch
from oracles import EPS, measured
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from robustgap.measures import evaluate, hessian_top, hessian_trace
from robustgap.measures._noise import gaussian_noise, rademacher_noise
from robustgap.measures.core import Batch

MODELS = [oracles.relu_net, oracles.conv_net]


def flat_loss(model, x, y):
    """The mean cross-entropy as a function of all parameters in one vector, and that vector."""
    names, shapes = zip(*((name, p.shape) for name, p in model.named_parameters()), strict=True)

    def loss(vector):
        parts = vector.split([shape.numel() for shape in shapes])
        weights = {name: part.reshape(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return F.cross_entropy(functional_call(model, weights, (x,)), y)

    return loss, torch.cat([p.detach().flatten() for p in model.parameters()])


def full_hessian(model, x, y):
    return torch.autograd.functional.hessian(*flat_loss(model, x, y))


def quadratic_forms(hessian_of, model, x, y):
    """(1/16) sum_g (1/3) sum_j v_gj^T H_g v_gj, H_g the Hessian of the mean loss of group g, written out."""
    found = []
    for group, (images, labels, weight, _) in enumerate(hessian_trace.image_groups([batch_of(x, y)])):
        hessian = weight * len(images) * hessian_of(model, images, labels)
        for draw in range(3 * group, 3 * group + 3):
            signs = rademacher_noise(dict(model.named_parameters()), 0, hessian_trace.STREAM, draw)
            v = torch.cat([tensor.flatten() for tensor in signs.values()])
            found.append(v @ hessian @ v)
    assert len(found) == 48
    return float(torch.stack(found).mean())


def batch_of(x, y):
    return Batch(x, x, y, torch.arange(len(x)), EPS, "Linf", 0, "clean")


def data(n=24):
    x, y = oracles.images(n), oracles.labels(n)
    return x, y, (x + EPS * torch.sign(oracles.draw(*x.shape, seed=3))).clamp(0, 1)


@pytest.mark.parametrize("make", MODELS)
def test_hessian_top_against_all_eigenvalues(make):
    model, (x, y, x_adv) = make(), data()
    expected = {
        variant: float(torch.linalg.eigvalsh(full_hessian(model, images, y))[-1])
        for variant, images in (("clean", x), ("adversarial", x_adv))
    }
    value, _ = measured(model, x, y, "hessian_top", adversarial=x_adv, batch_size=10)
    assert value == pytest.approx(expected, rel=0.01)


def test_hessian_top_is_the_largest_and_not_the_largest_in_absolute_value():
    rotation = torch.linalg.qr(oracles.draw(6, 6, seed=1))[0]
    hessian = rotation @ torch.diag(torch.tensor([-5.0, -1.0, 0.0, 0.3, 0.9, 1.0]).double()) @ rotation.T
    model = oracles.QuadraticLoss(hessian, oracles.draw(6, seed=2, scale=0.1), constant=1.0)
    value, _ = measured(model, oracles.images(3), torch.zeros(3, dtype=torch.int64), "hessian_top")
    assert value["clean"] == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("seed", range(12))
def test_the_top_is_not_taken_for_one_of_many_eigenvalues_just_below_it(seed):
    """1 % of the spectrum at 8 below a single 10, the rest in [0, 1]: a loose or early stop finds 8."""
    generator = torch.Generator().manual_seed(1)
    spectrum = torch.rand(20_000, generator=generator, dtype=torch.float64)
    spectrum[:200], spectrum[200] = 8.0, 10.0
    start = {"w": torch.randn(20_000, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)}
    found = hessian_top.lanczos(lambda vector: {"w": spectrum * vector["w"]}, start)
    assert found == pytest.approx(10.0, rel=1e-3)


def test_hessian_top_says_when_it_did_not_converge(monkeypatch):
    monkeypatch.setattr(hessian_top, "STEPS", 2)
    x, y, x_adv = data()
    table = evaluate(oracles.relu_net(), x, y, ["hessian_top"], eps=EPS, adversarial=x_adv)
    assert table["value"].isna().all()
    assert table["reason"].str.match(r"Lanczos did not converge: eigenvalue .* \+- .* after 2 steps").all()


@pytest.mark.parametrize("make", MODELS)
def test_hessian_trace_is_the_mean_of_quadratic_forms_with_the_whole_hessian(make):
    model, (x, y, x_adv) = make(), data()
    expected = {
        variant: quadratic_forms(full_hessian, model, images, y)
        for variant, images in (("clean", x), ("adversarial", x_adv))
    }
    value, se = measured(model, x, y, "hessian_trace", adversarial=x_adv, batch_size=10)
    assert value == pytest.approx(expected, rel=1e-6)
    assert abs(value["clean"] - float(full_hessian(model, x, y).trace())) < 3 * se["clean"]


def test_hessian_trace_of_a_diagonal_hessian_is_exact_in_every_draw():
    diagonal = torch.tensor([3.0, 0.5, -0.25, 2.0]).double()
    model = oracles.QuadraticLoss(torch.diag(diagonal), oracles.draw(4, seed=2), constant=2.0)
    value, se = measured(model, oracles.images(3), torch.zeros(3, dtype=torch.int64), "hessian_trace")
    assert value["clean"] == pytest.approx(float(diagonal.sum()), rel=1e-9)
    assert se["clean"] == pytest.approx(0.0, abs=1e-9)


def test_random_signs_and_normal_numbers():
    weights = {name: torch.zeros(300, 200, dtype=torch.float64) for name in ("first", "second")}
    signs, next_draw = (rademacher_noise(weights, 0, 1, draw) for draw in (0, 1))
    assert set(signs["first"].flatten().tolist()) == {-1.0, 1.0}
    for product in (signs["first"], signs["first"] * next_draw["first"], signs["first"] * signs["second"]):
        assert abs(float(product.mean())) < 3 / 60_000**0.5
    assert float(gaussian_noise(weights, 0, 1, 0)["first"].std()) == pytest.approx(1.0, rel=0.01)


class Attention(nn.Module):
    """Each row of the image is a token; attention, LayerNorm and GELU, all twice differentiable."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, activation="gelu", batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.encoder(x.flatten(1).reshape(len(x), 4, 4)).mean(dim=1))


def test_second_derivatives_through_attention_and_layer_norm_against_finite_differences():
    model, (x, y, x_adv) = oracles.set_weights(Attention(), seed=1), data()

    def differences(model, x, y):
        loss, w = flat_loss(model, x, y)
        slope = lambda vector: torch.autograd.functional.jacobian(loss, vector)  # noqa: E731
        return torch.stack([slope(w + row) - slope(w - row) for row in 1e-5 * torch.eye(len(w)).double()]) / 2e-5

    hessian = differences(model, x, y)
    found = evaluate(model, x, y, ["hessian_trace", "hessian_top"], eps=EPS, adversarial=x_adv)
    found = found.set_index(["measure", "variant"])["value"]
    expected = quadratic_forms(differences, model, x, y)
    assert found["hessian_trace", "clean"] == pytest.approx(expected, rel=1e-3)
    top = float(torch.linalg.eigvalsh((hessian + hessian.T) / 2)[-1])
    assert found["hessian_top", "clean"] == pytest.approx(top, rel=0.01)


@pytest.mark.parametrize("make", MODELS)
def test_relative_flatness_against_the_hessian_of_the_last_layer(make):
    model, (x, y, x_adv) = make(), data()
    weight, name = model[-1].weight.detach(), f"{len(model) - 1}.weight"

    def expected(images):
        hessian = torch.autograd.functional.hessian(
            lambda w: F.cross_entropy(functional_call(model, {name: w}, (images,)), y), weight
        )  # (s, j, t, k)
        return float((torch.einsum("sjtj->st", hessian) * (weight @ weight.T)).sum())

    value, _ = measured(model, x, y, "relative_flatness", adversarial=x_adv, batch_size=10)
    assert value == pytest.approx({"clean": expected(x), "adversarial": expected(x_adv)}, rel=1e-6)


class Tempered(nn.Sequential):
    def forward(self, x):
        return super().forward(x) / 2


def test_relative_flatness_of_a_confident_model_does_not_cancel():
    """Two classes, p = sigma(m): ||phi||^2 p (1 - p) ||w_0 - w_1||^2; in float32, at a loss of 1e-7."""
    layer = nn.Linear(16, 2)
    with torch.no_grad():
        layer.weight.copy_(oracles.draw(2, 16, seed=3).float())
        layer.bias.copy_(torch.tensor([16.0, 0.0]) - layer.weight.sum(dim=1) / 2)
    model, x, y = nn.Sequential(nn.Flatten(), layer).eval(), torch.full((5, 1, 4, 4), 0.5), torch.zeros(5).long()
    weight = layer.weight.detach().double()
    lead = float((weight[0] - weight[1]).sum()) * 0.5 + float((layer.bias[0] - layer.bias[1]).detach())
    spread = 1 / (2 + math.exp(lead) + math.exp(-lead)) * float((weight[0] - weight[1]).square().sum())
    value, _ = measured(model, x, y, "relative_flatness")
    assert lead == pytest.approx(16.0) and value["clean"] == pytest.approx(16 * 0.25 * spread, rel=1e-3)


@pytest.mark.parametrize("last", ["convolution", "temperature"])
def test_relative_flatness_is_missing_where_the_logits_come_from_no_linear_layer(last):
    model = nn.Sequential(nn.Conv2d(1, 3, 4), nn.Flatten()).double()
    if last == "temperature":
        model = Tempered(nn.Flatten(), nn.Linear(16, 3)).double()
    x, y, x_adv = data()
    table = evaluate(model.eval(), x, y, ["relative_flatness"], eps=EPS, adversarial=x_adv)
    assert set(table["reason"]) == {"the logits are not the output of a linear layer"}


def test_fisher_rao_of_a_relu_net_without_biases_is_its_closed_form():
    """L sqrt(E <dCE/df, f>^2) for L layers (Liang et al., 2019), dCE/df = softmax(f) - e_y."""
    model, (x, y, x_adv) = oracles.relu_net(), data()
    nn.init.zeros_(model[1].bias)
    nn.init.zeros_(model[3].bias)

    def expected(images):
        f = model(images).detach()
        return 2 * float(((f.softmax(dim=1) - F.one_hot(y, 3)) * f).sum(dim=1).square().mean().sqrt())

    value, _ = measured(model, x, y, "fisher_rao", adversarial=x_adv, batch_size=10)
    assert value == pytest.approx({"clean": expected(x), "adversarial": expected(x_adv)}, rel=1e-6)


@pytest.mark.parametrize("make", MODELS)
def test_fisher_rao_is_the_form_of_the_weights_with_the_empirical_fisher_matrix(make):
    model, (x, y, x_adv) = make(), data()
    _, w = flat_loss(model, x, y)
    gradients = torch.stack(
        [torch.autograd.functional.jacobian(flat_loss(model, x[i : i + 1], y[i : i + 1])[0], w) for i in range(24)]
    )
    value, se = measured(model, x, y, "fisher_rao", adversarial=x_adv, batch_size=10)
    assert value["clean"] == pytest.approx(math.sqrt(float(w @ (gradients.T @ gradients / 24) @ w)), rel=1e-6)
    assert math.isnan(se["clean"])  # a sample that has not met the few images that hold most of it cannot tell
