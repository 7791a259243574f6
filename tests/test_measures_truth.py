"""Every measure against a closed form or an independent computation, within 1 %."""

import itertools
import math

import numpy as np
import oracles
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from measures import _margin, average_flat, evaluate
from training import keyed

D = 16  # pixels of the 4 x 4 images
EPS = 0.02


def measured(model, x, y, name, *, eps=EPS, **options):
    """{variant: value}, and the standard errors, of one measure."""
    table = evaluate(model, x, y, [name], eps=eps, **options)
    assert (table["reason"].str.startswith("note: ") | (table["reason"] == "")).all(), table["reason"].tolist()
    return dict(zip(table["variant"], table["value"], strict=True)), dict(
        zip(table["variant"], table["se"], strict=True)
    )


def two_classes(scale=4.0, seed=5):
    """A two-class linear model, its images and labels, and the images after the exact Linf attack."""
    weight, bias = oracles.draw(2, D, seed=seed, scale=scale / 4), oracles.draw(2, seed=seed + 1, scale=0.1)
    x, y = oracles.images(64), oracles.labels(64, 2)
    direction = torch.sign(weight[1 - y] - weight[y]).reshape(x.shape)
    return oracles.linear(weight, bias), weight, bias, x, y, x + EPS * direction


def test_average_ce_of_a_linear_model_clean_and_at_the_exact_worst_case():
    model, weight, bias, x, y, _ = two_classes()
    logits = x.flatten(1) @ weight.T + bias
    clean = (torch.logsumexp(logits, 1) - logits[torch.arange(64), y]).mean()
    robust = oracles.robust_loss_linear(weight, bias, x, y, EPS)
    value, se = measured(model, x, y, "average_ce")
    assert value == pytest.approx({"clean": float(clean), "adversarial": float(robust.mean())}, rel=1e-6)
    assert se["adversarial"] == pytest.approx(float(robust.std()) / 8, rel=1e-6)


def test_prob_margin_of_a_linear_model():
    model, weight, bias, x, y, x_adv = two_classes()
    difference = weight[0] - weight[1]

    def expected(images):
        m = (1 - 2 * y) * (images.flatten(1) @ difference + bias[0] - bias[1])
        return float(torch.tanh(m / 2).mean())  # p - (1 - p) = tanh(m / 2)

    value, _ = measured(model, x, y, "prob_margin")
    assert value == pytest.approx({"clean": expected(x), "adversarial": expected(x_adv)}, rel=1e-6)


def ladder():
    """Logit margins 4 s for images of constant brightness s = 0.30, 0.31 ... 0.70, labels 0."""
    weight = torch.stack([torch.full((D,), 2 / D), torch.full((D,), -2 / D)]).double()
    x = torch.linspace(0.3, 0.7, 41, dtype=torch.float64)[:, None, None, None].expand(41, 1, 4, 4)
    return oracles.linear(weight), x, torch.zeros(41, dtype=torch.int64)


def test_margin_p10_of_evenly_spaced_margins():
    value, _ = measured(*ladder(), "margin_p10")
    assert value == pytest.approx({"clean": 4 * 0.34, "adversarial": 4 * (0.34 - EPS)}, rel=1e-6)


def test_inverse_margin_of_evenly_spaced_margins():
    value, se = measured(*ladder(), "inverse_margin")
    gamma_se = measured(*ladder(), "margin_p10")[1]["clean"]
    assert value == pytest.approx({"clean": (4 * 0.34) ** -2, "adversarial": (4 * (0.34 - EPS)) ** -2}, rel=1e-6)
    assert se["clean"] == pytest.approx(2 * gamma_se / (4 * 0.34) ** 3, rel=1e-6)


def test_inverse_margin_is_missing_where_the_percentile_is_negative_and_margin_p10_is_not():
    model, x, y = ladder()
    table = evaluate(model, x, 1 - y, ["inverse_margin", "margin_p10"], eps=EPS).set_index(["measure", "variant"])
    assert table.loc["inverse_margin", "value"].isna().all()
    assert table.loc[("inverse_margin", "clean"), "reason"].startswith("the 10th percentile of the margin is -2.64")
    assert table.loc[("margin_p10", "clean"), "value"] == pytest.approx(-4 * 0.66, rel=1e-6)


@pytest.mark.parametrize("q", [0.1, 0.5])
def test_standard_error_of_a_percentile_is_its_spread_over_samples(q):
    sample = oracles.draw(1000, 400, seed=2)
    found = np.array([_margin.percentile(row, q) for row in sample])
    assert np.mean(found[:, 1]) == pytest.approx(np.std(found[:, 0]), rel=0.1)


def segment_through_the_boundary(weight, bias, x):
    """Closed form of the length of the undecided part of each segment, for two classes.

    Along the unit vector between the classes the margin m falls linearly, by L ||w_0 - w_1|| over the 20 steps of
    length L/20 = budget/25, and p_a - p_b = tanh(m / 2) is inside (0, 0.75) for m in (0, 2 artanh 0.75).
    """
    slope = float((weight[0] - weight[1]).norm())
    length = 20 / 25 * 5 * math.sqrt(D / 3072)
    start = (x.flatten(1) @ (weight[0] - weight[1]) + bias[0] - bias[1]).abs()
    top = start.clamp(max=2 * math.atanh(0.75))
    bottom = (start - slope * length).clamp(min=0.0)
    return (top - bottom).clamp(min=0.0) / slope, start > slope * length


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_boundary_thickness_of_a_linear_model_and_the_count_of_segments_that_do_not_cross(shift):
    x, y = oracles.images(400), oracles.labels(400, 2)
    weight = oracles.draw(2, D, seed=5, scale=2.0)
    middle = float((x.flatten(1) @ (weight[0] - weight[1])).mean())
    bias = torch.tensor([shift - middle / 2, middle / 2 - shift], dtype=torch.float64)
    length, short = segment_through_the_boundary(weight, bias, x)
    table = evaluate(oracles.linear(weight, bias), x, y, ["boundary_thickness"], eps=EPS).set_index("variant")
    assert table.loc["clean", "value"] == pytest.approx(float(length.mean()), rel=0.01)
    assert 0 < int(short.sum()) < 400
    assert table.loc["clean", "reason"] == f"note: {int(short.sum())} of 400 segments do not reach the other class"


def test_boundary_thickness_goes_from_the_predicted_class_to_every_other_one():
    """Three classes whose logits differ by direction only: the random target must not be the predicted class."""
    weight = 8 * torch.eye(3, D, dtype=torch.float64)
    x, y = oracles.images(60, low=0.45, high=0.55), oracles.labels(60)
    table = evaluate(oracles.linear(weight), x, y, ["boundary_thickness"], eps=EPS).set_index("variant")
    assert table.loc["clean", "reason"] == ""  # every segment reaches a class that is not its own
    assert table.loc["clean", "value"] > 0


def test_local_lip_of_a_linear_model_is_its_operator_norm():
    first = oracles.draw(D, seed=7)
    model = oracles.linear(torch.stack([first, -0.5 * first]))
    x, y = oracles.images(8), oracles.labels(8, 2)
    value, _ = measured(model, x, y, "local_lip")
    assert value["clean"] == pytest.approx(1.5 * float(first.abs().sum()), rel=1e-6)
    assert value["adversarial"] == pytest.approx(1.5 * float(first.abs().sum()), rel=1e-6)
    value, _ = measured(model, x, y, "local_lip", norm="L2")
    assert value["clean"] == pytest.approx(1.5 * float(first.norm()), rel=0.01)


def test_local_lip_of_a_relu_net_comes_close_to_the_best_corner_of_the_ball():
    """All 2^16 corners of the ball of each 4 x 4 image. Ascent may end in a local maximum, but not far below."""
    model, x, y = oracles.relu_net(), oracles.images(6), oracles.labels(6)
    corners = torch.tensor(list(itertools.product((-EPS, EPS), repeat=D)), dtype=torch.float64).reshape(-1, 1, 4, 4)
    with torch.no_grad():
        quotients = torch.stack([(model(image + corners) - model(image[None])).abs().sum(dim=1) / EPS for image in x])
    value, _ = measured(model, x, y, "local_lip")
    highest = float(quotients.amax(dim=1).mean())
    assert 3 * float(quotients.mean()) < 0.9 * highest  # so the next line tells ascent from chance and from descent
    assert 0.9 * highest <= value["clean"] <= 1.01 * highest


def test_local_lip_keeps_the_best_iterate_and_never_falls_below_its_start():
    """Ascent: on a model where the quotient is largest close to the image, the last iterate is worse than the best."""

    class Saturating(nn.Module):
        def forward(self, x):
            total = x.flatten(1).sum(dim=1, keepdim=True)
            return torch.cat([torch.tanh(20 * (total - 8)), 0 * total], dim=1)

    x = torch.full((1, 1, 4, 4), 0.5, dtype=torch.float64)
    value, _ = measured(Saturating().eval(), x, torch.zeros(1, dtype=torch.int64), "local_lip", eps=0.3)
    last = math.tanh(20 * 16 * 0.3) / 0.3  # at the corner of the ball, where sign ascent would end
    assert value["clean"] > last


def test_x_grad_norm_of_a_linear_model_is_the_mean_of_norms():
    weight, x, y = oracles.draw(3, D, seed=9), oracles.images(30), oracles.labels(30)
    probabilities = (x.flatten(1) @ weight.T).softmax(dim=1)
    gradient = (probabilities - F.one_hot(y, 3)) @ weight
    value, _ = measured(oracles.linear(weight), x, y, "x_grad_norm")
    assert value["clean"] == pytest.approx(float(gradient.norm(dim=1).mean()), rel=1e-9)
    assert value["clean"] > 1.1 * float(gradient.mean(dim=0).norm())  # the norm of the mean gradient is another number
    model, weight, bias, x, y, x_adv = two_classes()
    probabilities = (x_adv.flatten(1) @ weight.T + bias).softmax(dim=1)
    gradient = (probabilities - F.one_hot(y, 2)) @ weight
    assert measured(model, x, y, "x_grad_norm")[0]["adversarial"] == pytest.approx(
        float(gradient.norm(dim=1).mean()), rel=1e-6
    )


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
    """The robust loss of a two-class linear model is known: evaluate it at the ten noisy weights."""
    model, weight, bias, x, y, _ = two_classes()
    rises = {"clean": [], "adversarial": []}
    for draw in range(10):
        noisy = []
        for place, tensor in enumerate((weight, bias)):
            v = keyed.normal(0, average_flat.STREAM + place, torch.tensor([draw]), (tensor.numel(),)).reshape(
                tensor.shape
            )
            noisy.append(tensor + 0.5 * tensor.norm() * v / v.norm())
        for variant, eps in (("clean", 0.0), ("adversarial", EPS)):
            rise = oracles.robust_loss_linear(*noisy, x, y, eps) - oracles.robust_loss_linear(weight, bias, x, y, eps)
            rises[variant].append(rise)
    value, se = measured(model, x, y, "average_flat")
    assert value == pytest.approx({k: float(torch.stack(v).mean()) for k, v in rises.items()}, rel=1e-6)
    by_image, by_draw = torch.stack(rises["clean"]).mean(dim=0), torch.stack(rises["clean"]).mean(dim=1)
    assert se["clean"] == pytest.approx(math.hypot(by_image.std() / 8, by_draw.std() / 10**0.5), rel=1e-6)


def test_average_flat_noise_is_uniform_on_the_sphere_and_spares_normalisation():
    weight = torch.tensor([3.0, 4.0], dtype=torch.float64)
    noise = torch.stack([average_flat.sphere(weight, 0, 5, draw) for draw in range(500)])
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
    attention = nn.Sequential(nn.Flatten(), nn.TransformerEncoderLayer(D, 2, 8, dropout=0.0)).double().eval()
    table = evaluate(attention, *(oracles.images(2), oracles.labels(2)), ["log_prod_of_fro", "path_norm"], eps=EPS)
    assert table["value"].isna().all()
    assert "in_proj_weight belongs to no linear layer" in table["reason"][0]
    assert "how its parameters enter paths is unknown" in table["reason"][1]


def test_path_norm_of_a_two_layer_net_counts_every_path():
    model = oracles.relu_net()
    first, second = model[1].weight.detach(), model[3].weight.detach()
    paths = itertools.product(range(len(second)), range(len(first)), range(D))
    expected = sum(float(second[k, h] * first[h, i]) ** 2 for k, h, i in paths)
    value, _ = measured(model, oracles.images(2), oracles.labels(2), "path_norm")
    assert value == pytest.approx({"none": expected}, rel=1e-9)


class Standardize(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.3]).double().reshape(1, 1, 1, 1))
        self.register_buffer("std", torch.tensor([0.25]).double().reshape(1, 1, 1, 1))

    def forward(self, x):
        return (x - self.mean) / self.std


def test_path_norm_of_a_network_with_batchnorm_against_its_explicit_matrices():
    """Paths through convolution, BatchNorm scale, pooling and linear layer, as a product of squared matrices."""
    net = oracles.conv_net()
    convolution, batchnorm = net[0], net[1]
    scale = (batchnorm.weight / torch.sqrt(batchnorm.running_var + batchnorm.eps)).detach().repeat_interleave(D)
    first = oracles.explicit_matrix(convolution, oracles.SHAPE)
    pooling = oracles.explicit_matrix(nn.AvgPool2d(2), (3, 4, 4))
    paths = (net[5].weight.detach() ** 2) @ pooling @ (torch.diag(scale) @ first) ** 2
    x, y = oracles.images(2), oracles.labels(2)
    assert measured(net, x, y, "path_norm")[0]["none"] == pytest.approx(float(paths.sum()), rel=1e-9)
    whole = nn.Sequential(Standardize(), net).eval()
    assert measured(whole, x, y, "path_norm")[0]["none"] == pytest.approx(float(paths.sum()) / 0.25**2, rel=1e-9)


def test_path_norm_of_a_deep_network_does_not_overflow_in_float64():
    layers = [nn.Linear(D, D, bias=False) for _ in range(40)]
    for layer in layers:
        nn.init.constant_(layer.weight, 100.0)
    model = nn.Sequential(nn.Flatten(), *layers).float().eval()
    value, _ = measured(model, oracles.images(2).float(), oracles.labels(2), "path_norm")
    assert math.log10(value["none"]) == pytest.approx(40 * math.log10(1e4 * D) + math.log10(D), rel=1e-6)


@pytest.mark.parametrize("activation", [nn.SiLU, nn.Sigmoid, nn.Softplus])
def test_path_norm_is_missing_where_paths_are_not_defined(activation):
    model = oracles.relu_net()
    model[2] = activation()
    table = evaluate(model.eval(), oracles.images(2), oracles.labels(2), ["path_norm"], eps=EPS)
    assert table["value"].isna().all()
    assert "not homogeneous" in table["reason"][0]


def test_num_params_counts_weights_biases_and_batchnorm():
    value, _ = measured(oracles.conv_net(), oracles.images(2), oracles.labels(2), "num_params")
    assert value == {"none": 3 * 9 + 3 + 2 * 3 + 12 * 3 + 3}
