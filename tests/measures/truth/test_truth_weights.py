"""Measures of flatness and of norms against a closed form or an independent computation, within 1 %."""

import itertools
import math

import numpy as np
import oracles
import pytest
import torch
from oracles import EPS, measured, two_classes
from torch import nn
from torch.nn import functional as F

from robustgap.measures import average_flat, evaluate
from robustgap.measures._noise import sphere_noise
from robustgap.training import keyed


@pytest.mark.parametrize("batch_size", [64, 7])
def test_w_grad_norm_of_a_linear_model_is_that_of_the_whole_set(batch_size):
    model, weight, bias, x, y, x_adv = two_classes()

    def expected(images):
        residual = (images.flatten(1) @ weight.T + bias).softmax(dim=1) - F.one_hot(y, 2)
        return math.hypot(float((residual.T @ images.flatten(1) / 64).norm()), float(residual.mean(dim=0).norm()))

    value, _ = measured(model, x, y, "w_grad_norm", batch_size=batch_size)
    assert value == pytest.approx({"clean": expected(x), "adversarial": expected(x_adv)}, rel=1e-6)


def quadratic(seed=11, d=12):
    root = oracles.draw(d, d, seed=seed, scale=0.3)
    return root @ root.T, oracles.draw(d, seed=seed + 1, scale=0.5)


def test_w_grad_norm_of_a_quadratic_loss():
    hessian, weight = quadratic()
    x, y = oracles.images(4), torch.zeros(4, dtype=torch.int64)
    value, _ = measured(oracles.QuadraticLoss(hessian, weight), x, y, "w_grad_norm")
    assert value["clean"] == pytest.approx(float((hessian @ weight).norm()), rel=1e-9)


def test_estimate_sharpness_of_a_quadratic_loss():
    """L(w + rho g/||g||) - L(w) = rho ||g|| + rho^2 g^T H g / (2 ||g||^2)."""
    hessian, weight = quadratic()
    g = hessian @ weight
    expected = 0.05 * float(g.norm()) + 0.05**2 * float(g @ hessian @ g) / (2 * float(g @ g))
    x, y = oracles.images(4), torch.zeros(4, dtype=torch.int64)
    value, _ = measured(oracles.QuadraticLoss(hessian, weight), x, y, "estimate_sharpness")
    assert value == pytest.approx({"clean": expected, "adversarial": expected}, rel=1e-9)


def test_estimate_sharpness_of_a_linear_model_on_fixed_adversarial_images():
    model, weight, bias, x, y, x_adv = two_classes()

    def expected(images):
        flat, target = torch.cat([images.flatten(1), torch.ones(64, 1)], dim=1), F.one_hot(y, 2)
        w = torch.cat([weight, bias[:, None]], dim=1)
        loss = lambda w: -(F.log_softmax(flat @ w.T, dim=1) * target).sum(dim=1).mean()  # noqa: E731
        gradient = ((flat @ w.T).softmax(dim=1) - target).T @ flat / 64
        return float(loss(w + 0.05 * gradient / gradient.norm()) - loss(w))

    value, _ = measured(model, x, y, "estimate_sharpness", batch_size=10)
    assert value == pytest.approx({"clean": expected(x), "adversarial": expected(x_adv)}, rel=1e-6)


def test_average_flat_of_a_quadratic_loss():
    """In the direction of w the loss is flat, elsewhere H = c: E rise = c xi^2 ||w||^2 (1 - 1/d) / 2."""
    d, c = 2000, 0.8
    weight = oracles.draw(d, seed=13, scale=0.03)
    along = weight / weight.norm()
    hessian = c * (torch.eye(d, dtype=torch.float64) - torch.outer(along, along))
    expected = c * 0.5**2 * float(weight @ weight) * (1 - 1 / d) / 2
    x, y = oracles.images(2), torch.zeros(2, dtype=torch.int64)
    value, _ = measured(oracles.QuadraticLoss(hessian, weight), x, y, "average_flat")
    assert value == pytest.approx({"clean": expected, "adversarial": expected}, rel=0.01)


def test_average_flat_of_a_linear_model_redoes_the_attack_on_the_noisy_weights():
    """The robust loss of a two-class linear model is known: evaluate it at the five pairs of noisy weights."""
    model, weight, bias, x, y, _ = two_classes()
    rises = {"clean": [], "adversarial": []}
    for draw, sign in itertools.product(range(5), (1, -1)):
        noisy = []
        for place, tensor in enumerate((weight, bias)):
            v = keyed.normal(0, average_flat.STREAM + place, torch.tensor([draw]), (tensor.numel(),)).reshape(
                tensor.shape
            )
            noisy.append(tensor + sign * 0.5 * tensor.norm() * v / v.norm())
        for variant, eps in (("clean", 0.0), ("adversarial", EPS)):
            rise = oracles.robust_loss_linear(*noisy, x, y, eps) - oracles.robust_loss_linear(weight, bias, x, y, eps)
            rises[variant].append(rise)
    value, se = measured(model, x, y, "average_flat")
    assert value == pytest.approx({k: float(torch.stack(v).mean()) for k, v in rises.items()}, rel=1e-6)
    by_image, by_draw = torch.stack(rises["clean"]).mean(dim=0), torch.stack(rises["clean"]).mean(dim=1)
    by_pair = by_draw.reshape(5, 2).mean(dim=1)
    assert se["clean"] == pytest.approx(math.hypot(by_image.std() / 8, by_pair.std() / 5**0.5), rel=1e-6)


def test_average_flat_noise_is_uniform_on_the_sphere_and_spares_normalisation():
    weights = {"w": torch.tensor([3.0, 4.0], dtype=torch.float64)}
    noise = torch.stack([sphere_noise(weights, average_flat.XI, 0, 5, draw)["w"] for draw in range(500)])
    assert noise.norm(dim=1).numpy() == pytest.approx(0.5 * 5.0, rel=1e-12)
    assert noise.mean(dim=0).norm() < 3 * 2.5 / 500**0.5
    assert (noise.T @ noise / 500).numpy() == pytest.approx(2.5**2 / 2 * np.eye(2), abs=0.4)
    batchnorm_only = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten()).double()
    model = oracles.set_weights(batchnorm_only, seed=2)
    value, _ = measured(model, oracles.images(8), oracles.labels(8), "average_flat")
    assert value["clean"] == 0.0


def with_singular_values(rows, columns, values, seed):
    u = torch.linalg.qr(oracles.draw(rows, rows, seed=seed))[0][:, : len(values)]
    v = torch.linalg.qr(oracles.draw(columns, columns, seed=seed + 1))[0][:, : len(values)]
    return u @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ v.T


def known_spectrum():
    """A convolution and a linear layer with chosen singular values, and a BatchNorm that must not matter."""
    model = oracles.conv_net()
    with torch.no_grad():
        model[0].weight.copy_(with_singular_values(3, 9, [3.0, 2.0, 1.0], 1).reshape(3, 1, 3, 3))
        model[5].weight.copy_(with_singular_values(3, 12, [5.0, 4.0, 0.5], 3))
        model[1].weight.mul_(7.0)
    return model, oracles.images(3), oracles.labels(3)


def test_log_prod_of_spec_of_known_singular_values():
    value, _ = measured(*known_spectrum(), "log_prod_of_spec")
    assert value == pytest.approx({"none": math.log(3.0**2) + math.log(5.0**2)}, rel=1e-9)


def test_log_prod_of_fro_of_known_singular_values():
    value, _ = measured(*known_spectrum(), "log_prod_of_fro")
    assert value == pytest.approx({"none": math.log(9 + 4 + 1) + math.log(25 + 16 + 0.25)}, rel=1e-9)


def test_norms_of_a_transposed_convolution_and_of_unknown_matrices():
    layer = nn.ConvTranspose2d(2, 3, 2).double()
    model = nn.Sequential(layer, nn.Flatten()).eval()
    x, y = oracles.images(2, (2, 2, 2)), oracles.labels(2)
    singular = torch.linalg.svdvals(layer.weight.detach().transpose(0, 1).reshape(3, 8))
    assert measured(model, x, y, "log_prod_of_spec")[0]["none"] == pytest.approx(
        2 * math.log(float(singular[0])), rel=1e-9
    )
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)  # each row of the image is a token
    attention = nn.Sequential(nn.Flatten(1, 2), layer, nn.Flatten()).double().eval()
    table = evaluate(attention, *(oracles.images(2), oracles.labels(2)), ["log_prod_of_fro", "path_norm"], eps=EPS)
    assert table["value"].isna().all()
    assert "(MultiheadAttention) is no linear layer or convolution" in table["reason"][0]
    assert "how its parameters enter paths is unknown" in table["reason"][1]


def test_num_params_counts_weights_biases_and_batchnorm():
    value, _ = measured(oracles.conv_net(), oracles.images(2), oracles.labels(2), "num_params")
    assert value == {"none": 3 * 9 + 3 + 2 * 3 + 12 * 3 + 3}
