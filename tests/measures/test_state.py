"""Measures run in a state of their own, whatever torch is set to around them, and give the caller's state back."""

from contextlib import contextmanager

import oracles
import pytest
import torch
from torch import nn

from robustgap.measures import evaluate

NAMES = ["average_ce", "average_flat", "hessian_top", "gradient_noise", "log_prod_of_operator", "clever", "l2_dist",
         "minimum_distance", "path_norm_over_margin", "boundary_thickness", "pacbayes_flat"]  # fmt: skip


@contextmanager
def default(setter, getter, value):
    before = getter()
    setter(value)
    try:
        yield
    finally:
        setter(before)


STATES = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference": torch.inference_mode,
    "float64": lambda: default(torch.set_default_dtype, torch.get_default_dtype, torch.float64),
    "device": lambda: torch.device("meta"),
    "no_grad": torch.no_grad,
    "bfloat16 products": lambda: default(
        torch.set_float32_matmul_precision, torch.get_float32_matmul_precision, "medium"
    ),
}


def told():
    """What of torch's state a caller can set."""
    mkldnn, cudnn = torch.backends.mkldnn, torch.backends.cudnn
    return (
        torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device(),
        torch.get_float32_matmul_precision(), mkldnn.matmul.fp32_precision, cudnn.allow_tf32,
    )  # fmt: skip


def wide_net():
    """Wide enough for a matrix product that rounds to show."""
    layers = [nn.Flatten(), nn.Linear(oracles.D, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)]
    return oracles.set_weights(nn.Sequential(*layers), seed=2, scale=2.0).float().eval()


def values(model, x, y):
    start = {name: tensor / 2 for name, tensor in model.state_dict().items()}
    return evaluate(model, x, y, NAMES, eps=0.05, initial=start)[["value", "se", "reason"]]


@pytest.fixture(scope="module")
def plain(data):
    model, x = wide_net(), data[0].float()
    y = model(x).argmax(dim=1)
    return model, x, y, values(model, x, y)


@pytest.mark.parametrize("state", STATES)
def test_the_state_around_changes_no_value_and_comes_back(state, plain):
    model, x, y, wanted = plain
    with STATES[state]():
        before = told()
        found = values(model, x, y)
        assert told() == before
        with pytest.raises(ValueError, match="images: found values"):
            evaluate(model, x.cpu() * 2, y, NAMES)
        assert told() == before
    assert found.equals(wanted)


def test_a_model_and_images_made_in_inference_mode_are_measured_as_others(plain):
    _, x, y, wanted = plain
    with torch.inference_mode():
        same = wide_net()
        found = values(same, x.clone(), y.clone())
    assert found.equals(wanted)
    assert same[1].weight.is_inference()


class Cast(nn.Module):
    """Computes in bfloat16 by an autocast of its own, and gives float32 back if asked to."""

    def __init__(self, model, back):
        super().__init__()
        self.model, self.back = model, back

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.model(x)
        return logits.float() if self.back else logits


def test_low_precision_inside_a_model_is_noted_and_of_its_logits_refused(plain):
    model, x, y, _ = plain
    table = evaluate(Cast(model, True).eval(), x, y, ["average_ce", "num_params"], eps=0.05).set_index("variant")
    for variant in ("clean", "adversarial"):
        assert table.loc[variant, "reason"] == "note: the model computes in torch.bfloat16 (model.1)"
    assert table.loc["none", "reason"] == ""
    with pytest.raises(ValueError, match=r"model: found logits in torch.bfloat16, wanted torch\.float32"):
        evaluate(Cast(model, False).eval(), x, y, "average_ce", eps=0.05)


class Standardizing(nn.Module):
    """Standardizes its input in place: by an operation of torch, or behind its back through NumPy."""

    def __init__(self, behind):
        super().__init__()
        self.behind = behind

    def forward(self, x):
        if self.behind:
            x.detach().numpy()[:] -= 0.25
        else:
            x.sub_(0.25)
        return x.flatten(1)[:, :3]


@pytest.mark.parametrize("behind", [False, True])
def test_a_model_that_writes_into_its_input_is_named_and_never_given_the_callers_images(behind, data):
    x, y = data
    before = x.clone()
    with pytest.raises(ValueError, match="model: found that it writes into its input, wanted the images left alone"):
        evaluate(Standardizing(behind).eval(), x, y, "average_ce", eps=0.05)
    assert torch.equal(x, before)


def test_no_tensor_of_the_caller_is_handed_out(plain):
    model, x, y, _ = plain
    seen = set()
    hook = model.register_forward_pre_hook(lambda module, inputs: seen.add(inputs[0].untyped_storage().data_ptr()))
    adversarial = (x + 0.01).clamp(0, 1)
    evaluate(model, x, y, NAMES, eps=0.05, adversarial=adversarial)
    hook.remove()
    assert not seen & {x.untyped_storage().data_ptr(), adversarial.untyped_storage().data_ptr()}
