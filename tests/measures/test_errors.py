"""Models, options and adversarial images that do not fit are clear errors, and an attack that fails is a reason."""

import math

import oracles
import pytest
import torch
from torch import nn

from robustgap.measures import evaluate

EPS = 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": {"0.weight": torch.zeros(3, 1, 3, 3)}}, r"initial: found nothing for 0.bias, wanted shape \(3,\)"),
        ({"initial": {"0.weight": torch.zeros(3)}}, r"initial: found shape \(3,\) for 0.weight, wanted"),
        ({"adversarial": torch.zeros(3, 1, 4, 4)}, r"adversarial: found shape \(3, 1, 4, 4\), wanted \(20, 1, 4, 4\)"),
        ({"target_se": 0.0}, "target_se: found 0.0, wanted a number > 0"),
        ({"batch_size": 0}, "batch_size: found 0, wanted a whole number > 0"),
        ({"batch_size": 2.5}, "batch_size: found 2.5, wanted a whole number > 0"),
        ({"log": [{"epoch": 1}]}, "log, line 1: found epoch, wanted train_loss as well"),
        ({"device": "abacus"}, "device: found 'abacus', wanted one that is available here: "),
        ({"target_se": math.nan}, "target_se: found nan, wanted a number > 0"),
    ],
)
def test_options_that_do_not_fit_are_clear_errors(model, data, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, *data, "num_params", eps=EPS, **options)


class Dropping(nn.Module):
    """Dropout that does not know about eval mode."""

    def forward(self, x):
        return torch.nn.functional.dropout(x.flatten(1)[:, :3] + 1, 0.5)


class Centred(nn.Module):
    """Logits that are centred over the batch, as BatchNorm without running statistics does."""

    def forward(self, x):
        return x.flatten(1)[:, :3] - x.flatten(1)[:, :3].mean(dim=0) + 1


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (Dropping(), "model: found an output that changes from call to call, wanted a function of the image"),
        (Centred(), "model: found an output that depends on the other images, wanted a function of the image"),
        (oracles.conv_net().to(torch.bfloat16), "model: found torch.bfloat16, wanted torch.float32 or torch.float64"),
    ],
)
def test_models_that_no_measure_is_about_are_clear_errors(found, message, data):
    for seed in range(20):
        torch.manual_seed(seed)
        with pytest.raises(ValueError, match=message):
            evaluate(found.eval(), *data, "average_ce", eps=EPS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: 255 * x, "adversarial: found values from .* wanted"),
        (lambda x: (x + 2 * EPS).clamp(0, 1), r"adversarial: found an image 0\.1 from its clean one \(Linf\), wanted"),
        (lambda x: x[:, :, :2], r"adversarial: found shape \(20, 1, 2, 4\), wanted"),
    ],
)
def test_adversarial_images_outside_the_threat_model_are_clear_errors(model, data, change, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, *data, "average_ce", eps=EPS, adversarial=change(data[0]))


class Torn(nn.Module):
    """Its gradient cannot be taken."""

    def forward(self, x):
        if x.requires_grad:
            raise RuntimeError("no such kernel")
        return x.flatten(1)[:, :3]


def test_why_an_attack_failed_is_the_reason_for_what_is_missing(data):
    row = evaluate(Torn().eval(), *data, "average_ce", eps=EPS).set_index("variant").loc["adversarial"]
    assert row["reason"] == "no adversarial images: RuntimeError: no such kernel"


class Greedy(nn.Module):
    """Finds no memory for more than 8 images."""

    def forward(self, x):
        if len(x) > 8:
            raise torch.OutOfMemoryError("no memory for these images")
        return x.flatten(1)[:, :3]


def test_no_memory_is_an_error_and_not_a_missing_value(data):
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(Greedy().eval(), *data, "average_ce", eps=EPS, batch_size=20)
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(Greedy().eval(), *data, "average_ce", eps=EPS, batch_size=20, adversarial=data[0])
    assert evaluate(Greedy().eval(), *data, "average_ce", eps=EPS, batch_size=8)["value"].notna().all()
