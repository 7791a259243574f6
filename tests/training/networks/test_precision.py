"""Training in bfloat16: the network computes in it, and nothing else does."""

import pytest
import torch
from small_runs import interrupted, read_log, same_weights, settings_of, train, without_seconds
from torch import nn

from robustgap.training import loop
from robustgap.training.checkpoint import load_weights
from robustgap.training.data.batches import batches
from robustgap.training.data.datasets import load
from robustgap.training.defenses import DEFENSES
from robustgap.training.epoch_scores import epoch_scores
from robustgap.training.jobs.run import make_optimizer
from robustgap.training.networks.architectures import build
from robustgap.training.networks.precision import in_precision
from robustgap.training.step import train_step


def test_the_product_is_that_of_rounded_factors():
    """bfloat16 keeps 8 bits, as of pi below; float32 is the network itself."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, torch.pi)
    assert in_precision(layer, "float32") is layer
    found = in_precision(layer, "bfloat16")(torch.ones(1, 1)).detach()
    assert found.dtype == torch.float32 and layer.weight.dtype == torch.float32
    assert float(found) == 3.140625 != torch.pi


@pytest.mark.parametrize("given", [*({"defense": name} for name in DEFENSES), {"grad_align": 0.2}], ids=str)
def test_a_step_differs_from_float32_by_no_more_than_rounding(given):
    """Most of the step is the same; some of the signs that the attack takes are not."""
    splits, moved = load("digits"), []
    for precision in ("float32", "bfloat16"):
        settings = settings_of(batch_size=64, precision=precision, **given)
        model = build({**settings, "precision": "float32"}, splits).train()
        before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        optimizer, carried = make_optimizer(model, settings), loop.begin(settings, model, splits)
        batch = next(batches(settings, splits, None, 0, torch.device("cpu")))
        loss = train_step(model, optimizer, batch, settings, 0, carried.perturbation)
        assert loss.dtype == torch.float32
        moved.append(nn.utils.parameters_to_vector(model.parameters()).detach() - before)
    assert float((moved[0] - moved[1]).norm() / moved[0].norm()) < 0.4
    assert not torch.equal(*moved)


def test_a_run_starts_from_the_same_weights_resumes_and_is_judged_in_float32(tmp_path, monkeypatch):
    plain, _ = train(tmp_path)
    unbroken, record = train(tmp_path / "unbroken", precision="bfloat16")
    interrupted(tmp_path, monkeypatch, 2, precision="bfloat16")
    resumed, _ = train(tmp_path, precision="bfloat16")
    assert same_weights(unbroken, resumed) and without_seconds(unbroken) == without_seconds(resumed)
    assert unbroken.name != plain.name and record["settings"]["precision"] == "bfloat16"
    one, other = (load_weights(folder / "init.safetensors") for folder in (plain, unbroken))
    assert all(torch.equal(one[name], other[name]) for name in one)
    losses = [float(read_log(folder)[0]["train_loss"]) for folder in (plain, unbroken)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    model, splits = build(settings_of(), load("digits")), load("digits")
    model.load_state_dict(load_weights(unbroken / "last.safetensors"))
    scores = epoch_scores(model, splits, settings_of())
    assert {key: str(value) for key, value in scores.items()}.items() <= read_log(unbroken)[-1].items()
