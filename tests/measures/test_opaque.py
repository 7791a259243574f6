"""What is no ordinary module: measured as far as that needs no weights, and else one clear line."""

import oracles
import pytest
import torch
from torch import nn

from robustgap.measures import evaluate
from robustgap.measures._opaque import as_model

EPS = 0.05
NAMES = ["average_ce", "boundary_thickness", "clever", "average_flat", "num_params", "relative_flatness",
         "pacbayes_flat", "log_prod_of_operator", "hessian_trace", "path_norm"]  # fmt: skip
FREE = {"average_ce", "boundary_thickness", "clever"}  # of weights


def table(model, x, y):
    return evaluate(model, x, y, NAMES, eps=EPS)


@pytest.mark.parametrize(
    ("what", "make"),
    [
        ("a plain function", lambda net, x: lambda images: net(images)),
        ("TorchScript", lambda net, x: torch.jit.script(net)),
        ("TorchScript", lambda net, x: torch.jit.trace(net, x[:2], check_trace=False)),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_needs_no_weights_has_its_value_and_the_rest_a_reason(what, make, data):
    net, (x, y) = oracles.conv_net(), data
    wanted, found = table(net, x, y), table(make(net, x), x, y)
    for before, after in zip(wanted.itertuples(), found.itertuples(), strict=True):
        if before.measure in FREE:
            assert after.value == pytest.approx(before.value, rel=1e-9)
        else:
            assert after.reason == f"the model is {what}: its weights cannot be read"


class Quantised(nn.Module):
    """A linear layer whose weights are whole numbers times a step."""

    def __init__(self):
        super().__init__()
        self.steps = nn.Parameter((8 * oracles.draw(3, oracles.D, seed=1)).to(torch.int8), requires_grad=False)
        self.scale = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))

    def forward(self, x):
        return x.flatten(1) @ (self.scale * self.steps.double()).T


def test_of_a_quantised_network_what_is_left_of_its_parameters_is_not_taken_for_its_weights(data):
    found = table(Quantised().eval(), *data).set_index(["measure", "variant"])
    wanted = table(oracles.linear(0.1 * Quantised().steps.double()), *data).set_index(["measure", "variant"])
    for (name, variant), row in found.iterrows():
        if name in FREE:
            assert row["value"] == pytest.approx(wanted.loc[(name, variant), "value"], rel=1e-6)
        else:
            assert row["reason"] == "the model is quantised: its weights cannot be read"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_packed_weights_are_told_and_what_rescales_by_the_batch_is_refused(data):
    net = nn.Sequential(nn.Flatten(), nn.Linear(oracles.D, 3)).eval()
    packed = torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8).eval()
    assert as_model(packed).what == "quantised" and as_model(net) is net
    with pytest.raises(ValueError, match="model: found an output that depends on the other images, wanted a function"):
        evaluate(packed, data[0].float(), data[1], "average_ce", eps=EPS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, x: (None, x), "model: found NoneType, wanted a PyTorch module, or a function from images to logits"),
        (lambda m, x: (nn.Linear, x), "model: found the class Linear, wanted a PyTorch module"),
        (lambda m, x: (m.state_dict(), x), "model: found OrderedDict, wanted a PyTorch module"),
        (lambda m, x: (torch.jit.script(m.train()), x), "found it in train mode, wanted eval mode"),
        (lambda m, x: (m, x[:, 0]), r"model: found that it cannot take images \(n, 4, 4\): ValueError: expected 4D"),
        (lambda m, x: (m, x.flatten(1)), r"model: found that it cannot take images \(n, 16\): RuntimeError: Expected"),
        (lambda m, x: (m, x.expand(-1, 3, 4, 4)), r"model: found that it cannot take images \(n, 3, 4, 4\): Runtime"),
        (lambda m, x: (lambda z: z.flatten(1).sum(dim=1), x), r"found an output of shape \(1,\) for one image, wanted"),
        (lambda m, x: (lambda z: m(z)[:, :1], x), "model: found 1 class, wanted at least 2"),
        (lambda m, x: (lambda z: m(z), x.half()), r"images: found torch.float16, wanted torch.float32 or"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_cannot_be_measured_is_one_clear_line(change, message, data):
    model, images = change(oracles.conv_net(), data[0])
    with pytest.raises(ValueError, match=message) as caught:
        evaluate(model, images, data[1], "average_ce", eps=EPS)
    assert "\n" not in str(caught.value)


def test_what_torch_compile_wraps_is_measured_itself(data):
    net = oracles.conv_net()
    assert table(torch.compile(net), *data).value.equals(table(net, *data).value)
