"""Gradient noise and measures read from the training log against closed forms, within 1 %."""

import oracles
import pytest
import torch
from oracles import EPS, measured, two_classes
from torch.nn import functional as F

from robustgap.measures import evaluate, gradient_noise

LOSSES = [2.25, 1.5, 0.75, 0.5, 0.25, 0.375]


def log(losses):
    return [{"epoch": float(epoch), "lr": 0.1, "train_loss": loss} for epoch, loss in enumerate(losses, start=1)]


def of_log(losses, name):
    model, _, _, x, y, _ = two_classes()
    return evaluate(model, x, y, [name], eps=EPS, log=losses if losses is None else log(losses)).iloc[0]


@pytest.mark.parametrize("budget", [2**28, 34 * 8 * 5])  # all images at once, five of them
def test_gradient_noise_of_a_linear_model(budget, monkeypatch):
    """The gradient of one image is (p - e_y) [x, 1]^T; the trace of the covariance is the sum of its variances."""
    monkeypatch.setattr(gradient_noise, "BUDGET", budget)
    model, weight, bias, x, y, x_adv = two_classes()

    def expected(images):
        residual = (images.flatten(1) @ weight.T + bias).softmax(dim=1) - F.one_hot(y, 2)
        features = torch.cat([images.flatten(1), torch.ones(64, 1)], dim=1)
        return float(torch.einsum("nk,nd->nkd", residual, features).var(dim=0).sum())

    value, _ = measured(model, x, y, "gradient_noise", batch_size=20)
    assert value == pytest.approx({"clean": expected(x), "adversarial": expected(x_adv)}, rel=1e-6)


def test_gradient_noise_of_a_convolutional_net_against_one_gradient_at_a_time():
    model, x, y = oracles.conv_net(), oracles.images(12), oracles.labels(12)
    gradients = []
    for i in range(12):
        loss = F.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    value, se = measured(model, x, y, "gradient_noise", batch_size=5)
    gradients = torch.stack(gradients)
    assert value["clean"] == pytest.approx(float(gradients.var(dim=0).sum()), rel=1e-6)
    distances = 12 / 11 * (gradients - gradients.mean(dim=0)).square().sum(dim=1)
    assert se["clean"] == pytest.approx(float(distances.std()) / 12**0.5, rel=1e-6)


def test_gradient_noise_vanishes_for_equal_images_and_needs_two():
    model, _, _, x, y, _ = two_classes()
    same = x[:1].expand(6, -1, -1, -1)
    assert measured(model, same, y[:1].expand(6), "gradient_noise")[0]["clean"] == pytest.approx(0.0, abs=1e-12)
    table = evaluate(model, x[:1], y[:1], ["gradient_noise"], eps=EPS)
    assert set(table["reason"]) == {"one image: its gradient has no variance"}


def test_sotl_is_the_sum_of_the_losses_of_all_epochs():
    assert of_log(LOSSES, "sotl")["value"] == pytest.approx(5.625)


def test_epochs_to_loss_is_the_first_epoch_below_the_level():
    assert of_log(LOSSES, "epochs_to_loss")["value"] == 5  # 0.5 itself is not below


def test_epochs_to_loss_is_missing_where_no_epoch_comes_below_the_level():
    row = of_log(LOSSES[:4], "epochs_to_loss")
    assert row["reason"] == "no epoch has a training loss below 0.5: the lowest is 0.5"


@pytest.mark.parametrize("name", ["sotl", "epochs_to_loss"])
def test_measures_of_training_are_missing_without_a_log(name):
    assert of_log(None, name)["reason"] == "no training log: the model was not trained here"
    assert of_log([], name)["reason"] == "the training log has no epochs"
