"""What users bring to `evaluate`: arrays, loaders, measures of their own, layers whose weight a hook makes."""

import warnings

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from robustgap.measures import __main__ as cli
from robustgap.measures import evaluate
from robustgap.measures._cards import unproven
from robustgap.measures._template import TEMPLATE
from robustgap.measures.core import Batch, measure

EPS = 0.05
KEPT = ["measure", "variant", "value", "se", "n", "reason"]


@measure(family="output", needs=("batch",), expects={"clean": None}, paper="", formula="mean_i max_k f(x_i)[k]")
def largest_logit(model: nn.Module, batch: Batch) -> Tensor:
    """Mean of the largest logit."""
    return model(batch.images).amax(dim=1)


def of_the_same_name():
    @measure(family="output", needs=("batch",), expects={"clean": None}, paper="", formula="0")
    def average_ce(model: nn.Module, batch: Batch) -> Tensor:
        """Nothing."""
        return torch.zeros(len(batch.images))

    return average_ce


def test_a_function_of_the_users_own_is_measured_beside_the_catalogue(model, data):
    x, y = data
    table = evaluate(model, x, y, ["average_ce", largest_logit], eps=EPS).set_index("measure")
    assert table.loc["largest_logit", "value"] == pytest.approx(float(model(x).amax(dim=1).mean()), rel=1e-9)
    assert evaluate(model, x, y, largest_logit, eps=EPS)["value"].tolist() == [table.loc["largest_logit", "value"]]
    own = of_the_same_name()
    assert evaluate(model, x, y, own, eps=EPS)["value"].tolist() == [0.0]
    assert evaluate(model, x, y, "average_ce", eps=EPS)["value"].tolist() == table.loc["average_ce", "value"].tolist()
    for both in (["average_ce", own], [own, "output"]):
        with pytest.raises(ValueError, match="names: found two measures named average_ce, wanted different names"):
            evaluate(model, x, y, both, eps=EPS)


@pytest.mark.parametrize(("given", "found"), [(len, "len"), ([3], "int"), ([lambda model, batch: 0], "<lambda>")])
def test_a_function_without_the_decorator_is_named(given, found, model, data):
    with pytest.raises(ValueError, match=f"names: found {found}, wanted a name, or a function decorated with @measure"):
        evaluate(model, *data, given, eps=EPS)


def test_arrays_and_loaders_give_the_values_of_tensors(model, data):
    x, y = data
    names = ["average_ce", "x_grad_norm"]
    wanted = evaluate(model, x, y, names, eps=EPS)[KEPT]
    arrays = evaluate(model, x.numpy(), y.numpy(), names, eps=EPS, index=torch.arange(len(x)).numpy())
    assert arrays[KEPT].equals(wanted)
    loader = DataLoader(TensorDataset(x, y), batch_size=7)
    assert evaluate(model, loader, names=names, eps=EPS)[KEPT].equals(wanted)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda x, y: (DataLoader(TensorDataset(x)), None), "images: found batches of list in the DataLoader, wanted"),
        (lambda x, y: (DataLoader(TensorDataset(x, y)), y), "labels: found Tensor beside a DataLoader, wanted only"),
        (lambda x, y: (x, None), r"labels: found nothing, wanted \(n,\) integers, or a DataLoader"),
    ],
)
def test_what_is_no_pair_of_images_and_labels_is_named(given, message, model, data):
    images, labels = given(*data)
    with pytest.raises(ValueError, match=message):
        evaluate(model, images, labels, "average_ce", eps=EPS)


@pytest.mark.parametrize(
    ("value", "told"), [(1.0000001192092896, "1.0000001192092896"), (255.0, "255"), (1.25, "1.25")]
)
def test_a_range_is_told_so_that_the_difference_is_seen(value, told, data):
    x = data[0].clone()
    x[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=rf"images: found values from 0\.\d+ to {told}, wanted all inside"):
        evaluate(oracles.conv_net(), x, data[1], "average_ce", eps=EPS)
    with pytest.raises(ValueError, match=rf"adversarial: found values from 0\.\d+ to {told}, wanted"):
        evaluate(oracles.conv_net(), data[0], data[1], "average_ce", eps=1, adversarial=x)


@pytest.mark.parametrize("kind", [nn.utils.spectral_norm, nn.utils.weight_norm])
def test_operator_norms_of_layers_whose_weight_a_hook_makes_are_those_of_that_weight(kind, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        layers = nn.Conv2d(1, 5, 3, padding=1, stride=2), nn.ConvTranspose2d(5, 2, 2), nn.Linear(18, 3)
        first, second, last = (kind(layer) for layer in layers)
        hooked = nn.Sequential(first, second, nn.ReLU(), nn.Flatten(), last).float().eval()
        hooked(data[0].float())  # the hooks make the weights
    plain = nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1, stride=2), nn.ConvTranspose2d(5, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3)
    ).eval()
    with torch.no_grad():
        for place in (0, 1, 4):
            plain[place].weight.copy_(hooked[place].weight)
    x, y = data[0].float(), data[1]
    found, wanted = (evaluate(net, x, y, "log_prod_of_operator", eps=EPS) for net in (hooked, plain))
    assert found["reason"].tolist() == [""]
    assert found["value"].tolist() == pytest.approx(wanted["value"].tolist(), rel=1e-4)


def test_a_new_measure_goes_into_a_checkout_alone_and_claims_nothing(tmp_path):
    (tmp_path / "measures").mkdir()
    with pytest.raises(ValueError, match="found an installed package, wanted a checkout of the project; elsewhere"):
        cli.new("my_measure", tmp_path)
    assert not list((tmp_path / "measures").iterdir())
    (tmp_path / "Snakefile").touch()
    assert cli.new("my_measure", tmp_path).is_file()
    assert "invariances" not in TEMPLATE


def test_why_no_test_is_named_tells_a_new_measure_from_absent_tests(tmp_path):
    assert unproven().startswith("no test names it yet: ")
    assert unproven(tmp_path) == "tests are not installed here"
