"""Input of `evaluate` that is of the wrong kind: one clear error before anything is computed."""

import oracles
import pytest
import torch
from torch import nn

from robustgap.measures import evaluate

N = 8


@pytest.fixture
def given():
    return {"model": oracles.conv_net(), "images": oracles.images(N, low=0.0, high=1.0), "labels": oracles.labels(N)}


class Wrapped(nn.Module):
    """A model that returns its logits and something else."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x), None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: {"images": g["images"].tolist()}, "images: found list, wanted a torch.Tensor or a NumPy array"),
        (lambda g: {"labels": g["labels"].tolist()}, "labels: found list, wanted a torch.Tensor"),
        (lambda g: {"labels": None}, r"labels: found nothing, wanted \(n,\) integers"),
        (lambda g: {"index": range(N)}, "index: found range, wanted a torch.Tensor"),
        (lambda g: {"adversarial": g["images"].tolist()}, "adversarial: found list, wanted a torch.Tensor"),
        (lambda g: {"model": Wrapped(g["model"]).eval()}, r"model: found a tuple, wanted logits \(n, classes\)"),
        (lambda g: {"batch_size": True}, "batch_size: found True, wanted a whole number > 0"),
        (lambda g: {"eps": 8}, "eps: found 8, wanted at most 1, the range of an image"),
        (lambda g: {"eps": "8/5"}, "eps: found 1.6, wanted at most 1, the range of an image"),
    ],
)
def test_input_of_the_wrong_kind_is_a_clear_error(given, change, message):
    with pytest.raises(ValueError, match=message):
        evaluate(**given | {"names": ["average_ce"]} | change(given))


def test_the_range_of_an_image_bounds_eps_in_linf_alone(given):
    for norm, eps in (("Linf", 1), ("L2", 2)):
        assert evaluate(**given, names="average_ce", eps=eps, norm=norm)["value"].notna().all()


def test_a_model_of_one_class_is_a_clear_error():
    """Its softmax is 1 and it has no other class, so that many measures would be 0 whatever its weights are."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(oracles.D, 1)).double().eval()
    with pytest.raises(ValueError, match="model: found 1 class, wanted at least 2"):
        evaluate(model, oracles.images(N), torch.zeros(N, dtype=torch.int64), "all", eps=oracles.EPS)
